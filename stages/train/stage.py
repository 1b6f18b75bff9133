"""train: prompts or scored groups in, a policy and one row an optimizer step out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from schemas.tables import PROMPTS, SCORED, STEPS, Table
from stages.core.registry import find, load, plugin_key, short_name
from stages.core.runs.folder import RunFolder
from stages.core.stage import Context, Plan, Quality, ShardWriter, Stage, Work
from stages.train.config import TrainConfig, check_rate
from stages.train.drift.monitor import alarm_lines, stop_on_alarm_of
from stages.train.drift.monitor import check as check_watch
from stages.train.launching.launch import check as check_parallel
from stages.train.objectives.base import Objective
from stages.train.tracking.config import check_trackers


class TrainStage(Stage):
    """One shard: a training run is one piece of work, made resumable by checkpoints in its scratch folder."""

    name = "train"
    version = 2
    table = STEPS
    reads: tuple[Table, ...] = (SCORED, PROMPTS)
    config = TrainConfig

    def plan(self, ctx: Context) -> Plan:
        """Check that the inputs fit the objective, and find the policy."""
        config: TrainConfig = ctx.config
        objective = objective_of(config)
        objective.check(ctx)
        check_watch(config.watch)
        check_parallel(config)
        check_rate(config)
        check_trackers(config.report_to)
        ref = objective.start_policy(ctx)
        named = plugin_key("objective", config.objective)
        key: dict[str, Any] = {"policy": ref.id, "objective": named, **objective.plan_key(ctx)}
        if config.dtype != "float32" and config.masters:
            # Runs of before there were masters had the same settings.
            key["masters"] = True
        shard = {"objective": short_name(config.objective), "inputs": [f.fingerprint for f in ctx.inputs]}
        return Plan([shard], key, provenance={"policy": ref.spec, "policy_id": ref.id, "policy_name": ref.name})

    def open(self, ctx: Context) -> Work:
        """Training itself; the model is loaded when the shard is begun."""

        def work(shard: dict[str, Any], writer: ShardWriter) -> None:
            from stages.train.launching.followers import LEADER

            with LEADER.work(ctx, shard):
                train(ctx, shard, writer)

        return work

    def quality(self, folder: RunFolder) -> Quality:
        """What the objective says of the run's steps; nothing where the objective is not installed here."""
        rows = list(folder.rows(STEPS))
        objective: Objective | None = find("objective", rows[0].objective) if rows else None
        return objective.quality_of(folder, rows) if objective is not None else Quality()

    def deliver(self, config: TrainConfig, path: Path) -> None:
        """The watch's verdict on a finished run, cached or not: CosmoError where it is to stop what follows."""
        stop_on_alarm_of(config.watch, path)

    def alarms(self, config: TrainConfig, path: Path) -> dict[str, str]:
        """The drift watch's alarms; none where the config has it off."""
        return alarm_lines(path) if config.watch.action != "off" else {}


def train(ctx: Context, shard: dict[str, Any], writer: ShardWriter) -> None:
    """One run, from loading its policy to saving what became of it; the same in every rank."""
    from stages.train.trainer_isolation import quiet_imports

    quiet_imports()
    from stages.train.launching.stop import STOP, listening
    from stages.train.setup import open_session

    objective = objective_of(ctx.config)
    with listening():
        try:
            session = open_session(ctx, writer, objective.start_policy(ctx))
        finally:
            # A loader may have taken the wish for an error of its own.
            STOP.check_signal()
        # From here on a step is finished first, and kept.
        STOP.at_once = False
        objective.train(session)


def objective_of(config: TrainConfig) -> Objective:
    """The plugin that the config names."""
    plugin: Objective = load("objective", config.objective)
    return plugin


STAGE = TrainStage()
