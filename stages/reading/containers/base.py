"""What a container is: records in a fixed order, read one after the other, and each again by its position."""

from __future__ import annotations

import bz2
import codecs
import contextlib
import gzip
import io
import lzma
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any

from stages.core.errors import BadSample, InputError, first_line

MAX_RECORD_BYTES = 512 << 20
"""No record is read beyond this: several images of the largest size in base64, and no file without line ends."""
MAX_DOCUMENT_BYTES = 1 << 30
"""No JSON object is read beyond this, which has to be in memory as a whole."""
COUNTED_BYTES = 64 << 20
"""Files up to this size are counted before they are read; what is larger says how many rows at the end."""
COMPRESSED = (".gz", ".zst", ".bz2", ".xz")


@dataclass(frozen=True, slots=True)
class Item:
    """One record as it lies in its container."""

    ref: str
    """Where it is, for people: `train.jsonl line 17`. No machine paths."""
    position: Any
    """What `read` takes to give it again."""
    record: dict[str, Any] | BadSample
    """Names to values; or what is wrong with it."""


class Container(ABC):
    """Files that hold records. Whatever is wrong with the whole is an InputError, with one record a BadSample.

    Example:
        container = found(Path("questions.csv"), part="")
        for item in container.items(): ...
    """

    kind: str
    """How people call the format: `Parquet`, `JSON lines`."""

    def __init__(self, files: list[Path], folder: Path | None, name: str) -> None:
        self.files, self.folder, self.name = files, folder, name
        self.head: dict[str, Any] = {}
        self._walk: Iterator[Item] | None = None
        self._walked = -1

    files: list[Path]
    """All files that its content depends on, images named in records aside."""
    folder: Path | None
    """Where the images lie that its records name by path; None where there can be none."""
    name: str
    """What rows call it: the file's name without its suffix."""
    head: dict[str, Any]
    """What stands beside the records and is of them all, known once they have been read."""

    @abstractmethod
    def items(self) -> Iterator[Item]:
        """Every record, in order, one in memory at a time."""

    def read(self, position: Any) -> dict[str, Any]:
        """The record at a position that `items` gave; BadSample where it is none.

        By default positions are numbers that rise, and the container is walked through: files that can't be entered
        in the middle are still read once when positions come in order.
        """
        if self._walk is None or position <= self._walked:
            self._walk, self._walked = self.items(), -1
        for item in self._walk:
            self._walked = item.position
            if item.position == position:
                return taken(item)
        raise changed(self.name)

    def is_walked(self) -> bool:
        """Whether `read` goes through all records before the one that is asked for."""
        return self.is_packed or type(self).read is Container.read

    @cached_property
    def is_packed(self) -> bool:
        """Whether a file's bytes are made of others, compressed or UTF-16, so that it has no offsets to enter at."""
        return any(is_compressed(file) or _is_utf16(_start(file)) for file in self.files)

    def count(self) -> int | None:
        """How many records there are, where that is known at once; None elsewhere."""
        return None

    def identity(self) -> dict[str, str]:
        """What identifies its content, by part."""
        from stages.reading.files import sha256

        return {f"{n:05d}": sha256(file) for n, file in enumerate(self.files)}


def changed(name: str) -> InputError:
    """What is said of a container in which a record is not found again."""
    return InputError(f"{name} changed while it was read", "run the command again")


def taken(item: Item) -> dict[str, Any]:
    """The item's record; what is wrong with it is raised."""
    if isinstance(item.record, BadSample):
        raise item.record
    return item.record


def small(files: list[Path]) -> bool:
    """Whether counting the records of these files takes no time worth naming."""
    return sum(file.stat().st_size for file in files) <= COUNTED_BYTES


def plain_suffix(path: Path) -> str:
    """The suffix of a file without that of its compression, in small letters."""
    suffixes = [s.lower() for s in path.suffixes]
    if suffixes and suffixes[-1] in COMPRESSED:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def plain_stem(path: Path) -> str:
    """The name of a file without the suffixes of its format and its compression."""
    name = path.name
    for _ in range(2 if path.suffix.lower() in COMPRESSED else 1):
        name = Path(name).stem
    return name


def is_compressed(path: Path) -> bool:
    """Whether the file's name says that it is compressed."""
    return path.suffix.lower() in (*COMPRESSED, ".tgz")


_READERS: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".tgz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}


def _start(path: Path) -> bytes:
    with open(path, "rb") as handle:
        return handle.read(2)


def _is_utf16(start: bytes) -> bool:
    return start[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class _Utf8(io.RawIOBase):
    """A file of UTF-16 as the same text in UTF-8."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source, self._decoder = source, codecs.getincrementaldecoder("utf-16")()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """The next bytes: two become three at the most."""
        while True:
            raw = self._source.read(len(buffer) // 2)
            made = self._decoder.decode(raw, final=not raw).encode()
            # Half a character says nothing yet.
            if made or not raw:
                buffer[: len(made)] = made
                return len(made)


def _in_utf8(handle: Any) -> IO[bytes]:
    """The handle; where its text is UTF-16, which Excel and Windows write, one that gives it in UTF-8."""
    return io.BufferedReader(_Utf8(handle), 1 << 20) if _is_utf16(handle.peek(2)) else handle


@contextlib.contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """The bytes of a file, unpacked as its name says, UTF-16 as UTF-8; what breaks on the way is an InputError."""
    import pyarrow as pa

    suffix = path.suffix.lower()
    try:
        with contextlib.ExitStack() as stack:
            if suffix in _READERS:
                yield _in_utf8(stack.enter_context(_READERS[suffix](path, "rb")))
            elif suffix == ".zst":
                # Python has no reader of its own before 3.14.
                source = stack.enter_context(pa.input_stream(str(path), compression="zstd"))
                yield _in_utf8(stack.enter_context(io.BufferedReader(source, 1 << 20)))
            else:
                yield _in_utf8(stack.enter_context(open(path, "rb")))
    # EOFError: cut short. zlib.error, LZMAError, ArrowInvalid: not what the name says. UnicodeError: half of UTF-16.
    except (OSError, EOFError, zlib.error, lzma.LZMAError, pa.ArrowInvalid, UnicodeError) as error:
        raise InputError(f"{path} can't be read: {first_line(error)}", "copy or download it again") from None


def byte_lines(handle: IO[bytes], blank: bool = False) -> Iterator[tuple[int, int, bytes | BadSample]]:
    """(number from 1, byte offset, line) of every line, those that are blank only where they are asked for.

    One beyond the limit is passed over without being read whole: a BadSample stands in its place.
    """
    offset = number = 0
    while line := handle.readline(MAX_RECORD_BYTES + 1):
        number += 1
        begin, offset = offset, offset + len(line)
        if len(line) > MAX_RECORD_BYTES:
            while line and not line.endswith(b"\n"):
                line = handle.readline(1 << 20)
                offset += len(line)
            yield number, begin, too_large(f"line {number}")
        elif blank or line.strip():
            yield number, begin, line


def too_large(name: str) -> BadSample:
    """What is said of a record beyond the limit."""
    return BadSample("too_large", f"{name} has more than {MAX_RECORD_BYTES} bytes")
