"""eval: scored groups to rates and means with intervals, policies side by side, and a report."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schemas.tables import EVALS, SCORED
from stages.core.errors import CosmoError, InputError, UsageError
from stages.core.registry import enter, load, names, plugin_key, short_name
from stages.core.runs.folder import artifact
from stages.core.stage import Context, Plan, Quality, ShardWriter, Stage, Work
from stages.eval.config import EvalConfig

if TYPE_CHECKING:
    from stages.core.runs.folder import RunFolder
    from stages.eval.measure import Measured
    from stages.eval.metrics.base import Metric

REPORT, SUMMARY = "report.html", "summary.json"


class EvalStage(Stage):
    """One shard: the whole comparison, for a rate over half the prompts is no use to anybody."""

    name = "eval"
    version = 5
    table = EVALS
    reads = (SCORED,)
    config = EvalConfig

    def plan(self, ctx: Context) -> Plan:
        """One shard, keyed by metric versions and by the train runs that the report draws."""
        config: EvalConfig = ctx.config
        # Under two names a folder may come twice: a policy that training left as it was compares with itself.
        names = config.names if len(config.names) == len(ctx.inputs) else [""] * len(ctx.inputs)
        seen = list(zip((f.fingerprint for f in ctx.inputs), names, strict=True))
        if repeated := [f.path for f, one in zip(ctx.inputs, seen, strict=True) if seen.count(one) > 1]:
            raise UsageError(f"{repeated[0]} is among the inputs twice", "name every scored folder once")
        key: dict[str, Any] = {
            "metrics": [plugin_key("metric", name) for name in metric_names(config)],
            "training": [f.fingerprint for f in training_runs(config)],
        }
        if config.packs:
            from stages.benchmarks.catalogue import chosen

            key["benchmarks"] = [[benchmark.name, benchmark.digest] for benchmark in chosen(config.packs)]
        if config.peaks.policy:
            from stages.models.policy_ref import resolve_policy

            key["peaks"] = resolve_policy(config.peaks.policy).id
        check = config.verifier
        if bool(check.gold) != bool(check.judge):
            raise UsageError(
                "a verifier is measured against another grade: one of the two is not named",
                "--set verifier.gold=safety --set verifier.judge=NAME",
            )
        return Plan(shards=[{}], key=key)

    def open(self, ctx: Context) -> Work:
        """Work that reads the scored shards twice: all of them for the metrics, a few rows for the sample."""

        def work(shard: dict[str, Any], writer: ShardWriter) -> None:
            evaluate(ctx, writer)

        return work

    def quality(self, folder: RunFolder) -> Quality:
        """Policies, metrics and prompts; a failure where nothing was measured."""
        from stages.eval.quality import quality_of

        return quality_of(folder)

    def deliver(self, config: EvalConfig, path: Path) -> None:
        """Put the report where --report asks for it. Harmless to repeat; for a cached run, the only way."""
        if config.report:
            copy_report(artifact(path, REPORT), Path(config.report))


def chosen_metrics(config: EvalConfig) -> dict[str, Metric]:
    """The metric plugins asked for, or all of them, in the order of tables."""
    found: dict[str, Metric] = {}
    for name in metric_names(config):
        if (called := short_name(name)) in found:
            raise UsageError(f"two metrics are called {called!r}, one of them {name}", "rename one of the two")
        # The report looks a metric's summary up by what it is called in rows.
        found[enter("metric", name)] = load("metric", name)
    if config.packs:
        from stages.eval.benchmarks import benchmark_metrics

        found |= benchmark_metrics(config.packs)
    return dict(sorted(found.items(), key=lambda item: (item[1].order, item[0])))


def metric_names(config: EvalConfig) -> list[str]:
    """The metrics as they were named, each once; all that there are where neither one nor a pack is named."""
    return list(dict.fromkeys(config.metrics)) or ([] if config.packs else names("metric"))


def training_runs(config: EvalConfig) -> list[RunFolder]:
    """The train runs named; InputError for one that is no complete train run."""
    from stages.core.runs.folder import RunFolder

    found = [RunFolder.open(Path(p)) for p in config.training]
    for folder in found:
        if folder.table != "steps":
            raise InputError(
                f"training: {folder.where} holds {folder.table}, not training steps",
                "name run folders of cosmo train",
            )
        if folder.missing():
            raise InputError(f"training: {folder.where} is incomplete", "finish it with the same cosmo train command")
    return found


def evaluate(ctx: Context, writer: ShardWriter) -> None:
    """Measure, compare, and write rows, summary.json and report.html."""
    from stages.eval.agreement import agreement_rows, agreements, confusion_record
    from stages.eval.compare import differences, summary
    from stages.eval.measure import Namer, eval_rows, measure
    from stages.eval.metrics.base import Settings
    from stages.eval.paired import record as paired_record
    from stages.eval.paired import settings as paired_settings
    from stages.eval.report.curves import charts
    from stages.eval.report.interventions import interventions
    from stages.eval.report.page import Findings, render
    from stages.eval.report.sample import cards, choose

    config: EvalConfig = ctx.config
    namer = Namer(ctx.inputs, config.names)
    settings = Settings(frozenset(config.heldout_families), config.calibration_bins)
    found = measure(ctx.inputs, chosen_metrics(config), namer, settings)
    benchmarks = _present(found, config)
    rows = list(eval_rows(found))
    judged = agreements(ctx.inputs, found, namer, config.verifier) if config.verifier.judge else []
    rows += [row for agreement in judged for row in agreement_rows(found, agreement, config.seed)]
    for row in rows:
        writer.row(row)
    changes = differences(found)
    record = summary(found, rows, changes)
    if paired := paired_record(paired_settings(found, config.paired)):
        record["paired"] = paired
    if benchmarks:
        record["benchmarks"] = benchmarks
    if judged:
        record["verifier"] = asdict(config.verifier) | {"policies": {a.policy: confusion_record(a) for a in judged}}
    if config.peaks.policy:
        from stages.eval.peaks import probe

        record["peaks"] = probe(ctx)
    text = json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False)
    writer.artifact(SUMMARY).write_text(text + "\n", encoding="utf-8")
    runs = training_runs(config)
    chosen = choose(found, config.sample, config.seed)
    shown = cards(ctx.inputs, chosen, namer, config)
    findings = Findings(
        config, found, rows, changes, charts(runs), shown, ctx.inputs, runs, judged, benchmarks, paired,
        interventions(ctx.inputs, runs),
    )  # fmt: skip
    report = writer.artifact(REPORT)
    report.write_text(render(findings), encoding="utf-8")
    if config.report:
        copy_report(report, Path(config.report))


def _present(found: Measured, config: EvalConfig) -> dict[str, Any]:
    """Of the benchmarks that were asked for, which have rows here; {} where none was asked for."""
    if not config.packs:
        return {}
    from stages.eval.benchmarks import keep_present

    return keep_present(found, config.packs)


def copy_report(source: Path, target: Path) -> None:
    """A whole copy or none: written beside, renamed."""
    # Beside it, so that the rename stays in one file system; with the process's number, as two may copy at once.
    beside = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, beside)
        os.replace(beside, target)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise CosmoError(f"can't write the report to {target}: {error.strerror}", "choose another --report") from None


STAGE = EvalStage()
