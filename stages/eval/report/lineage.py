"""Where the numbers come from: the runs behind the inputs, and what each left out."""

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
