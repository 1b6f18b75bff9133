"""Excel files, where their reader is installed."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from stages.core.errors import InputError, UnavailableError, first_line
from stages.reading.containers.base import Container, Item


class Workbook(Container):
    """The first sheet of an Excel file, which VLMEvalKit writes; a position is a number."""

    kind = "Excel"

    def __init__(self, path: Path) -> None:
        super().__init__([path], path.parent, path.stem)

    def items(self) -> Iterator[Item]:
        """Rows under the names of the first one."""
        for n, row in enumerate(self._rows()):
            yield Item(f"{self.files[0].name} row {n + 2}", n, row)

    def read(self, position: Any) -> dict[str, Any]:
        """The row of that number."""
        return self._rows()[position]

    def _rows(self) -> list[dict[str, Any]]:
        return _sheet(self.files[0], self.files[0].stat().st_mtime_ns)


@lru_cache(maxsize=1)
def _sheet(path: Path, mtime_ns: int) -> list[dict[str, Any]]:
    try:
        from openpyxl import load_workbook
    except ImportError:
        raise UnavailableError(f"{path} is an Excel file", "pip install openpyxl, or save it as TSV") from None
    try:
        lines = load_workbook(path, read_only=True, data_only=True).worksheets[0].iter_rows(values_only=True)
    # zipfile.BadZipFile, KeyError for missing parts, and openpyxl's own for what it does not know.
    except Exception as error:
        raise InputError(f"{path} can't be read as an Excel file: {first_line(error)}", "save it as TSV") from None
    names = [str(name) if name is not None else "" for name in next(lines, ())]
    return [{n: v for n, v in zip(names, line) if n and v is not None} for line in lines]
