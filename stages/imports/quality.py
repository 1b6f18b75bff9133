"""What an import came to: whose completions, how many are not there, and which grades came with them."""

from __future__ import annotations

from collections import Counter
from typing import Any

from schemas.rollouts import FinishReason
from schemas.tables import SCORED
from stages.core.runs.folder import RunFolder
from stages.core.runs.unmarked import unmarked_line
from stages.core.stage import Quality

_MOST_NAMED = 4


def import_quality(folder: RunFolder) -> Quality:
    """Numbers over all completions; a warning where more rows were rejected than kept, a failure without any text."""
    ends: Counter[str] = Counter()
    policies: Counter[str] = Counter()
    grades: Counter[str] = Counter()
    for path in folder.shard_paths():
        for values in _columns(path, folder.table == SCORED.name):
            ends.update(values["finish_reason"])
            policies.update(values["policy_id"])
            grades.update(g["name"] for own in values.get("grades", []) for g in own or [])
    rejected = sum((Counter(receipt.rejected) for receipt in folder.receipts().values()), Counter[str]())
    # The same responses once more are no loss.
    lost = rejected.total() - rejected["other_filter"]
    missing = ends[FinishReason.ERROR]
    numbers: dict[str, Any] = {
        "completions": ends.total(),
        "without_text": missing,
        "policies": dict(policies.most_common()),
        "grades": dict(sorted(grades.items())),
        "rejected": dict(sorted(rejected.items())),
    }
    hint = f"cosmo show {folder.where} --rejected"
    if missing == ends.total():
        return Quality("", numbers, failure=f"none of {missing} completions has a text", hint=hint)
    named = ", ".join(f"{n} of {name}" for name, n in policies.most_common(_MOST_NAMED))
    more = f" and {len(policies) - _MOST_NAMED} more policies" if len(policies) > _MOST_NAMED else ""
    gone = f", {missing} without a text" if missing else ""
    with_grades = f", grades {', '.join(sorted(grades))}" if grades else ""
    warning = f"{lost} rows were rejected, and {ends.total()} completions kept" if lost > ends.total() else None
    said = [text for text in (warning, unmarked_line(folder)) if text]
    line = f"{ends.total()} completions: {named}{more}{gone}{with_grades}"
    return Quality(line, numbers, "; ".join(said) or None, hint=hint if warning else "")


def _columns(path: Any, with_grades: bool) -> Any:
    import pyarrow.compute as pc

    from stages.core.runs.shards import open_shard

    names = ["finish_reason", "policy_id", *(["grades"] if with_grades else [])]
    with open_shard(path, None) as file:
        leaves = [file.schema.column(i).path for i in range(len(file.schema))]
        # Parquet writers call a list's level `list.element` or `list.item`; the field names are what counts.
        parts = {leaf: [p for p in leaf.split(".") if p not in ("list", "element", "item")] for leaf in leaves}
        read = [leaf for leaf, p in parts.items() if p[0] == "completions" and len(p) > 1 and p[1] in names]
        for batch in file.iter_batches(columns=read):
            flat = batch.column("completions").flatten()
            yield {name: pc.struct_field(flat, name).to_pylist() for name in names}
