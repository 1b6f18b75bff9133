"""`cosmo prepare`: datasets in, prompt rows out."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import TYPE_CHECKING, Any

from schemas.tables import PROMPTS
from stages.core.config import key_of
from stages.core.errors import BadSample, InputError, UsageError
from stages.core.stage import Context, Plan, ShardWriter, Work, chunks
from stages.prepare.config import PrepareConfig
from stages.prepare.sources import Source, identity, parse, records

if TYPE_CHECKING:
    from schemas.prompts import PromptRow
    from stages.prepare.choose import Choice
    from stages.prepare.datasets.base import Record
    from stages.prepare.images import Limits
    from stages.prepare.near import Benchmark


class PrepareStage:
    """Reads sources, leaves out what is bad or double, mixes, and writes rows with checked pictures."""

    name = "prepare"
    version = 1
    table = PROMPTS
    reads = ()
    config = PrepareConfig

    def plan(self, ctx: Context) -> Plan:
        """Choose the records. A shard is `{"source": [...], "index": [...], "of": number of shards}`."""
        from stages.prepare.memo import remembered

        sources = _sources(ctx.config)
        tests = [parse(spec, "prepare.decontaminate") for spec in ctx.config.decontaminate]
        key = {"sources": [identity(s) for s in sources], "decontaminate": [identity(s) for s in tests]}
        plan = remembered({**key, "config": key_of(ctx.config)}, lambda: _plan(ctx, sources, tests, key))
        for note in plan.provenance["notes"]:
            ctx.progress.log(note)
        return plan

    def open(self, ctx: Context) -> Work:
        """Rows of the planned records; a record that turns out bad is rejected in its shard."""
        from stages.prepare.images import Limits

        config: PrepareConfig = ctx.config
        sources = _sources(config)
        limits = Limits(config.max_image_bytes, config.max_image_pixels, config.min_image_side)
        held: dict[int, list[Record]] = {}

        def work(shard: dict[str, Any], writer: ShardWriter) -> None:
            for k in sorted(set(shard["source"]) - held.keys()):
                held[k] = records(sources[k], config.seed, ctx.resources)
            picks = list(zip(shard["source"], shard["index"], strict=True))
            ctx.progress.start("prepare", len(picks), "rows")
            rows: dict[tuple[int, int], PromptRow] = {}
            bad: Counter[str] = Counter()
            lies: list[str] = []
            # Made in the source's order, which is how large files are read well; written in the plan's order.
            for source, index in sorted(picks):
                record = _still_there(held[source], index, sources[source])
                try:
                    row = sources[source].plugin.row(record, sources[source].options)
                    rows[source, index] = _checked(row, limits, lies)
                except BadSample as error:
                    bad[error.reason] += 1
                    writer.reject(sources[source].name, record.ref, error.reason, error.detail)
                ctx.progress.advance()
            if not rows and shard["of"] == 1:
                raise _nothing_left(bad)
            for pick in picks:
                if pick in rows:
                    writer.row(rows[pick])
            if lies:
                ctx.progress.log(f"{len(lies)} pictures are of another type than their name says: {lies[0]}")

        return work


def _still_there(found: list[Record], index: int, source: Source) -> Record:
    if index >= len(found) or found[index].rejected is not None:
        raise InputError(f"{source.shown} changed while it was prepared", "run the command again")
    return found[index]


def _sources(config: PrepareConfig) -> list[Source]:
    if not config.sources:
        raise UsageError("cosmo prepare was given no dataset", "cosmo prepare builtin (cosmo list dataset)")
    return [parse(spec, "prepare.sources") for spec in config.sources]


def _plan(ctx: Context, sources: list[Source], tests: list[Source], key: dict[str, Any]) -> Plan:
    from stages.prepare.choose import choose

    config: PrepareConfig = ctx.config
    found = [records(s, config.seed, ctx.resources) for s in sources]
    names = [s.name for s in sources]
    choice = choose(names, found, config, _benchmark(ctx, tests), [s.limit for s in sources])
    if not choice.picks:
        raise _nothing_left(Counter(r.reason for r in choice.rejected) + choice.not_drawn, choice)
    pieces = list(chunks(choice.picks, config.shard_rows))
    shards = [
        {"source": [p.source for p in piece], "index": [p.index for p in piece], "of": len(pieces)} for piece in pieces
    ]
    provenance = {
        "records": {f"{k} {s.name}": len(r) for k, (s, r) in enumerate(zip(sources, found, strict=True))},
        "labels": dict(sorted(Counter(p.record.label for p in choice.picks).items())),
        "not_drawn": dict(sorted(choice.not_drawn.items())),
        "notes": choice.notes,
    }
    return Plan(shards, key, choice.rejected, provenance)


def _benchmark(ctx: Context, tests: list[Source]) -> Benchmark | None:
    from stages.prepare.near import benchmark_of

    held = []
    for source in tests:
        rows = [r for r in records(source, ctx.config.seed, ctx.resources) if r.split == "test"]
        if not rows:
            raise InputError(
                f"{source.shown} has no test rows to decontaminate against", 'give its table split = "test"'
            )
        held += [(f"{source.name} {r.ref}", r) for r in rows]
    return benchmark_of(held) if tests else None


def _nothing_left(reasons: Counter[str], choice: Choice | None = None) -> InputError:
    told = ", ".join(f"{n} {reason}" for reason, n in reasons.most_common())
    hint = "look at the sources and at prepare's filters"
    if choice is not None and choice.rejected:
        first = choice.rejected[0]
        hint = f"the first: {first.source} {first.ref}: {first.detail}"
    return InputError(f"no rows left: {told}", hint)


def _checked(row: PromptRow, limits: Limits, lies: list[str]) -> PromptRow:
    """The row with pictures any decoder reads; its id follows where one had to be rewritten."""
    from schemas.identity import prompt_id
    from stages.prepare.images import check_image, sniff, suffix_lies

    images = [check_image(i.bytes, i.path or "picture", limits) for i in row.images]
    lies += [f"{i.path} is {sniff(i.bytes)}" for i in row.images if suffix_lies(i.path or "", i.bytes)]
    if all(new.bytes is old.bytes for new, old in zip(images, row.images, strict=True)):
        return row
    new_id = prompt_id(label=row.label, messages=row.messages, images=images, answer=row.answer)
    return dataclasses.replace(row, id=new_id, images=images)


STAGE = PrepareStage()
