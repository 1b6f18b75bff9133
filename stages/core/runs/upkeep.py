"""What only the maker of a run does to it beside committing shards: finish, prune, clean."""

from __future__ import annotations

import dataclasses
import shutil

from stages.core.runs.folder import RunFolder
from stages.core.storage.local import inside


def finish_commits(folder: RunFolder) -> None:
    """Complete commits that a death cut short between a receipt and the last rename. Only who makes the run may."""
    folder.files.look()
    writer = folder.files.writer()
    for receipt in folder.receipts().values():
        writer.finish(receipt)


def prune_artifacts(folder: RunFolder, artifacts: tuple[str, ...]) -> None:
    """Delete artifacts of a complete run: old weights. The receipts say so first, so the run still counts as complete.

    Safe to repeat and to be killed in.
    """
    writer = folder.files.writer()
    for receipt in folder.receipts().values():
        pruned = tuple(sorted({*receipt.pruned, *artifacts}))
        if pruned != receipt.pruned:
            writer.mark(dataclasses.replace(receipt, pruned=pruned))
    for name in artifacts:
        shutil.rmtree(inside(folder.path, name), ignore_errors=True)


def clean_staging(folder: RunFolder) -> None:
    """Remove what killed processes left behind, once every shard is committed."""
    # A receipt alone makes a shard committed: what is still staged must get its name before anything is deleted.
    finish_commits(folder)
    folder.files.writer().clean()


def has_leftovers(folder: RunFolder) -> bool:
    """True when a kill came between the last receipt and the cleaning: `staging/` is empty in a complete run."""
    staging = inside(folder.path, "staging")
    return (staging.is_dir() and any(staging.iterdir())) or any(folder.path.glob(".*.json.*"))
