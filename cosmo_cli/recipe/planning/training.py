"""What a phase's training takes of a machine, and which settings make it fit."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Any

from cosmo_cli.recipe.planning.demands import Problem, Question, StepPlan
from cosmo_cli.recipe.schema import Phase
from stages.capacity import training
from stages.capacity.activations import Pass
from stages.capacity.sampling import GRAPHS
from stages.capacity.training import Training
from stages.capacity.units import BYTES, GIB, Parts, size
from stages.core.executors.base import LOCAL
from stages.core.registry import load
from stages.models.families import family_named
from stages.train.config import TrainConfig, autocasts, vision_frozen

# stages/train/rl/vision_cache.py: inputs of images, and outputs of a frozen tower, each up to so much.
_KEPT_IMAGES = 1 * GIB
# The adapters of most published runs of LoRA.
_LORA_RANK = 16


def training_step(question: Question, phase: Phase) -> StepPlan:
    """A turn's training, or the whole of a supervised phase."""
    step = _step(question, phase, {})
    if step.problems and (better := _settings_that_fit(question, phase)) is not None:
        typed = _typed(phase, better)
        step.problems = [Problem(p.text, typed, p.certain) for p in step.problems]
    return step


def _step(question: Question, phase: Phase, more: dict[str, Any]) -> StepPlan:
    machine, shape = question.machine, question.shape
    config, gpu, how = _layout(question, phase, more)
    step = StepPlan(f"{phase.name} train", _described(config, how, bool(gpu)))
    step.host = training.host(shape, how, gpu)
    if gpu:
        step.gpu, step.gpu_limit = training.gpu_moments(shape, how), gpu
        if asleep := _asleep(question, phase):
            step.gpu = {name: parts | {"vLLM, asleep": GRAPHS} for name, parts in step.gpu.items()}
            step.host["weights of vLLM, asleep"] = asleep
    if shape.vision and phase.needs_rollouts:
        inputs = phase.prompts * question.prompt_tokens * shape.patches * shape.patch_values * 4
        step.host["inputs of images"] = how.local * min(_KEPT_IMAGES, inputs)
    step.problems = [*_mismatches(config, machine.gpus if gpu else 0), *_shortages(question, how, step)]
    return step


def _layout(question: Question, phase: Phase, more: dict[str, Any]) -> tuple[TrainConfig, int, Training]:
    """The settings of a phase's training, what tensors can have of a GPU (0: it is on the CPU), and the layout."""
    config: TrainConfig = question.config("train", {**phase.train, "objective": phase.objective}, more)
    gpu = question.machine.usable_gpu if question.machine.gpus and config.device != "cpu" else 0
    return config, gpu, training_of(question, phase, config, bool(gpu))


def training_of(question: Question, phase: Phase, config: TrainConfig, on_gpu: bool) -> Training:
    """How the phase's policy is trained, with its largest forward pass."""
    prompt, ranks = question.prompt_tokens, config.nproc * config.nnodes
    half = autocasts(config, "cuda" if on_gpu else "cpu")
    if phase.needs_rollouts:
        one = prompt + question.new_tokens(phase.rollout)
        # A single completion is never cut, whatever the budget.
        tokens = max(config.micro_batch_tokens, one)
        shared = config.prefix_sharing == "auto" and family_named(question.shape.model_type).unshared is None
        images = prompt * (max(1, tokens // one) if shared else -(-tokens // one))
    else:
        rows = min(config.micro_batch_size or config.batch_size, -(-config.batch_size // ranks))
        tokens, images = rows * (prompt + question.longest_completion), rows * prompt
    one_pass = Pass(
        tokens=tokens,
        images=images,
        half=half or config.dtype == "bfloat16",
        # FSDP2 casts a layer's weights itself, and bfloat16 weights leave autocast nothing to do.
        autocast=half and config.dtype == "float32" and config.parallel != "fsdp2",
        checkpointing=config.gradient_checkpointing,
        trains_vision=not vision_frozen(config),
        trains_head=not (config.lora.rank or config.freeze_language),
    )
    return Training(
        parallel=config.parallel,
        ranks=ranks,
        local=config.nproc,
        dtype=config.dtype,
        lora=config.lora.rank,
        reference=(config.ref_dtype or config.dtype) if phase.needs_rollouts and config.ref_kl > 0 else "",
        one_pass=one_pass,
        trains_language=not config.freeze_language,
    )


def _described(config: TrainConfig, how: Training, on_gpu: bool) -> str:
    layout = how.parallel if how.ranks > 1 else "one process"
    what = f"LoRA {how.lora}, {layout}" if how.lora else layout
    count = "" if how.ranks == 1 else f"{how.ranks} "
    where = (
        f"on {count or 'one '}GPU{'s' if count else ''}"
        if on_gpu
        else f"on the CPU{f', {count}ranks' if count else ''}"
    )
    return f"{what} {where}, {config.dtype}{', checkpointed' if config.gradient_checkpointing else ''}"


def _asleep(question: Question, phase: Phase) -> int:
    """Bytes of the host's memory to which the weights of a vLLM go that samples in turn with training; 0: none does."""
    if not phase.needs_rollouts or question.executor != LOCAL:
        return 0
    rollout = question.config("rollout", phase.rollout)
    if rollout.engine != "vllm":
        return 0
    return BYTES["bfloat16" if rollout.dtype == "auto" else rollout.dtype] * question.shape.parameters


def waiting_ranks(question: Question, phase: Phase) -> Parts:
    """Bytes of the host's memory that the ranks of a phase hold while its completions are sampled."""
    _, gpu, how = _layout(question, phase, {})
    return training.waiting(question.shape, how, gpu)


def _mismatches(config: TrainConfig, gpus: int) -> Iterator[Problem]:
    """What the settings ask of a machine that has another number of GPUs."""
    if gpus and config.nproc > gpus:
        yield Problem(f"nproc = {config.nproc}, and the machine has {gpus} GPUs", f"--set train.nproc={gpus}")
    if gpus > 1 and config.nproc == 1 and config.nnodes == 1 and config.parallel == "ddp":
        yield Problem(f"one process, {gpus} GPUs: training uses one", f"--set train.nproc={gpus}")
    if config.lora.rank and config.parallel in ("zero2", "zero3"):
        yield Problem(f"LoRA with {config.parallel}: adapters are not sharded", "--set train.parallel=fsdp2")


def _shortages(question: Question, how: Training, step: StepPlan) -> Iterator[Problem]:
    machine = question.machine
    if step.gpu_limit and step.gpu_bytes > step.gpu_limit:
        # Weights, gradients and moments are there whatever the rows are.
        sure = _total(training.resident(question.shape, how))
        when = next(name for name, parts in step.gpu.items() if parts == step.fullest)
        which = "" if when == "step" else f" ({when})"
        what = f"{size(step.gpu_bytes)} of each GPU{which}, and {size(step.gpu_limit)} can be used"
        yield Problem(f"{step.name} needs {what}", "no setting of cosmo makes it fit", sure > step.gpu_limit)
    if step.host_bytes > machine.host_bytes:
        what = f"{size(step.host_bytes)} of memory for {how.local} processes, and there are {size(machine.host_bytes)}"
        yield Problem(f"{step.name} needs {what}", "no setting of cosmo makes it fit", certain=False)


def _total(parts: Parts) -> int:
    return sum(parts.values())


def _settings_that_fit(question: Question, phase: Phase) -> dict[str, Any] | None:
    """The fewest changes with which nothing is in the way, the mildest first; None where there are none."""
    moves = list(_moves(question, phase))
    for number in range(1, len(moves) + 1):
        for chosen in combinations(moves, number):
            more = {key: value for move in chosen for key, value in move.items()}
            if not _step(question, phase, more).problems:
                return more
    return None


def _moves(question: Question, phase: Phase) -> Iterator[dict[str, Any]]:
    """Changes that leave the numbers of a run as they are but for rounding, then adapters in place of all weights."""
    config: TrainConfig = question.config("train", {**phase.train, "objective": phase.objective})
    gpus, several = question.machine.gpus, load("objective", phase.objective).several_ranks
    if several and gpus > 1 and config.nproc != gpus:
        yield {"nproc": gpus}
    if not config.gradient_checkpointing:
        yield {"gradient_checkpointing": True}
    if phase.needs_rollouts:
        one = question.prompt_tokens + question.new_tokens(phase.rollout)
        if one < config.micro_batch_tokens:
            yield {"micro_batch_tokens": one}
    elif config.micro_batch_size != 1:
        yield {"micro_batch_size": 1}
    if several and gpus > 1 and config.parallel in ("ddp", "zero2"):
        yield {"parallel": "fsdp2"}
    if not config.lora.rank:
        yield {"lora.rank": _LORA_RANK} | ({} if config.parallel in ("ddp", "fsdp2") else {"parallel": "fsdp2"})


def _typed(phase: Phase, more: dict[str, Any]) -> str:
    """The settings as they are typed; those that the phase has of its own are named with it."""
    words = []
    for key, value in more.items():
        text = str(value).lower() if isinstance(value, bool) else str(value)
        own = key.partition(".")[0] in phase.train
        words.append(f"[phases.train] of {phase.name}: {key} = {text}" if own else f"--set train.{key}={text}")
    return " ".join(words)
