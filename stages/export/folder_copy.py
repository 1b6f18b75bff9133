"""A model folder copied to where a person wants it: whole or not at all, and never over somebody's files."""

from __future__ import annotations

import os
import shutil
import uuid
from pathlib import Path

from stages.core.errors import CosmoError, UsageError
from stages.export.verify import RECORD


def copy_folder(source: Path, target: Path, overwrite: bool) -> None:
    """Copy `source` to `target` by way of a folder beside it and a rename.

    An earlier export, or an empty folder, is replaced; anything else only with `overwrite`. The same export
    being there already is left alone. Raises UsageError, or CosmoError with the system's reason.
    """
    if _same(source, target):
        return
    # A link would be replaced by the rename, and what it points to left as it was: hardly what is meant.
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise UsageError(f"--to {target} is not a folder", "choose another folder")
    if target.is_dir() and any(target.iterdir()) and not (target / RECORD).is_file() and not overwrite:
        raise UsageError(
            f"--to {target} holds something that is no earlier export",
            "choose another folder, or --set overwrite=true",
        )
    mark = uuid.uuid4().hex[:8]
    # Beside the target, since a rename is whole or not at all only within one file system.
    beside, aside = (target.parent / f".{target.name}.{kind}-{mark}" for kind in ("new", "old"))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, beside)
        # A folder that is not empty can't be renamed over, so the old one steps aside first.
        if target.exists():
            os.rename(target, aside)
        os.rename(beside, target)
    except OSError as error:
        # Between the two renames there is nothing at the target: the old folder goes back.
        if aside.exists() and not target.exists():
            os.rename(aside, target)
        reason = error.strerror or str(error)
        raise CosmoError(f"can't copy the model to {target}: {reason}", "choose another folder with --to") from None
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    # Only now: after a failure above, the old folder has gone back to its place.
    shutil.rmtree(aside, ignore_errors=True)


def _same(source: Path, target: Path) -> bool:
    """True when the very same export is there, complete by names and sizes."""
    record = target / RECORD
    if not record.is_file() or record.read_bytes() != (source / RECORD).read_bytes():
        return False
    return _listing(source) == _listing(target)


def _listing(folder: Path) -> dict[str, int]:
    return {p.relative_to(folder).as_posix(): p.stat().st_size for p in folder.rglob("*") if p.is_file()}
