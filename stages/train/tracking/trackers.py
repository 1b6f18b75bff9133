"""A training run as its trackers are told of it, step by step, while it runs. What they can't take ends no training."""

from __future__ import annotations

import itertools
import sys
import weakref
from collections.abc import Callable, Iterable
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from schemas.steps import StepRow
from schemas.tables import STEPS
from schemas.values import plain_text
from stages.core.errors import first_line
from stages.core.resources import Kind
from stages.core.runs.folder import RunFolder
from stages.core.stage import Context
from stages.core.storage.location import is_url
from stages.models.images import decode_image
from stages.train.tracking.config import TrackConfig
from stages.train.tracking.numbers import numbers
from stages.train.tracking.services import CLASSES, Beginning, Sample, Tracker
from stages.train.tracking.tracked import TrackedRun, ancestors, tracked_run

if TYPE_CHECKING:
    from stages.train.rl.batches import Group

FOLDER = "trackers"
"""Beside the run folders: which of them are one tracked run, and the files of trackers that write any."""


class OpenTrackers:
    """The trackers of one tracked run, kept from turn to turn in one process."""

    def __init__(self) -> None:
        self.by_name: dict[str, Tracker] = {}
        """One that failed is left out."""
        # Also when a process ends in the middle of a run.
        self.close = weakref.finalize(self, _finish, self.by_name)


def _finish(trackers: dict[str, Tracker]) -> None:
    # Some say goodbye on stdout, which is for the next program.
    with redirect_stdout(sys.stderr):
        while trackers:
            with suppress(Exception):
                trackers.popitem()[1].finish()


OPEN: Kind[OpenTrackers] = Kind("trackers")
"""By the file of the tracked run."""


@dataclass(slots=True)
class Trackers:
    """The trackers of a run in hand; without any, every call does nothing."""

    say: Callable[[str], None]
    """Where it is said that one failed."""
    open: OpenTrackers = field(default_factory=OpenTrackers)
    first: int = 0
    """Steps of the tracked run before this run folder."""
    log_completions: int = 0
    """So many of each rollout are sent."""

    def step(self, row: StepRow, number: int) -> None:
        """Send the row of this run folder's step `number`, from 1."""
        self._all(lambda tracker: tracker.log(numbers(row), self.first + number))

    def completions(self, groups: Iterable[Group], number: int) -> None:
        """Send the first completions of a rollout, from whose groups step `number` is about to learn first."""
        if self.log_completions and self.open.by_name:
            at = self.first + number
            samples = list(itertools.islice(_samples(groups, at), self.log_completions))
            self._all(lambda tracker: tracker.show(samples, at))

    def begin(
        self,
        name: str,
        tracked: TrackedRun,
        config: TrackConfig,
        folder: Path,
        parent: RunFolder | None,
        rows: list[StepRow],
    ) -> None:
        """Have one tracker begin a tracked run, told of all its steps so far, or go on with one that it knows."""
        new = name not in tracked.ids
        # Of the first and the last run folder: a line that branches off begins as another does.
        fresh = tracked.parts[0].fingerprint[:8] + tracked.last.fingerprint[:8]
        first = 1 if new else self.first + len(rows) + 1
        try:
            begin = Beginning(tracked.name, tracked.ids.get(name, fresh), new, first, folder, config)
            tracker = CLASSES[name](begin)
            tracked.ids[name] = tracker.id
            tracked.save()
            self.open.by_name[name] = tracker
            if tracker.where:
                self.say(f"{name}: {tracker.where}")
            if new:
                earlier = itertools.chain.from_iterable(run.rows(STEPS) for run in ancestors(parent))
                for number, row in enumerate(itertools.chain(earlier, rows), start=1):
                    tracker.log(numbers(row), number)
        except Exception as error:
            self._give_up(name, error)

    def _all(self, call: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self.open.by_name.items()):
            try:
                call(tracker)
            except Exception as error:  # A service that is away or full: training is worth more than its curve.
                self._give_up(name, error)

    def _give_up(self, name: str, error: Exception) -> None:
        self.open.by_name.pop(name, None)
        self.say(f"{name} gets no more of this run, which goes on: {first_line(error)}")


def open_trackers(ctx: Context, run: Path, parent: Path | None, rows: list[StepRow]) -> Trackers:
    """The trackers that the config names for a run folder, told of its ancestors' steps where they were not.

    `parent` is the training run whose policy it begins with; `rows` are its own steps that a checkpoint has. To be
    called on one rank alone.
    """
    config = ctx.config
    trackers = Trackers(ctx.progress.log, log_completions=config.track.log_completions)
    try:
        this, before = RunFolder.open(run), RunFolder.find(parent) if parent is not None else None
        folder = _folder(config.track.logging_dir, this)
        name = config.track.run_name or str(this.manifest.provenance.get("name") or "") or run.name
        tracked = tracked_run(folder, name, this, before)
    except Exception as error:  # Read-only places, damaged ancestors.
        trackers.say(f"no tracker gets this run, which goes on: {first_line(error)}")
        return trackers
    if tracked is None:
        return trackers
    trackers.first = tracked.last.first
    trackers.open = ctx.resources.get(OPEN, str(tracked.path), OpenTrackers)
    for name in config.report_to:
        if name not in trackers.open.by_name:
            trackers.begin(name, tracked, config.track, folder, before, rows)
    return trackers


def _folder(logging_dir: str, run: RunFolder) -> Path:
    """Where trackers' files go: as set, else beside the run folder, on this machine."""
    if not logging_dir and is_url(run.where):
        raise OSError(f"runs are in a bucket, {run.where}: --set track.logging_dir=DIR says where trackers may write")
    folder = Path(logging_dir) if logging_dir else run.path.parent / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _samples(groups: Iterable[Group], step: int) -> Iterable[Sample]:
    """Completions with an advantage, group by group."""
    for group in groups:
        if not group.live:
            continue
        prompt = plain_text(group.row.messages)
        images = [decode_image(image, at) for at, image in enumerate(group.row.images)]
        for completion in group.completions:
            scored = completion.scored
            terms = ", ".join(f"{t.name} {t.value:g}" for t in scored.terms if t.value is not None)
            yield step, group.row.label, prompt, scored.text, scored.reward, completion.advantage, terms, images
