"""A run folder of this machine: read with no link followed, written by staging, receipt, rename."""

from __future__ import annotations

import os
import shutil
import stat
import uuid
from pathlib import Path
from typing import Any

from stages.core.atomic import create_json, move_into_place, read_json, remove_asides, write_json
from stages.core.errors import InputError, UnavailableError
from stages.core.file_digest import known_sha256
from stages.core.storage.base import RunFiles, RunWriter
from stages.core.storage.location import LocalLocation
from stages.core.storage.records import FileEntry, Manifest, Receipt

_SMALL = ("manifest.json", "config.json", "report.json")


def inside(root: Path, name: str) -> Path:
    """`root/name`; InputError where a part of it on the way from `root` is a link, which could lead anywhere."""
    _status(root, name)
    return root / name


def file_status(root: Path, name: str) -> os.stat_result | None:
    """The status of the file `root/name`, None where there is no such file; InputError as of `inside`."""
    status = _status(root, name)
    return status if status is not None and stat.S_ISREG(status.st_mode) else None


def _status(root: Path, name: str) -> os.stat_result | None:
    """Of `root/name`, None where it is not there."""
    # Texts: building paths is most of the time that a look takes, and `cosmo status` takes a hundred thousand.
    path, status = os.fspath(root), None
    for part in name.split("/"):
        path = f"{path}/{part}"
        try:
            status = os.lstat(path)
        # What is not there is no link: it will be made by us, as a plain file or folder.
        except (FileNotFoundError, NotADirectoryError):
            return None
        if stat.S_ISLNK(status.st_mode):
            raise InputError(
                f"{path} is a link: a run folder holds its own files",
                "copy the whole run folder instead (cp -rL), or delete it and rerun its command",
            )
    return status


class LocalFiles(RunFiles):
    """Reading looks at the folder each time: other processes may be at work in it."""

    def __init__(self, location: LocalLocation) -> None:
        manifest = inside(location.path, "manifest.json")
        super().__init__(location, Manifest.parse(read_json(manifest), str(manifest)))
        self._read: dict[int, tuple[tuple[int, int, int], Receipt]] = {}
        self._receipts: dict[int, Receipt] | None = None

    @property
    def config(self) -> dict[str, Any]:
        """The resolved config; InputError when it is not a table."""
        path = inside(self.path, "config.json")
        found = read_json(path) if path.is_file() else {}
        if not isinstance(found, dict):
            raise InputError(f"{path} is not a config: it is not a table", "restore it, or rerun the command")
        return found

    def has_report(self) -> bool:
        """True when it is there as a file."""
        return inside(self.path, "report.json").is_file()

    def report(self) -> Any:
        """The report as it stands there; None where there is none."""
        return read_json(inside(self.path, "report.json")) if self.has_report() else None

    def receipts(self) -> dict[int, Receipt]:
        """All receipts by shard index; each is parsed once while its file stays as it is."""
        if self._receipts is None or not self.one_look:
            found = {index: self.receipt(index) for index in self._listed()}
            self._receipts = {index: receipt for index, receipt in found.items() if receipt is not None}
        return dict(self._receipts)

    def _listed(self) -> list[int]:
        """The planned shards that have a file for their receipt."""
        try:
            # One look at the folder tells which are there, and a run of a thousand shards has a thousand.
            there = set(os.listdir(inside(self.path, "receipts")))
        except (FileNotFoundError, NotADirectoryError):
            return []
        return [index for index in range(len(self.manifest.shards)) if f"{index:05d}.json" in there]

    def receipt(self, index: int) -> Receipt | None:
        """One shard's, looked at alone: who asks after each of a run's shards is not to look at all for each."""
        if not 0 <= index < len(self.manifest.shards):
            return None
        name = f"receipts/{index:05d}.json"
        if (status := file_status(self.path, name)) is None:
            return None
        # Pruning replaces a receipt by rename, which gives it another inode even within one tick of the clock.
        mark = (status.st_ino, status.st_size, status.st_mtime_ns)
        if index not in self._read or self._read[index][0] != mark:
            path = self.path / name
            self._read[index] = (mark, Receipt.parse(read_json(path), str(path), index))
        return self._read[index][1]

    def _found(self, entry: FileEntry, receipt: Receipt) -> Path | None:
        """Where a file lies: where it was staged, as long as it is there, then at its final name."""
        # Staged first: at the final name may still lie what an earlier receipt, forgotten since, has left.
        for name in (receipt.staged(entry), entry.path):
            if file_status(self.path, name) is not None:
                return self.path / name
        return None

    def whole(self, receipt: Receipt) -> bool:
        """True when every file of a receipt is there in its size, but for pruned ones."""
        # Most commits were finished, and then nothing of them is staged: one look for all files.
        staged = os.path.lexists(self.path / receipt.staging)
        for entry in receipt.kept:
            status = file_status(self.path, receipt.staged(entry)) if staged else None
            status = status or file_status(self.path, entry.path)
            if status is None or status.st_size != entry.size:
                return False
        return True

    def fetch(self, entry: FileEntry, receipt: Receipt) -> Path:
        """A committed file where it lies; InputError when it is gone, or its content is not what the receipt says."""
        path = self._found(entry, receipt)
        if path is None:
            raise InputError(
                f"shard {self.path / entry.path} is missing",
                f"rerun the {self.manifest.stage} command to make it again",
            )
        try:
            same = known_sha256(path) == entry.sha256
        except FileNotFoundError:
            # Its commit was finished at this very moment: it has just got its final name.
            path = inside(self.path, entry.path)
            same = known_sha256(path) == entry.sha256
        if not same:
            raise InputError(
                f"shard {path} is corrupt: its content does not match its receipt",
                f"delete the shard and rerun the {self.manifest.stage} command",
            )
        return path

    def artifact(self, name: str) -> Path:
        """Its final name; its staged one where its commit was cut short before the first rename."""
        staged: set[str] = set()
        finished = False
        for receipt in self.receipts().values():
            for entry in receipt.kept:
                if not entry.below(name):
                    continue
                if (path := self._found(entry, receipt)) is not None and path != self.path / entry.path:
                    staged.add(receipt.staging)
                else:
                    finished = True
        if not staged:
            return inside(self.path, name)
        if finished or len(staged) > 1:
            raise InputError(
                f"{self.path / name} is in two places: its commit was cut short",
                f"rerun the {self.manifest.stage} command: it finishes the commit",
            )
        return self.path / staged.pop() / name

    def writer(self) -> LocalWriter:
        """What may change the folder."""
        return LocalWriter(self.path)


class LocalWriter(RunWriter):
    """Every path that it renames or deletes is below the folder, and no part of it a link."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def freeze(self, config: dict[str, Any], manifest: Manifest) -> None:
        """Config, then manifest, where there is none: a folder with a manifest is a run, cut as that says."""
        write_json(self._path / "config.json", config)
        create_json(self._path / "manifest.json", manifest.as_json())

    def commit(self, root: Path, receipt: Receipt) -> bool:
        """Create the receipt whole, only where there is none: written aside, then hard-linked to its name."""
        final = inside(self._path, f"receipts/{receipt.index:05d}.json")
        aside = inside(self._path, "staging") / f"receipt-{uuid.uuid4().hex[:8]}"
        if not create_json(final, receipt.as_json(), aside):
            return False
        self.finish(receipt)
        return True

    def finish(self, receipt: Receipt) -> None:
        """Rename what is still staged, over whatever an earlier receipt, forgotten since, has left there."""
        for entry in receipt.kept:
            staged, final = inside(self._path, receipt.staged(entry)), inside(self._path, entry.path)
            if staged.is_file():
                move_into_place(staged, final)
        shutil.rmtree(inside(self._path, receipt.staging), ignore_errors=True)

    def forget(self, index: int) -> None:
        """Delete the receipt first: without it nothing else counts."""
        for name in (f"receipts/{index:05d}.json", f"shards/{index:05d}.parquet", f"rejected/{index:05d}.parquet"):
            inside(self._path, name).unlink(missing_ok=True)

    def mark(self, receipt: Receipt) -> None:
        """Write the receipt over the one that is there."""
        write_json(inside(self._path, f"receipts/{receipt.index:05d}.json"), receipt.as_json())

    def clean(self) -> None:
        """Empty `staging/`, and remove what was written beside a small file and never got its name."""
        for path in inside(self._path, "staging").iterdir():
            # A link is deleted as such: what it leads to is not in this run.
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        remove_asides(self._path, _SMALL)
        remove_asides(self._path / "receipts", ("*.json",))

    def publish(self, name: str) -> None:
        """Nothing to do: the folder on this machine is the run."""
        return


def make_folder(path: Path) -> None:
    """The run folder's skeleton; UnavailableError with the system's reason when it can't be made."""
    try:
        for name in ("shards", "receipts", "staging", "logs"):
            inside(path, name).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UnavailableError(
            f"can't write to {path}: {error.strerror}", "choose another place with --runs FOLDER"
        ) from None
