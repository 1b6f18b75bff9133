"""WebDataset: tar files whose members share a name a record: `0007.png`, `0007.json`, `0007.txt`."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import IO, Any

from stages.core.errors import BadSample, InputError, first_line
from stages.reading.containers.base import Container, Item, is_compressed, opened
from stages.reading.files import json_line
from stages.reading.unread_images import MAX_FILE_BYTES

_TEXTS = ("txt", "text", "caption", "cls", "question", "answer", "prompt")
_IMAGES = ("png", "jpg", "jpeg", "webp", "gif")
_Member = tuple[str, int, int]
"""(suffix, offset, size)"""


class WebDataset(Container):
    """Records of tar files; a member is read when its record is."""

    kind = "WebDataset"

    def items(self) -> Iterator[Item]:
        """The records: members that follow each other and share a name; positions in plain tars are offsets."""
        n = 0
        for f, path in enumerate(self.files):
            packed = is_compressed(path)
            with opened(path) as handle:
                for name, members in _grouped(handle, packed, path):
                    record: dict[str, Any] | BadSample
                    try:
                        record = _record(name, members)
                    except BadSample as bad:
                        record = bad
                    position = n if packed else (f, name, [(m[0], m[2], m[3]) for m in members])
                    yield Item(f"{path.name} {name}", position, record)
                    n += 1

    def read(self, position: Any) -> dict[str, Any]:
        """The record whose members lie at these offsets."""
        if isinstance(position, int):
            return super().read(position)
        f, name, members = position
        found = []
        with open(self.files[f], "rb") as handle:
            for suffix, offset, size in members:
                handle.seek(offset)
                found.append((suffix, handle.read(size), offset, size))
        return _record(name, found)


def _grouped(handle: IO[bytes], packed: bool, path: Any) -> Iterator[tuple[str, list[tuple[str, bytes, int, int]]]]:
    """(name, members) of each record, in the archive's order."""
    name: str | None = None
    members: list[tuple[str, bytes, int, int]] = []
    try:
        with tarfile.open(fileobj=handle, mode="r|" if packed else "r:") as tar:
            for member in tar:
                key, suffix = _key(member.name)
                # Links and devices are nobody's data, and what begins with a dot is a file system's.
                if not member.isfile() or not suffix:
                    continue
                if key != name and members:
                    yield name or "", members
                    members = []
                name = key
                stream = tar.extractfile(member)
                large = member.size > MAX_FILE_BYTES or stream is None
                data = b"" if large else stream.read()  # type: ignore[union-attr]
                members.append((suffix, data, member.offset_data, member.size))
    except tarfile.TarError as error:
        raise InputError(f"{path} is no tar file: {first_line(error)}", "copy or download it again") from None
    if members:
        yield name or "", members


def _key(member: str) -> tuple[str, str]:
    """(name, suffix) of a member: the suffix begins at the first dot of the last part, as WebDataset splits it."""
    path = PurePosixPath(member)
    stem, _, suffix = path.name.partition(".")
    return (str(path.with_name(stem)) if stem else ""), (suffix.lower() if stem else "")


def _record(name: str, members: list[tuple[str, bytes, int, int]]) -> dict[str, Any]:
    record: dict[str, Any] = {"__key__": name}
    for suffix, data, _, size in members:
        if size > MAX_FILE_BYTES:
            raise BadSample("too_large", f"{name}.{suffix} has {size} bytes, and the limit is {MAX_FILE_BYTES}")
        last = suffix.rpartition(".")[2]
        if suffix == "json":
            # What the archive's maker wrote of a record is its columns.
            record.update(json_line(data))
        elif last == "json":
            record[suffix.rpartition(".")[0]] = _value(data)
        elif last in _IMAGES:
            column = suffix.rpartition(".")[0] or "image"
            column = f"image_{column}" if column.isdigit() else column
            record[column] = {"bytes": data, "path": f"{PurePosixPath(name).name}.{suffix}"}
        elif last in _TEXTS:
            try:
                record[suffix] = data.decode("utf-8-sig").strip()
            except UnicodeError as error:
                raise BadSample("malformed", f"{name}.{suffix} is not UTF-8: {error}") from None
    return record


def _value(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError as error:
        raise BadSample("malformed", f"not JSON: {error}") from None
