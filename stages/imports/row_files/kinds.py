"""Which files are read, and by what."""

from __future__ import annotations

from pathlib import Path

from stages.core.errors import InputError
from stages.imports.row_files.base import RowFile
from stages.imports.row_files.eval_logs import EvalLog
from stages.imports.row_files.json_rows import JsonLines, WholeJson
from stages.imports.row_files.tables import DelimitedTable, ParquetTable, Workbook

_KINDS: dict[str, type[RowFile]] = {
    ".jsonl": JsonLines,
    ".json": WholeJson,
    ".csv": DelimitedTable,
    ".tsv": DelimitedTable,
    ".parquet": ParquetTable,
    ".eval": EvalLog,
    ".xlsx": Workbook,
}


def find_files(named: list[str]) -> list[Path]:
    """The files, those in folders sorted by name; InputError for one that is not there or of an unknown kind."""
    found: list[Path] = []
    for name in named:
        path = Path(name).expanduser()
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if p.is_file() and p.suffix in _KINDS)
            # lmms-eval and lm-eval put a summary, which is no row of anything, beside the samples.
            samples = [p for p in inside if "samples_" in p.name and p.suffix == ".jsonl"]
            if not inside:
                raise InputError(f"{path} holds no file of completions", f"files end in {', '.join(_KINDS)}")
            found += samples or inside
        elif not path.is_file():
            raise InputError(f"no such file or folder: {path}", "cosmo import FILE --as rollout")
        elif path.suffix not in _KINDS:
            raise InputError(f"{path} is of no kind that is read", f"files end in {', '.join(_KINDS)}")
        else:
            found.append(path)
    return found


def open_file(path: Path) -> RowFile:
    """A file of rows, by its suffix."""
    return _KINDS[path.suffix](path)
