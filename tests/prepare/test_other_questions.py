"""Rows that share nearly all words and ask something else: they stay, and what leaves says why."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.prepare.near_duplicates import benchmark_of, near_duplicates, shared_by_most
from stages.prepare.words import exact, marked_words, own_pieces, shared_runs, words
from tests.prepare.made import image, prepare, record, write_lines
from tests.support.cli import SHARED

CASES = SHARED.parent / "cases" / "files"
needs_cases = pytest.mark.skipif(not CASES.exists(), reason="no ../shared/cases: the small inputs are not here")
INSTRUCTION = (
    "Look at the task below, take all the time that you need, write your thoughts into the think block one after the "
    "other, and finish with the answer alone on the last line, with no words before it and none after it. Task: "
)
OTHER_QUESTIONS = [
    ("What is 3 + 5 ?", "What is 3 - 5 ?", "What is 3 * 5 ?", "What is 3 / 5 ?", "What is 3 ^ 5 ?", "What is 3 % 5 ?"),
    ("Solve x - 1 = 0.", "Solve x + 1 = 0.", "Solve -x + 1 = 0.", "Solve x = 1 + 0.", "Solve (x + 1) = 0."),
    ("Is a > b here?", "Is a < b here?", "Is a = b here?", "Is a >= b here?", "Is a ≠ b here?"),
    ("Who made C?", "Who made C++?", "Who made C#?", "Who made C--?", "Who made C*?"),
    ("Evaluate f(2).", "Evaluate f(-2).", "Evaluate |f(2)|.", "Evaluate f'(2) + 1.", "Evaluate f[2]."),
    ("What is 5?", "What is 5!?", "What is -5?", "What is √5?", "What is 5%?", "What is $5?"),
    ("Round 2.5 up", "Round 2 5 up", "Round 2:5 up", "Round 25 up", "Round (2) 5 up", "Round 2/5 up"),
    ("How much is 10² here", "How much is 102 here", "How much is 10₂ here", "How much is 10^-2 here"),
    ("求 3 + 5 的值", "求 3 - 5 的值", "求 3 × 5 的值", "求 3 ÷ 5 的值", "求 (3, 5) 的值"),
    ("does ✓ mean yes", "does ✗ mean yes", "does 😀 mean yes", "does 😢 mean yes", "does → mean yes"),
]
THE_SAME = [
    ("A well-known trick (of old) is shown.", "A well known trick, of old, is shown!"),
    ("**Name** the *tall* tower.", "Name the tall tower"),
    ("\u201cWhere is it?\u201d she said\u2026", '"where is it?" She said ...'),
    ("Is 3 more than two?", "is 3 more than two"),
    ("Ｗhere　is the boat ？", "Where is the boat?"),
    ("It's a boat - a big one", "it's a boat: a big one."),
]


@pytest.mark.parametrize("texts", OTHER_QUESTIONS)
def test_another_sign_is_another_question(texts: tuple[str, ...]) -> None:
    rows = [record(n, INSTRUCTION + text) for n, text in enumerate(texts)]
    assert near_duplicates(rows, 0.8) == {}
    assert near_duplicates([*rows, record(99, rows[1].text.replace("Task", "TASK"))], 0.8) == {len(texts): 1}
    for test in rows:
        benchmark = benchmark_of([("set", test)])
        again = [record(n, r.text, key="another") for n, r in enumerate(rows)]
        assert {r.ref for r in again if (benchmark.find(r) or "").startswith("the same words")} == {test.ref}


@pytest.mark.parametrize(("one", "other"), THE_SAME)
def test_typography_makes_no_other_question(one: str, other: str) -> None:
    assert exact(one) == exact(other)
    assert near_duplicates([record(0, one), record(1, other)], 0.9) == {1: 0}


@given(st.text(max_size=40))
def test_marked_words_are_the_words(text: str) -> None:
    marked = marked_words(text)
    assert len(marked) == len(words(text)) or not words(text)
    assert all(word in mark for word, mark in zip(words(text), marked, strict=False))


@pytest.mark.parametrize(
    ("references", "dropped"),
    [
        (("Paris", "Madrid"), False),
        (("a", "b"), False),
        (("5", "-5"), False),
        (("C", "C++"), False),
        (("yes", "no"), False),
        (("8", "8.0"), True),
        (("Paris", "paris."), True),
        (("Paris", None), True),
        ((None, None), True),
        (("the long way " + INSTRUCTION + "round", "The long way " + INSTRUCTION + "round!"), True),
    ],
)
def test_another_reference_speaks_against_a_duplicate(references: tuple[str | None, str | None], dropped: bool) -> None:
    rows = [record(n, f"{INSTRUCTION} which {n * 's'} is it", answer=a) for n, a in enumerate(references)]
    assert (near_duplicates(rows, 0.8) == {1: 0}) is dropped


QUESTIONS = [
    "Where do swallows spend the winter?",
    "Which metal melts in the hand?",
    "Who painted the night watch?",
    "What do bees make out of nectar?",
    "How does sound reach the ear?",
    "When did the old bridge fall?",
    "Why is the sea salt?",
    "Whose horse came back alone?",
]


@pytest.mark.parametrize("many", [4, 5, 8, 200])
def test_questions_behind_one_instruction_are_told_apart(many: int) -> None:
    """Without references: the questions' own words decide, however long what they share is."""
    twice = "How do owls hunt in the dark?"
    texts = [*QUESTIONS, *(f"What does word{chr(97 + n % 26)}{chr(97 + n // 26)} mean?" for n in range(200))][:many]
    rows = [record(n, 3 * INSTRUCTION + text) for n, text in enumerate([*texts, twice, twice.upper()])]
    shared = shared_by_most([rows])
    assert near_duplicates(rows, 0.9, shared) == {many + 1: many}
    benchmark = benchmark_of([("set a", rows[0]), ("set b", rows[1])], shared)
    assert [benchmark.find(r) for r in rows[2:]] == [None] * many
    assert benchmark.find(record(99, rows[0].text.title())) == "the same words as set a"


def test_what_is_a_rows_own_still_leaks() -> None:
    long = "the grey heron that stood by the mill for all of that cold morning without one move of its head"
    rows = [record(n, f"{INSTRUCTION} {q}") for n, q in enumerate([*QUESTIONS, long])]
    benchmark = benchmark_of([("set a", rows[-1])], shared_by_most([rows]))
    assert "13 words in a row as in set a" in (benchmark.find(record(9, f"Quite another start: {long}")) or "")
    assert benchmark.find(rows[0]) is None


def test_few_rows_share_no_instruction_and_one_in_two_is_not_most() -> None:
    texts = [INSTRUCTION + q for q in QUESTIONS]
    assert shared_runs(texts[:3]) == frozenset()
    assert shared_runs([*texts[:4], *QUESTIONS[4:]]) == frozenset()
    shared = shared_runs([*texts[:5], *QUESTIONS[5:]])
    found = words(texts[0])
    assert [found[piece] for piece in own_pieces(found, shared)] == [words(QUESTIONS[0])]


@needs_cases
def test_cases_of_other_questions(tmp_path: Path) -> None:
    """`nd.jsonl` names three images that do not come with it."""
    shutil.copy(CASES / "nd.jsonl", tmp_path)
    (tmp_path / "img").mkdir()
    for n, name in enumerate(["rgb.png", "gray.png", "rgb.jpg"]):
        (tmp_path / "img" / name).write_bytes(image((n, 9, 9), kind="JPEG" if name.endswith("jpg") else "PNG"))
    expected = {"nd": 20, "boiler": 8, "cont": 5}
    shutil.copy(CASES / "boiler.jsonl", tmp_path)
    shutil.copy(CASES / "cont.jsonl", tmp_path)
    for name, rows in expected.items():
        source = f"jsonl:{tmp_path / name}.jsonl"
        made = prepare(tmp_path / "runs", source, **({"decontaminate": [source]} if name == "cont" else {}))
        assert (len(made.rows), made.rejected) == (rows, []), name


def test_what_leaves_says_which_row_and_why(tmp_path: Path) -> None:
    texts = [*(INSTRUCTION + q for q in QUESTIONS), INSTRUCTION + QUESTIONS[0].upper()]
    file = write_lines(tmp_path / "q.jsonl", *({"prompt": text} for text in texts))
    [left] = prepare(tmp_path / "runs", f"jsonl:{file}").rejected
    assert left.reason == "near_duplicate"
    assert left.detail.startswith("nearly the same words as jsonl q.jsonl line ")
    assert left.detail.endswith(": 100 % of the runs of 3 words are the same, 100 % where not most rows share them")
