"""inspect's logs: a zip with a JSON file a sample."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from stages.core.errors import BadSample, InputError, first_line
from stages.reading.containers import base
from stages.reading.containers.base import Container, Item, too_large
from stages.reading.files import json_line


class EvalLog(Container):
    """inspect's `.eval`: a zip with a JSON file a sample; a position is the member's name."""

    kind = "inspect log"

    def __init__(self, path: Path) -> None:
        super().__init__([path], path.parent, path.stem)

    def items(self) -> Iterator[Item]:
        """Samples by id and epoch."""
        members = self._archive.namelist()
        if "header.json" in members:
            # What it says is the model's name, which samples have, too.
            with suppress(BadSample):
                self.head = self.read("header.json")
        names = [n for n in members if n.startswith("samples/") and n.endswith(".json")]
        if not names:
            raise InputError(f"{self.files[0]} holds no samples", "inspect writes them at the end of an evaluation")
        # `ID_epoch_2.json`: as numbers, or a tenth epoch would come before the second.
        for name in sorted(names, key=_epoch_order):
            ref = f"{self.files[0].name} {name.removeprefix('samples/')}"
            try:
                yield Item(ref, name, self.read(name))
            except BadSample as bad:
                yield Item(ref, name, bad)

    def read(self, position: Any) -> dict[str, Any]:
        """The sample in that member."""
        return json_line(self._read(str(position)), lenient=True)

    @cached_property
    def _archive(self) -> zipfile.ZipFile:
        # Open for the whole run: each opening reads the names of all members.
        try:
            return zipfile.ZipFile(self.files[0])
        except (zipfile.BadZipFile, OSError) as error:
            raise InputError(f"{self.files[0]} is no inspect log: {first_line(error)}", "copy it again") from None

    def _read(self, name: str) -> bytes:
        try:
            # A zip may hold terabytes of zeros in kilobytes, and say of it whatever it likes.
            with self._archive.open(name) as member:
                data = member.read(base.MAX_RECORD_BYTES + 1)
        except NotImplementedError:
            hint = "inspect log convert --to json FILE.eval --output-dir FOLDER, and import that"
            raise InputError(f"{self.files[0]} is compressed in a way that this Python can't read", hint) from None
        except (zipfile.BadZipFile, zlib.error, KeyError, OSError, EOFError, RuntimeError) as error:
            raise BadSample("malformed", f"{name} can't be read: {first_line(error)}") from None
        if len(data) > base.MAX_RECORD_BYTES:
            raise too_large(name)
        return data


def _epoch_order(name: str) -> tuple[str, int]:
    ident, _, epoch = name.removesuffix(".json").rpartition("_epoch_")
    return (ident, int(epoch)) if epoch.isdigit() else (name, 0)
