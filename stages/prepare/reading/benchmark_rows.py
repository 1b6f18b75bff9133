"""A benchmark's own files as samples, by what its TOML file says of them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePath
from typing import Any

from schemas.prompts import NO_TRAINING
from stages.benchmarks.benchmark import Arm, Benchmark, Rows
from stages.core.errors import BadSample, InputError, UsageError, did_you_mean
from stages.core.field_paths import MISSING, FieldPath, Template, parse_path, parse_template
from stages.prepare.reading.records import Draft
from stages.reading.choices import LETTERS, listed_in, options_of
from stages.reading.containers.base import Container
from stages.reading.containers.found import found
from stages.reading.containers.hub import is_hub_id
from stages.reading.layouts.columns import Columns
from stages.reading.layouts.image_values import ImageRules
from stages.reading.layouts.look import NAMES
from stages.reading.layouts.samples import plain_sample
from stages.reading.layouts.shapes import there, value_at
from stages.reading.plain_samples import Defaults, draft_of


@dataclass(frozen=True, slots=True)
class First:
    """The first of several places that has something there: a benchmark is given out in more layouts than one."""

    places: tuple[FieldPath | Template, ...]

    def find(self, row: Mapping[str, Any]) -> Any:
        """Its value; MISSING where none of them has one."""
        return next((value for place in self.places if _there(value := place.find(row))), MISSING)


Place = FieldPath | Template | First
Where = tuple[int, Any, int, int]
"""Which file, which of its records, which arm of it, which entry."""
_ARM = "{@arm}"
"""In the name of a file, the arm's."""
_EXTRA = "extra."
"""In front of the name of a column that is kept beside the row, for figures to count by."""


@dataclass(frozen=True, slots=True)
class _Way:
    """An arm with all that [rows] says, ready to read records."""

    arm: Arm
    fields: dict[str, Place | list[Place]]
    keep: dict[FieldPath, list[str]]
    each: FieldPath | None
    defaults: Defaults


@dataclass
class BenchmarkFiles:
    """The files of one benchmark below one folder, each with the arms that it is read for."""

    benchmark: Benchmark
    path: str
    """The folder or file that was given, or a hub id."""
    arms: list[str] = field(default_factory=list)
    """Only these; all if empty."""

    @cached_property
    def containers(self) -> list[tuple[Container, list[_Way]]]:
        """Each file with the arms that it is read for; InputError where none is there."""
        rows = self.benchmark.rows
        pairs: list[tuple[Container, list[_Way]]] = []
        groups: dict[tuple[tuple[str, ...], str], list[_Way]] = {}
        for way in self._ways():
            patterns = tuple(p.replace(_ARM, way.arm.name) for p in way.arm.files or rows.files)
            groups.setdefault((patterns, way.arm.part or rows.part), []).append(way)
        given = self._given([patterns for patterns, _ in groups])
        for (patterns, part), ways in groups.items():
            if not given or patterns in given:
                pairs += [(found(file, part), ways) for file in self._files(patterns)]
        if not pairs:
            wanted = " or ".join(rows.files or [f for arm in rows.arms for f in arm.files])
            raise InputError(f"{self.path} holds no {wanted}", f"{self.benchmark.title}: {self.benchmark.get}")
        return pairs

    def _given(self, groups: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
        """Of a single file, those that name it: one arm's file is no other's; none where no name says whose it is."""
        path = Path(self.path).expanduser().absolute()
        whole = [one for one in groups if any(path.match(pattern) for pattern in one)]
        return whole or [one for one in groups if any(path.match(PurePath(pattern).name) for pattern in one)]

    def _files(self, patterns: tuple[str, ...]) -> list[str]:
        root = Path(self.path).expanduser()
        if root.is_file() or (not root.exists() and is_hub_id(self.path)):
            return [str(root.absolute()) if root.is_file() else self.path]
        if not root.is_dir():
            raise InputError(f"no such file or folder: {root}", f"{self.benchmark.title}: {self.benchmark.get}")
        # Sorted: a folder lists its files in an order of its own, and rows must come alike on every machine.
        return [str(p) for pattern in patterns for p in sorted(root.glob(pattern)) if p.is_file()]

    def _ways(self) -> list[_Way]:
        arms = self.benchmark.rows.arms or [Arm()]
        if unknown := [name for name in self.arms if name not in [arm.name for arm in arms]]:
            known = [arm.name for arm in arms if arm.name]
            hint = f"{did_you_mean(unknown[0], known)} its arms: {', '.join(known) or 'none'}"
            raise UsageError(f"{self.benchmark.name} has no arm {unknown[0]!r}", hint.lstrip())
        return [_way(self.benchmark, arm) for arm in arms if not self.arms or arm.name in self.arms]

    def image_rules(self, container: Container) -> ImageRules:
        """Images lie below the folder that was given, in the benchmark's own."""
        folder = self._root or container.folder
        return ImageRules(folder / self.benchmark.rows.images if folder else None, root=folder)

    def folder_of(self, container: Container) -> str:
        """Where a file lies below the folder that was given: images are often named from there."""
        own, root = container.folder, self._root
        return own.relative_to(root).as_posix() if own and root and own.is_relative_to(root) else "."

    @cached_property
    def _root(self) -> Path | None:
        """The folder that was given, or the one in which a given file lies where the benchmark says; None elsewhere."""
        path = Path(self.path).expanduser()
        if path.is_dir():
            return path
        rows = self.benchmark.rows
        named = [PurePath(p.replace(_ARM, arm.name)) for arm in rows.arms or [Arm()] for p in arm.files or rows.files]
        # The longest first: `data/test.json` knows more of where it lies than `test.json`.
        for pattern in sorted(named, key=lambda p: -len(p.parts)):
            if path.is_file() and path.absolute().match(str(pattern)):
                return path.absolute().parents[len(pattern.parts) - 1]
        return None


@dataclass
class BenchmarkRows(BenchmarkFiles):
    """The rows of one benchmark below one folder."""

    _last: tuple[int, Any, dict[str, Any]] | None = None

    def positions(self) -> Iterator[tuple[str, Where | BadSample]]:
        """Where every row lies, in order, with what people call the place; a record that is none says why."""
        for number, (container, ways) in enumerate(self.containers):
            for item in container.items():
                if isinstance(item.record, BadSample):
                    yield item.ref, item.record
                    continue
                self._last = (number, item.position, item.record)
                for n, way in enumerate(ways):
                    if not all(_text_at(path, item.record) in values for path, values in way.keep.items()):
                        continue
                    arm = f" ({way.arm.name})" if way.arm.name else ""
                    for entry in range(_entries(way, item.record)):
                        place = f"{item.ref}{arm}" + (f", {way.arm.each} {entry}" if way.each else "")
                        yield place, (number, item.position, n, entry)

    def draft(self, where: Where) -> Draft:
        """The draft of one row; BadSample where it can't be made."""
        number, position, n, entry = where
        container, ways = self.containers[number]
        if self._last is None or self._last[:2] != (number, position):
            self._last = (number, position, container.read(position))
        record, way = self._last[2], ways[n]
        known = {
            **record,
            "@file": container.name,
            "@folder": self.folder_of(container),
            "@arm": way.arm.name,
            "@number": str(position),
        }
        if way.each:
            known["@entry"] = value_at(way.each, record)[entry]
        try:
            record, columns, unlisted = _sample(self.benchmark.rows, known, way)
            sample = {**plain_sample(record, columns), **unlisted}
            return draft_of(sample, way.defaults, self.image_rules(container).image)
        except (TypeError, AttributeError, KeyError, ValueError, RecursionError, IndexError) as error:
            raise BadSample("malformed", f"can't be read ({type(error).__name__}: {error})") from None

    def arm_of(self, where: Where) -> str:
        """The arm that a row is of, "" where there are none."""
        return self.containers[where[0]][1][where[2]].arm.name


def _sample(rows: Rows, record: dict[str, Any], way: _Way) -> tuple[dict[str, Any], Columns, dict[str, Any]]:
    """The record with every field of ours beside its columns, which column is which, and what is not asked."""
    flat: dict[str, Any] = {}
    for name, place in way.fields.items():
        value = [v for p in place if _there(v := p.find(record))] if isinstance(place, list) else place.find(record)
        flat[name] = _meant(rows, name, _rewritten(rows, name, value)) if _there(value) else None
    if isinstance(flat.get("choices"), str):
        flat["choices"] = listed_in(flat["choices"])
    if rows.shuffle and flat.get("choices"):
        flat["choices"], flat["answer"] = shuffled(options_of(flat["choices"])[0])
    if rows.numbered_from is not None and flat.get("choices"):
        flat["answer"] = _numbered(flat["answer"], rows.numbered_from, options_of(flat["choices"])[0])
    unlisted = {}
    if way.arm.unlisted and flat.get("choices"):
        unlisted["choices"], _ = options_of(flat.pop("choices"))
    beside = {n.removeprefix(_EXTRA): flat.pop(n) for n in list(flat) if n.startswith(_EXTRA)}
    paths = {name: FieldPath(f"@{name}", (f"@{name}",)) for name, value in flat.items() if there(value)}
    used = {p.steps[0] for place in way.fields.values() for p in _paths(place) if p.steps}
    # What was read whole is not kept beside the row a second time; images are left out of what is kept anyway.
    rest = {k: v for k, v in record.items() if k not in used and not k.startswith("@")}
    return (
        {**rest, **beside, **{f"@{n}": v for n, v in flat.items()}},
        Columns("", paths, with_letters=True),
        unlisted,
    )


def _rewritten(rows: Rows, name: str, value: Any) -> Any:
    """A text, or each of a list, with what the benchmark's file says in place of its patterns."""
    patterns = rows.rewrite.get(name, {})
    if patterns and isinstance(value, list):
        return [_rewritten(rows, name, one) for one in value]
    for pattern, written in patterns.items() if isinstance(value, str) else ():
        value = re.sub(pattern, written, value)
    return value


def _meant(rows: Rows, name: str, value: Any) -> Any:
    """What a value means; BadSample for one that the benchmark's file doesn't know."""
    table = rows.values.get(name)
    if table is None:
        return value
    if (meant := table.get(str(value))) is None:
        raise BadSample("malformed", f"{name} is {str(value)[:40]!r}, and must be one of {', '.join(table)}")
    return meant


def _there(value: Any) -> bool:
    return value is not MISSING and there(value)


def _text_at(path: FieldPath, record: Mapping[str, Any]) -> str:
    value = value_at(path, record)
    return "" if value is None else str(value)


def _numbered(value: Any, first: int, texts: list[str]) -> str:
    """The letter of an option that is meant by its number; an option may be a number itself, and is not meant."""
    try:
        number = int(value) - first
    except (TypeError, ValueError):
        number = -1
    if not 0 <= number < len(texts):
        raise BadSample("malformed", f"answer is {str(value)[:40]!r}, and there are {len(texts)} options from {first}")
    return LETTERS[number]


def shuffled(texts: list[str]) -> tuple[list[str], str]:
    """Options of which the first is right, in an order by content, and the letter of the right one."""
    # By digest and not by a seed: the order is the same on every machine, and says nothing about which one is right.
    ordered = sorted(dict.fromkeys(texts), key=lambda text: hashlib.sha256(text.encode()).digest())
    return ordered, LETTERS[ordered.index(texts[0])]


def _way(benchmark: Benchmark, arm: Arm) -> _Way:
    rows = benchmark.rows
    mapped = {**rows.map, **arm.map}
    if unknown := [name for name in mapped if name not in NAMES and not name.startswith(_EXTRA)]:
        hint = did_you_mean(unknown[0], NAMES) or ", ".join(NAMES)
        raise UsageError(f"{benchmark.name}.rows.map: {unknown[0]!r} is no name of a sample", hint)
    task = rows.task or (f"{benchmark.name}:{arm.name}" if arm.name else benchmark.name)
    flags = () if benchmark.may_train else (NO_TRAINING,)
    return _Way(
        arm,
        {name: _parsed(text, f"{benchmark.name}.rows.map.{name}") for name, text in mapped.items()},
        {parse_path(column): values for column, values in {**rows.keep, **arm.keep}.items()},
        parse_path(arm.each) if arm.each else None,
        Defaults(benchmark.name, rows.label, task, "test", "", flags),
    )


def _parsed(text: Any, where: str) -> Place | list[Place]:
    if isinstance(text, str):
        return parse_template(text)
    if isinstance(text, list) and all(isinstance(t, str) for t in text):
        return [parse_template(t) for t in text]
    if isinstance(text, dict) and list(text) == ["first"] and isinstance(text["first"], list):
        return First(tuple(parse_template(t) for t in text["first"]))
    raise UsageError(f"{where} = {text!r} is no path", "a text, a list of texts, or { first = [...] }")


def _paths(place: Place | list[Place]) -> Iterator[FieldPath]:
    """The columns that are read whole: those of templates stay beside the row, as their words alone are in it."""
    for one in place if isinstance(place, list) else place.places if isinstance(place, First) else [place]:
        if isinstance(one, FieldPath):
            yield one


def _entries(way: _Way, record: Mapping[str, Any]) -> int:
    if way.each is None:
        return 1
    value = value_at(way.each, record)
    return len(value) if isinstance(value, list) else 0
