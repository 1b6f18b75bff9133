"""Small benchmarks: files in a layout from Python literals, their rows in this process, and figures of given grades.

root = files(tmp_path, {"data/test.jsonl": [{"question": "1 + 1 ?", "answer": "#### 2"}]})
found = rows("gsm8k", root)
figures(tmp_path, "gsm8k", [scored(row, [grade("answer", 1.0, "correct")]) for row in found])
{"accuracy": 1.0, "accuracy[category=algebra]": 1.0, ...}
"""

from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.prompts import PromptRow
from schemas.scored import Grade, ScoredGroup
from stages.benchmarks.catalogue import benchmark
from stages.core import registry
from stages.core.config import build
from stages.core.errors import BadSample
from stages.eval.benchmarks import benchmark_metrics
from stages.eval.measure import Namer, eval_rows, measure
from stages.eval.metrics.base import Settings
from tests.eval.made import completion, grade, scored_run
from tests.prepare.made import image

__all__ = ["figures", "files", "grade", "image", "picture", "rejected", "rows", "scored", "verdicts"]


def picture(color: Any = "navy", kind: str = "PNG") -> dict[str, Any]:
    """An image as `datasets` stores it in Parquet."""
    return {"bytes": image(color, kind=kind), "path": None}


def files(root: Path, content: dict[str, Any]) -> Path:
    """Files below a folder, by suffix: records for tables and JSON, a colour or bytes for images, text as it is."""
    for name, value in content.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        _WRITERS.get(path.suffix, _write)(path, value)
    return root


def _write(path: Path, value: Any) -> None:
    path.write_bytes(value if isinstance(value, bytes) else value.encode())


def _json(path: Path, value: Any) -> None:
    # Some files of lines are called .json.
    _write(path, value if isinstance(value, str) else json.dumps(value))


def _lines(path: Path, value: list[Any]) -> None:
    _write(path, "".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in value))


def _parquet(path: Path, value: list[dict[str, Any]]) -> None:
    pq.write_table(pa.Table.from_pylist(value), path)


def _table(path: Path, value: list[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as out:
        delimiter = "\t" if path.suffix == ".tsv" else ","
        writer = csv.DictWriter(out, list(dict.fromkeys(name for line in value for name in line)), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(value)


def _image(path: Path, value: Any) -> None:
    _write(
        path, value if isinstance(value, bytes) else image(value, kind=path.suffix[1:].upper().replace("JPG", "JPEG"))
    )


_WRITERS: dict[str, Any] = {
    ".json": _json,
    ".jsonl": _lines,
    ".parquet": _parquet,
    ".csv": _table,
    ".tsv": _table,
    **dict.fromkeys((".png", ".jpg", ".jpeg"), _image),
}


def _read(name: str, path: Path, **options: Any) -> list[PromptRow | str]:
    """Every row that `cosmo prepare bench:NAME --from PATH` would make; of a record that is none, why."""
    plugin = registry.load("dataset", "bench")
    made = build(plugin.options, {"benchmark": name, "path": str(path), **options}, "bench")
    found: list[PromptRow | str] = []
    for record in plugin.records(made, 0):
        try:
            found.append(f"{record.ref}: {': '.join(record.rejected)}" if record.rejected else plugin.row(record, made))
        except BadSample as bad:
            found.append(f"{record.ref}: {bad}")
    return found


def rows(name: str, path: Path, **options: Any) -> list[PromptRow]:
    """The rows of a benchmark's files, none of which may be rejected."""
    found = _read(name, path, **options)
    refused = [why for why in found if isinstance(why, str)]
    assert not refused, refused
    return [row for row in found if isinstance(row, PromptRow)]


def rejected(name: str, path: Path, **options: Any) -> list[str]:
    """What was rejected, and why."""
    return [why for why in _read(name, path, **options) if isinstance(why, str)]


def scored(row: PromptRow, *completions: list[Grade]) -> ScoredGroup:
    """The row with completions of these grades."""
    made = [completion(*grades, index=n) for n, grades in enumerate(completions)]
    fields = {f.name: getattr(row, f.name) for f in dataclasses.fields(PromptRow)}
    return ScoredGroup(**fields, completions=made, reward_formula="sum: answer*1")


def verdicts(found: list[PromptRow], verifier: str, given: Sequence[str | bool | float | None]) -> list[ScoredGroup]:
    """A completion a row with one grade: right, wrong or in part, `verdict` or `verdict: what was seen`, undecided."""
    assert len(found) == len(given)
    return [scored(row, [_graded(verifier, one)]) for row, one in zip(found, given, strict=True)]


def _graded(verifier: str, given: str | bool | float | None) -> Grade:
    if given is None:
        return grade(verifier, None, status="undecided")
    if isinstance(given, bool | float):
        return grade(verifier, float(given), "correct" if given is True else "incorrect")
    verdict, _, seen = given.partition(": ")
    return dataclasses.replace(grade(verifier, 0.0, verdict), seen=seen or None)


def figures(runs: Path, name: str, groups: list[ScoredGroup]) -> dict[str, float | None]:
    """The benchmark's figures by name, and by `name[slice]` for those of its slices; None where too much is undecided.

    The rows have to be of it: `Benchmark.name` is the first part of their source.
    """
    folder = scored_run(runs, groups)
    found = measure([folder], benchmark_metrics([name]), Namer([folder], []), Settings())
    prefix = f"{benchmark(name).name}."
    shown: dict[str, float | None] = {}
    for row in eval_rows(found):
        part = "" if row.slice == "all" else f"[{row.slice}]"
        shown[row.metric.removeprefix(prefix) + part] = row.value
    return shown
