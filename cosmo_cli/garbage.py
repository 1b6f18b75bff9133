"""What `cosmo gc` may remove: what killed processes left, and what of policies is superseded. Rows always stay."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cosmo_cli.run_reports import find_runs
from stages.core.errors import CosmoError, InputError
from stages.core.runs.folder import RunFolder
from stages.core.runs.lineage import policy_places
from stages.core.runs.upkeep import clean_staging, has_leftovers, prune_artifacts
from stages.core.storage.local import inside
from stages.core.storage.location import is_url

LEFTOVERS, TRAINER, WEIGHTS, RUN = "leftovers", "trainer state", "weights", "run"
_ARTIFACTS = {TRAINER: ("trainer",), WEIGHTS: ("policy", "trainer")}


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that can go."""

    what: str
    """leftovers, trainer state, weights or run."""
    path: Path
    """The run folder it is in."""
    bytes: int
    why: str

    def as_json(self) -> dict[str, Any]:
        """All of it as plain values."""
        return asdict(self) | {"path": str(self.path)}

    def remove(self) -> None:
        """Let it go. A run stays complete, and its receipts say what is gone; safe to be killed in."""
        if self.what == RUN:
            shutil.rmtree(self.path)
        elif self.what == LEFTOVERS:
            clean_staging(RunFolder.open(self.path))
        else:
            prune_artifacts(RunFolder.open(self.path), _ARTIFACTS[self.what])


def garbage(paths: list[Path], weights: bool = False, abandoned_days: float | None = None) -> list[Item]:
    """What can go of the runs at or below the paths, in their order; InputError where there is no run, or in a bucket.

    `weights`: also the policies that later training went on from. `abandoned_days`: also runs that are incomplete and
    were not touched for so long.
    """
    if any(map(is_url, paths)):
        raise InputError(
            "cosmo gc looks at folders of this machine only", "a bucket has rules of its own for old objects"
        )
    runs = list(_opened(find_runs(paths)))
    going_on = [run for run in runs if run.missing()]
    named_by_them = "".join(json.dumps([r.config, r.manifest.provenance, _inputs(r)]) for r in going_on)
    successors = _successors(runs)
    found: list[Item] = []
    for run in runs:
        if run in going_on:
            found += _abandoned(run, abandoned_days)
            continue
        if has_leftovers(run):
            staging = _size(inside(run.path, "staging"))
            found.append(Item(LEFTOVERS, run.path, staging, "a process was killed after its last commit"))
        # What an unfinished run may be about to read stays.
        if run.path.name not in named_by_them:
            found += _superseded(run, successors.get(os.path.abspath(run.path)), weights)
    return found


def _opened(paths: Iterable[Path]) -> Iterator[RunFolder]:
    """The runs that can be read; what is damaged or a link is nobody's to remove."""
    for path in paths:
        try:
            if not path.is_symlink():
                yield RunFolder.open(path)
        except CosmoError:
            continue


def _successors(runs: list[RunFolder]) -> dict[str, RunFolder]:
    """By the place of a training run, a complete one that went on from its policy."""
    return {
        os.path.abspath(place): run
        for run in runs
        if run.stage == "train" and not run.missing()
        for place in policy_places(run)
    }


def _superseded(run: RunFolder, by: RunFolder | None, weights: bool) -> Iterator[Item]:
    """Trainer state that only another branch of training would need, or all of the policy."""
    if run.stage != "train" or by is None:
        return
    what = WEIGHTS if weights else TRAINER
    size = sum(_size(inside(run.path, name)) for name in _ARTIFACTS[what])
    if size:
        yield Item(what, run.path, size, f"{by.path.name} went on from it")


def _abandoned(run: RunFolder, days: float | None) -> Iterator[Item]:
    if days is None:
        return
    idle = (time.time() - _last_touched(run.path)) / 86400
    if idle >= days:
        yield Item(RUN, run.path, _size(run.path), f"incomplete, and not touched for {idle:.0f} days")


def _inputs(run: RunFolder) -> list[str]:
    return [str(run.input_path(entry)) for entry in run.manifest.inputs]


def _files(folder: Path) -> Iterator[os.stat_result]:
    for place, _, names in os.walk(folder):
        for name in names:
            # It may be gone by now: somebody may be at work.
            try:
                yield os.lstat(os.path.join(place, name))
            except OSError:
                continue


def _size(folder: Path) -> int:
    return sum(file.st_size for file in _files(folder))


def _last_touched(folder: Path) -> float:
    return max((file.st_mtime for file in _files(folder)), default=0.0)
