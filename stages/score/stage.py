"""cosmo score: every verifier's grade for every completion, and the label's reward.

Reads rollouts, or scored groups to reweigh: grades they carry are kept where name and version match and only
missing verifiers run. Writes one shard for each input shard, rows in the same order.

Rules grade group by group; verifiers that need a model (`[score.judges.NAME]`, and files whose PLUGIN binds one)
are asked about a window of groups at a time.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Any

from schemas.identity import digest
from schemas.tables import ROLLOUTS, SCORED, Table
from stages.core.config import as_dict
from stages.core.registry import plugin_key, short_name
from stages.core.resources import Kind
from stages.core.runs.halved import keep_halved
from stages.core.stage import Context, Plan, Quality, ShardWriter, Stage, Work
from stages.score.config import ScoreConfig

if TYPE_CHECKING:
    from schemas.scored import ScoredGroup
    from stages.core.runs.folder import RunFolder
    from stages.score.grading import Grader
    from stages.score.rewards import RewardFormula
    from stages.score.verifiers.base import ModelVerifier, Verifier

    Resolved = tuple[dict[str, RewardFormula], dict[str, Verifier | ModelVerifier]]

RESOLVED: Kind[dict[str, Any]] = Kind("score.resolved")
"""Formulas and verifiers of the configs of runs that are planned again, by a config's digest."""


class ScoreStage(Stage):
    """Grades rollouts, or scored groups anew, a shard for a shard."""

    name = "score"
    version = 3
    table = SCORED
    reads: tuple[Table, ...] = (SCORED, ROLLOUTS)
    config = ScoreConfig

    def plan(self, ctx: Context) -> Plan:
        """One output shard an input shard; the key holds resolved formulas and verifier versions."""
        from stages.score.rewards import left_to, verifiers_named
        from stages.score.verifiers.base import Verifier

        formulas, verifiers = _resolved(ctx)
        shards = []
        for index, folder in enumerate(ctx.inputs):
            missing = set(folder.missing())
            shards += [{"input": index, "shard": s} for s in range(folder.total) if s not in missing]
        key: dict[str, Any] = {
            "rewards": {label: formula.text for label, formula in formulas.items()},
            # A judge is no plugin: all that it is stands under `models`.
            "verifiers": [
                plugin_key("verifier", name)
                for name in verifiers_named(ctx.config).values()
                if name not in ctx.config.judges
            ],
            "also": [short_name(name) for name in ctx.config.also],
        }
        if models := {name: v.identity for name, v in sorted(verifiers.items()) if not isinstance(v, Verifier)}:
            key["models"] = models
        if named := left_to(ctx.config):
            key["undecided"] = named
        if plugins := {n: v.identity for n, v in sorted(verifiers.items()) if isinstance(v, Verifier) and v.identity}:
            key["plugins"] = plugins
        return Plan(shards, key)

    def open(self, ctx: Context) -> Work:
        """Check all labels, then grade shard by shard."""
        from stages.score.answers.algebra.math_pool import set_limit
        from stages.score.models.batching import graded, open_models

        config: ScoreConfig = ctx.config
        grader = grader_for(config)
        _check_labels(ctx.inputs, grader)
        set_limit(config.timeout_s)
        # More than eight threads wait for each other's Python; only mathematics leaves it, for its children.
        workers = config.workers or min(8, os.cpu_count() or 1)
        opened = open_models(grader, ctx)
        for name in sorted(config.judges.keys() - opened.keys()):
            ctx.progress.log(f"the judge {name} is not asked: no formula, no `also` and no `undecided` names it")

        # Of all that this process means to do; where nobody knows that, each shard is counted by itself.
        total = sum(_groups(ctx.inputs[s["input"]], s["shard"]) for s in ctx.shards) or None

        def work(shard: dict[str, Any], writer: ShardWriter) -> None:
            folder = ctx.inputs[shard["input"]]
            table = SCORED if folder.table == SCORED.name else ROLLOUTS
            ctx.progress.start("score", total, "groups")
            failed: Counter[tuple[str, str]] = Counter()
            for scored in graded(grader, opened, folder.shard_rows(table, shard["shard"]), config.window, workers):
                writer.row(scored)
                failed.update(_failed_grades(scored, opened))
                rewards = [c.reward for c in scored.completions if c.reward is not None]
                # A group without any reward has no mean, and is left out of the running figure.
                numbers = {"reward": sum(rewards) / len(rewards)} if rewards else {}
                ctx.progress.advance(1, **numbers)
            for (name, status), count in sorted(failed.items()):
                ctx.progress.log(f"{count} grades of {name}: {status}; cosmo score SCORED_FOLDER asks again")
            keep_halved(ctx.halved.taken(), writer.artifact, f"{shard['input']}-{shard['shard']}")

        return work

    def gpus(self, config: ScoreConfig) -> int:
        """GPUs that one worker takes where there are any: those of its hungriest verifier: they share them."""
        _, verifiers = _resolve(config)
        return max((getattr(v, "gpus", 0) for v in verifiers.values()), default=0)

    def quality(self, folder: RunFolder) -> Quality:
        """Reward mean and spread, flat groups, what has no reward and why; a failure where no completion has one."""
        from stages.score.quality import quality_of

        return quality_of(folder)


def _groups(folder: RunFolder, shard: int) -> int:
    """How many groups a committed shard of an input has."""
    receipt = folder.receipt(shard)
    return receipt.rows if receipt is not None else 0


def _failed_grades(scored: ScoredGroup, names: Collection[str]) -> Iterator[tuple[str, str]]:
    """(verifier, status) of the completions that a model verifier could not grade."""
    for completion in scored.completions:
        if completion.finish_reason != "error":
            yield from ((g.name, g.status) for g in completion.grades if g.name in names and g.failed)


def _resolved(ctx: Context) -> Resolved:
    if ctx.before is None:
        return _resolve(ctx.config)
    # Runs that are looked at together are looked at at one moment: no file of a verifier changes between two of them.
    known = ctx.resources.get(RESOLVED, "", dict)
    key = digest(as_dict(ctx.config))
    if key not in known:
        known[key] = _resolve(ctx.config)
    return known[key]


def _resolve(config: ScoreConfig) -> Resolved:
    """The formulas and every verifier that they, `also` or `undecided` name; a judge goes before a file of its name."""
    from stages.score.rewards import resolve, verifiers_named
    from stages.score.verifiers.load import load_verifier

    verifiers: dict[str, Verifier | ModelVerifier] = {}
    for called, name in verifiers_named(config).items():
        if name in config.judges:
            from stages.score.models.judge import bind

            verifiers[called] = bind(name, config.judges[name], config.steps)
        else:
            verifiers[called] = load_verifier(name, config)
    return resolve(config), verifiers


def grader_for(config: ScoreConfig) -> Grader:
    """What grades groups under a config; UsageError for a formula that can't be."""
    from stages.score.grading import Grader
    from stages.score.rewards import left_to

    formulas, verifiers = _resolve(config)
    return Grader(formulas, verifiers, tuple(map(short_name, config.also)), left_to(config), config.regrade)


def _check_labels(inputs: list[RunFolder], grader: Grader) -> None:
    """An unknown label is an error before any row is graded."""
    from stages.score.rewards import formula_for

    for folder in inputs:
        for label in sorted(folder.columns(["label"]).column("label").unique().to_pylist()):
            formula_for(grader.formulas, label)


STAGE = ScoreStage()
