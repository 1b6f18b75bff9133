"""The child's short cuts: the same trees and the same verdicts as math-verify's own parse and verify, only sooner."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import latex2sympy2_extended.latex2sympy2 as grammar
import pytest
from math_verify import parse, verify

from bench.score_vs_trl import _respelled, _wrong, math
from stages.score.answers.algebra import math_worker as math_child
from stages.score.answers.algebra.math_pool import Pool
from tests.score.made import grader, group, thought
from tests.support.cli import SHARED

ODD = [
    ("50\\%", "50"),
    ("9", "The answer is 9 percent"),
    ("1/3", "0.333333"),
    ("x=5", "5"),
    ("x=5", "y=5"),
    ("y = 2x + 3", "y - 2x = 3"),
    ("y = 2x + 3", "2y = 4x + 6"),
    ("y = 2x + 3", "y = 2x + 3.1"),
    ("x^2 = 4", "x^2 = 9"),
    ("f(x) = 2x", "f(x) = 3x"),
    ("x = i", "x = 2i"),
    ("x \\in [-2,7]", "x \\in [-2,8]"),
    ("(0,1) \\cup (1,2)", "(1,2) \\cup (0,1)"),
    ("(0,1) \\cup (1,2)", "(0,2)"),
    ("(0,1) \\cup (1,2)", "(0,1) \\cup (1,2]"),
    ("(0,1) \\cup (3,4)", "(0,1) \\cup (3,5)"),
    ("(-\\infty,1) \\cup (3,\\infty)", "(-\\infty,2) \\cup (3,\\infty)"),
    ("1 \\pm \\sqrt{3}", "1 - \\sqrt{3}, 1 + \\sqrt{3}"),
    ("1 \\pm \\sqrt{3}", "1 \\pm \\sqrt{2}"),
    ("\\{1, 2, 3\\}", "\\{3, 1\\}"),
    ("1, 2", "2, 1"),
    ("(1, 2)", "(2, 1)"),
    ("10\\%, 20\\%", "10, 20"),
    ("\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}", "\\begin{pmatrix} 2 \\\\ 1 \\end{pmatrix}"),
    ("\\text{east}", "east"),
    ("\\text{(B)}", "2(\\text{(B)})"),
    ("x + y", "y + z"),
    ("6 - 5i", "7 - 6i"),
    ("\\frac{1}{0}", "2"),
    ("\\foo{3}", "4"),
    ("5 # 3", "5"),
]


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    pool = Pool()
    yield pool
    pool.close()


def boxed(answer: str) -> str:
    return answer if answer.startswith("The") else f"\\boxed{{{answer}}}"


def plain_verdict(gold: str, parsed: str) -> bool:
    """math-verify alone, reference and completion read as TRL's accuracy reward reads them."""
    expected = parse(boxed(gold), parsing_timeout=None) or parse(gold, parsing_timeout=None)
    return verify(expected, parse(parsed, parsing_timeout=None), timeout_seconds=None)


@pytest.mark.parametrize(("gold", "answer"), ODD)
def test_its_verdict_is_math_verifys_both_ways_round(pool: Pool, gold: str, answer: str) -> None:
    for a, b in ((gold, answer), (answer, gold)):
        if a.startswith("The"):
            continue
        assert pool.run({"gold": a, "candidate": boxed(b)}, 20.0).get("correct", False) == plain_verdict(a, boxed(b))


@pytest.mark.parametrize(
    ("gold", "answer", "settled"),
    [
        ("x + 1", "x + 2", True),
        ("y = 2x + 3", "y = 2x + 3.1", True),
        ("y = 2x + 3", "2y = 4x + 6", False),
        ("x^2 = 4", "x^2 = 9", False),
        ("1 \\pm \\sqrt{3}", "1 \\pm \\sqrt{2}", True),
        ("(0,1) \\cup (3,4)", "(0,1) \\cup (3,5)", True),
        ("(0,1) \\cup (3,4)", "(0,1) \\cup (3,4]", False),
        ("9\\%", "8\\%", False),
    ],
)
def test_what_numbers_settle_without_algebra(gold: str, answer: str, settled: bool) -> None:
    expected, found = (parse(boxed(text), parsing_timeout=None) for text in (gold, answer))
    assert math_child._far_apart(expected, found) is settled


@pytest.fixture(scope="module")
def mix() -> list[tuple[str, str]]:
    """Of each fifth MATH problem of the bench, and of all whose reference is a set, a relation or a list."""
    if not SHARED.exists():
        pytest.skip("public benchmark files are not beside the repository")
    golds = [p.gold for p in math(Path(SHARED))]
    kept = [g for i, g in enumerate(golds) if i % 5 == 0 or "=" in g or "\\cup" in g or "\\pm" in g]
    answers = [(g, a) for g in kept for a in (_respelled(g), _wrong(g, 1), _wrong(g, 2))]
    return [(gold, boxed(answer)) for gold, answer in dict.fromkeys(answers)]


def test_verdicts_over_the_math_mix_are_math_verifys(pool: Pool, mix: list[tuple[str, str]]) -> None:
    asked = [bool(pool.run({"gold": gold, "candidate": parsed}, 20.0).get("correct")) for gold, parsed in mix]
    assert len(mix) > 200
    assert asked == [plain_verdict(gold, parsed) for gold, parsed in mix]
    assert 50 < sum(asked) < len(asked) - 50


def test_the_whole_verifier_agrees_too(mix: list[tuple[str, str]]) -> None:
    """From completion to grade, exact short cuts included."""
    differ = []
    for gold, parsed in mix:
        row = group(thought(parsed), label="math", answer=gold, answer_kind="math")
        (grade,) = (g for g in grader().group(row).completions[0].grades if g.name == "answer")
        if (grade.value == 1.0) != plain_verdict(gold, parsed):
            differ.append((gold, parsed))
    assert differ == []


def test_the_quick_parser_gives_the_same_trees(monkeypatch: pytest.MonkeyPatch, mix: list[tuple[str, str]]) -> None:
    """Also of what its first mode can't read (`x^2`), and of what neither can."""
    texts = [*dict.fromkeys(t for pair in mix[::3] for t in (boxed(pair[0]), pair[1]))]
    texts += [boxed(t) for pair in ODD for t in pair]
    assert "\\boxed{x^2 = 4}" in texts
    before = [repr(parse(text, parsing_timeout=None)) for text in texts]
    monkeypatch.setattr(grammar, "PSParser", grammar.PSParser)  # put back afterwards
    math_child.parse_quickly()
    monkeypatch.setattr(math_child, "KNOWN_SHAPES", 8)  # some decisions are taken once more, some are forgotten
    assert [repr(parse(text, parsing_timeout=None)) for text in texts] == before
