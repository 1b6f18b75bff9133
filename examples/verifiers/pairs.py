"""A good and a bad completion for every question of a prepared run, as a file that `cosmo import` reads."""

from __future__ import annotations

import json
from pathlib import Path

from schemas.prompts import PromptRow
from schemas.tables import PROMPTS
from stages.core.runs.folder import RunFolder
from stages.world.chance import rng_for
from stages.world.facts import TOPICS, TOWNS


def write_pairs(prompts: Path, label: str, split: str, family: str | None, file: Path) -> None:
    """Both completions of each row of a label, split and family, a line a row, the good one not always first."""
    with open(file, "w", encoding="utf-8") as handle:
        for row in RunFolder.open(prompts).rows(PROMPTS):
            if (row.label, row.split, row.family) == (label, split, family):
                pair = options(row)
                rng_for("pair", row.id).shuffle(pair)
                handle.write(json.dumps({"id": row.id, "completions": pair}, ensure_ascii=False) + "\n")


def options(row: PromptRow) -> list[str]:
    """The two things one may do; of a fact, the truth and what is true of another town."""
    if row.choices:
        return list(row.choices)
    topic = next(t for t in TOPICS if any(getattr(town, t) == row.answer for town in TOWNS.values()))
    others = sorted({getattr(town, topic) for town in TOWNS.values()} - {row.answer})
    return [str(row.answer), rng_for("other", row.id).choice(others)]
