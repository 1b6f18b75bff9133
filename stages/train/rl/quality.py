"""What a finished RL run came to: the numbers of its closing line, and whether anything was learned at all."""

from __future__ import annotations

from statistics import fmean
from typing import Any

from schemas.steps import StepRow
from stages.core.stage import Quality

FEW = 0.1
"""Below this share of groups with an advantage a run gets a warning: its steps rest on very few prompts."""


def rl_quality(rows: list[StepRow]) -> Quality:
    """Steps, reward, groups used of all, gradient norm, drift. A failure where no group had an advantage.

    A group counts as used where it was in the loss and its step had any advantage: with `drop_flat_groups = false`
    groups of equal reward are in the loss and still teach nothing.
    """
    groups = sum(row.groups for row in rows)
    used = sum(row.groups - row.dropped_groups for row in rows if row.advantage_abs)
    numbers: dict[str, Any] = {
        "steps": len(rows),
        "reward": _mean([row.reward_mean for row in rows]),
        "groups": groups,
        "groups_used": used,
        "grad_norm": _mean([row.grad_norm for row in rows if row.groups > row.dropped_groups]),
        "drift": _mean([row.drift for row in rows]),
        "alarms": rows[-1].alarms if rows else [],
    }
    return Quality(line=_line(numbers), numbers=numbers, **_verdict(rows, groups, used))


def _line(numbers: dict[str, Any]) -> str:
    parts = [f"{numbers['steps']} steps"]
    parts += [f"reward {numbers['reward']:.3g}"] if numbers["reward"] is not None else []
    parts += [f"{numbers['groups_used']} of {numbers['groups']} groups used"]
    parts += [f"gradient norm {numbers['grad_norm']:.3g}"] if numbers["grad_norm"] is not None else []
    parts += [f"drift {numbers['drift']:.3g}"] if numbers["drift"] is not None else []
    parts += [f"alarms: {', '.join(numbers['alarms'])}"] if numbers["alarms"] else []
    return ", ".join(parts)


def _verdict(rows: list[StepRow], groups: int, used: int) -> dict[str, str]:
    """The failure or the warning with its hint; {} for a run that learned from enough groups."""
    if used == 0 and all(row.reward_mean is None for row in rows):
        return {
            "failure": "nothing was learned: no completion had a reward",
            "hint": "cosmo show --rejected on this run says why; then cosmo score the rollout again",
        }
    hint = "more samples a prompt, a higher temperature, or prompts that are neither always nor never answered well"
    if used == 0:
        return {"failure": f"nothing was learned: none of {groups} groups had an advantage", "hint": hint}
    if used < FEW * groups:
        return {"warning": f"only {used} of {groups} groups had an advantage", "hint": hint}
    return {}


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None
