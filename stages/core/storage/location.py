"""Where a run lies: a folder of this machine, or a prefix of a bucket with a mirror here.

`s3://BUCKET/PREFIX/rollout-1a2b3c4d` has a mirror `CACHE/remote/DIGEST/rollout-1a2b3c4d`: an ordinary run folder that
holds what was fetched or made here. Stages work on mirrors and know of no bucket; a file beside them says which it is.
"""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from schemas.identity import digest
from stages.core.atomic import read_json, write_json
from stages.core.cache import cache_root
from stages.core.errors import InputError, UnavailableError, UsageError

_MARK = ".remote.json"
_BUCKET = re.compile(r"[A-Za-z0-9][\w.-]{1,62}")


@dataclass(frozen=True, slots=True)
class BucketFolder:
    """A prefix of a bucket, with run folders directly below it."""

    bucket: str
    prefix: str

    @property
    def url(self) -> str:
        """`s3://BUCKET/PREFIX`, no slash at its end."""
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    @property
    def mirror(self) -> Path:
        """Its folder in this machine's cache. The same bucket name at another endpoint is another place."""
        # In the order in which Amazon's own tools look at them.
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
        return cache_root().absolute() / "remote" / digest([endpoint, self.url])[:16]

    def open_mirror(self) -> Path:
        """The mirror, made if need be, with its mark; UnavailableError where the cache can't be written to."""
        mirror = self.mirror
        if not (mirror / _MARK).is_file():
            try:
                mirror.mkdir(parents=True, exist_ok=True)
                write_json(mirror / _MARK, {"url": self.url})
            except OSError as error:
                raise UnavailableError(
                    f"can't write to the cache {mirror}: {error.strerror}", "point COSMO_CACHE to a folder of yours"
                ) from None
        return mirror


class Location(ABC):
    """Where one run lies. Its text is what people and other commands call it."""

    @property
    @abstractmethod
    def path(self) -> Path:
        """Its folder on this machine: itself, or its mirror."""

    @abstractmethod
    def absolute(self) -> str:
        """Its text as it means the same from every working folder."""

    @abstractmethod
    def seen_from(self, run: Location) -> str:
        """How the manifest of a run names this one, an input: so that a copy of both works where that can be.

        A local input of a remote run is named as if it lay beside it: its path here would tell others nothing.
        """


@dataclass(frozen=True, slots=True)
class LocalLocation(Location):
    """A run folder, a folder of Parquet or a Parquet file of this machine."""

    folder: Path

    def __str__(self) -> str:
        return str(self.folder)

    @property
    def path(self) -> Path:
        """The folder or file itself."""
        return self.folder

    def absolute(self) -> str:
        """The path from the root of the file system."""
        return str(self.folder.absolute())

    def seen_from(self, run: Location) -> str:
        """A relative path, or `../NAME` where the other is in a bucket."""
        if isinstance(run, BucketLocation):
            return f"../{self.folder.name}"
        return os.path.relpath(self.folder, run.path)


@dataclass(frozen=True, slots=True)
class BucketLocation(Location):
    """A run folder below a place in a bucket."""

    bucket_folder: BucketFolder
    name: str

    def __str__(self) -> str:
        return f"{self.bucket_folder.url}/{self.name}".rstrip("/")

    @property
    def path(self) -> Path:
        """Its mirror, which may not be there yet."""
        return self.bucket_folder.mirror / self.name

    def absolute(self) -> str:
        """The URL means the same everywhere."""
        return str(self)

    def seen_from(self, run: Location) -> str:
        """`../NAME` from a run of the same place, else the URL."""
        if isinstance(run, BucketLocation) and run.bucket_folder == self.bucket_folder:
            return os.path.relpath(self.path, run.path)
        return str(self)


def is_url(path: Path | str) -> bool:
    """True for `s3://...`, also where a Path has made one slash of two."""
    return str(path).startswith("s3:/") or str(path) == "s3:"


def place_at(url: Path | str) -> BucketFolder:
    """The place that a URL names; UsageError when it names none."""
    bucket, _, prefix = str(url).removeprefix("s3:").strip("/").partition("/")
    if not _BUCKET.fullmatch(bucket):
        raise UsageError(f"no bucket can be called {bucket!r}", "write it as s3://BUCKET/PREFIX")
    return BucketFolder(bucket, "/".join(part for part in prefix.split("/") if part))


def locate(path: Path | str | Location) -> Location:
    """The location of a run, given its URL, its mirror or an ordinary path; UsageError for a URL that names none."""
    if isinstance(path, Location):
        return path
    if is_url(path):
        whole = place_at(path)
        prefix, _, name = whole.prefix.rpartition("/")
        return BucketLocation(BucketFolder(whole.bucket, prefix), name)
    path = Path(path)
    place = _mirrored_at(path.parent)
    return LocalLocation(path) if place is None else BucketLocation(place, path.name)


def locate_new(runs: Path | str, name: str) -> Location:
    """Where a run of that name goes: `runs` is a folder, or the URL of a place."""
    return BucketLocation(place_at(runs), name) if is_url(runs) else locate(Path(runs) / name)


def locate_input(reference: str, run: Location) -> Location:
    """The run that the manifest of another names by `seen_from`."""
    return locate(reference if is_url(reference) else Path(os.path.normpath(run.path / reference)))


def public(path: Path | str) -> str:
    """A path as people and other commands name it: the URL where it is one, or is the mirror of one."""
    return place_at(path).url if is_url(path) else str(locate(path))


def _mirrored_at(folder: Path) -> BucketFolder | None:
    """The place whose mirror a folder is; None for any other folder, whatever lies in it."""
    mark = folder / _MARK
    if not mark.is_file():
        return None
    try:
        place = place_at(str(read_json(mark)["url"]))
    # A file of that name which is not ours: the folder is an ordinary one.
    except (InputError, UsageError, KeyError, TypeError, IndexError):
        return None
    # A run folder from somebody else may come with such a file: it must not send this machine to their bucket.
    return place if place.mirror.resolve() == folder.resolve() else None
