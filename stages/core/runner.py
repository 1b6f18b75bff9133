"""The runner: plan, fingerprint, do what is missing, commit. The same for every stage."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from schemas.identity import digest
from schemas.tables import TABLES, Table
from stages.core.atomic import write_json
from stages.core.config import as_dict, build, key_of
from stages.core.errors import InputError, UnavailableError, UsageError
from stages.core.executors.base import LOCAL, ExecutorPlugin, Job
from stages.core.registry import load
from stages.core.runs.behind import Behind
from stages.core.runs.folder import RunFolder
from stages.core.runs.open import writer_at
from stages.core.runs.upkeep import clean_staging, finish_commits, has_leftovers
from stages.core.stage import Context, Plan, Progress, Quality, Resources, Silent, Stage
from stages.core.storage.local import inside, make_folder
from stages.core.storage.location import Location, locate_new
from stages.core.storage.records import InputRef, Manifest


@dataclass(frozen=True, slots=True)
class Options:
    """How to run a stage: none of it can change a row."""

    runs: Path = Path("runs")
    """Where run folders go: a folder, or the URL of a prefix in a bucket."""
    worker: tuple[int, int] = (0, 1)
    """(i, n): do the shards whose index is i modulo n."""
    partial: bool = False
    """Accept upstream runs that are not complete."""
    dry_run: bool = False
    """Plan and say what would be done; write nothing."""
    executor: str = LOCAL
    """Who does the shards (cosmo list executor)."""
    executor_settings: dict[str, Any] = field(default_factory=dict)
    """The executor's config as plain values."""
    name: str = ""
    """What people call the run: kept in the manifest when the run folder is made, and no part of what identifies it."""
    accept_failure: bool = False
    """Leave it to the caller that a finished run came to nothing (`Result.quality.failure`); else it is an error."""


@dataclass(slots=True)
class Result:
    """What came of it."""

    path: Path
    """The run folder on this machine; for a bucket, its mirror."""
    stage: str
    fingerprint: str
    state: str
    """cached, done, waiting (other workers' shards are missing) or planned (dry run)."""
    shards: int
    shards_done: int
    rows: int = 0
    rejected: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    inputs: list[str] = field(default_factory=list)
    quality: Quality = field(default_factory=Quality)
    """What the complete run came to; empty while it is not complete."""
    where: str = ""
    """What people and other commands call it: its path, or its URL."""


@dataclass(frozen=True, slots=True)
class Started:
    """A stage whose work is done, and whose last commits may be under way behind it."""

    path: Path
    """The run folder, as `Result.path`: it may be read when `finish` has returned."""
    finish: Callable[[], Result]
    """Wait for the commits, tidy up, and say what came of it. Called once; raises what they raise."""


def run_stage(
    stage: Stage,
    config: Any,
    inputs: list[Path],
    *,
    options: Options | None = None,
    progress: Progress | None = None,
    resources: Resources | None = None,
) -> Result:
    """Run a stage to completion, or this worker's part of it; the same call again is cached or goes on."""
    return start_stage(stage, config, inputs, options=options, progress=progress, resources=resources).finish()


def start_stage(
    stage: Stage,
    config: Any,
    inputs: list[Path],
    *,
    options: Options | None = None,
    progress: Progress | None = None,
    resources: Resources | None = None,
    behind: Behind | None = None,
) -> Started:
    """Do a stage's work as `run_stage` does, its commits left to `behind` where there is one."""
    options, progress = options or Options(), progress or Silent()
    started = time.monotonic()
    executor: ExecutorPlugin = load("executor", options.executor)
    settings = build(executor.config, options.executor_settings, "executor")
    upstream = [RunFolder.open(p) for p in inputs]
    check_inputs(stage, upstream, options.partial)
    workers = max(options.worker[1], executor.workers(settings, lambda: stage.gpus(config)))
    warm = Resources() if resources is None else resources
    ctx = Context(config, upstream, progress, warm, workers=workers)
    # Before there is a folder: its name is the fingerprint's, and that is a digest of the plan, too.
    plan = stage.plan(ctx)
    key = identity(stage, config, upstream, plan)
    fingerprint = digest(key)
    location = locate_new(options.runs, f"{stage.name}-{fingerprint[:8]}")
    if options.dry_run:
        found = RunFolder.find(location)
        done = len(found.receipts()) if found is not None else 0
        total = found.total if found is not None else len(plan.cut or plan.shards)
        result = Result(location.path, stage.name, fingerprint, "planned", total, done)
        result.inputs, result.where = [f.where for f in upstream], str(location)
        return Started(location.path, lambda: result)
    folder = _freeze(stage, config, upstream, plan, key, location, options.name)
    job = Job(stage, ctx, folder, plan, [], behind)
    had_work = _do_missing(job, executor, settings, options.worker)

    def finish() -> Result:
        result = _summary(folder, _finished(job) if had_work else "cached", started)
        # What nobody else may have is let go of.
        if resources is None:
            warm.close()
        result.inputs = [f.where for f in upstream]
        if result.state != "waiting":
            # Before the report, which holds it. A failure is raised after that: the run stays complete and is cached
            # with its reason.
            result.quality = quality_of(stage, folder, result)
            _write_report(folder, result)
            if result.quality.failure is not None and not options.accept_failure:
                raise InputError(f"{folder.where}: {result.quality.failure}", result.quality.hint)
            # What a stage also puts elsewhere (--to, --report), or says of its result, holds for a cached run, too.
            stage.deliver(config, folder.path)
        return result

    return Started(folder.path, finish)


def _do_missing(job: Job, executor: ExecutorPlugin, settings: Any, worker: tuple[int, int]) -> bool:
    """Do this worker's part of what is missing; False where nothing was."""
    folder = job.folder
    # Also where nothing is missing: after a death between a receipt and the last rename the files are read where they
    # were staged, and nobody but the maker moves them.
    finish_commits(folder)
    if not (missing := folder.missing()):
        # A kill may have come between the last receipt and the cleaning: training leaves three times its weights.
        if has_leftovers(folder):
            # A run that somebody else made may not be ours to clean, and is complete all the same.
            with contextlib.suppress(PermissionError):
                clean_staging(folder)
        return False
    make_folder(folder.path)
    index, count = worker
    # By the shard's number and not its place among the missing ones: each worker finds others missing.
    if own_shards := [i for i in missing if i % count == index]:
        executor.do(dataclasses.replace(job, shards=own_shards), settings)
    return True


def _finished(job: Job) -> str:
    """The state of a run that something was done for, its commits waited for: done or waiting."""
    if job.behind is not None:
        job.behind.wait()
    if job.folder.missing():
        # And nothing is cleaned: what is staged may be what other workers have in hand.
        return "waiting"
    clean_staging(job.folder)
    return "done"


def quality_of(stage: Stage, folder: RunFolder, result: Result) -> Quality:
    """What a complete run came to: the stage's own numbers, or that not one row came out, and why."""
    if result.rows:
        # The report says it: no row is read, and no shard of a bucket travels, for a closing line.
        saved = saved_quality(folder) if result.state == "cached" else None
        return saved or stage.quality(folder)
    reasons = sorted(result.rejected.items(), key=lambda item: (-item[1], item[0]))
    named = ", ".join(f"{count} {reason}" for reason, count in reasons[:3])
    if len(reasons) > 3:
        named += f", {sum(count for _, count in reasons[3:])} for other reasons"
    why = f": every sample was rejected ({named})" if named else ": there was nothing to make rows of"
    hint = f"cosmo show {folder.where} --rejected" if named else "look at the inputs, and at what the config selects"
    return Quality(failure=f"nothing came out of cosmo {stage.name}{why}", hint=hint)


def saved_quality(folder: RunFolder) -> Quality | None:
    """What the report of a complete run says it came to; None where it does not say so in our words."""
    try:
        report = folder.files.report()
    except InputError:
        return None
    record = report.get("quality") if isinstance(report, dict) else None
    if not isinstance(record, dict) or record.keys() != {f.name for f in dataclasses.fields(Quality)}:
        return None
    texts = [record["line"], record["hint"], record["warning"] or "", record["failure"] or ""]
    known = isinstance(record["numbers"], dict) and all(isinstance(text, str) for text in texts)
    return Quality(**record) if known else None


def check_inputs(stage: Stage, upstream: list[RunFolder], partial: bool) -> None:
    """InputError unless the stage can read each of these, and each is complete or `partial` accepts that it is not."""
    if stage.reads and stage.needs_input and not upstream:
        tables = " or ".join(t.name for t in stage.reads)
        raise InputError(f"cosmo {stage.name} was given no input", f"give a run folder with {tables}, or pipe one in")
    for folder in upstream:
        accepted = accepts(stage.reads, folder)
        if accepted is None:
            tables = " or ".join(t.name for t in stage.reads)
            raise InputError(
                f"{folder.where} holds {folder.table or 'unknown rows'}, and cosmo {stage.name} reads {tables}",
                "give the folder that the stage before this one printed",
            )
        if not partial and (missing := folder.missing()):
            raise InputError(
                f"{folder.where} is incomplete: {len(missing)} of {folder.total} shards are missing",
                f"finish it with the same cosmo {folder.stage} command, or add --partial",
            )


def accepts(reads: tuple[Table, ...], folder: RunFolder) -> Table | None:
    """The first of the tables that the folder can be read as; None when there is none."""
    found = TABLES.get(folder.table or "")
    for table in reads:
        # A wider row is also a narrower one: scored groups are rollouts are prompts.
        if found is not None and issubclass(found.row, table.row):
            return table
    # Parquet of somebody else does not say what it holds: it is tried, and reading it checks its schema.
    return reads[0] if reads and found is None and folder.table is None else None


def identity(stage: Stage, config: Any, upstream: list[RunFolder], plan: Plan) -> dict[str, Any]:
    """Everything that can change rows, and nothing else: what the fingerprint is the digest of."""
    return {
        "stage": stage.name,
        "version": stage.version,
        "table": [stage.writes(config).name, stage.writes(config).version],
        "config": key_of(config),
        "inputs": [f.fingerprint for f in upstream],
        # What was made of a part of the input is another run than what is made of all of it.
        "partial": [f.missing() for f in upstream],
        "plan": plan.key,
        "shards": digest(plan.shards),
    }


def _freeze(
    stage: Stage,
    config: Any,
    upstream: list[RunFolder],
    plan: Plan,
    key: dict[str, Any],
    location: Location,
    name: str,
) -> RunFolder:
    """The run folder with its manifest written, or as it was found; UsageError where another plan's is there."""
    folder = RunFolder.find(location)
    if folder is None:
        make_folder(location.path)
        manifest = Manifest(
            stage.name,
            digest(key),
            stage.writes(config).name,
            plan.cut or plan.shards,
            stage.writes(config).version,
            key,
            tuple(InputRef(f.files.location.seen_from(location), f.fingerprint, f.stage) for f in upstream),
            {**plan.provenance, "name": name} if name else plan.provenance,
        )
        writer_at(location).freeze(as_dict(config), manifest)
        # Read back: in a bucket another machine may have written its plan first, and then that one counts.
        folder = RunFolder.open(location)
    # The folder's name has 8 of the 64 digits, so another plan may have got there before.
    if folder.fingerprint != digest(key):
        raise UsageError(f"{folder.where} belongs to another plan", "move it away, or choose another --runs")
    return folder


def _summary(folder: RunFolder, state: str, started: float) -> Result:
    """What the receipts say of the run."""
    receipts = folder.receipts().values()
    rejected: Counter[str] = Counter()
    for receipt in receipts:
        rejected.update(receipt.rejected)
    result = Result(folder.path, folder.stage, folder.fingerprint, state, folder.total, len(receipts))
    result.where = folder.where
    result.rows, result.rejected = sum(r.rows for r in receipts), dict(rejected)
    result.seconds = round(time.monotonic() - started, 3)
    return result


def _write_report(folder: RunFolder, result: Result) -> None:
    """`report.json` of a complete run, unless it has one: a kill may have come between the last receipt and this."""
    if result.state == "cached" and folder.files.has_report():
        return
    record = {
        "rows": result.rows,
        "rejected": result.rejected,
        "shards": folder.total,
        "shard_seconds": round(sum(r.seconds for r in folder.receipts().values()), 3),
        "quality": dataclasses.asdict(result.quality),
    }
    try:
        write_json(inside(folder.path, "report.json"), record)
        folder.files.writer().publish("report.json")
    except (OSError, UnavailableError):
        # A run that somebody else made may not be ours to write to, and is complete all the same.
        if result.state != "cached":
            raise


def result_json(result: Result) -> dict[str, Any]:
    """A result as plain values for --json: `path` is what other commands take."""
    record = dataclasses.asdict(result)
    return {**record, "path": record.pop("where")}
