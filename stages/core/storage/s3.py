"""The objects of a place, through obstore. Whatever goes wrong there is one line, an exit code, and no secret."""

from __future__ import annotations

import contextlib
import functools
import os
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.core.errors import UnavailableError, first_line
from stages.core.storage.location import BucketFolder
from stages.core.storage.s3_errors import CREDENTIALS, answers

if TYPE_CHECKING:
    from obstore.store import S3Store

# S3 copies an object of up to 5 GB in one request; beyond that it has to go through this machine.
COPY_BYTES = 5 * 10**9
PART_BYTES = 8 << 20
_MOST_PARTS = 9_000


@dataclass(frozen=True, slots=True)
class Meta:
    """What a listing tells of an object."""

    size: int
    modified: float


class Store:
    """Objects by key, relative to the place."""

    def __init__(self, place: BucketFolder) -> None:
        self.bucket_folder = place
        # Questions are short and a dead endpoint is noticed in seconds; what carries files is patient.
        self._quick = _client(place, read="12s", retry=timedelta(seconds=20))
        self._patient = _client(place, read="10min", retry=timedelta(minutes=4))

    def names(self, prefix: str) -> dict[str, Meta]:
        """Every object below `prefix/`, by its name there."""
        import obstore

        found = {}
        with answers(self.bucket_folder, prefix):
            for page in obstore.list(self._quick, prefix, chunk_size=1000):
                for meta in page:
                    name = meta["path"].removeprefix(f"{prefix}/")
                    found[name] = Meta(meta["size"], meta["last_modified"].timestamp())
        return found

    def folders(self) -> list[str]:
        """The names directly below the place that have something below them."""
        import obstore

        with answers(self.bucket_folder, ""):
            return [str(p).rsplit("/", 1)[-1] for p in obstore.list_with_delimiter(self._quick)["common_prefixes"]]

    def stat(self, key: str) -> Meta | None:
        """What is known of an object, or None where there is none."""
        import obstore

        with answers(self.bucket_folder, key), contextlib.suppress(FileNotFoundError):
            meta = obstore.head(self._quick, key)
            return Meta(meta["size"], meta["last_modified"].timestamp())
        return None

    def read(self, key: str) -> bytes | None:
        """A small object whole, or None where there is none."""
        import obstore

        with answers(self.bucket_folder, key), contextlib.suppress(FileNotFoundError):
            return bytes(obstore.get(self._quick, key).bytes())
        return None

    def stream(self, key: str, start: int = 0) -> Iterator[Any]:
        """An object's bytes from `start`, in pieces; FileNotFoundError where there is none."""
        import obstore

        with answers(self.bucket_folder, key):
            yield from obstore.get(self._patient, key, options={"range": {"offset": start}}).stream(PART_BYTES)

    def write(self, key: str, data: bytes) -> None:
        """Put a small object there, in place of any other."""
        import obstore

        with answers(self.bucket_folder, key):
            obstore.put(self._quick, key, data)

    def create(self, key: str, data: bytes) -> bool:
        """Put a small object there if there is none; False when there is another.

        The data must be this writer's alone: a request whose answer was lost is sent again, and finds its own object.
        """
        import obstore
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        for _ in range(5):
            with answers(self.bucket_folder, key):
                try:
                    obstore.put(self._quick, key, data, mode="create")
                    return True
                except (AlreadyExistsError, PreconditionError):
                    found = self.read(key)
            # Two writers at the very same moment may both be turned away, or another's object may be gone again.
            if found is not None:
                return found == data
            time.sleep(0.2)
        return False

    def upload(self, path: Path, key: str) -> None:
        """Put a file there; large ones in parts."""
        import obstore

        with answers(self.bucket_folder, key):
            obstore.put(self._patient, key, path, chunk_size=_part(path.stat().st_size), max_concurrency=4)

    def copy(self, source: str, target: str, size: int) -> bool:
        """Copy an object within the place; False when the source is gone."""
        import obstore

        try:
            with answers(self.bucket_folder, source):
                if size <= COPY_BYTES:
                    obstore.copy(self._patient, source, target)
                else:
                    self._carry(source, target)
        except FileNotFoundError:
            return False
        return True

    def _carry(self, source: str, target: str) -> None:
        """Copy by way of this machine's disk."""
        with tempfile.TemporaryDirectory(dir=self.bucket_folder.open_mirror()) as aside:
            path = Path(aside) / "object"
            with open(path, "wb") as file:
                for piece in self.stream(source):
                    file.write(piece)
            self.upload(path, target)

    def delete(self, keys: Iterable[str]) -> None:
        """Remove objects; those that are not there are fine."""
        import obstore

        with answers(self.bucket_folder, ""):
            for key in keys:
                with contextlib.suppress(FileNotFoundError):
                    obstore.delete(self._quick, key)


def store_at(place: BucketFolder) -> Store:
    """The one client of a place; UnavailableError without the library."""
    return _store(place, place.mirror)


@functools.lru_cache(maxsize=64)
def _store(place: BucketFolder, mirror: Path) -> Store:
    # The mirror is another where the endpoint is.
    try:
        import obstore  # noqa: F401
    except ImportError:
        raise UnavailableError(
            f"{place.url}: run folders in a bucket need obstore", "pip install 'cosmo-rl[s3]'"
        ) from None
    return Store(place)


def _client(place: BucketFolder, read: str, retry: timedelta) -> S3Store:
    """A client with the environment's endpoint and credentials, which it keeps to itself."""
    from obstore.exceptions import BaseError
    from obstore.store import S3Store

    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
    plain = os.environ.get("AWS_ALLOW_HTTP", "").lower() in ("1", "true", "yes")
    if endpoint.startswith("http://") and not plain:
        raise UnavailableError("AWS_ENDPOINT_URL is plain http", "where that is meant: export AWS_ALLOW_HTTP=true")
    try:
        return S3Store(
            place.bucket,
            prefix=place.prefix or None,
            # One by one works with every S3-compatible store; there is little to delete.
            config={"disable_bulk_delete": True},
            # `timeout` is for a whole request, however large its file; what stalls is ended by `read_timeout`.
            client_options={"connect_timeout": "5s", "read_timeout": read, "timeout": "6h", "allow_http": plain},
            retry_config={
                "max_retries": 8,
                "retry_timeout": retry,
                "backoff": {
                    "init_backoff": timedelta(milliseconds=200),
                    "max_backoff": timedelta(seconds=8),
                    "base": 2,
                },
            },
        )
    except (BaseError, ValueError) as error:
        raise UnavailableError(f"{place.url} can't be used: {first_line(error)[:160]}", CREDENTIALS) from None


def _part(size: int) -> int:
    """Bytes a part: an object may have 10,000 of them."""
    return max(PART_BYTES, -(-size // _MOST_PARTS))
