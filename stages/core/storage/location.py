"""Run folders in a bucket: their URLs, and the mirror on this machine through which everything else sees them.

`s3://BUCKET/PREFIX/rollout-1a2b3c4d` has a mirror `CACHE/remote/DIGEST/rollout-1a2b3c4d`: an ordinary run folder that
holds what was fetched or made here. Stages work on mirrors and know of no bucket; a file beside them says which it is.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from schemas.identity import digest
from stages.core.cache import cache_root
from stages.core.errors import UnavailableError, UsageError

if TYPE_CHECKING:
    from stages.core.runs.folder import RunFolder

_MARK = ".remote.json"
_BUCKET = re.compile(r"[A-Za-z0-9][\w.-]{1,62}")


@dataclass(frozen=True, slots=True)
class Place:
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
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
        return cache_root().absolute() / "remote" / digest([endpoint, self.url])[:16]

    def open_mirror(self) -> Path:
        """The mirror, made if need be, with its mark."""
        mirror = self.mirror
        if not (mirror / _MARK).is_file():
            try:
                mirror.mkdir(parents=True, exist_ok=True)
                beside = mirror / f"{_MARK}.{os.getpid()}"
                beside.write_text(json.dumps({"url": self.url}), encoding="utf-8")
                os.replace(beside, mirror / _MARK)
            except OSError as error:
                raise UnavailableError(
                    f"can't write to the cache {mirror}: {error.strerror}", "point COSMO_CACHE to a folder of yours"
                ) from None
        return mirror


def is_url(path: Path | str) -> bool:
    """True for `s3://...`, also where a Path has made one slash of two."""
    return str(path).startswith("s3:/") or str(path) == "s3:"


def place_at(url: Path | str) -> Place:
    """The place that a URL names; UsageError when it names none."""
    bucket, _, prefix = str(url).removeprefix("s3:").strip("/").partition("/")
    if not _BUCKET.fullmatch(bucket):
        raise UsageError(f"no bucket can be called {bucket!r}", "write it as s3://BUCKET/PREFIX")
    return Place(bucket, "/".join(part for part in prefix.split("/") if part))


def locate(path: Path | str) -> tuple[Place, str] | None:
    """The place and the name of a run, given its URL or its mirror; None for an ordinary path."""
    if is_url(path):
        whole = place_at(path)
        prefix, _, name = whole.prefix.rpartition("/")
        return Place(whole.bucket, prefix), name
    mark = Path(path).parent / _MARK
    if not mark.is_file():
        return None
    return place_at(json.loads(mark.read_text(encoding="utf-8"))["url"]), Path(path).name


def local_root(runs: Path) -> Path:
    """Where run folders of `--runs` lie on this machine: the folder itself, or the mirror of a URL."""
    return place_at(runs).open_mirror() if is_url(runs) else runs


def public(path: Path | str) -> str:
    """A path as people and other commands name it: the URL where it is one, or is the mirror of one."""
    if is_url(path):
        return place_at(path).url
    located = locate(path)
    return f"{located[0].url}/{located[1]}" if located else str(path)


def reference(upstream: RunFolder, run: Path) -> str:
    """How the manifest of a run names an input: relative where both lie in one place, so that a copy of both works.

    A local input of a remote run is named as if it lay beside it: its path here would tell others nothing.
    """
    there, here = locate(upstream.path), locate(run)
    if there is not None and (here is None or here[0] != there[0]):
        return public(upstream.path)
    if here is not None and there is None:
        return f"../{upstream.path.name}"
    return os.path.relpath(upstream.path, run)
