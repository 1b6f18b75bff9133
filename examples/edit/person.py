"""A simulated person: of each wrong completion, the first think step that is not so gives way to the fact that is.

`python -m examples.edit.person SCORED > edits.jsonl`: a line an edit, for `cosmo edit --from`. It knows the built-in
world's facts, as a person who looks at the image and reads the question would.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from schemas.prompts import PromptRow
from schemas.tables import SCORED
from schemas.terms import task_value
from stages.core.runs.folder import RunFolder
from stages.judging.parsed import CLOSE, OPEN

SEPARATOR = " . "


def main() -> None:
    """Print an edit for each wrong completion that has a false step."""
    for path in sys.argv[1:]:
        for line in edits(Path(path)):
            print(json.dumps(line))


def edits(run: Path) -> Iterator[dict[str, object]]:
    """The edits of a scored run, in order."""
    for row in RunFolder.open(run).rows(SCORED):
        for completion in row.completions:
            value = task_value(completion, row.reward_formula)
            if value is None or value >= 1 or row.split != "train":
                continue
            if (after := corrected(row, completion.text)) is not None:
                yield {"id": row.id, "index": completion.index, "after": after, "by": "rule", "why": "not so"}


def corrected(row: PromptRow, text: str) -> str | None:
    """The completion up to its first false think step, and the true fact in that one's place; None without one."""
    thought = text.partition(OPEN)[2].partition(CLOSE)[0]
    steps = [step.strip() for step in thought.strip().removesuffix(".").split(SEPARATOR)]
    true = {*row.facts, *row.key_facts}
    kept: list[str] = []
    for step in steps:
        if step not in true:
            needed = next((fact for fact in row.key_facts if fact not in kept), None)
            return None if needed is None else f"{OPEN} {SEPARATOR.join([*kept, needed])} ."
        kept.append(step)
    return None
