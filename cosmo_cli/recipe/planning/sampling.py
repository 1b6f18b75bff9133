"""What a rollout takes of a machine, and which settings make it fit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from cosmo_cli.recipe.planning.demands import Problem, Question, StepPlan
from cosmo_cli.recipe.schema import Phase
from stages.capacity.sampling import Sampling, at_a_time, kv_bytes, transformers_parts, vllm_parts
from stages.capacity.training import PROCESS
from stages.capacity.units import GIB, size
from stages.core.executors.base import LOCAL


def sampling_step(question: Question, name: str, own: dict[str, Any], phase: Phase | None) -> StepPlan:
    """A turn's rollout, or that of a measurement (`phase` None)."""
    config = question.config("rollout", own)
    machine = question.machine
    on_gpu = bool(machine.gpus) and config.device != "cpu"
    how = sampling_of(question, config, own, on_gpu)
    if how.engine == "vllm":
        step = _vllm(question, name, how, on_gpu)
    elif how.engine == "transformers":
        step = _transformers(question, name, how, on_gpu)
    else:
        return StepPlan(name, f"{config.engine}: takes nothing of this machine")
    if step.problems and how.engine == "vllm" and on_gpu:
        better = next((m for m in _moves(question, how) if not _tried(question, name, own, m).problems), None)
        typed = " ".join(f"--set rollout.{key}={value:g}" for key, value in better.items()) if better else ""
        step.problems = [Problem(p.text, typed or p.hint, p.certain) for p in step.problems]
    step.notes += _idle(question, how, phase) if on_gpu else []
    return step


def sampling_of(question: Question, config: Any, own: dict[str, Any], on_gpu: bool) -> Sampling:
    """How the rollout's completions are sampled."""
    engine = {"auto": "transformers"}.get(config.engine, config.engine)
    dtype = ("bfloat16" if on_gpu else "float32") if config.dtype == "auto" else config.dtype
    positions = question.shape.positions or question.prompt_tokens + config.max_new_tokens
    return Sampling(
        engine=engine,
        dtype=dtype,
        tensor_parallel=config.vllm.tensor_parallel_size if on_gpu else 1,
        share=config.vllm.gpu_memory_utilization,
        kv_cache=int(config.vllm.kv_cache_gb * GIB) or (0 if on_gpu else GIB),
        longest=min(config.vllm.max_model_len or positions, positions),
        prompt=question.prompt_tokens,
        new_tokens=question.new_tokens(own),
        batch_tokens=config.batch_tokens,
    )


def _tried(question: Question, name: str, own: dict[str, Any], more: dict[str, Any]) -> StepPlan:
    config = question.config("rollout", own, more)
    return _vllm(question, name, sampling_of(question, config, own, True), True)


def _workers(question: Question, gpus_each: int) -> int:
    """How many engines sample at once."""
    if question.executor == LOCAL:
        return 1
    return max(1, question.machine.gpus // gpus_each)


def _vllm(question: Question, name: str, how: Sampling, on_gpu: bool) -> StepPlan:
    machine, shape = question.machine, question.shape
    tp, workers = how.tensor_parallel, _workers(question, how.tensor_parallel)
    parts = vllm_parts(shape, how, machine.gpu_bytes)
    if not on_gpu:
        return StepPlan(name, "vllm on the CPU", host={**parts, "processes": PROCESS})
    room = parts["keys and values"]
    fit = at_a_time(shape, how, max(0, room))
    engines = f"{workers} engine{'s' if workers > 1 else ''} of {tp} GPU{'s' if tp > 1 else ''}"
    step = StepPlan(name, f"vllm, {engines}, {fit:.0f} completions at a time each")
    step.gpu, step.gpu_limit = {"step": {k: max(0, v) for k, v in parts.items()}}, machine.gpu_bytes
    # A process for each GPU of an engine.
    step.host = {"processes": workers * tp * PROCESS}
    if tp > machine.gpus:
        step.problems.append(_wrong(f"tensor_parallel_size = {tp}, and the machine has {machine.gpus} GPUs"))
    if shape.heads % tp:
        step.problems.append(_wrong(f"tensor_parallel_size = {tp} does not divide the model's {shape.heads} heads"))
    if room < kv_bytes(shape, how.dtype, tp) * how.longest:
        one = size(kv_bytes(shape, how.dtype, tp) * how.longest)
        left = size(room) if room > 0 else "nothing"
        step.problems.append(
            _wrong(f"{name}: {left} is left for keys and values, and one of {how.longest} tokens needs {one}")
        )
    return step


def _wrong(text: str) -> Problem:
    return Problem(text, "no setting of cosmo makes it fit")


def _transformers(question: Question, name: str, how: Sampling, on_gpu: bool) -> StepPlan:
    machine, parts = question.machine, transformers_parts(question.shape, how)
    workers = _workers(question, 1)
    if not on_gpu:
        step = StepPlan(name, "transformers on the CPU", host={**parts, "processes": PROCESS})
        limit, need = machine.host_bytes, step.host_bytes
    else:
        step = StepPlan(name, f"transformers, {workers} of 1 GPU", {"step": parts}, machine.usable_gpu)
        step.host = {"processes": workers * PROCESS}
        limit, need = machine.usable_gpu, step.gpu_bytes
    if need > limit:
        # Weights alone decide whether it is sure; positions can be fewer.
        sure = parts["weights"] > limit
        hint = "no setting of cosmo makes it fit" if sure else f"--set rollout.batch_tokens={how.batch_tokens // 4}"
        step.problems.append(Problem(f"{name} needs {size(need)}, and {size(limit)} can be used", hint, sure))
    return step


def _moves(question: Question, how: Sampling) -> Iterator[dict[str, Any]]:
    """Changes to vLLM's table, the mildest first: more of the GPU, shorter sequences, more GPUs a model."""
    longest = -(-(how.prompt + how.new_tokens) // 1024) * 1024
    counts = [n for n in range(1, question.machine.gpus + 1) if question.shape.heads % n == 0]
    for tp in [how.tensor_parallel, *counts]:
        own = {"vllm.tensor_parallel_size": tp} if tp != how.tensor_parallel else {}
        for more in ({}, {"vllm.gpu_memory_utilization": 0.9}, {"vllm.max_model_len": longest}):
            if own or more:
                yield own | more


def _idle(question: Question, how: Sampling, phase: Phase | None) -> list[str]:
    """What leaves GPUs without work."""
    gpus, tp = question.machine.gpus, how.tensor_parallel if how.engine == "vllm" else 1
    workers = _workers(question, tp)
    found = []
    if workers * tp < gpus and question.executor == LOCAL:
        found.append(f"it samples on {tp} of {gpus} GPUs: cosmo run with --executor ray samples on {gpus // tp * tp}")
    # Shards are cut for the workers there are, but a prompt's group is never split.
    if phase is not None and phase.prompts < workers:
        found.append(f"prompts = {phase.prompts} a turn, and {workers} engines: some have nothing to do")
    smaller = [n for n in range(1, tp) if how.engine == "vllm" and _one_model_fits(question, how, n)]
    if smaller:
        found.append(f"the model fits {smaller[0]} GPU: --set rollout.vllm.tensor_parallel_size={smaller[0]} is faster")
    return found


def _one_model_fits(question: Question, how: Sampling, tp: int) -> bool:
    """Whether fewer GPUs hold the model and at least 16 completions at a time."""
    fewer = replace(how, tensor_parallel=tp)
    room = vllm_parts(question.shape, fewer, question.machine.gpu_bytes)["keys and values"]
    return not question.shape.heads % tp and at_a_time(question.shape, fewer, max(0, room)) >= 16
