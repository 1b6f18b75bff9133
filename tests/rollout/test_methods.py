"""How completions come about is one object: what it yields is in the rows, in the plan's order, kept with the shard."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from schemas.rejected import RejectedRow
from schemas.rollouts import FinishReason, Sampling
from schemas.tables import ROLLOUTS, Table
from stages.core.runs.folder import RunFolder, further_rows
from stages.core.stage import Context
from stages.engines.base import Engine
from stages.rollout.methods.base import Asked, Draw, DrawnCompletion, DrawnGroup, RolloutMethod
from tests.rollout.test_rollout import _run, prompts

__all__ = ["prompts"]
NOTES = Table("notes", 1, RejectedRow)


class Backwards(RolloutMethod):
    """Two tokens each, the second of which is somebody else's; prompts in reverse; a note about each."""

    table = NOTES

    def key(self, ctx: Context) -> dict[str, Any]:
        return {"backwards": 1}

    def open(self, ctx: Context, engine: Engine, sampling: Sampling) -> Draw:
        def draw(asked: Sequence[Asked]) -> Iterator[DrawnGroup]:
            for one in reversed(asked):
                made = DrawnCompletion([65, 66], [-0.5, 0.0], FinishReason.STOP, generated=[True, False])
                note = RejectedRow(stage="made", source="made", ref=one.prompt.id, reason="note", detail="of one")
                yield DrawnGroup(one.request.id, [made] * one.request.n, [note])

        return draw


def test_rows_of_another_method_have_the_plans_order_and_its_table_lies_beside_them(
    prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = _run(prompts, tmp_path / "plain", engine="fake", policy="", shard_groups=7)
    assert list(further_rows(plain, NOTES)) == []
    monkeypatch.setattr("stages.rollout.stage.chosen_method", lambda config: Backwards())
    folder = _run(prompts, tmp_path / "runs", engine="fake", policy="", shard_groups=7)
    assert folder.fingerprint != plain.fingerprint
    groups = list(folder.rows(ROLLOUTS))
    assert [g.id for g in groups] == [g.id for g in plain.rows(ROLLOUTS)]
    assert {(c.text, tuple(c.token_ids), tuple(c.generated or ()), c.generated_tokens)
            for g in groups for c in g.completions} == {("AB", (65, 66), (True, False), 1)}  # fmt: skip
    # In the rows' order, each shard's in a file that its receipt names.
    assert [note.ref for note in further_rows(RunFolder.open(folder.path), NOTES)] == [g.id for g in groups]
    entries = [entry.path for receipt in folder.receipts().values() for entry in receipt.files]
    assert sum(path.startswith("notes/") for path in entries) == folder.total == 5
