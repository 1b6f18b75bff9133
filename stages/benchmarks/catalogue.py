"""Benchmarks by name: those of the catalogue, and files of one's own."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from stages.benchmarks.benchmark import PACKS, Arm, Benchmark, Figure, Published
from stages.core.atomic import parse_toml
from stages.core.config import build
from stages.core.errors import UsageError, did_you_mean, first_line

CATALOGUE = Path(__file__).parent / "catalogue"
_SUFFIX = ".toml"


@cache
def names() -> tuple[str, ...]:
    """The benchmarks of the catalogue, sorted."""
    return tuple(sorted(file.stem for file in CATALOGUE.glob(f"*{_SUFFIX}")))


@cache
def benchmark(name: str) -> Benchmark:
    """The benchmark of a name, or of a TOML file; UsageError with did-you-mean where there is none."""
    own = name.endswith(_SUFFIX)
    file = Path(name).expanduser() if own else CATALOGUE / f"{name}{_SUFFIX}"
    if not own and name not in names():
        hint = f"{did_you_mean(name, names())} cosmo list benchmark; one of your own is a path that ends in .toml"
        raise UsageError(f"unknown benchmark {name!r}", hint.lstrip())
    try:
        raw = file.read_bytes()
        table = parse_toml(raw)
    except OSError as error:
        raise UsageError(f"can't read the benchmark {file}: {error.strerror}", "check the path") from None
    except ValueError as error:
        raise UsageError(f"{file} is no TOML: {first_line(error)}", "docs/benchmarks.md shows one") from None
    return _read(file.stem, table, hashlib.sha256(raw).hexdigest())


def _read(name: str, table: dict[str, Any], digest: str) -> Benchmark:
    """A benchmark of its tables; UsageError for a key that there is not, and for a figure without a rule."""
    figures = [_figure(entry, f"{name}.figures[{n}]") for n, entry in enumerate(table.pop("figures", []))]
    rows = table.get("rows", {})
    arms = [build(Arm, entry, f"{name}.rows.arms[{n}]") for n, entry in enumerate(rows.pop("arms", []))]
    found: Benchmark = build(Benchmark, {**table, "name": name, "digest": digest}, name)
    found = replace(found, figures=figures, rows=replace(found.rows, arms=arms))
    if unknown := [pack for pack in found.packs if pack not in PACKS]:
        raise UsageError(f"{name}.packs: {unknown[0]!r} is no pack", f"packs: {', '.join(PACKS)}")
    if not found.rows.dataset and not found.rows.files and not all(arm.files for arm in arms or [Arm()]):
        raise UsageError(f"{name}.rows names no files and no dataset that reads them", 'files = ["test.jsonl"]')
    return found


def _figure(entry: dict[str, Any], where: str) -> Figure:
    published = [build(Published, p, f"{where}.published[{n}]") for n, p in enumerate(entry.pop("published", []))]
    figure: Figure = build(Figure, entry, where)
    if not figure.name or not figure.grades:
        raise UsageError(f"{where} needs a name and grades", 'name = "accuracy", grades = ["answer"]')
    if bool(figure.score) != bool(figure.positive):
        raise UsageError(f"{where}: score and positive go together", 'score = "f1", positive = "yes"')
    return replace(figure, published=published)


def chosen(packs: Iterable[str]) -> list[Benchmark]:
    """The benchmarks that packs, names and files mean, each once, in the order in which they were named."""
    found: dict[str, Benchmark] = {}
    for asked in packs:
        for name in _members(asked):
            one = benchmark(name)
            found.setdefault(one.name, one)
    return list(found.values())


def _members(asked: str) -> list[str]:
    if asked in PACKS:
        return [name for name in names() if asked in benchmark(name).packs]
    if asked in names() or asked.endswith(_SUFFIX):
        return [asked]
    known = [*PACKS, *names()]
    raise UsageError(f"unknown pack {asked!r}", f"{did_you_mean(asked, known)} packs: {', '.join(PACKS)}".lstrip())
