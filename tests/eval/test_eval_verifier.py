"""Measuring a verifier: every number against one worked out by hand, or by a library."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from schemas.scored import Grade
from schemas.tables import EVALS
from stages.core.errors import InputError, UsageError
from stages.core.runs.folder import RunFolder
from stages.eval.intervals import bootstrap_interval, rate_interval, ratio_interval
from stages.eval.table import summary_table
from tests.eval.made import completion, grade, group, scored_run
from tests.eval.test_stage import evaluate, summary

SCORES = {"safe": 1.0, "unsafe": 0.0, "refusal": 0.1}
CHECK = {"verifier": {"gold": "safety", "judge": "small"}}
UNREADABLE = Grade(name="small", version=1, value=None, status="error", reason="unparsable: 'who knows'")
FAILED = Grade(name="small", version=1, value=None, status="timeout")


def judged(gold: str, said: str | Grade, index: int = 0, policy: str = "policy-a") -> Any:
    """A completion with both verdicts."""
    judge = said if isinstance(said, Grade) else grade("small", SCORES[said], said)
    return completion(grade("safety", SCORES[gold], gold), judge, index=index, policy=policy)


def asked(pairs: list[tuple[str, str | Grade]], **fields: Any) -> list[Any]:
    """One prompt a pair."""
    policy = fields.pop("policy", "policy-a")
    return [group(f"q{i} {fields}", [judged(g, s, policy=policy)], **fields) for i, (g, s) in enumerate(pairs)]


def measured(folder: RunFolder) -> dict[tuple[str, str], Any]:
    return {(r.metric.removeprefix("verifier_"), r.slice): r for r in folder.rows(EVALS) if "verifier_" in r.metric}


@pytest.fixture
def ten() -> list[tuple[str, str | Grade]]:
    """Ten completions: safe 5 (4 right), unsafe 3 (2 right, 1 unreadable), refusal 2 (1 right); one more failed."""
    return [
        *[("safe", "safe")] * 4,
        ("safe", "refusal"),
        *[("unsafe", "unsafe")] * 2,
        ("unsafe", UNREADABLE),
        ("refusal", "refusal"),
        ("refusal", "safe"),
        ("safe", FAILED),
    ]


def test_every_number_is_the_one_worked_out_by_hand(tmp_path: Path, ten: list[Any]) -> None:
    folder = evaluate(tmp_path, [scored_run(tmp_path, asked(ten, label="safety"))], **CHECK)
    rows = measured(folder)
    accuracy = rows["accuracy", "all"]
    assert (accuracy.value, accuracy.n, accuracy.completions, accuracy.failed) == (0.7, 10, 10, 1)
    assert (accuracy.low, accuracy.high) == pytest.approx((0.3968, 0.8922), abs=1e-4)
    assert rows["unparsable", "all"].value == 0.1
    expected = {
        "safe": (4 / 5, 4 / 5, 8 / 10),
        "unsafe": (2 / 2, 2 / 3, 4 / 5),
        "refusal": (1 / 2, 1 / 2, 2 / 4),
    }
    for verdict, (precision, recall, f1) in expected.items():
        found = [rows[metric, f"verdict={verdict}"].value for metric in ("precision", "recall", "f1")]
        assert found == pytest.approx([precision, recall, f1])
    assert rows["macro_f1", "all"].value == pytest.approx((0.8 + 0.8 + 0.5) / 3)
    # Scores: nine pairs. Said 1.0: gold 1,1,1,1,0.1; said 0.1: gold 1,0.1; said 0: gold 0,0.
    error = (abs(5 * 1.0 - 4.1) + abs(0.2 - 1.1) + 0) / 9
    assert rows["score_calibration_error", "all"].value == pytest.approx(error)
    record = summary(folder)["verifier"]
    assert (record["gold"], record["judge"]) == ("safety", "small")
    assert record["policies"]["policy policy-a"] == {
        "verdicts": ["refusal", "safe", "unsafe"],
        "confusion": [[1, 1, 0, 0], [1, 4, 0, 0], [0, 0, 2, 1]],
        "failed": 1,
    }


def test_it_agrees_with_scikit_learn(tmp_path: Path) -> None:
    from sklearn import metrics

    rng = random.Random(3)
    pairs = [(rng.choice(list(SCORES)), rng.choice([*SCORES, UNREADABLE])) for _ in range(200)]
    rows = measured(evaluate(tmp_path, [scored_run(tmp_path, asked(pairs))], **CHECK))
    gold = [g for g, _ in pairs]
    said = ["none" if isinstance(s, Grade) else s for _, s in pairs]
    names = sorted(SCORES)
    values = metrics.precision_recall_fscore_support(gold, said, labels=names, zero_division=0)
    for metric, found in zip(("precision", "recall", "f1"), values, strict=False):
        assert [rows[metric, f"verdict={v}"].value for v in names] == pytest.approx(list(found))
    macro = metrics.f1_score(gold, said, labels=names, average="macro")
    assert rows["macro_f1", "all"].value == pytest.approx(macro)
    assert rows["accuracy", "all"].value == pytest.approx(metrics.accuracy_score(gold, said))


def test_slices_policies_and_pages(tmp_path: Path, ten: list[Any]) -> None:
    """Each policy apart, accuracy by family, and a table of counts in the report; names are escaped."""
    mirror = asked([("unsafe", "unsafe"), ("safe", "unsafe")], family="mirror", label="jailbreak")
    other = asked([("safe", "safe")] * 3, policy="policy-b")
    folder = evaluate(
        tmp_path,
        [scored_run(tmp_path, [*asked(ten), *mirror]), scored_run(tmp_path, other)],
        names=["first", "<b>"],
        **CHECK,
    )
    rows = {(r.policy, r.metric, r.slice): r for r in folder.rows(EVALS)}
    assert rows["first", "verifier_accuracy", "family=mirror"].value == 0.5
    assert rows["first", "verifier_accuracy", "all"].value == 8 / 12
    assert rows["<b>", "verifier_accuracy", "all"].value == 1.0
    assert ("<b>", "verifier_recall", "verdict=unsafe") not in rows
    table = summary_table(list(folder.rows(EVALS)), summary(folder)["differences"])
    assert any(line[0] == "verifier_accuracy" and line[1].startswith("0.667") for line in table)
    page = (folder.path / "report.html").read_text()
    section = page.partition('<section id="verifier">')[2].partition("</section>")[0]
    assert "accuracy 66.7%" in section
    assert "1 left out" in section
    assert ">no verdict</th>" in section
    assert "<b>4</b>" in section
    assert "&lt;b&gt;" in section
    assert "Macro F1 is the mean over the verdicts that gold gives" in section


def test_without_a_verifier_nothing_changes(tmp_path: Path, ten: list[Any]) -> None:
    run = scored_run(tmp_path, asked(ten))
    folder = evaluate(tmp_path, [run])
    assert not measured(folder)
    assert "verifier" not in json.loads((folder.path / "summary.json").read_text())
    assert 'id="verifier"' not in (folder.path / "report.html").read_text()
    assert folder.fingerprint != evaluate(tmp_path, [run], **CHECK).fingerprint


def test_grades_that_are_not_there_say_which_are(tmp_path: Path, ten: list[Any]) -> None:
    run = scored_run(tmp_path, asked(ten))
    with pytest.raises(InputError, match="both a verdict by 'safety' and an answer by 'smal'") as caught:
        evaluate(tmp_path, [run], verifier={"gold": "safety", "judge": "smal"})
    assert "safety, small" in caught.value.hint
    with pytest.raises(UsageError, match="not named"):
        evaluate(tmp_path, [run], verifier={"gold": "safety"})


def test_completions_weigh_alike_and_prompts_are_the_unit(tmp_path: Path) -> None:
    """Two prompts, of 3 and 1 completions: accuracy is 3 of 4 as in the table, and its interval knows of 2 prompts."""
    groups = [
        group("a", [judged("safe", "safe", i) for i in range(3)]),
        group("b", [judged("safe", "unsafe")]),
    ]
    row = measured(evaluate(tmp_path, [scored_run(tmp_path, groups)], **CHECK))["accuracy", "all"]
    assert (row.value, row.n, row.completions, row.method) == (0.75, 2, 4, "wilson_clustered")
    assert row.low < 0.01


def test_a_ratio_is_a_rate_where_every_prompt_has_the_same_size() -> None:
    singles = [1.0, 0.0, 1.0, 1.0, 0.0, 1.0]
    assert ratio_interval(singles, [1] * 6) == rate_interval(singles, 6)
    # Completions of a prompt all agree: as few as there are prompts. Independent ones: nearly as many as completions.
    agreeing = ratio_interval([4, 0] * 10, [4] * 20)
    mixed = ratio_interval([2] * 20, [4] * 20)
    assert agreeing.value == mixed.value == 0.5
    assert agreeing.high - agreeing.low > 1.8 * (mixed.high - mixed.low)
    assert ratio_interval([0, 0], [0, 0]).value is None


def test_the_bootstrap_covers_a_mean_as_it_should() -> None:
    """95 % intervals for the mean of 60 draws: about 95 of 100 hold the truth, and each is the same twice."""
    rng = np.random.default_rng(0)
    hits = 0
    for seed in range(100):
        draws = rng.exponential(size=(60, 1))
        parts = np.concatenate([draws, np.ones_like(draws)], axis=1)
        interval = bootstrap_interval(lambda sums: sums[..., 0] / sums[..., 1], parts, seed)
        hits += interval.low <= 1.0 <= interval.high
    assert 86 <= hits <= 99
    assert interval == bootstrap_interval(lambda sums: sums[..., 0] / sums[..., 1], parts, 99)
