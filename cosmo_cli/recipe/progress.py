"""What a person wants to see while a recipe runs: where it is, rewards, refusals, compliance, time left."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from cosmo_cli.recipe.steps import Step
from cosmo_cli.terminal.output import Output
from stages.core.errors import InputError
from stages.core.runner import Result
from stages.core.runs.noted import Note


class Turns:
    """One line a training turn, and the stage's own progress for the long single steps.

    `note`: where it also keeps how far it is, for whoever looks on while `noted` lasts.
    """

    def __init__(self, output: Output, steps: list[Step], name: str = "", note: Path | None = None) -> None:
        self._output, self._name, self._note = output, name, note
        self._numbers: dict[str, str] = {}
        self._left = [s for s in steps if s.verb == "train" and s.iterations > 1]
        self._times: list[float] = []
        self._begun = time.monotonic()
        self._took = 0.0
        self._phase = ""
        self._alarms: set[str] = set()
        self._learned: set[str] = set()

    def begin(self, step: Step) -> None:
        """Say which phase begins, if one does with this step."""
        title = step.phase or step.verb
        if title != self._phase:
            self._phase = title
            self._output.say(f"-- {title}" + (f" ({step.iterations} iterations)" if step.iterations > 1 else ""))
            self._numbers = {"phase": title}
        if step.verb == "rollout":
            # A turn's time counts from its rollout: score and train belong to it.
            self._begun = time.monotonic()
        self._keep()

    def over(self) -> None:
        """A training step's work is done: its turn's time ends, though its files may be on their way still."""
        self._took = time.monotonic() - self._begun

    def judge(self, step: Step, result: Result) -> None:
        """Say what looks wrong about a step; InputError where a whole phase had nothing to learn from."""
        where = f"{step.phase} {step.iteration}/{step.iterations}: " if step.iterations > 1 else ""
        # What a cached step said was said when it was made.
        if (wrong := result.quality.failure or result.quality.warning) is not None and result.state != "cached":
            self._output.warn(f"{where}{wrong}", result.quality.hint)
        if not step.iterations > 1 or step.verb != "train":
            return
        if result.quality.failure is None:
            self._learned.add(step.phase)
        elif step.ends_phase and step.phase not in self._learned:
            raise InputError(
                f"phase {step.phase}: none of its {step.iterations} turns had anything to learn from, "
                f"the last one because {result.quality.failure}",
                result.quality.hint,
            )

    def trained(self, step: Step, result: Result) -> None:
        """A training step ended: say how the policy did on what it was trained on."""
        if step.iterations <= 1:
            return
        self._left = [s for s in self._left if s.name != step.name]
        if result.state == "cached":
            return
        took = self._took
        self._times.append(took)
        left = len(self._left) * self._turn_seconds()
        numbers = turn_numbers(result) if result.quality.failure is None else "nothing learned"
        self._output.say(
            f"{step.phase} {step.iteration}/{step.iterations}  {numbers}  {took:.1f} s, {clock(left)} left"
        )
        self._numbers = {"phase": f"{step.phase} {step.iteration}/{step.iterations}", "": numbers}
        self._keep()

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Keep the note as long as this lasts."""
        try:
            yield
        finally:
            if self._note is not None:
                with suppress(OSError):
                    self._note.unlink(missing_ok=True)

    def _turn_seconds(self) -> float:
        """What a turn takes: the median of five, for the first one loads models, and a slow one must not move it."""
        recent = sorted(self._times[-5:])
        return recent[len(recent) // 2] if recent else 0.0

    def _keep(self) -> None:
        """Say how far it is: of the turns of this start, for those found done took no time."""
        if self._note is None:
            return
        done, total = len(self._times), len(self._times) + len(self._left)
        now, unit = time.time(), "turns" if total else ""
        # As if each turn had taken what one takes by now: what is left is then what the lines say.
        began = now - done * self._turn_seconds()
        Note(self._name, done, total or None, unit, self._numbers, began, now).keep(self._note)

    def alarms(self, lines: dict[str, str]) -> None:
        """Say each alarm of a turn that the turn before did not have; `lines` are the turn's, by name."""
        for name in sorted(lines.keys() - self._alarms):
            self._output.say(f"ALARM {lines[name]}")
        self._alarms = set(lines)


def turn_numbers(result: Result) -> str:
    """`reward 1.42 (general 1.60, safety 1.10)  refused 12%  unsafe 30%  ALARM over_refusal` over a turn's steps."""
    from schemas.tables import STEPS
    from stages.core.runs.folder import RunFolder

    rows = list(RunFolder.open(result.path).rows(STEPS))
    labels: dict[str, list[Any]] = {}
    for row in rows:
        for stat in row.labels:
            labels.setdefault(stat.label, []).append(stat)
    rewards = {label: _mean(stats, "reward") for label, stats in labels.items()}
    everything = [s for stats in labels.values() for s in stats]
    parts = [f"reward {_mean(everything, 'reward') or 0:.2f}"]
    if len(rewards) > 1:
        parts[0] += " (" + ", ".join(f"{k} {v:.2f}" for k, v in sorted(rewards.items()) if v is not None) + ")"
    for name, title in (("refusal_rate", "refused"), ("unsafe_rate", "unsafe")):
        if (rate := _mean(everything, name)) is not None:
            parts.append(f"{title} {rate:.0%}")
    if alarms := dict.fromkeys(name for row in rows for name in row.alarms):
        parts.append(f"ALARM {', '.join(alarms)}")
    return "  ".join(parts)


def _mean(stats: list[Any], name: str) -> float | None:
    """Mean over completions of the label statistics that have the value."""
    known = [(getattr(s, name), s.completions) for s in stats if getattr(s, name) is not None]
    weight = sum(n for _, n in known)
    return sum(v * n for v, n in known) / weight if weight else None


def clock(seconds: float) -> str:
    """Seconds as minutes, `1:05`, or hours, `2:03:04`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
