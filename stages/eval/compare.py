"""Paired comparison: every policy against the first, on the prompts that both were asked."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.evals import EvalRow
from stages.eval.intervals import Interval, bootstrap_interval, paired_mean_difference, paired_rate_difference
from stages.eval.measure import ALL, Measured, Tally
from stages.eval.metrics.calibration import calibration_difference

BETTER, WORSE, UNCLEAR, DIFFERENT = "better", "worse", "unclear", "different"


@dataclass(frozen=True, slots=True)
class Difference:
    """How one metric of one policy differs from the baseline's on common prompts."""

    policy: str
    against: str
    metric: str
    slice: str
    interval: Interval
    verdict: str
    """better or worse: the interval leaves out 0. different: so too, where no way is good. Else unclear."""


def differences(found: Measured, slices: tuple[str, ...] = (ALL,)) -> list[Difference]:
    """Differences from the baseline, by policy and metric, for the named slices."""
    names = list(found.policies)
    result = []
    for other in names[1:]:
        for metric in found.metrics:
            for part in slices:
                result.append(_difference(found, names[0], other, metric, part))
    return result


def _difference(found: Measured, base: str, other: str, metric: str, part: str) -> Difference:
    before, after = found.means(base, metric), found.means(other, metric)
    # Prompts of one policy alone would compare different questions.
    common = [i for i in after if i in before and part in found.slices(metric, i)]
    # Figures that are not printed are not compared either.
    if any(found.is_undecided(policy, metric, part) for policy in (base, other)):
        common = []
    moved = [after[i] - before[i] for i in common]
    kind = found.metrics[metric]
    if kind.calibration:
        sums = [(found.tally(base, metric)[i].bins, found.tally(other, metric)[i].bins) for i in common]
        interval = calibration_difference(sums, found.bins)
    elif kind.ratio:
        interval = _ratio_difference([(found.tally(base, metric)[i], found.tally(other, metric)[i]) for i in common])
    else:
        interval = paired_rate_difference(moved) if kind.rate else paired_mean_difference(moved)
    return Difference(other, base, metric, part, interval, verdict(interval, kind.better))


def _ratio_difference(pairs_N: list[tuple[Tally, Tally]]) -> Interval:
    """The difference of two ratios of sums over the same prompts, by the bootstrap over prompts."""
    import numpy as np

    if not pairs_N:
        return Interval(None, None, None, 0, "bootstrap")
    parts_N22 = np.array([[(t.total, t.size) for t in pair] for pair in pairs_N], dtype=float)

    def difference(sums: np.ndarray) -> np.ndarray:
        # A draw in which nothing was counted has no ratio, and is left out by the caller.
        with np.errstate(invalid="ignore", divide="ignore"):
            ratios: np.ndarray = sums[..., 1, 0] / sums[..., 1, 1] - sums[..., 0, 0] / sums[..., 0, 1]
        return ratios

    return bootstrap_interval(difference, parts_N22, seed=0)


def verdict(interval: Interval, better: str) -> str:
    """What the interval allows to say."""
    if interval.low is None or interval.high is None or interval.low <= 0 <= interval.high:
        return UNCLEAR
    if better == "neither":
        return DIFFERENT
    return BETTER if (interval.low > 0) == (better == "higher") else WORSE


def summary(found: Measured, rows: list[EvalRow], changes: list[Difference]) -> dict[str, object]:
    """What summary.json holds: the `all` slice of every policy, and the paired differences."""
    policies: dict[str, dict[str, object]] = {name: {} for name in found.policies}
    for row in rows:
        if row.slice == ALL:
            policies[row.policy][row.metric] = {
                "value": row.value,
                "low": row.low,
                "high": row.high,
                "n": row.n,
                "completions": row.completions,
                "failed": row.failed,
                "undecided": row.undecided,
                "judged_by": row.judged_by,
            }
    moved: dict[str, dict[str, object]] = {}
    for change in changes:
        if change.slice == ALL:
            entry = moved.setdefault(change.policy, {"against": change.against, "metrics": {}})
            metrics = entry["metrics"]
            assert isinstance(metrics, dict)
            metrics[change.metric] = {
                "value": change.interval.value,
                "low": change.interval.low,
                "high": change.interval.high,
                "n": change.interval.n,
                "method": change.interval.method,
                "verdict": change.verdict,
            }
    ids = {name: policy.id for name, policy in found.policies.items()}
    return {"policies": policies, "differences": moved, "policy_ids": ids}
