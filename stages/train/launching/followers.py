"""Rank 0 runs the stage as a single process would; the others wait for the work that it finds to be done."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stages.core.config import as_dict, build
from stages.core.file_digest import file_sha256
from stages.core.runs.folder import RunFolder
from stages.core.stage import Context, Resources, Silent
from stages.train.config import TrainConfig
from stages.train.launching.staying import until_committed
from stages.train.parallel import ranks

Train = Callable[[Context, dict[str, Any], Any], None]


class NullWriter:
    """The ShardWriter of a rank that owns no run folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def row(self, row: Any) -> None:
        """Drop it: rank 0 writes the same."""

    def table(self, rows: Any) -> None:
        """Drop them: rank 0 writes the same."""

    def reject(self, source: str, ref: str, reason: str, detail: str) -> None:
        """Drop it: rank 0 has it from `Session.all_gather`."""

    def further(self, table: Any, row: Any) -> None:
        """Drop it: rank 0 writes the same."""

    def artifact(self, name: str) -> Path:
        """A path in a temporary folder, thrown away when the shard is done."""
        return self._folder / name

    def sha256(self, path: Path) -> str:
        """The content digest of a file; of nothing that is kept."""
        return file_sha256(path)

    def before_commit(self, wait: Callable[[], object]) -> None:
        """Drop it: nothing is committed here."""

    @property
    def run(self) -> Path:
        """The temporary folder: there is no run."""
        return self._folder


class Leader:
    """Rank 0's side: it broadcasts each piece of work, and then that there is no more."""

    def __init__(self) -> None:
        self.working = False

    @contextmanager
    def work(self, ctx: Context, shard: dict[str, Any]) -> Iterator[None]:
        """Have the others do this shard, too."""
        # Ranks of other machines may have been started in another folder.
        inputs = [f.files.location.absolute() for f in ctx.inputs]
        scratch = ctx.scratch
        place = str(scratch.absolute()) if scratch is not None else None
        ranks.broadcast({"config": as_dict(ctx.config), "inputs": inputs, "scratch": place, "shard": shard})
        self.working = True
        # No `finally`: after an error the others are in the midst of work, where a broadcast would reach none of them,
        # and `dismiss` sends none.
        yield
        self.working = False

    def dismiss(self, code: int) -> None:
        """Send the others home, unless they are in the midst of work: then the end of this process ends them."""
        if not self.working:
            ranks.broadcast({"code": code})


LEADER = Leader()


def work_until_dismissed(train: Train, resources: Resources) -> int:
    """Do what rank 0 finds to be done until it says that all is done; its exit code."""
    while "code" not in (job := ranks.broadcast(None)):
        inputs = [RunFolder.open(Path(p)) for p in job["inputs"]]
        scratch = Path(job["scratch"]) if job["scratch"] is not None else None
        config = build(TrainConfig, job["config"], "train")
        with tempfile.TemporaryDirectory() as folder:
            train(Context(config, inputs, Silent(), resources, scratch), job["shard"], NullWriter(Path(folder)))
        until_committed(resources)
    return int(job["code"])
