"""How good a verifier is: its verdicts against those of a rule or of people, on the same completions.

A completion counts where the gold grade has a verdict and the verifier gave an answer. An answer without a readable
verdict is wrong, and counted as unparsable; a timeout or another error is left out, and counted as failed. Macro
F1 is the mean over the verdicts that gold gives. The calibration error compares the verifier's score with the gold
verdict's score in ten bins (Naeini et al., "Obtaining Well Calibrated Probabilities Using Bayesian Binning", 2015).
Shares have Wilson's interval, F1 and calibration error a bootstrap over prompts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from schemas.evals import EvalRow
from schemas.scored import ERROR, OK, TIMEOUT, Grade
from schemas.verdicts import UNPARSABLE
from stages.core.errors import InputError
from stages.eval.config import VerifierCheck
from stages.eval.intervals import Interval, bootstrap_interval, ratio_interval
from stages.eval.measure import ALL, Measured, Namer
from stages.eval.metrics.calibration import BINS, bin_of, calibration_error
from stages.eval.report import numbers as wording
from stages.eval.views import CompletionView, read_views

if TYPE_CHECKING:
    import numpy as np

    from stages.core.runs.folder import RunFolder

_OVERALL = (
    ("accuracy", "accuracy"),
    ("macro_f1", "macro F1"),
    ("unparsable", "unparsable"),
    ("score_calibration_error", "calibration error of the score"),
)
NO_VERDICT = ""
"""In place of the verdict that was not to be read."""


@dataclass(slots=True)
class Prompt:
    """What was found on one prompt."""

    verdicts: list[tuple[str, str]] = field(default_factory=list)
    """(gold, predicted) of each completion."""
    scores: list[tuple[float, float]] = field(default_factory=list)
    """(gold, predicted) of each completion where both are numbers."""
    failed: int = 0


@dataclass(slots=True)
class Agreement:
    """The verifier on the completions of one policy."""

    policy: str
    policy_id: str
    prompts: dict[str, Prompt] = field(default_factory=dict)
    """By prompt id."""

    @property
    def verdicts(self) -> list[str]:
        """All that either side gave."""
        pairs = {v for p in self.prompts.values() for pair in p.verdicts for v in pair}
        return sorted(pairs - {NO_VERDICT})

    def confusion(self) -> np.ndarray:
        """Completions by prompt, gold verdict and predicted verdict, the unreadable last: (N, V, V + 1)."""
        import numpy as np

        verdicts = self.verdicts
        # The unreadable come last, so that `[..., :-1]` below cuts exactly them.
        place = {verdict: i for i, verdict in enumerate(verdicts)} | {NO_VERDICT: len(verdicts)}
        counts_NVS = np.zeros((len(self.prompts), len(verdicts), len(verdicts) + 1))
        for number, prompt in enumerate(self.prompts.values()):
            for gold, predicted in prompt.verdicts:
                counts_NVS[number, place[gold], place[predicted]] += 1
        return counts_NVS

    def bins(self) -> np.ndarray:
        """By prompt and bin of the verifier's score: completions, sum of its scores, sum of gold's: (N, BINS, 3)."""
        import numpy as np

        sums_NB3 = np.zeros((len(self.prompts), BINS, 3))
        for number, prompt in enumerate(self.prompts.values()):
            for gold, predicted in prompt.scores:
                sums_NB3[number, bin_of(predicted)] += (1.0, predicted, gold)
        return sums_NB3


def agreements(folders: list[RunFolder], found: Measured, namer: Namer, check: VerifierCheck) -> list[Agreement]:
    """One agreement a policy that has completions with both verdicts; InputError when there is none."""
    by_policy: dict[str, Agreement] = {}
    names: set[str] = set()
    for number, folder in enumerate(folders):
        for shard in folder.shard_paths():
            for group in read_views(shard):
                for completion in group.completions:
                    names.update(g.name for g in completion.grades.values() if g.verdict)
                    policy = namer.name(number, completion.policy_id)
                    made = by_policy.setdefault(policy, Agreement(policy, completion.policy_id))
                    _count(made, group.id, completion, check)
    there = [by_policy[name] for name in found.policies if name in by_policy and by_policy[name].prompts]
    if not there:
        raise InputError(
            f"no completion carries both a verdict by {check.gold!r} and an answer by {check.judge!r}",
            f"grades with verdicts there: {', '.join(sorted(names)) or 'none'}",
        )
    return there


def _count(made: Agreement, prompt: str, completion: CompletionView, check: VerifierCheck) -> None:
    gold, judge = completion.grades.get(check.gold), completion.grades.get(check.judge)
    if gold is None or judge is None or gold.status != OK or gold.verdict is None:
        return
    predicted = _predicted(judge)
    # It does not apply: the judge was not asked about such rows, which is no failure.
    if predicted is None and judge.status not in (ERROR, TIMEOUT):
        return
    counted = made.prompts.setdefault(prompt, Prompt())
    if predicted is None:
        counted.failed += 1
        return
    counted.verdicts.append((gold.verdict, predicted))
    if gold.value is not None and judge.value is not None:
        counted.scores.append((gold.value, judge.value))


def _predicted(grade: Grade) -> str | None:
    """The verdict; NO_VERDICT for an answer without one; None where there is no answer."""
    # How a judge says that its answer names no verdict: an error with this at the start of its reason.
    if grade.status == ERROR and (grade.reason or "").startswith(UNPARSABLE):
        # The judge did answer, so the completion counts, as a wrong one.
        return NO_VERDICT
    return grade.verdict if grade.status == OK else None


def f1(counts: np.ndarray) -> np.ndarray:
    """F1 of each verdict from (..., V, V + 1) counts; nan for a verdict that nobody gave."""
    import numpy as np

    right = np.diagonal(counts, axis1=-2, axis2=-1)
    given, predicted = counts.sum(-1), counts.sum(-2)[..., :-1]
    # 0 / 0 where nobody gave the verdict: NaN by intent, left out by the callers.
    with np.errstate(invalid="ignore"):
        return np.asarray(2 * right / (given + predicted))


def _f1_of(place: int, counts: np.ndarray) -> np.ndarray:
    column: np.ndarray = f1(counts)[..., place]
    return column


def macro_f1(counts: np.ndarray) -> np.ndarray:
    """Mean F1 over the verdicts that gold gives."""
    import numpy as np

    given = counts.sum(-1) > 0
    with np.errstate(invalid="ignore"):
        # A verdict that only the judge gives has no recall; it counts through the others' precision.
        return np.asarray(np.where(given, f1(counts), 0.0).sum(-1) / given.sum(-1))


def agreement_rows(found: Measured, agreement: Agreement, seed: int) -> Iterator[EvalRow]:
    """Accuracy by slice, what is unparsable, macro F1, calibration; precision, recall and F1 by verdict."""
    counts_NVS = agreement.confusion()
    completions_N = counts_NVS.sum((1, 2))
    right_N = counts_NVS.diagonal(axis1=1, axis2=2).sum(-1)
    failed_N = [p.failed for p in agreement.prompts.values()]

    def row(metric: str, part: str, better: str, interval: Interval, completions: float, failed: int = 0) -> EvalRow:
        return EvalRow(
            policy=agreement.policy,
            policy_id=agreement.policy_id,
            metric=f"verifier_{metric}",
            slice=part,
            value=interval.value,
            low=interval.low,
            high=interval.high,
            n=interval.n,
            completions=int(completions),
            failed=failed,
            better=better,
            method=interval.method,
        )

    slices: dict[str, list[int]] = {ALL: []}
    for number, prompt in enumerate(agreement.prompts):
        for part in found.prompts[prompt].slices():
            slices.setdefault(part, []).append(number)
    for part in [ALL, *sorted(set(slices) - {ALL})]:
        own = slices[part]
        interval = ratio_interval(right_N[own], completions_N[own])
        yield row("accuracy", part, "higher", interval, completions_N[own].sum(), sum(failed_N[i] for i in own))
    unparsable = ratio_interval(counts_NVS[:, :, -1].sum(-1), completions_N)
    yield row("unparsable", ALL, "lower", unparsable, completions_N.sum(), sum(failed_N))
    yield row("macro_f1", ALL, "higher", bootstrap_interval(macro_f1, counts_NVS, seed), completions_N.sum())
    # A judge may give verdicts and no numbers, and then there is nothing to calibrate.
    if (sums_NB3 := agreement.bins())[..., 0].sum():
        spread = bootstrap_interval(calibration_error, sums_NB3, seed)
        yield row("score_calibration_error", ALL, "lower", spread, sums_NB3[..., 0].sum())
    for place, verdict in enumerate(agreement.verdicts):
        part, both_N = f"verdict={verdict}", counts_NVS[:, place, place]
        predicted_N, gold_N = counts_NVS[:, :, place].sum(-1), counts_NVS[:, place].sum(-1)
        yield row("precision", part, "higher", ratio_interval(both_N, predicted_N), predicted_N.sum())
        yield row("recall", part, "higher", ratio_interval(both_N, gold_N), gold_N.sum())
        spread = bootstrap_interval(partial(_f1_of, place), counts_NVS, seed)
        yield row("f1", part, "higher", spread, gold_N.sum())


def section(agreements: list[Agreement], rows: list[EvalRow], check: VerifierCheck) -> dict[str, Any] | None:
    """What the report shows of a measured verifier; None without one."""
    if not agreements:
        return None
    by_key = {(r.policy, r.metric.removeprefix("verifier_"), r.slice): r for r in rows}

    def rate_cell(policy: str, metric: str, part: str = ALL) -> dict[str, str]:
        row = by_key.get((policy, metric, part))
        if row is None:
            return {"value": "–", "interval": ""}
        return {"value": wording.value(row.value, True), "interval": wording.interval(row.low, row.high, True)}

    parts = []
    for agreement in agreements:
        table = agreement.confusion().sum(0).astype(int).tolist()
        lines = [
            {
                "verdict": verdict,
                "counts": [{"n": n, "right": i == place} for i, n in enumerate(table[place])],
                "rates": [
                    rate_cell(agreement.policy, metric, f"verdict={verdict}")
                    for metric in ("recall", "precision", "f1")
                ],
            }
            for place, verdict in enumerate(agreement.verdicts)
        ]
        overall = [(title, rate_cell(agreement.policy, metric)) for metric, title in _OVERALL]
        failed = sum(p.failed for p in agreement.prompts.values())
        parts.append(
            {
                "policy": agreement.policy,
                "overall": overall,
                "lines": lines,
                "verdicts": agreement.verdicts,
                "failed": failed,
            }
        )
    return {"gold": check.gold, "judge": check.judge, "parts": parts, "about": _about()}


def _about() -> str:
    """How it is counted: this module's own words."""
    return " ".join((__doc__ or "").partition("\n\n")[2].split())


def confusion_record(agreement: Agreement) -> dict[str, Any]:
    """The confusion table, for summary.json: rows are gold's verdicts, columns the verifier's, no verdict last."""
    return {
        "verdicts": agreement.verdicts,
        "confusion": agreement.confusion().sum(0).astype(int).tolist(),
        "failed": sum(p.failed for p in agreement.prompts.values()),
    }
