"""Finding a run by its path or URL: the one place that knows the kinds of them."""

from __future__ import annotations

from pathlib import Path

from stages.core.errors import InputError
from stages.core.storage.base import RunFiles, RunWriter
from stages.core.storage.local import LocalFiles, LocalWriter
from stages.core.storage.location import BucketLocation, LocalLocation, Location, locate


def find_files(path: Path | str | Location) -> RunFiles | None:
    """The files of the run with a manifest at a path or URL; None where there is none."""
    location = locate(path)
    if isinstance(location, BucketLocation):
        # The library for buckets takes 60 ms to load, and most commands know of none.
        from stages.core.storage.remote_files import RemoteFiles

        return RemoteFiles.find(location)
    assert isinstance(location, LocalLocation)
    return LocalFiles(location) if (location.path / "manifest.json").is_file() else None


def open_files(path: Path | str | Location) -> RunFiles:
    """The same, or bare Parquet; InputError when it is neither."""
    location = locate(path)
    if (found := find_files(location)) is not None:
        return found
    if isinstance(location, BucketLocation):
        raise InputError(f"no such run folder: {location}", "check the URL, or run the stage before this one")
    # Bare Parquet is rare, and its library takes 0.2 s to load.
    from stages.core.runs.loose import LooseFiles

    folder = location.path
    if folder.is_file() and folder.suffix == ".parquet":
        return LooseFiles(location, [folder])
    if folder.is_dir() and (shards := sorted(folder.glob("*.parquet"))):
        return LooseFiles(location, shards)
    if not folder.exists():
        raise InputError(f"no such run folder or shard: {folder}", "check the path, or run the stage before this one")
    raise InputError(f"{folder} is neither a run folder nor Parquet", "give a folder that a cosmo stage printed")


def writer_at(location: Location) -> RunWriter:
    """What may write a run that is not there yet."""
    if isinstance(location, BucketLocation):
        from stages.core.storage.remote_run import RemoteRun
        from stages.core.storage.remote_writer import RemoteWriter

        location.bucket_folder.open_mirror()
        return RemoteWriter(RemoteRun(location.bucket_folder, location.name))
    return LocalWriter(location.path)
