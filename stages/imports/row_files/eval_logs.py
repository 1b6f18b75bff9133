"""inspect's logs: a zip with a JSON file a sample."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import suppress
from functools import cached_property

from stages.core.errors import BadSample, InputError, first_line
from stages.imports.row_files import base
from stages.imports.row_files.base import At, FoundRow, Row, RowFile, json_object, too_large


class EvalLog(RowFile):
    """inspect's `.eval`: a zip with a JSON file a sample; a place is the member's name."""

    def rows(self) -> Iterator[FoundRow]:
        """Samples by id and epoch."""
        members = self._archive.namelist()
        if "header.json" in members:
            # What it says is the model's name, which samples have, too.
            with suppress(BadSample):
                self.head = json_object(self._read("header.json"))
        names = [n for n in members if n.startswith("samples/") and n.endswith(".json")]
        if not names:
            raise InputError(f"{self.path} holds no samples", "inspect writes them at the end of an evaluation")
        # `ID_epoch_2.json`: as numbers, or a tenth epoch would come before the second.
        for name in sorted(names, key=_epoch_order):
            ref = f"{self.path.name} {name.removeprefix('samples/')}"
            try:
                yield FoundRow(ref, name, json_object(self._read(name)))
            except BadSample as bad:
                yield FoundRow(ref, name, bad)

    def row(self, at: At) -> Row:
        """The sample in that member."""
        return json_object(self._read(str(at)))

    @cached_property
    def _archive(self) -> zipfile.ZipFile:
        # Open for the whole run: each opening reads the names of all members.
        try:
            return zipfile.ZipFile(self.path)
        except (zipfile.BadZipFile, OSError) as error:
            raise InputError(f"{self.path} is no inspect log: {first_line(error)}", "copy it again") from None

    def _read(self, name: str) -> bytes:
        try:
            # A zip may hold terabytes of zeros in kilobytes, and say of it whatever it likes.
            with self._archive.open(name) as member:
                data = member.read(base.MAX_ROW_BYTES + 1)
        except NotImplementedError:
            hint = "inspect log convert --to json FILE.eval --output-dir FOLDER, and import that"
            raise InputError(f"{self.path} is compressed in a way that this Python can't read", hint) from None
        except (zipfile.BadZipFile, zlib.error, KeyError, OSError, EOFError, RuntimeError) as error:
            raise BadSample("malformed", f"{name} can't be read: {first_line(error)}") from None
        if len(data) > base.MAX_ROW_BYTES:
            raise too_large(name)
        return data


def _epoch_order(name: str) -> tuple[str, int]:
    ident, _, epoch = name.removesuffix(".json").rpartition("_epoch_")
    return (ident, int(epoch)) if epoch.isdigit() else (name, 0)
