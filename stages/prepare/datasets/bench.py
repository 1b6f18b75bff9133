"""A public benchmark, read as its TOML file says: `bench:NAME --from FOLDER`.

    cosmo prepare bench:xstest --from xstest/
    cosmo prepare bench:./my_benchmark.toml --from data/

    [[prepare.sources]]
    name = "bench"
    benchmark = "xstest"
    path = "xstest"

All rows are test rows, and flagged `no_training` where the benchmark may not be trained on. `cosmo list benchmark`
says which there are and what to type for their files; how one is written: docs/benchmarks.md.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schemas.identity import digest
from schemas.prompts import NO_TRAINING, PromptRow, source_name
from stages.benchmarks.benchmark import Benchmark
from stages.benchmarks.catalogue import benchmark
from stages.core import registry
from stages.core.config import build, option
from stages.core.errors import BadSample, InputError, UsageError
from stages.judging.command import flags_of, new_judge
from stages.prepare.datasets.base import Dataset, Record
from stages.prepare.reading.benchmark_rows import BenchmarkRows
from stages.prepare.reading.records import record_of, rejected_record, row_of
from stages.prepare.reading.scans import Scan, last_scan, stat_of


@dataclass(frozen=True)
class BenchOptions:
    """Which benchmark, and where its files lie."""

    benchmark: str = option("", "Its name, or a TOML file (cosmo list benchmark)", affects=False)
    path: str = option("", "The folder or file with its rows, as its authors give it out, or a hub id", affects=False)
    arms: list[str] = option([], "Only these of its arms, where it asks its records in several ways")
    options: dict[str, Any] = option({}, "Further options of the dataset that reads it, where one does")


class Bench:
    """Whatever benchmark is named."""

    version = 1
    options = BenchOptions

    def digest(self, options: BenchOptions) -> dict[str, str]:
        """What identifies the TOML file, the benchmark's files and the images that its rows name."""
        found = _of(options)
        if found.rows.dataset:
            reader, its_options = _reader(options, found)
            own = {n: v for n, v in dataclasses.asdict(its_options).items() if n != "path"}
            key = digest([registry.plugin_key("dataset", found.rows.dataset), own])
            return {"benchmark": found.digest, "reader": key, **reader.digest(its_options)}
        return {"benchmark": found.digest, **_scan(options).digest}

    def records(self, options: BenchOptions, seed: int) -> Iterator[Record]:
        """One record for each of the benchmark's, arm and entry."""
        found = _of(options)
        if not found.rows.dataset:
            yield from _scan(options).records
            return
        reader, its_options = _reader(options, found)
        for record in reader.records(its_options, seed):
            flags = () if found.may_train else (NO_TRAINING,)
            yield dataclasses.replace(record, flags=tuple(sorted({*record.flags, *flags})))

    def row(self, record: Record, options: BenchOptions) -> PromptRow:
        """The row of one record, which is read again."""
        found = _of(options)
        if not found.rows.dataset:
            rows, where, arms = record.payload
            return _with_arms(row_of(rows.draft(where)), arms)
        reader, its_options = _reader(options, found)
        row = reader.row(record, its_options)
        # By the benchmark's name `cosmo eval --pack` knows its rows; its reader may say which part of it.
        source = row.source if source_name(row.source) == found.name else found.name
        return dataclasses.replace(row, source=source, flags=sorted({*row.flags, *record.flags}))

    def reading(self, options: BenchOptions) -> list[str]:
        """What the benchmark is, and how many of its rows there are."""
        found = _of(options)
        parts = [f"{found.title}: {found.about}"]
        if found.licence:
            parts.append(f"licence {found.licence}")
        parts.append("test rows" if found.may_train else "test rows, never trained on")
        if found.size:
            parts.append(f"{found.size} in the whole")
        lines = ["; ".join(parts)]
        if prompt := found.judge.prompt:
            settings = flags_of(new_judge(found.judge.verifier, prompt, found.judge.instead))
            # Where a rule gives a figure of its own, the authors' judge may still tell what it can't.
            why = "a judge tells what the rule can't" if found.judge.instead else "its figures need a judge"
            lines.append(f"{why}: cosmo score ROLLOUT {settings}")
        return lines

    def first_rows(self, options: BenchOptions, most: int) -> Iterator[PromptRow | str]:
        """The first rows as they would be; of a record that is rejected, why."""
        for record, _ in zip(self.records(options, 0), range(most), strict=False):
            try:
                if record.rejected:
                    yield f"{record.ref} is rejected: {': '.join(record.rejected)}"
                else:
                    yield self.row(record, options)
            except BadSample as bad:
                yield f"{record.ref} is rejected: {bad}"


def _of(options: BenchOptions) -> Benchmark:
    if not options.benchmark:
        raise UsageError("bench names no benchmark", "cosmo prepare bench:NAME --from FOLDER (cosmo list benchmark)")
    found = benchmark(options.benchmark)
    if not options.path:
        name = options.benchmark
        raise InputError(f"bench:{name} needs its files", f"--from FOLDER; to get them: {found.get}")
    return found


def _reader(options: BenchOptions, found: Benchmark) -> tuple[Dataset, Any]:
    """The dataset plugin that reads the benchmark's files, with what it is told."""
    reader: Dataset = registry.load("dataset", found.rows.dataset)
    values = {**found.rows.options, **options.options, "path": options.path}
    return reader, build(reader.options, values, f"bench:{found.name} ({found.rows.dataset})")


def _scan(options: BenchOptions) -> Scan:
    rows = BenchmarkRows(_of(options), options.path, options.arms)
    key = json.dumps([dataclasses.asdict(options), rows.benchmark.digest])
    return last_scan(key, lambda: _files(rows), lambda: _pass(rows))


def _files(rows: BenchmarkRows) -> list[Path]:
    return [file for container, _ in rows.containers for file in container.files]


def _with_arms(row: PromptRow, arms: list[str]) -> PromptRow:
    """The row with all the arms that ask it, by which figures are counted."""
    if not any(arms):
        return row
    extra = {**json.loads(row.extra or "{}"), "arms": arms}
    return dataclasses.replace(row, extra=json.dumps(extra, sort_keys=True, ensure_ascii=False))


def _pass(rows: BenchmarkRows) -> Scan:
    seen = [stat_of(str(file)) for file in _files(rows)]
    images: list[list[str]] = []
    records: list[Record] = []
    asked: dict[str, list[str]] = {}
    """The arms of every question by its key: what two of them ask is one row."""
    for ref, where in rows.positions():
        if isinstance(where, BadSample):
            records.append(rejected_record(ref, where))
            continue
        try:
            draft = rows.draft(where)
            images.append([image.digest() for image in draft.images])
            record = record_of(draft, ref, None)
            arms, arm = asked.setdefault(record.key, []), rows.arm_of(where)
            if not arms or arm in arms:
                # Within one arm a duplicate is one, and `prepare` says so.
                records.append(dataclasses.replace(record, payload=(rows, where, arms)))
            arms += [] if arm in arms else [arm]
        except BadSample as bad:
            records.append(rejected_record(ref, bad))
    identity = {
        f"{n:03d}.{part}": value
        for n, (container, _) in enumerate(rows.containers)
        for part, value in container.identity().items()
    }
    return Scan({**identity, "images": digest(images)}, records, _files(rows), seen)


PLUGIN = Bench()
