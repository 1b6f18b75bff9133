"""The runner: plan, fingerprint, do what is missing, commit. The same for every stage."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from schemas.identity import digest
from schemas.tables import TABLES, Table
from stages.core.config import as_dict, build, key_of
from stages.core.errors import InputError, UsageError
from stages.core.executors.base import LOCAL, ExecutorPlugin, Job
from stages.core.registry import load
from stages.core.runs.folder import RunFolder, write_json
from stages.core.stage import Context, Plan, Progress, Quality, Resources, Silent, Stage
from stages.core.storage.location import local_root, locate, public, reference


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
    options, progress = options or Options(), progress or Silent()
    started = time.monotonic()
    executor: ExecutorPlugin = load("executor", options.executor)
    settings = build(executor.config, options.executor_settings, "executor")
    upstream = [RunFolder.open(p) for p in inputs]
    check_inputs(stage, upstream, options.partial)
    ctx = Context(config, upstream, progress, resources or Resources())
    plan = stage.plan(ctx)
    key = identity(stage, config, upstream, plan)
    fingerprint = digest(key)
    path = local_root(options.runs) / f"{stage.name}-{fingerprint[:8]}"
    names = [f.where for f in upstream]
    if options.dry_run:
        found = RunFolder.find(path)
        done = len(found.receipts()) if found is not None else 0
        return Result(path, stage.name, fingerprint, "planned", len(plan.shards), done, inputs=names)
    folder = _freeze(stage, config, upstream, plan, key, path, options.name)
    state = "cached"
    if missing := folder.missing():
        from stages.core.runs.commit import clean_staging, make_folder

        make_folder(path)
        index, count = options.worker
        if mine := [i for i in missing if i % count == index]:
            executor.do(Job(stage, ctx, folder, plan, mine), settings)
        state = "waiting" if folder.missing() else "done"
        if state == "done":
            clean_staging(folder)
    result = _summary(folder, state, started)
    result.inputs = names
    if state != "waiting":
        result.quality = quality_of(stage, folder, result)
        _write_report(folder, result)
        if result.quality.failure is not None and not options.accept_failure:
            raise InputError(f"{folder.where}: {result.quality.failure}", result.quality.hint)
        # What a stage also puts elsewhere (--to, --report), or says of its result, holds for a cached run, too.
        stage.deliver(config, path)
    return result


def quality_of(stage: Stage, folder: RunFolder, result: Result) -> Quality:
    """What a complete run came to: the stage's own numbers, or that not one row came out, and why."""
    if result.rows:
        return stage.quality(folder)
    reasons = sorted(result.rejected.items(), key=lambda item: (-item[1], item[0]))
    named = ", ".join(f"{count} {reason}" for reason, count in reasons[:3])
    if len(reasons) > 3:
        named += f", {sum(count for _, count in reasons[3:])} for other reasons"
    why = f": every sample was rejected ({named})" if named else ": there was nothing to make rows of"
    hint = f"cosmo show {folder.where} --rejected" if named else "look at the inputs, and at what the config selects"
    return Quality(failure=f"nothing came out of cosmo {stage.name}{why}", hint=hint)


def check_inputs(stage: Stage, upstream: list[RunFolder], partial: bool) -> None:
    """InputError unless the stage can read each of these, and each is complete or `partial` accepts that it is not."""
    if stage.reads and not upstream:
        wanted = " or ".join(t.name for t in stage.reads)
        raise InputError(f"cosmo {stage.name} was given no input", f"give a run folder with {wanted}, or pipe one in")
    for folder in upstream:
        accepted = accepts(stage, folder)
        if accepted is None:
            wanted = " or ".join(t.name for t in stage.reads)
            raise InputError(
                f"{folder.where} holds {folder.table or 'unknown rows'}, and cosmo {stage.name} reads {wanted}",
                "give the folder that the stage before this one printed",
            )
        if not partial and (missing := folder.missing()):
            raise InputError(
                f"{folder.where} is incomplete: {len(missing)} of {folder.total} shards are missing",
                f"finish it with the same cosmo {folder.stage} command, or add --partial",
            )


def accepts(stage: Stage, folder: RunFolder) -> Table | None:
    """The first of the stage's tables that the folder can be read as; None when there is none."""
    held = TABLES.get(folder.table or "")
    for table in stage.reads:
        # A wider row is also a narrower one: scored groups are rollouts are prompts.
        if held is not None and issubclass(held.row, table.row):
            return table
    return stage.reads[0] if stage.reads and held is None and folder.table is None else None


def identity(stage: Stage, config: Any, upstream: list[RunFolder], plan: Plan) -> dict[str, Any]:
    """Everything that can change rows, and nothing else: what the fingerprint is the digest of."""
    return {
        "stage": stage.name,
        "version": stage.version,
        "table": [stage.table.name, stage.table.version],
        "config": key_of(config),
        "inputs": [f.fingerprint for f in upstream],
        "partial": [f.missing() for f in upstream],
        "plan": plan.key,
        "shards": digest(plan.shards),
    }


def _freeze(
    stage: Stage, config: Any, upstream: list[RunFolder], plan: Plan, key: dict[str, Any], path: Path, name: str
) -> RunFolder:
    """The run folder with its manifest written, or as it was found."""
    if (folder := RunFolder.find(path)) is None:
        from stages.core.runs.commit import make_folder

        make_folder(path)
        manifest = _manifest(stage, upstream, plan, key, path)
        if name:
            manifest["provenance"] = {**plan.provenance, "name": name}
        folder = _write_plan(path, as_dict(config), manifest)
    if folder.fingerprint != digest(key):
        raise UsageError(f"{folder.where} belongs to another plan", "move it away, or choose another --runs")
    if folder.remote is not None:
        folder.remote.own = True
    return folder


def _manifest(stage: Stage, upstream: list[RunFolder], plan: Plan, key: dict[str, Any], path: Path) -> dict[str, Any]:
    return {
        "stage": stage.name,
        "fingerprint": digest(key),
        "table": stage.table.name,
        "table_version": stage.table.version,
        "key": key,
        "shards": plan.shards,
        "inputs": [{"path": reference(f, path), "fingerprint": f.fingerprint, "stage": f.stage} for f in upstream],
        "provenance": plan.provenance,
    }


def _write_plan(path: Path, config: dict[str, Any], manifest: dict[str, Any]) -> RunFolder:
    """Config, then manifest; in a bucket where no other machine has written them."""
    if (located := locate(path)) is not None:
        from stages.core.storage.remote_run import RemoteRun

        RemoteRun(*located).freeze(config, manifest)
        return RunFolder.open(path)
    write_json(path / "config.json", config)
    write_json(path / "manifest.json", manifest)
    return RunFolder(path, manifest)


def _summary(folder: RunFolder, state: str, started: float) -> Result:
    """What the receipts say of the run."""
    receipts = folder.receipts().values()
    rejected: Counter[str] = Counter()
    for receipt in receipts:
        rejected.update(receipt["rejected"])
    result = Result(folder.path, folder.stage, folder.fingerprint, state, folder.total, len(receipts))
    result.rows, result.rejected = sum(r["rows"] for r in receipts), dict(rejected)
    result.seconds = round(time.monotonic() - started, 3)
    return result


def _write_report(folder: RunFolder, result: Result) -> None:
    """`report.json` of a complete run, unless it has one: a kill may have come between the last receipt and this."""
    report = folder.path / "report.json"
    if result.state == "cached" and report.is_file():
        return
    write_json(
        report,
        {
            "rows": result.rows,
            "rejected": result.rejected,
            "shards": folder.total,
            "shard_seconds": round(sum(r["seconds"] for r in folder.receipts().values()), 3),
            "quality": dataclasses.asdict(result.quality),
        },
    )
    if folder.remote is not None:
        folder.remote.publish(report.name)


def result_json(result: Result) -> dict[str, Any]:
    """A result as plain values for --json."""
    return {**dataclasses.asdict(result), "path": public(result.path)}
