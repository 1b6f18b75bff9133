"""Expected calibration error, by hand: of sums, of stated confidences through `cosmo eval`, by label and by bins."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from schemas.scored import ScoredGroup
from schemas.tables import EVALS
from stages.core.config import build
from stages.core.registry import load
from stages.core.runner import Options, run_stage
from stages.core.runs.folder import RunFolder
from stages.eval.config import EvalConfig
from stages.eval.metrics.base import Observed, Settings
from stages.eval.metrics.calibration import bin_of, calibration_interval
from stages.eval.stage import STAGE
from tests.eval.made import completion, grade, group, scored_run
from tests.eval.test_votes import asked, said

NAME = "expected_calibration_error"
# Of label one: 9 right, 9 right, 9 wrong, 8 right; 2 wrong, 1 right. Of label two: 10 wrong, 0 right.
ONE = [(9, True), (9, True), (9, False), (8, True), (2, False), (1, True)]
TWO = [(10, False), (0, True)]


def row(words: str, label: str, pairs: list[tuple[int, bool]], policy: str = "policy-a") -> ScoredGroup:
    made = []
    for index, (sure, right) in enumerate(pairs):
        verdict = f"{'certain' if sure >= 5 else 'uncertain'}_{'correct' if right else 'incorrect'}"
        text = f"<think>so</think><confidence>{sure}</confidence><answer>a</answer>"
        given = grade("reliability", float((sure >= 5) == right), verdict)
        made.append(completion(given, text=text, index=index, policy=policy))
    return group(words, made, label=label)


ROWS = [row("a", "one", ONE[:2]), row("b", "one", ONE[2:]), row("c", "two", TWO)]


def figures(tmp_path: Path, folders: list[RunFolder], **config: int) -> dict[tuple[str, str], float | None]:
    settings = build(EvalConfig, {"metrics": [NAME], "sample": 0, **config}, "eval")
    result = run_stage(STAGE, settings, [f.path for f in folders], options=Options(runs=tmp_path))
    return {(r.policy_id, r.slice): r.value for r in RunFolder.open(result.path).rows(EVALS) if r.metric == NAME}


def test_the_error_by_hand_by_label_and_by_bins(tmp_path: Path) -> None:
    folder = scored_run(tmp_path, ROWS)
    ten = figures(tmp_path, [folder])
    # Bin 9: 3 of one, said 2.7, right 2. Bin 8: .8 and 1. Bin 2: .2 and 0. Bin 1: .1 and 1.
    one = (abs(2.7 - 2) + abs(0.8 - 1) + 0.2 + 0.9) / 6
    assert ten["policy-a", "label=one"] == pytest.approx(one, abs=1e-9)
    assert ten["policy-a", "label=two"] == pytest.approx(1.0, abs=1e-9)
    # Together the last bin holds 10 as well: said 3.7, right 2; and bin 0 said 0, right 1.
    assert ten["policy-a", "all"] == pytest.approx((1.7 + 0.2 + 0.2 + 0.9 + 1.0) / 8, abs=1e-9)
    two = figures(tmp_path, [folder], calibration_bins=2)
    # Two bins: 5 high of 8, said 4.5, right 3; 3 low, said 0.3, right 2.
    assert two["policy-a", "all"] == pytest.approx((1.5 + 1.7) / 8, abs=1e-9)
    assert two["policy-a", "label=one"] == pytest.approx((abs(3.5 - 3) + abs(0.3 - 1)) / 6, abs=1e-9)


def test_two_policies_differ_by_their_errors_and_not_by_what_is_right(tmp_path: Path) -> None:
    """The second is as often right, and says so."""
    folders = [
        scored_run(tmp_path, [row(str(i), "one", [(sure, i % 2 == 0)], policy) for i in range(40)])
        for policy, sure in (("p", 9), ("q", 5))
    ]
    found = figures(tmp_path, folders)
    assert found["p", "all"] == pytest.approx(0.4, abs=1e-9)
    assert found["q", "all"] == pytest.approx(0.0, abs=1e-9)
    summaries = [json.loads(p.read_text()) for p in tmp_path.glob("eval-*/**/summary.json")]
    (changes,) = [next(iter(s["differences"].values()))["metrics"][NAME] for s in summaries if s["differences"]]
    assert changes["value"] == pytest.approx(-0.4, abs=1e-9)
    assert changes["verdict"] == "better"


def test_bins_hold_their_lower_end_and_the_last_one_both() -> None:
    assert [bin_of(sure / 10) for sure in range(11)] == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9]
    assert [bin_of(sure / 10, 4) for sure in range(11)] == [0, 0, 0, 1, 1, 2, 2, 2, 3, 3, 3]
    assert bin_of(-0.5) == 0
    assert calibration_interval([], 10).value is None


def test_what_says_nothing_of_certainty_is_left_out() -> None:
    observe = load("metric", NAME).observe
    table = asked(said(0, "red", 9, True), said(1, "blue", None, False), said(2, "blue", 0, False))
    assert observe(table, Settings()) == Observed([1.0, 0.0], stated=[0.9, 0.0])
    assert observe(asked(said(0, "red", None, True)), Settings()) is None
