"""Safety rows that don't say whether they are harmful: no rule can judge them, and they get no reward."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stages.core.runs.folder import RunFolder

LABEL = "safety"
"""The label whose rows have to say it; a jailbreak row is taken to be harmful where it doesn't."""
HOW_TO_MARK = "--map harmful=COLUMN, or of all rows: --map \"harmful='true'\""


def unmarked_line(folder: RunFolder) -> str | None:
    """`12 of 40 safety rows don't say whether they are harmful, ...` with what to type; None where there is none."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from schemas.columns import column

    # An array of our own making: pyarrow would look for pandas to make one of a text.
    rows = folder.columns(["label", "harmful"])
    safety = rows.filter(pc.equal(rows.column("label"), column([LABEL], pa.string())[0]))
    count = safety.column("harmful").null_count
    if not count:
        return None
    return (
        f"{count} of {safety.num_rows} {LABEL} rows don't say whether they are harmful, and get no reward by rule: "
        f"{HOW_TO_MARK}"
    )
