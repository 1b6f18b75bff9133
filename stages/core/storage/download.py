"""Committed files of a run in a bucket, fetched into its mirror: going on where an earlier try was cut short."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path
from typing import IO

from stages.core.errors import InputError
from stages.core.file_digest import file_sha256
from stages.core.storage.records import FileEntry, Receipt
from stages.core.storage.remote_run import RemoteRun

_CHECKED: set[tuple[Path, str]] = set()
"""(path, sha256) of mirrored files whose content this process has checked."""


def fetch(run: RemoteRun, entry: FileEntry, receipt: Receipt, stage: str) -> Path:
    """A committed file in the mirror, its content checked; InputError when the store's is another, or gone."""
    target = run.mirror / entry.path
    if (target, entry.sha256) in _CHECKED:
        return target
    if not _is(target, entry):
        _download(run, entry, receipt, stage)
    _CHECKED.add((target, entry.sha256))
    return target


def _download(run: RemoteRun, entry: FileEntry, receipt: Receipt, stage: str) -> None:
    """Written aside and renamed; one process of this machine at a time."""
    target = run.mirror / entry.path
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name}.{entry.sha256[:12]}.part")
    # To append: what an earlier try has fetched stays. The name holds the digest, so it can't be of another content.
    with open(aside, "ab") as part:
        fcntl.flock(part, fcntl.LOCK_EX)
        # Whoever held the lock before may have fetched it.
        if _is(target, entry):
            aside.unlink(missing_ok=True)
            return
        # Opened to append, a file says its size here from the start.
        begun = part.tell() > 0
        _receive(run, part, entry, receipt, stage)
        # A part is synced at its end alone: after a crash it may hold zeros, so once more from the beginning.
        if begun and file_sha256(aside) != entry.sha256:
            part.truncate(0)
            _receive(run, part, entry, receipt, stage)
        if file_sha256(aside) != entry.sha256:
            aside.unlink()
            raise InputError(
                f"{run.url}/{entry.path} is corrupt: its content does not match its receipt",
                f"delete it there and rerun the {stage} command",
            )
        os.replace(aside, target)


def _receive(run: RemoteRun, part: IO[bytes], entry: FileEntry, receipt: Receipt, stage: str) -> None:
    if part.tell() > entry.size:
        part.truncate(0)
    have = os.fstat(part.fileno()).st_size
    if have == entry.size:
        return
    # A commit may be finished under a reader's feet: then the file has just got its final name.
    for name in (entry.path, receipt.staged(entry), entry.path):
        with contextlib.suppress(FileNotFoundError):
            for piece in run.store.stream(run.key(name), have):
                part.write(piece)
            part.flush()
            os.fsync(part.fileno())
            return
    raise InputError(f"{run.url}/{entry.path} is missing", f"rerun the {stage} command to make it again")


def _is(path: Path, entry: FileEntry) -> bool:
    """True when a file is there with the content of the entry."""
    return path.is_file() and path.stat().st_size == entry.size and file_sha256(path) == entry.sha256
