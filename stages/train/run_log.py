"""What a training run leaves besides weights: a row a step, the samples left out, drift alarms."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from schemas.arrow import from_record
from schemas.steps import StepRow
from stages.core.errors import CosmoError
from stages.core.stage import ShardWriter
from stages.train.drift.monitor import FILE as WATCH_FILE
from stages.train.drift.monitor import Watch
from stages.train.tracking.trackers import Trackers

LIVE = "steps.jsonl"
"""The file of `RunLog.live`."""


@dataclass(slots=True)
class RunLog:
    """Rows, rejected samples and alarms of one run: kept while it trains, written at its end."""

    watch: Watch
    """The lineage's last steps and its drift alarms."""
    watched: bool
    """Whether the objective's steps are looked at for drift."""
    trackers: Trackers
    """Who else is told of each step."""
    live: Path | None = None
    """Where the rows stand while it trains, a line each, for whoever looks on; None where nobody keeps them."""
    rows: list[StepRow] = field(default_factory=list)
    """One an optimizer step, in order."""
    rejected: dict[tuple[str, str, str], str] = field(default_factory=dict)
    """The samples left out so far, in order, each once: detail by (source, ref, reason)."""

    def reject(self, source: str, ref: str, reason: str, detail: str) -> None:
        """Leave a sample out, once, however often it comes up."""
        self.rejected.setdefault((source, ref, reason), detail)

    def add(self, row: StepRow, say: Callable[[str], None]) -> None:
        """Keep a finished step's row, with its alarms; `say` gets each alarm that begins to hold.

        CosmoError for a step whose loss or gradient is no finite number: every later one would be none either.
        """
        # transformers would go on, and with `logging_nan_inf_filter` even hide it (`trainer_isolation`).
        if not (math.isfinite(row.loss) and math.isfinite(row.grad_norm or 0.0)):
            raise CosmoError(
                f"step {row.step}: loss {row.loss}, gradient norm {row.grad_norm}: training has diverged",
                "lower --learning-rate",
            )
        self.rows.append(self.watch.judge(row, say) if self.watched else row)
        self._append(self.rows[-1:], "a")
        self.trackers.step(self.rows[-1], len(self.rows))

    def keep_live(self, folder: Path | None) -> None:
        """Keep the rows in this folder while it trains, those so far first."""
        self.live = folder / LIVE if folder is not None else None
        self._append(self.rows, "w")

    def _append(self, rows: list[StepRow], mode: str) -> None:
        # The rows that count are written at the end: no full disk may end training here.
        with suppress(OSError):
            if self.live is not None:
                with self.live.open(mode, encoding="utf-8") as file:
                    file.writelines(json.dumps(asdict(row)) + "\n" for row in rows)

    def record(self) -> dict[str, Any]:
        """All of it as plain values, for a checkpoint."""
        return {
            "rows": [asdict(r) for r in self.rows],
            "rejected": [[*k, v] for k, v in self.rejected.items()],
            "watch": self.watch.record(),
        }

    def restore(self, record: dict[str, Any]) -> None:
        """Take over what a checkpoint of the same run recorded, in place of what is here."""
        self.rows = [from_record(StepRow, r) for r in record["rows"]]
        self.rejected = {(r[0], r[1], r[2]): r[3] for r in record["rejected"]}
        self.watch = Watch.from_record(self.watch.config, record["watch"])

    def write(self, writer: ShardWriter) -> None:
        """The rows and rejected samples of the shard, and beside them the watch's memory."""
        for row in self.rows:
            writer.row(row)
        for (source, ref, reason), detail in self.rejected.items():
            writer.reject(source, ref, reason, detail)
        if self.watched:
            self.watch.write(writer.artifact(WATCH_FILE))
