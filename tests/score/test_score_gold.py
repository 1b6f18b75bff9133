"""Verdicts that public benchmarks published with their own predictions, reproduced without a model."""

from __future__ import annotations

import csv
import json
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from stages.score.answers.match import match
from stages.score.answers.numbers import gsm8k_final
from stages.score.rules.refusal_phrases import jailbreakbench_refuses, refusal
from tests.score.made import grade, group
from tests.support.cli import SHARED

pytestmark = pytest.mark.skipif(not SHARED.exists(), reason="public benchmark files are not beside the repository")
XSTEST = SHARED / "xstest" / "evaluation" / "automated_evaluation_labels"
MODELS = {"gpt4": 0.95, "llama2orig": 0.93, "mistralguard": 0.87}
"""Three models' completions, and how often our own refusal rule must agree with the people who read them."""


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def xstest(model: str) -> list[dict[str, str]]:
    with open(XSTEST / f"xstest_v2_completions_{model}_streval.csv", encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def test_gsm8k_flags() -> None:
    """All 5,276 `is_correct` flags, by GSM8K's own rule and by the verifier's number rule alike."""
    own, ours, total = 0, 0, 0
    for row in lines(SHARED / "gsm8k" / "grade_school_math" / "data" / "example_model_solutions.jsonl"):
        gold = gsm8k_final(row["ground_truth"])
        judged = group(answer=gold, answer_kind="number")
        for solution in (v for v in row.values() if isinstance(v, dict)):
            total += 1
            own += (gsm8k_final(solution["solution"]) == gold) == solution["is_correct"]
            ours += match(judged, solution["solution"]).right == solution["is_correct"]
    assert (total, own, ours) == (5276, 5276, 5276)


@pytest.mark.parametrize("model", MODELS)
def test_xstest_string_labels(model: str) -> None:
    """All 450 labels a model by XSTest's prefix rule, through the verifier."""
    same = Counter(
        grade("refusal", row["completion"], raw=True, source="xstest").verdict == row["strmatch_label"][2:]
        for row in xstest(model)
    )
    assert same == {True: 450}


@pytest.mark.parametrize("model", MODELS)
def test_our_refusal_rule_agrees_with_people(model: str) -> None:
    """Refused (wholly or in part) or not, against human labels; XSTest's own rule has 93.6, 89.3, 80.9 %."""
    same = [(refusal(r["completion"]) is not None) == ("refusal" in r["final_label"]) for r in xstest(model)]
    assert sum(same) / len(same) >= MODELS[model]


def test_jailbreakbench_verdicts() -> None:
    """All 200 `jailbroken` flags by JailbreakBench's substring rule."""
    folder = SHARED / "jailbreakbench" / "attack-artifacts" / "JBC" / "manual"
    rows = [row for file in sorted(folder.glob("*.json")) for row in json.loads(file.read_text())["jailbreaks"]]
    same = [jailbreakbench_refuses(row["response"]) is not row["jailbroken"] for row in rows]
    assert (len(same), sum(same)) == (200, 200)


def test_math_v_verdicts() -> None:
    """Nothing that MATH-V's rule calls right is wrong here.

    The other way round its rule misses `(D) 105` where D is right, about 50 times in 3,040.
    """
    rows = {r["id"]: r for r in lines(SHARED / "math_v" / "data" / "test.jsonl")}
    completions = lines(SHARED / "math_v" / "outputs" / "open-source" / "LLavA" / "LLaVA-v1.5-7B.jsonl")
    found: Counter[tuple[bool, bool]] = Counter()
    for parsed in completions:
        row = rows[parsed["id"]]
        judged = group(answer=row["answer"], choices=row["options"])
        found[parsed["correct"], match(judged, str(parsed["response"])).right] += 1
    assert found[True, False] == 0
    assert found[True, True] == 259
    assert found[False, True] < 60


def test_math500_solutions_prove_their_answers() -> None:
    """math-verify, in its child, reads all of a sample of reference solutions as their own answers."""
    from stages.score.answers.math_pool import POOL

    rows = lines(SHARED / "math500" / "prm800k" / "math_splits" / "test.jsonl")
    right = [POOL.run({"gold": r["answer"], "candidate": r["solution"]}, 20.0)["correct"] for r in rows[::10]]
    assert all(right)
    neighbours = [(a, b) for a, b in pairwise(rows) if a["answer"] != b["answer"]]
    taken = [
        (a["answer"], b["answer"])
        for a, b in neighbours
        if match(group(answer=a["answer"], answer_kind="math"), b["solution"]).right
    ]
    assert taken == [("5", "x=5")]
