"""A step's row as trackers get it: our own names, and beside them those that TRL's and transformers' trainers use."""

from __future__ import annotations

from schemas.steps import StepRow

_OWN = (
    "loss", "grad_norm", "learning_rate", "tokens", "groups", "dropped_groups", "reward_mean", "reward_std",
    "advantage_abs", "entropy", "ratio_mean", "clip_fraction", "cost_weight", "drift", "ref_kl", "sampler_gap",
    "pair_accuracy", "pair_margin", "completion_length", "truncated_fraction", "seconds",
)  # fmt: skip
_BY_LABEL = ("reward", "refusal_rate", "unsafe_rate", "length")
FIELD_NAMES = {
    "loss": "loss",
    "grad_norm": "grad_norm",
    "learning_rate": "learning_rate",
    "entropy": "entropy",
    "seconds": "step_time",
    "reward_mean": "reward",
    "reward_std": "reward_std",
    "ref_kl": "kl",
    "clip_fraction": "clip_ratio/region_mean",
    "completion_length": "completions/mean_length",
    "truncated_fraction": "completions/clipped_ratio",
}
"""What TRL 1.x's GRPO trainer calls a row's fields, behind `train/`."""


def numbers(row: StepRow) -> dict[str, float]:
    """The row as flat names: `<objective>/<name>` as its fields are called, `train/<name>` as the field calls them."""
    found: dict[str, float | None] = {f"{row.objective}/{name}": getattr(row, name) for name in _OWN}
    for stat in row.labels:
        found |= {f"{row.objective}/{name}/{stat.label}": getattr(stat, name) for name in _BY_LABEL}
        found |= {f"{row.objective}/terms/{stat.label}/{term.name}": term.mean for term in stat.terms}
    found |= {f"{row.objective}/term/{term.name}": term.mean for term in row.terms}
    found |= {f"train/{theirs}": getattr(row, ours) for ours, theirs in FIELD_NAMES.items()}
    found |= {f"train/rewards/{term.name}/mean": term.mean for term in row.terms}
    if row.reward_std is not None and row.groups:
        found["train/frac_reward_zero_std"] = row.dropped_groups / row.groups
    return {name: float(value) for name, value in found.items() if value is not None}
