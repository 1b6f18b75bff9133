"""`cosmo prepare`: datasets in, prompt rows out."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import TYPE_CHECKING, Any

from schemas.tables import CORPUS, PROMPTS, Table
from stages.core.config import key_of
from stages.core.errors import InputError, UsageError
from stages.core.field_paths import parse_map
from stages.core.runs.unmarked import unmarked_line
from stages.core.stage import Context, Plan, Quality, ShardWriter, Stage, Work, chunks
from stages.prepare.config import PrepareConfig
from stages.prepare.corpus import corpus_path, corpus_plan, corpus_quality, corpus_work
from stages.prepare.sources import BENCH, Source, identity, parse, reading_notes, records

if TYPE_CHECKING:
    from stages.core.runs.folder import RunFolder
    from stages.prepare.datasets.base import Record
    from stages.prepare.mixing import Choice, Pick
    from stages.prepare.near_duplicates import Benchmark


class PrepareStage(Stage):
    """Reads sources, leaves out what is bad or double, mixes, and writes rows with checked images."""

    name = "prepare"
    version = 2
    table = PROMPTS
    reads = ()
    config = PrepareConfig

    def plan(self, ctx: Context) -> Plan:
        """Choose the records. A shard is `{"source": [...], "index": [...], "of": number of shards}`.

        Where rows are augmented, `steps` says of each how (`mixing.Step`), or null.
        """
        from stages.judging.instructions.checkable import checks_key
        from stages.judging.instructions.find import check_names
        from stages.prepare.instruction_checks import still_checked
        from stages.prepare.plan_cache import cached_plan

        if (corpus := corpus_path(ctx.config)) is not None:
            return corpus_plan(corpus)
        sources = sources_of(ctx.config)
        for source in sources:
            for note in reading_notes(source):
                ctx.progress.log(note)
        tests = [parse(spec, "prepare.decontaminate") for spec in ctx.config.decontaminate]
        key: dict[str, Any] = {
            "sources": [identity(s) for s in sources],
            "decontaminate": [identity(s) for s in tests],
        }
        named = ctx.config.checks
        check_names(named)
        asked = {**key, "config": key_of(ctx.config), "checks": checks_key(set(named))}
        plan = cached_plan(asked, lambda: _plan(ctx, sources, tests, key))
        if not still_checked(plan, named):
            plan = _plan(ctx, sources, tests, key)
        for note in plan.provenance["notes"]:
            ctx.progress.log(note)
        return plan

    def open(self, ctx: Context) -> Work:
        """Rows of the planned records; a record that turns out bad is rejected in its shard."""
        from stages.prepare.one_pass import Account, OnePass, made_rows
        from stages.prepare.row_maker import RowMaker

        if (corpus := corpus_path(ctx.config)) is not None:
            return corpus_work(corpus)
        maker = RowMaker(sources_of(ctx.config), ctx.config, ctx.resources)
        whole = None
        if len(ctx.shards) > 1 and ctx.scratch is not None:
            whole = OnePass(maker, ctx.shards, ctx.scratch / "rows", ctx.progress)

        def work(shard: dict[str, Any], writer: ShardWriter) -> None:
            number = whole.find(shard) if whole else None
            if whole and number is not None:
                account = whole.account(number)
                for table in whole.tables(number):
                    writer.table(table)
            else:
                account = Account()
                ctx.progress.start("prepare", len(shard["index"]), "rows")
                # Made in the sources' order, written in the plan's.
                rows = {n: row for _, n, row in made_rows(maker, [shard], [account], ctx.progress)}
                for n in sorted(rows):
                    writer.row(rows[n])
            for source, ref, reason, detail in account.rejected:
                writer.reject(source, ref, reason, detail)
            # Of several shards one may be left without rows; where it is the only one, an empty run would be a surprise
            # later.
            if not account.rows and shard["of"] == 1:
                raise _nothing_left(Counter(reason for _, _, reason, _ in account.rejected))
            if names := account.wrong_names:
                ctx.progress.log(f"{len(names)} images are of another type than their name says: {names[0]}")

        return work

    def writes(self, config: PrepareConfig) -> Table:
        """Prompts, or the documents of a corpus."""
        return PROMPTS if corpus_path(config) is None else CORPUS

    def quality(self, folder: RunFolder) -> Quality:
        """Rows by label, and what was rejected by reason; a warning where more was rejected than kept.

        The closing line names the labels alone: the runner adds what was rejected and why, as for every stage.
        """
        if folder.table == CORPUS.name:
            return corpus_quality(folder)
        rows = Counter(folder.columns(["label"]).column("label").to_pylist())
        rejected: Counter[str] = Counter()
        for receipt in folder.receipts().values():
            rejected.update(receipt.rejected)
        kept, lost = rows.total(), rejected.total()
        # What repeats another row is no loss: one of the two is there.
        doubles = sum(rejected[reason] for reason in _DOUBLES)
        numbers = {
            "labels": dict(sorted(rows.items())),
            "rejected": dict(sorted(rejected.items())),
            "duplicates": doubles,
        }
        line = ", ".join(f"{n} {label}" for label, n in rows.most_common())
        unmarked = unmarked_line(folder)
        if lost - doubles <= kept:
            return Quality(line, numbers, warning=unmarked)
        most, n = max(((r, n) for r, n in rejected.items() if r not in _DOUBLES), key=lambda entry: entry[1])
        warning = f"{lost - doubles} of {lost - doubles + kept} samples were rejected, {n} of them as {most}"
        warning += f"; {unmarked}" if unmarked else ""
        return Quality(line, numbers, warning=warning, hint=f"cosmo show {folder.where} --rejected")


def sources_of(config: PrepareConfig) -> list[Source]:
    """The sources that a config names, read as it says; UsageError without any."""
    if not config.sources:
        raise UsageError("cosmo prepare was given no dataset", "cosmo prepare builtin (cosmo list dataset)")
    reading: dict[str, Any] = {}
    if config.map:
        reading["map"] = {field: path.text for field, path in parse_map(config.map).items()}
    if config.image_folder:
        reading["images"] = config.image_folder
    if config.bench_folder:
        reading["from"] = config.bench_folder
    for name in ("allow_outside", "fetch_images"):
        if getattr(config, name):
            reading[name] = True
    found = [parse(spec, "prepare.sources", reading) for spec in config.sources]
    # A folder that nothing reads was meant for something.
    if config.bench_folder and not any(source.name == BENCH for source in found):
        raise UsageError(
            f"--from {config.bench_folder} is for benchmarks, and none is named",
            "cosmo prepare bench:NAME --from FOLDER (cosmo list benchmark); other files are named without --from",
        )
    return found


def _plan(ctx: Context, sources: list[Source], tests: list[Source], key: dict[str, Any]) -> Plan:
    from stages.judging.instructions.checkable import checks_key
    from stages.prepare.augment import Augmenter, all_heldout_families
    from stages.prepare.instruction_checks import checked
    from stages.prepare.mixing import choose

    config: PrepareConfig = ctx.config
    found: list[list[Record]] = []
    families: set[str] = set()
    for source in sources:
        kept, used = checked(records(source, config.seed, ctx.resources), config.checks)
        found.append(kept)
        families |= used
    # Only rows with instructions depend on them.
    if families:
        key = {**key, "checks": checks_key(families)}
    names = [s.name for s in sources]
    heldout = all_heldout_families(config, sources, found)
    limits = [s.limit for s in sources]
    benchmark = _benchmark(ctx, tests, found)
    choice = choose(names, found, config, benchmark, limits, heldout, Augmenter(sources, config, heldout))
    if not choice.picks:
        raise _nothing_left(Counter(r.reason for r in choice.rejected) + choice.not_drawn, choice)
    pieces = list(chunks(choice.picks, config.shard_rows))
    shards = [_shard(piece, len(pieces)) for piece in pieces]
    provenance = {
        "records": {f"{k} {s.name}": len(r) for k, (s, r) in enumerate(zip(sources, found, strict=True))},
        "labels": dict(sorted(Counter(p.record.label for p in choice.picks).items())),
        "families": dict(sorted(Counter(p.record.family for p in choice.picks if p.record.family).items())),
        "heldout_families": sorted(heldout),
        "not_drawn": dict(sorted(choice.not_drawn.items())),
        "notes": choice.notes,
    }
    return Plan(shards, key, choice.rejected, provenance)


def _shard(piece: list[Pick], of: int) -> dict[str, Any]:
    shard = {"source": [p.source for p in piece], "index": [p.index for p in piece], "of": of}
    steps = [p.step and list(dataclasses.astuple(p.step)) for p in piece]
    return {**shard, "steps": steps} if any(steps) else shard


def _benchmark(ctx: Context, tests: list[Source], training: list[list[Record]]) -> Benchmark | None:
    from stages.prepare.near_duplicates import benchmark_of, shared_by_most

    test_rows = []
    sources = list(training)
    for source in tests:
        sources.append(records(source, ctx.config.seed, ctx.resources))
        # Training rows of the benchmark's own source are no test material, and matching them would empty the mix.
        rows = [r for r in sources[-1] if r.split == "test"]
        if not rows:
            raise InputError(
                f"{source.shown} has no test rows to decontaminate against", 'give its table split = "test"'
            )
        test_rows += [(f"{source.name} {r.ref}", r) for r in rows]
    return benchmark_of(test_rows, shared_by_most(sources)) if tests else None


def _nothing_left(reasons: Counter[str], choice: Choice | None = None) -> InputError:
    counts = ", ".join(f"{n} {reason}" for reason, n in reasons.most_common())
    (most, _), *_ = reasons.most_common(1) or [("", 0)]
    setting = next((s for start, s in _LEFT_OUT_BY.items() if most.startswith(start)), None)
    hint = f"most were left out by {setting}" if setting else "look at the sources and at prepare's filters"
    if choice is not None and choice.rejected:
        first = choice.rejected[0]
        hint = f"the first: {first.source} {first.ref}: {first.detail}"
    return InputError(f"no rows left: {counts}", hint)


_DOUBLES = ("duplicate", "near_duplicate")
_LEFT_OUT_BY = {
    "split": "prepare.split",
    "with": "prepare.images",
    "filtered": "prepare.drop_flags",
    "near_duplicate": "prepare.near_duplicates",
    "contaminated": "prepare.decontaminate",
    "label without weight": "prepare.weights",
}
"""The setting behind a reason, by how the reason begins."""

STAGE = PrepareStage()
