"""repetition: the share of n-grams that repeat, negated."""

from __future__ import annotations

import pytest

from tests.score.perception.made import graded

ROW = {"question": "what ?"}
FOUR = {"repetition": {"words": 4}}


@pytest.mark.parametrize(
    ("text", "settings", "expected"),
    [
        ("a b c", FOUR, 0.0),
        ("a b c d", FOUR, 0.0),
        ("a b c d e f g h", FOUR, 0.0),
        # Five 4-grams, four of them distinct.
        ("a b c d a b c d", FOUR, -1 / 5),
        ("a a a a a a a", FOUR, -3 / 4),
        ("a " * 24, {}, -4 / 5),
        ("a " * 19, {}, 0.0),
    ],
)
def test_by_hand(text, settings, expected):
    assert graded("repetition", text, ROW, settings=settings).value == pytest.approx(expected)
