"""Words compared: near-duplicates and contamination."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.prepare.near_duplicates import BOILERPLATE, GRAM, benchmark_of, jaccard, near_duplicates
from stages.prepare.words import _PROSE, _WORD, is_prose, shingles, words
from tests.prepare.made import record

STORY = "a long story of a small boat that sails over the wide bay to fetch bread and salt for the people of the town"


def repeats(*texts: str, threshold: float = 0.8, **more: str) -> dict[int, int]:
    return near_duplicates([record(n, t, **more) for n, t in enumerate(texts)], threshold)


def test_words_are_folded_and_scripts_without_spaces_are_cut() -> None:
    assert words("It's  A \ufb01sh, 2.5 KG!") == ["it", "s", "a", "fish", "2", "5", "kg"]
    assert words("你好 world") == ["你", "好", "world"]
    assert words("¿?!") == []


@given(st.text(st.characters(max_codepoint=140), max_size=30))
def test_words_of_ascii_are_those_of_the_expression(text: str) -> None:
    folded = text.lower()
    if text.isascii():
        assert words(text) == _WORD.findall(folded)
    assert is_prose(text) == frozenset(_PROSE.decode()).issuperset(folded)


def test_case_punctuation_and_one_word_of_many_do_not_make_another_prompt() -> None:
    assert repeats(STORY, STORY.upper() + " !!") == {1: 0}
    assert repeats(STORY, STORY.replace("town", "village")) == {1: 0}
    assert repeats(STORY, STORY.replace("boat", "cart").replace("bread", "oil")) == {}


def test_another_number_or_another_image_is_another_question() -> None:
    assert repeats(STORY + " 12", STORY + " 13") == {}
    assert repeats(STORY + " 12", STORY + " 12") == {1: 0}
    two = [record(0, STORY, images="a"), record(1, STORY, images="b"), record(2, STORY, images="a")]
    assert near_duplicates(two, 0.9) == {2: 0}


def test_empty_text_is_never_compared() -> None:
    assert repeats("", "", "!!", "!!") == {}


def test_test_rows_are_never_dropped() -> None:
    rows = [record(0, STORY, split="test"), record(1, STORY, split="test"), record(2, STORY)]
    assert near_duplicates(rows, 0.9) == {2: 0}


@pytest.mark.parametrize("threshold", [0.3, 0.7, 0.9])
@pytest.mark.parametrize("at_a_time", [1, 16, 4096])
def test_nothing_is_missed_among_many(threshold: float, at_a_time: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rarest shingles propose what is compared; the result is that of comparing all, however many at a time."""
    monkeypatch.setattr("stages.prepare.near_duplicates._AT_A_TIME", at_a_time)
    rng = random.Random(3)
    vocabulary = [f"word{chr(97 + n)}" for n in range(20)] + [f"thing{chr(97 + n)}" for n in range(20)]
    texts = []
    for _ in range(150):
        text = [rng.choice(vocabulary) for _ in range(30)]
        texts.append(" ".join(text))
        if rng.random() < 0.3:
            text[rng.randrange(30)] = "changed"
            texts.append(" ".join(text))
    assert repeats(*texts, threshold=threshold) == by_comparing_all(texts, threshold)
    assert len(by_comparing_all(texts, threshold)) > 3


def by_comparing_all(texts: list[str], threshold: float) -> dict[int, int]:
    kept: dict[int, frozenset[str]] = {}
    found = {}
    for n, text in enumerate(texts):
        here = shingles(words(text))
        twin = next((k for k, there in kept.items() if words(text) and jaccard(here, there) >= threshold), None)
        if twin is not None:
            found[n] = twin
        elif words(text):
            kept[n] = here
    return found


@given(st.lists(st.text(alphabet="ab c", max_size=12), max_size=12), st.floats(0.1, 1.0))
def test_what_is_dropped_is_what_comparing_all_drops(texts: list[str], threshold: float) -> None:
    assert repeats(*texts, threshold=threshold) == by_comparing_all(texts, threshold)


LEAK = " ".join(STORY.split()[3 : 3 + GRAM])


def test_contamination() -> None:
    held = [record(0, STORY), record(1, "who is it ?", images="p"), record(2, "", key="same")]
    benchmark = benchmark_of((f"set {r.ref}", r) for r in held)
    assert benchmark.find(record(9, f"quite another start {LEAK} and end")) is not None
    assert "set line 0" in (benchmark.find(record(9, STORY.title())) or "")
    assert benchmark.find(record(9, " ".join(LEAK.split()[1:]))) is None
    assert benchmark.find(record(9, "Who is it?", images="p")) == "the same words as set line 1"
    assert benchmark.find(record(9, "Who is it?", images="q")) is None
    assert benchmark.find(record(9, "", key="same")) == "the same as set line 2"
    assert benchmark.find(record(9, "")) is None


def test_every_threshold_works_on_many() -> None:
    texts = [f"{STORY} {chr(97 + n % 26)} {chr(97 + n // 26)} end" for n in range(100)]
    for threshold in (0.01, 0.5, 0.95, 1.0):
        assert repeats(*texts, texts[5], threshold=threshold)[100] in (0, 5)


@pytest.mark.parametrize(("copies", "leaks"), [(BOILERPLATE, True), (BOILERPLATE + 1, False)])
def test_a_template_of_the_test_set_is_no_leak(copies: int, leaks: bool) -> None:
    benchmark = benchmark_of((f"set {n}", record(n, f"{STORY} {n} apples")) for n in range(copies))
    assert (benchmark.find(record(99, f"{STORY} and pears")) is not None) is leaks
