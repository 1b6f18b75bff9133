"""[train.watch]: what counts as drift, and what happens then. The limits are our own; no paper states any."""

from __future__ import annotations

from dataclasses import dataclass

from stages.core.config import option


@dataclass(frozen=True)
class WatchConfig:
    """Limits of the drift alarms; 0 switches an alarm off.

    Alarms are rows, so the limits identify a run; what is done about an alarm does not.
    """

    action: str = option(
        "note",
        "RL, on an alarm: note says so; stop ends the run after that rollout; off says nothing (rows keep it)",
        affects=False,
        choices=("off", "note", "stop"),
    )
    accept: list[str] = option([], "Alarms that do not stop the run", affects=False)
    window: int = option(16, "Optimizer steps that are averaged; the first so many are the baseline", low=1)
    least: int = option(64, "Judged completions that a window needs before an alarm may fire", low=1)
    over_refusal: float = option(0.2, "Benign prompts refused: this share more than at first", low=0.0)
    over_compliance: float = option(0.15, "Harmful prompts complied with: this share more than at first", low=0.0)
    length_collapse: float = option(0.4, "Completions shorter than this part of the first ones", low=0.0, high=1.0)
    format_hacking: float = option(0.15, "Task-aware reward this much below the first, format held", low=0.0)
    entropy_collapse: float = option(0.1, "Entropy below this part of the first", low=0.0, high=1.0)
    sampler_mismatch: float = option(0.2, "Mean gap between sampler's and trainer's log-probs, nats", low=0.0)
