"""What trackers take for one run: a line of training runs, each of which goes on from the policy of the one before.

The turns of a recipe, or of a shell's loop, are run folders of their own; a person wants to see one curve. A small file
beside them keeps which run folders a tracked run is made of. A run whose parent is the last of such a line continues
it; any other begins a new one, and is told the steps of its ancestors first, out of their rows.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field
from pathlib import Path

from schemas.tables import STEPS
from stages.core.atomic import read_json, write_json
from stages.core.errors import InputError
from stages.core.runs.folder import RunFolder
from stages.core.runs.lineage import policy_run

_UNSAFE = re.compile(r"[^\w.-]+")


@dataclass(slots=True)
class Part:
    """One run folder of a tracked run."""

    fingerprint: str
    first: int
    """Steps of the tracked run before it."""


@dataclass(slots=True)
class TrackedRun:
    """A run as trackers know it."""

    path: Path
    """Where this is kept."""
    name: str
    parts: list[Part] = field(default_factory=list)
    """Its run folders, in order."""
    ids: dict[str, str] = field(default_factory=dict)
    """What each tracker that was told of it calls it; empty for one that goes by the name."""

    @property
    def last(self) -> Part:
        """The run folder that is being trained, or was last."""
        return self.parts[-1]

    def save(self) -> None:
        """Keep it on disk, whole or as before."""
        write_json(self.path, {"name": self.name, "parts": [asdict(p) for p in self.parts], "ids": self.ids})


def tracked_run(folder: Path, name: str, run: RunFolder, parent: RunFolder | None) -> TrackedRun | None:
    """The tracked run that `run` is the last part of, saved; None where a line that went on since has all its steps.

    `parent` is the training run whose policy `run` goes on from. Files that can't be read are no tracked runs: the
    numbers are in the rows, and a second curve is all that it costs.
    """
    known = [t for path in sorted(folder.glob("*.json")) if (t := _read(path)) is not None and t.parts]
    for found in known:
        # Begun before: cut short, or trained again because its folder was deleted.
        if run.fingerprint in [part.fingerprint for part in found.parts]:
            return found if found.last.fingerprint == run.fingerprint else None
    for found in known:
        if parent is not None and found.last.fingerprint == parent.fingerprint:
            found.parts.append(Part(run.fingerprint, found.last.first + _steps(parent)))
            found.save()
            return found
    path = _free(folder, _UNSAFE.sub("-", name).strip("-.") or "run")
    tracked = TrackedRun(path, path.stem)
    first = 0
    for ancestor in ancestors(parent):
        tracked.parts.append(Part(ancestor.fingerprint, first))
        first += _steps(ancestor)
    tracked.parts.append(Part(run.fingerprint, first))
    tracked.save()
    return tracked


def ancestors(run: RunFolder | None) -> list[RunFolder]:
    """The training runs that led to `run`, and `run` itself, the earliest first; as far back as they are still here."""
    found: list[RunFolder] = []
    while run is not None and run.stage == "train" and run.fingerprint not in {f.fingerprint for f in found}:
        found.insert(0, run)
        run = policy_run(run)
    return found


def _read(path: Path) -> TrackedRun | None:
    try:
        record = read_json(path)
        parts = [Part(str(p["fingerprint"]), int(p["first"])) for p in record["parts"]]
        return TrackedRun(path, str(record["name"]), parts, {str(k): str(v) for k, v in record["ids"].items()})
    except (OSError, InputError, KeyError, TypeError, ValueError, AttributeError):
        return None


def _free(folder: Path, name: str) -> Path:
    path, number = folder / f"{name}.json", 1
    while path.exists():
        number += 1
        path = folder / f"{name}-{number}.json"
    return path


def _steps(run: RunFolder) -> int:
    return sum(1 for _ in run.rows(STEPS))
