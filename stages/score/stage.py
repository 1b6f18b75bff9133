"""cosmo score: every verifier's grade for every completion, and the label's reward.

Reads rollouts, or scored groups to reweigh: grades they carry are kept where name and version match and only
missing verifiers run. Writes one shard for each input shard, rows in the same order.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from schemas.tables import ROLLOUTS, SCORED, Table
from stages.core.registry import load
from stages.core.stage import Context, Plan, ShardWriter, Work
from stages.score.config import ScoreConfig

if TYPE_CHECKING:
    from stages.core.folder import RunFolder
    from stages.score.grading import Grader
    from stages.score.recipes import Recipe
    from stages.score.verifiers.base import Verifier

A = TypeVar("A")
B = TypeVar("B")


class ScoreStage:
    """Grades rollouts."""

    name = "score"
    version = 1
    table = SCORED
    reads: tuple[Table, ...] = (SCORED, ROLLOUTS)
    config = ScoreConfig

    def plan(self, ctx: Context) -> Plan:
        """One output shard an input shard; the key holds resolved recipes and verifier versions."""
        recipes, verifiers = _resolve(ctx.config)
        shards = []
        for index, folder in enumerate(ctx.inputs):
            missing = set(folder.missing())
            shards += [{"input": index, "shard": s} for s in range(folder.total) if s not in missing]
        key = {
            "recipes": {label: recipe.text for label, recipe in recipes.items()},
            "verifiers": {name: v.version for name, v in sorted(verifiers.items())},
        }
        return Plan(shards, key)

    def open(self, ctx: Context) -> Work:
        """Check all labels, then grade shard by shard."""
        from stages.score.killable import set_limit

        config: ScoreConfig = ctx.config
        grader = grader_for(config)
        _check_labels(ctx.inputs, grader)
        set_limit(config.timeout_s)
        workers = config.workers or min(8, os.cpu_count() or 1)

        def work(shard: dict[str, Any], writer: ShardWriter) -> None:
            folder = ctx.inputs[shard["input"]]
            table = SCORED if folder.table == SCORED.name else ROLLOUTS
            ctx.progress.start(f"score {folder.path.name} shard {shard['shard']}", None, "groups")
            for scored in in_order(grader.group, folder.shard_rows(table, shard["shard"]), workers):
                writer.row(scored)
                rewards = [c.reward for c in scored.completions if c.reward is not None]
                numbers = {"reward": sum(rewards) / len(rewards)} if rewards else {}
                ctx.progress.advance(1, **numbers)

        return work


def _resolve(config: ScoreConfig) -> tuple[dict[str, Recipe], dict[str, Verifier]]:
    """The recipes and every verifier that they or `also` name."""
    from stages.score.recipes import resolve

    recipes = resolve(config)
    wanted = {name for recipe in recipes.values() for name, _ in recipe.terms} | set(config.also)
    return recipes, {name: load("verifier", name) for name in sorted(wanted)}


def grader_for(config: ScoreConfig) -> Grader:
    """What grades groups under a config; UsageError for a recipe that can't be."""
    from stages.score.grading import Grader

    recipes, verifiers = _resolve(config)
    return Grader(recipes, verifiers, tuple(config.also), config.regrade)


def _check_labels(inputs: list[RunFolder], grader: Grader) -> None:
    """An unknown label is an error before any row is graded."""
    from stages.score.recipes import recipe_for

    for folder in inputs:
        for label in sorted(folder.columns(["label"]).column("label").unique().to_pylist()):
            recipe_for(grader.recipes, label)


def in_order(do: Callable[[A], B], items: Iterable[A], workers: int) -> Iterator[B]:
    """`do` over the items in their order, up to `workers` at a time, with few of them in memory.

    Threads are enough: what takes long happens in child processes, and rules are quick.
    """
    if workers <= 1:
        yield from map(do, items)
        return
    with ThreadPoolExecutor(workers, thread_name_prefix="score") as pool:
        ahead: deque[Future[B]] = deque()
        try:
            for item in items:
                ahead.append(pool.submit(do, item))
                if len(ahead) >= 4 * workers:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()


STAGE = ScoreStage()
