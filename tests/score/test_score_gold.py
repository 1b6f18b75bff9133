"""Verdicts that public benchmarks published with their own predictions, reproduced without a model.

All of each set, or of the slow ones every tenth row: `python -m tests.score.gold` takes all.
"""

from __future__ import annotations

import pytest

from stages.score.answers.algebra.math_pool import POOL
from stages.score.answers.numbers import gsm8k_final
from tests.score.gold import SETS, confusion, lines
from tests.support.cli import SHARED

pytestmark = pytest.mark.skipif(not SHARED.exists(), reason="public benchmark files are not beside the repository")
PARTS = {"math500": 200, "math_v random": 290}
"""Of every tenth row, how many agree."""


@pytest.mark.parametrize("name", SETS)
def test_as_many_verdicts_agree_as_were_measured(name: str) -> None:
    """What differs, and whose fault it is, stands in docs/gold.md."""
    pairs_of, floor = SETS[name]
    same, line = confusion(list(pairs_of(step=10) if name in PARTS else pairs_of()))
    print(line)
    assert same >= PARTS.get(name, floor), line
    # MATH-V's rule misses right answers, and what it calls right of a model's is right.
    assert name != "math_v LLaVA" or "right > wrong" not in line


def test_gsm8k_by_its_own_rule() -> None:
    """Its extraction and equality of texts, which `gsm8k_final` is, give all of its flags."""
    rows = lines("gsm8k", "grade_school_math", "data", "example_model_solutions.jsonl")
    same = [
        (gsm8k_final(said["solution"]) == gsm8k_final(row["ground_truth"])) == said["is_correct"]
        for row in rows
        for said in row.values()
        if isinstance(said, dict)
    ]
    assert (len(same), sum(same)) == (5276, 5276)


def test_math_verify_reads_whole_solutions() -> None:
    """In its child, from the text of a solution and not from the box that our reader finds in it."""
    rows = lines("math500", "prm800k", "math_splits", "test.jsonl")[::10]
    assert all(POOL.run({"gold": r["answer"], "candidate": r["solution"]}, 20.0)["correct"] for r in rows)
