"""Intervals over prompts, for a comparison of few seeds: each prompt is the mean of its seeds, prompts are the sample.

They say what other prompts of the kind would give for these very policies, not what another seed would: with two seeds
nothing can say that. Each seed's own values stand beside them in `table.json`.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from statistics import fmean
from typing import Any

from examples.reproduce.columns import Columns
from stages.core.config import build
from stages.core.runs.folder import RunFolder
from stages.eval.config import EvalConfig
from stages.eval.intervals import Interval, paired_rate_difference, rate_interval
from stages.eval.measure import Namer, measure
from stages.eval.metrics.base import Settings
from stages.eval.stage import chosen_metrics

Means = dict[str, dict[int, dict[str, float]]]
"""By metric and seed: each prompt's mean. All metrics are shares of prompts."""


def policies_of(runs: dict[int, Any], settings: dict[str, Any], columns: Columns) -> dict[str, Means]:
    """Of one variant's summaries by seed: what each policy came to, by its name in [evaluate.after].

    `settings` is the recipe's table [eval].
    """
    config = build(EvalConfig, settings, "eval")
    metrics = {name: metric for name, metric in chosen_metrics(config).items() if name in columns.columns}
    found: dict[str, Means] = {}
    for seed, run in runs.items():
        made = RunFolder.open(Path(run["metrics"]))
        folders = [RunFolder.open(made.input_path(entry)) for entry in made.manifest.inputs]
        names = list(made.config["names"])
        measured = measure(folders, metrics, Namer(folders, names), Settings())
        for name in (*columns.before, "final"):
            for metric in metrics:
                own = [measured.means(part, metric) for part in (name, *columns.also.get(name, ())) if part in names]
                together = {prompt: mean for means in own for prompt, mean in means.items()}
                found.setdefault(name, {}).setdefault(metric, {})[seed] = together
    return found


def spread(by_seed: dict[int, dict[str, float]]) -> dict[str, Any]:
    """The rate over prompts, each the mean of its seeds, with its interval, and every seed's own rate."""
    means = list(_pooled(by_seed.values()).values())
    return _told(
        rate_interval(means, len(means) * len(by_seed)), {s: fmean(m.values()) for s, m in by_seed.items() if m}
    )


def difference(ours: dict[int, dict[str, float]], theirs: dict[int, dict[str, float]]) -> dict[str, Any]:
    """Ours less theirs, paired by prompt and seed, over the seeds and prompts that both have."""
    moved = {
        seed: {prompt: mean - theirs[seed][prompt] for prompt, mean in ours[seed].items() if prompt in theirs[seed]}
        for seed in ours
        if seed in theirs
    }
    interval = paired_rate_difference(list(_pooled(moved.values()).values()))
    return _told(interval, {seed: fmean(means.values()) for seed, means in moved.items() if means})


def _pooled(seeds: Iterable[dict[str, float]]) -> dict[str, float]:
    """Each prompt's mean over the seeds that have it."""
    values: dict[str, list[float]] = {}
    for means in seeds:
        for prompt, mean in means.items():
            values.setdefault(prompt, []).append(mean)
    return {prompt: fmean(own) for prompt, own in values.items()}


def _told(interval: Interval, seeds: dict[int, float]) -> dict[str, Any]:
    return {"mean": interval.value, "low": interval.low, "high": interval.high, "n": interval.n, "seeds": seeds}
