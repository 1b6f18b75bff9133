"""The drift watch: a short memory of the lineage's steps that goes from run to run, and what it makes of it.

A turn of `cosmo run` is a run of few steps, so the memory is committed beside the policy as `watch.json`: sums over
the first window of each series, and the steps of the last window. It is bounded and does not grow with training.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from schemas.steps import StepRow
from stages.core.atomic import read_json
from stages.core.errors import CosmoError, InputError, UsageError
from stages.core.runs.folder import artifact
from stages.core.storage.location import public
from stages.train.drift.alarms import ALARM_NAMES, Cells, Evidence, added, cells, raised
from stages.train.drift.config import WatchConfig

FILE = "watch.json"


@dataclass(slots=True)
class Watch:
    """What is remembered, and the alarms of the run in hand."""

    config: WatchConfig
    first: dict[str, list[float]] = field(default_factory=dict)
    """Sum, weight and steps of each cell's first window."""
    recent: list[Cells] = field(default_factory=list)
    """The last window's steps."""
    holding: list[str] = field(default_factory=list)
    """Alarms that held at the last step."""
    events: list[dict[str, Any]] = field(default_factory=list)
    """Each alarm's first step in this run: step, alarm, said."""

    @classmethod
    def after(cls, config: WatchConfig, run: Path | None) -> Watch:
        """The memory that the parent's run left; an empty one where it left none."""
        path = artifact(run, FILE) if run is not None else None
        if path is None or not path.is_file():
            return cls(config)
        try:
            # Events are a run's own: those of the parent were said there. What still holds is kept (`holding`), and not
            # said again.
            return cls.from_record(config, read_json(path) | {"events": []})
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"{path} can't be read: {error!r}", "use --set optimizer=fresh") from None

    @classmethod
    def from_record(cls, config: WatchConfig, record: dict[str, Any]) -> Watch:
        """As it was written."""
        recent = [{key: (float(s), float(w)) for key, (s, w) in step.items()} for step in record["recent"]]
        first = {key: [float(v) for v in values] for key, values in record["first"].items()}
        return cls(config, first, recent, list(record["holding"]), list(record["events"]))

    def record(self) -> dict[str, Any]:
        """Plain values; floats keep every bit in JSON."""
        return {"first": self.first, "recent": self.recent, "holding": self.holding, "events": self.events}

    def write(self, path: Path) -> None:
        """Leave the memory for the next run, and the alarms for whoever asks again."""
        path.write_text(json.dumps(self.record(), indent=1) + "\n", encoding="utf-8")

    def judge(self, row: StepRow, say: Callable[[str], None]) -> StepRow:
        """The row of a watched objective with its alarms; each alarm that begins to hold is said once."""
        self._remember(cells(row))
        found = raised(self._evidence(), self.config)
        for name, reason in found.items():
            if not any(event["alarm"] == name for event in self.events):
                self.events.append({"step": row.step, "alarm": name, "said": reason})
            if name not in self.holding and self.config.action != "off":
                say(f"ALARM {_line(row.step, name, reason)}")
        self.holding = list(found)
        return replace(row, alarms=list(found))

    def _remember(self, step: Cells) -> None:
        window = self.config.window
        for key, (value, weight) in step.items():
            sums = self.first.setdefault(key, [0.0, 0.0, 0.0])
            # The first steps that measured this cell: a label that comes later in a curriculum has a baseline of its
            # own.
            if sums[2] < window:
                self.first[key] = [sums[0] + value, sums[1] + weight, sums[2] + 1]
        self.recent = [*self.recent, step][-window:]

    def _evidence(self) -> Evidence:
        window = self.config.window
        if len(self.recent) < window:
            return Evidence({}, {}, self.config.least)
        first = {key: (sums[0], sums[1]) for key, sums in self.first.items() if sums[2] >= window}
        return Evidence(added(self.recent), first, self.config.least)


def _line(step: int, name: str, reason: str) -> str:
    return f"{name} at step {step}: {reason}"


def check(config: WatchConfig) -> None:
    """UsageError for an alarm that does not exist."""
    for name in config.accept:
        if name not in ALARM_NAMES:
            raise UsageError(f"watch.accept: {name!r} is no alarm", f"alarms: {', '.join(ALARM_NAMES)}")


def stop_on_alarm(config: WatchConfig, events: list[dict[str, Any]], where: str = "") -> None:
    """CosmoError on the first alarm that is to stop the run."""
    event = next((e for e in events if e["alarm"] not in config.accept), None)
    if config.action != "stop" or event is None:
        return
    raise CosmoError(
        f"stopped on {_line(event['step'], event['alarm'], event['said'])}{where}",
        f'to go on from here: [train.watch] action = "note", or accept = ["{event["alarm"]}"], and the same command',
    )


def stop_on_alarm_of(config: WatchConfig, run: Path) -> None:
    """The same for a finished run, as often as it is asked for."""
    if config.action == "stop":
        stop_on_alarm(config, _events(run), f" (what was trained is in {public(run)})")


def alarm_lines(run: Path) -> dict[str, str]:
    """The alarms of a finished run by name, each in one line with its numbers."""
    return {e["alarm"]: _line(e["step"], e["alarm"], e["said"]) for e in _events(run)}


def _events(run: Path) -> list[dict[str, Any]]:
    path = artifact(run, FILE)
    return list(read_json(path)["events"]) if path.is_file() else []
