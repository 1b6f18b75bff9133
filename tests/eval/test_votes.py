"""Votes on a table, and what is counted of completions that search."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from schemas.scored import Grade
from stages.core.registry import load
from stages.eval.metrics import votes
from stages.eval.metrics.base import Observed, Settings
from stages.eval.views import CompletionView, GroupView, TokenCounts


def said(index: int, answer: str, sure: int | None, right: bool, searches: int = 0) -> CompletionView:
    looked = "<think>a</think><search>q</search>\n" * searches
    stated = "" if sure is None else f"<confidence>{sure}</confidence>"
    certain = "certain" if sure is None or sure >= 5 else "uncertain"
    verdict = f"{certain}_{'correct' if right else 'incorrect'}"
    grades = {
        "answer": Grade(name="answer", version=1, value=float(right), status="ok"),
        "reliability": Grade(name="reliability", version=1, value=1.0, status="ok", verdict=verdict),
    }
    text = f"{looked}<think>so</think>{stated}<answer>{answer}</answer>"
    row: dict[str, Any] = {
        "policy_id": "p",
        "text": text,
        "finish_reason": "stop",
        "error": None,
        "reward": 1.0,
    }
    return CompletionView(index=index, **row, grades=grades, counts=TokenCounts(Path("none"), 0), position=index)


def asked(*completions: CompletionView) -> GroupView:
    return GroupView(id="a", label="knowledge", answer="red", completions=list(completions))


# Right is red. Blue leads in numbers, red in confidence; which come first is what m looks at.
TABLE = asked(
    said(0, "blue", 3, False),
    said(1, "Red", 9, True, 1),
    said(2, "blue", 2, False),
    said(3, " red ", 1, True, 2),
    said(4, "blue", 3, False),
    said(5, "green", 10, False),
    said(6, "blue", 3, False),
    said(7, "red", 2, True),
)


@pytest.mark.parametrize(("m", "weighted", "majority"), [(1, 0, 0), (2, 1, 0), (4, 1, 0), (8, 1, 0)])
def test_votes_on_a_table(m: int, weighted: float, majority: float) -> None:
    # m = 2: blue 3, red 9. 4: blue 5, red 10; two each, blue came first. 8: blue 11, red 12, green 10; blue four.
    assert getattr(votes, f"weighted_vote_at_{m}").observe(TABLE, Settings()) == Observed([weighted])
    assert getattr(votes, f"majority_vote_at_{m}").observe(TABLE, Settings()) == Observed([majority])


def test_all_vote_where_no_number_is_said_and_the_order_of_rows_is_no_matter() -> None:
    group = asked(*TABLE.completions[::-1])
    assert load("metric", "weighted_vote").observe(group, Settings()) == Observed([1.0])
    assert load("metric", "majority_vote").observe(group, Settings()) == Observed([0.0])
    # Without a number a vote is of 5: two of them outweigh one of 9.
    unsaid = asked(said(0, "red", 9, True), said(1, "blue", None, False), said(2, "blue", None, False))
    assert load("metric", "weighted_vote").observe(unsaid, Settings()) == Observed([0.0])
    # Rows that say nothing of reliability have no such figure.
    plain = said(0, "red", 9, True)
    del plain.grades["reliability"]
    for name in ("weighted_vote", "majority_vote", "false_certain", "searches", "confidence_error"):
        assert load("metric", name).observe(asked(plain), Settings()) is None


def test_what_is_counted_of_completions_that_search() -> None:
    found = load("metric", "searches").observe(TABLE, Settings())
    assert found == Observed([0.0, 1.0, 0.0, 2.0, 0.0, 0.0, 0.0, 0.0])
    assert load("metric", "false_certain").observe(TABLE, Settings()) == Observed([0, 0, 0, 0, 0, 1, 0, 0])
    errors = load("metric", "confidence_error").observe(TABLE, Settings()).values
    assert errors == pytest.approx([0.09, 0.01, 0.04, 0.81, 0.09, 1.0, 0.09, 0.64])
