"""What `cosmo train` can be told. Defaults are the papers' where they state one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from stages.core.config import option, section
from stages.core.errors import UsageError
from stages.core.registry import load
from stages.core.runs.select import Selection
from stages.engines.system_turn import AS_IT_IS, IN_USER_TURN, SYSTEM_TURN_HELP
from stages.train.drift.config import WatchConfig
from stages.train.losses.base import AGGREGATIONS, LossSettings
from stages.train.plugin_settings import check_tables, settings_of
from stages.train.tracking.config import TrackConfig

PARALLEL = ("ddp", "zero2", "zero3", "fsdp2")
# Adam moves a weight by about the rate; rounding to the nearest of 2^8 numbers an octave undoes less than a 512th. The
# matrices of language models have a spread of about 0.02.
_SPREAD, _FELT = 0.02, 1 / 512


@dataclass(frozen=True)
class LoraOptions:
    """Low-rank adapters in place of whole matrices."""

    rank: int = option(0, "Rank of the adapters; 0: all weights are trained", low=0)
    alpha: int = option(0, "Their scale is alpha / rank; 0: twice the rank", low=0)


# One table, [train], in four parts, each adding to the one before: keys stay flat, as they are typed.
@dataclass(frozen=True)
class DataSettings:
    """What is minimised, from which policy, on which data."""

    objective: str = option(
        "rl", "Objective plugin: what to minimise (cosmo list objective)", flag="--objective", affects=False
    )
    # The policy's content digest is part of the plan's key; where it lies is not.
    policy: str | None = option(
        None,
        "Model to start from; RL: the one that sampled the groups, if not given",
        flag="--policy",
        affects=False,
    )
    epochs: int = option(1, "Passes over the data; RL: passes over each rollout", flag="--epochs", low=1)
    steps: int = option(
        0,
        "All but RL: stop after this many optimizer steps, repeating data; 0: epochs decide",
        flag="--steps",
        low=0,
    )
    # An objective declares its own settings; those of the one that is used are in the plan's key.
    objectives: dict[str, dict[str, Any]] = option(
        {}, "Own settings of objectives, a table each: objectives.dpo.beta", affects=False
    )
    batch_size: int = option(32, "All but RL: examples (reward: pairs) an optimizer step", flag="--batch-size", low=1)
    seed: int = option(0, "Seed of the example order", flag="--seed")
    select: Selection = option(Selection(), "All but RL: which prompts to learn from")
    system_turn: str = option(AS_IT_IS, f"All but RL: {SYSTEM_TURN_HELP}", choices=(AS_IT_IS, IN_USER_TURN))
    forbid_families: list[str] = option([], "Held-out augmentation families: finding one is an error")


@dataclass(frozen=True)
class RolloutSettings(DataSettings):
    """RL: what is learned from a rollout, and how."""

    # Old keys, for an error that says where each is now.
    MOVED: ClassVar[dict[str, str]] = {
        "drift_alpha": "losses.cpgd.drift_alpha",
        "drift_cap": "losses.cpgd.drift_cap",
        "canon": "advantages.canon",
        "lagrangian": "advantages.lagrangian",
        "dpo": "objectives.dpo",
        "reward": "objectives.reward",
        "verifier": "objectives.verifier",
    }

    # What the loss, the advantage, the clip and the aggregation come to is in the plan's key, for RL alone: set to what
    # the loss would choose anyway, they make no other run.
    loss: str = option(
        "cpgd", "Loss plugin (cosmo list loss), FILE.py:NAME or MODULE:NAME", flag="--loss", affects=False
    )
    advantage: str | None = option(
        None, "Advantage plugin (cosmo list advantage); not given: the loss's own", flag="--advantage", affects=False
    )
    # A plugin declares its own settings; those of the two that are used are in the plan's key.
    losses: dict[str, dict[str, Any]] = option(
        {}, "Own settings of losses, a table each: losses.cpgd.drift_alpha (docs/losses.md)", affects=False
    )
    advantages: dict[str, dict[str, Any]] = option(
        {}, "Own settings of advantages, a table each: advantages.canon.mu (docs/losses.md)", affects=False
    )
    # CPGD's authors: 128 prompts x 8 completions a rollout, 128 completions a step. With a single update the ratio is
    # always 1, so that neither clip nor drift ever acts.
    updates_per_rollout: int = option(8, "Optimizer steps that a rollout is split into", flag="--updates", low=1)
    aggregation: str | None = option(
        None,
        "How token losses are averaged over a step; not given: the loss's own",
        choices=AGGREGATIONS,
        affects=False,
    )
    order: str = option("stored", "Order of groups within a rollout", choices=("stored", "seeded"))
    clip: bool = option(True, "Clip the ratio; false: no clip at all, for an ablation", affects=False)
    clip_low: float | None = option(
        None, "Clip below: 1 - clip_low; 1: never; not given: the loss's own", affects=False, low=0.0, high=1.0
    )
    clip_high: float | None = option(
        None, "Clip above: 1 + clip_high; not given: the loss's own", affects=False, low=0.0
    )
    # As in SafeWork-R1's RL stages.
    advantage_clamp: float = option(10.0, "Advantages are held within +- this; 0: no limit", low=0.0)
    drop_flat_groups: bool = option(True, "Leave groups without any advantage out before their images are decoded")
    # DAPO's filter (arXiv:2503.14476, eq. 11): with several terms in the reward hardly any two rewards are equal.
    flat_by: str = option(
        "", "RL: leave out groups that are all right or all wrong by this verifier, whatever else their rewards hold"
    )
    one_rollout: bool = option(False, "RL: the input folders are one rollout together, as a turn's refills are")
    # Engines and trainer differ by their kernels (`sampler_gap`): recomputed, the first update's ratio is exactly 1.
    old_logprobs: str = option(
        "recompute",
        "The ratio's denominator: the policy's own at the start of the rollout, or the sampler's as stored",
        choices=("recompute", "stored"),
    )
    allow_truncated_sampling: bool = option(False, "Train on groups sampled with top_p < 1 or top_k: biased ratios")
    allow_guided: bool = option(
        False, "Train on completions whose steps value models chose: their log-probs are no sampler's"
    )
    ref_policy: str | None = option(
        None,
        "Reference model of the KL; in a recipe also `phase`, where the phase began, or `start`, the recipe's policy",
        affects=False,
    )
    # Off, as in CPGD's paper, which found less with it; SafeWork-R1's RL stages have 0.001.
    ref_kl: float = option(0.0, "Weight of the KL to the reference; 0 loads none", low=0.0)
    ref_dtype: str = option(
        "",
        "Weights of the reference model; not given: as `dtype`. bfloat16 takes half of float32's memory",
        affects=False,
        choices=("", "float32", "bfloat16"),
    )
    watch: WatchConfig = section(WatchConfig, "RL: what counts as drift, and what happens then")


@dataclass(frozen=True)
class OptimizerSettings(RolloutSettings):
    """The optimizer, its schedule, and which weights it moves."""

    learning_rate: float | None = option(
        None, "Peak rate; not given: 1e-6 for RL, else 1e-5", flag="--learning-rate", low=0.0
    )
    schedule: str = option("cosine", "Shape of the rate after warm-up", choices=("cosine", "linear", "constant"))
    schedule_steps: int = option(
        0, "Steps of the whole schedule, counted from where the optimizer was last fresh; 0: constant for RL, else "
        "this run's", low=0
    )  # fmt: skip
    warmup_steps: int = option(0, "Steps of linear warm-up", low=0)
    min_rate_ratio: float = option(0.1, "Where the schedule ends, as a share of the peak", low=0.0, high=1.0)
    optimizer: str = option(
        "auto",
        "AdamW state and step count: carried where the parent has the same objective, always, or never; in a recipe "
        "`fresh` is for a phase's first turn",
        choices=("auto", "carry", "fresh"),
    )
    # Decay, betas, gradient norm and the cosine to a tenth are those of the CPGD authors' public code.
    weight_decay: float = option(0.01, "AdamW weight decay (matrices only)", low=0.0)
    beta1: float = option(0.9, "AdamW beta 1", low=0.0, high=1.0)
    beta2: float = option(0.95, "AdamW beta 2", low=0.0, high=1.0)
    adam_epsilon: float = option(1e-8, "AdamW epsilon", low=0.0)
    max_grad_norm: float = option(1.0, "Gradient norm is clipped to this; 0: not clipped", low=0.0)
    lora: LoraOptions = section(LoraOptions, "LoRA: adapters are trained, whole weights are saved")
    freeze_vision: bool | None = option(None, "Keep the vision tower as it is; not given: only for RL")
    freeze_language: bool = option(
        False, "Keep the language model as it is: the tower, unless frozen, and what joins them are trained"
    )


@dataclass(frozen=True)
class TrainConfig(OptimizerSettings):
    """Settings of one training run: its objective, its data, its loss, its optimizer, its machine."""

    # The machine. Sums are split differently, so results agree to rounding, not to the bit.
    micro_batch_tokens: int = option(8192, "RL: tokens a forward pass, padding counted", affects=False, low=1)
    micro_batch_size: int = option(0, "All but RL: examples a forward pass; 0: the whole batch", affects=False, low=0)
    prefix_sharing: str = option(
        "auto",
        "RL: compute a prompt once for its completions where the model can",
        affects=False,
        choices=("auto", "off"),
    )
    attention: str = option(
        "auto",
        "RL, with prompts shared: on a GPU in half precision one kernel for all prompts and completions, else blocks",
        affects=False,
        choices=("auto", "blocks"),
    )
    model_check: str = option(
        "auto",
        "RL: compare the policy with its own model before the first step, once a kind of model (cosmo check)",
        affects=False,
        choices=("auto", "off"),
    )
    checkpoint_steps: int = option(50, "Optimizer steps between resumable checkpoints; 0: none", affects=False, low=0)
    report_to: list[str] = option(
        [],
        "Trackers that follow the run while it trains: tensorboard, wandb, trackio, mlflow; repeatable",
        flag="--report-to",
        affects=False,
    )
    track: TrackConfig = section(TrackConfig, "What trackers call the run, and what else they get", affects=False)
    device: str = option("auto", "auto, cpu, cuda, ...", flag="--device", affects=False)
    # A step of 1e-6 is lost in bfloat16 weights, which have three digits: it is taken by float32 copies of them.
    dtype: str = option("float32", "Weights while they are trained", choices=("float32", "bfloat16"))
    masters: bool = option(True, "Float32 copies of bfloat16 weights take the steps, and are saved with the moments")
    autocast: str = option("auto", "Forward pass in bfloat16; auto: on a GPU", choices=("auto", "no", "bf16"))
    gradient_checkpointing: bool = option(False, "Recompute activations to save memory", affects=False)
    trust_remote_code: bool = option(False, "Run model code that comes with the weights")

    # Several processes: the same numbers up to the order of sums, so none of it identifies a run.
    nproc: int = option(1, "Processes on this machine, one a GPU", flag="--nproc", affects=False, low=1)
    nnodes: int = option(1, "Machines; give the same command on each", flag="--nnodes", affects=False, low=1)
    rdzv: str = option("", "Where the machines meet: HOST:PORT of one of them", flag="--rdzv", affects=False)
    parallel: str = option(
        "ddp",
        "How the model lies on several processes: whole on each, or sharded by DeepSpeed or by torch",
        flag="--parallel",
        affects=False,
        choices=PARALLEL,
    )
    reduce_dtype: str = option(
        "float32", "Several processes: what gradients are added up in", choices=("float32", "bfloat16")
    )

    def __post_init__(self) -> None:
        """UsageError for an unknown objective, for a table that no plugin has, and for a key that is not in it."""
        # Loading one that is in a file runs the file, and configs come from strangers, too: that is for the plan.
        if ":" not in self.objective:
            load("objective", self.objective)
        check_tables("objective", self.objective, self.objectives)
        check_tables("loss", self.loss, self.losses)
        check_tables("advantage", self.advantage or "", self.advantages)

    def resolved(self) -> TrainConfig:
        """The same settings, with what is left open taken from the objective."""
        filled: TrainConfig = load("objective", self.objective).resolved(self)
        return filled

    def loss_settings(self) -> LossSettings:
        """What the loss is told; of resolved settings."""
        own = settings_of("loss", self.loss, self.losses)
        return LossSettings(self.clip, float(self.clip_low or 0.0), float(self.clip_high or 0.0), self.ref_kl, own)

    def advantage_settings(self) -> Any:
        """The advantage's own settings; None where it has none. Of resolved settings."""
        return settings_of("advantage", str(self.advantage), self.advantages)

    def objective_settings(self) -> Any:
        """The objective's own settings; None where it has none."""
        return settings_of("objective", self.objective, self.objectives)


def peak_rate(config: TrainConfig) -> float:
    """The learning rate after warm-up: what was given, else the objective's."""
    rate = load("objective", config.objective).learning_rate if config.learning_rate is None else config.learning_rate
    return float(rate)


def vision_frozen(config: TrainConfig) -> bool:
    """True when the vision tower is not trained: what was given, else the objective's."""
    objective = load("objective", config.objective)
    return bool(objective.freezes_vision if config.freeze_vision is None else config.freeze_vision)


def autocasts(config: TrainConfig, device: str) -> bool:
    """True when forward passes compute in bfloat16 on this type of device (`cpu`, `cuda`)."""
    return config.autocast == "bf16" or (config.autocast == "auto" and device == "cuda")


def half_precision(config: TrainConfig, device: str) -> bool:
    """True when attention sees bfloat16 on this type of device: by autocast, or in the weights themselves."""
    return autocasts(config, device) or config.dtype == "bfloat16"


def check_rate(config: TrainConfig) -> None:
    """UsageError for a rate that bfloat16 weights without masters would round away."""
    rate = peak_rate(config)
    # Adapters are float32 beside whatever they adapt.
    if config.dtype == "float32" or config.masters or config.lora.rank or not 0 < rate < _SPREAD * _FELT:
        return
    raise UsageError(
        f"learning_rate {rate:g} is rounded away: bfloat16 weights of about {_SPREAD:g} feel no step below "
        f"{_SPREAD * _FELT:.0e}",
        "--set masters=true, or --set dtype=float32",
    )
