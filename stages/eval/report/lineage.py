"""Where the numbers come from: the runs behind the inputs, what each left out, and the reward formulas."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stages.core.runs.lineage import earliest_first

if TYPE_CHECKING:
    from stages.core.runs.folder import RunFolder


def ancestors(folders: list[RunFolder]) -> list[RunFolder]:
    """The folders and every run they were made from, as far as they are still there; earliest first."""
    return earliest_first(folders, lambda folder: folder.upstream())


def run_line(folder: RunFolder) -> dict[str, Any]:
    """One run for the lineage table."""
    receipts = folder.receipts().values()
    return {
        "name": folder.path.name,
        "stage": folder.stage,
        "fingerprint": folder.fingerprint[:12],
        "rows": f"{sum(r.rows for r in receipts):,}" if receipts else "–",
        "rejected": ", ".join(f"{n} {reason}" for reason, n in rejected_by_reason(folder)),
    }


def rejected_by_reason(folder: RunFolder) -> list[tuple[str, int]]:
    """(reason, how many samples a run left out for it), sorted."""
    found: dict[str, int] = {}
    for receipt in folder.receipts().values():
        for reason, count in receipt.rejected.items():
            found[reason] = found.get(reason, 0) + count
    return sorted(found.items())


def formulas(folders: list[RunFolder]) -> list[tuple[str, str]]:
    """(label, formula) as the scored rows say, each pair once."""
    pairs: set[tuple[str, str]] = set()
    for folder in folders:
        table = folder.columns(["label", "reward_formula"])
        labels, found = table.column("label").to_pylist(), table.column("reward_formula").to_pylist()
        pairs.update(zip(labels, found, strict=True))
    return sorted((label, formula) for label, formula in pairs if formula)
