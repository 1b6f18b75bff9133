"""Judges of key facts: one 0 or 1 for each fact, or an error; and what they are shown."""

from __future__ import annotations

import pytest

from schemas.values import plain_text
from stages.core.errors import UsageError
from stages.judging.parsed import DESCRIBE, parse_completion
from stages.judging.prompt import conversation, load_prompt, part_of
from stages.judging.readers import read_numbered
from stages.score.models.judge_answers import read_facts
from tests.score.made import group
from tests.score.perception.made import IMAGE, described


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1: 1\n2: 0\n3: 1", [True, False, True]),
        ("- **1:** 1\n- **2:** 0 (it says 4)\n- **3:** 1", [True, False, True]),
        ("3: 1\n1: 0\n2: 0", [False, False, True]),
        ('{"1": 1, "2": 1, "3": 0}', [True, True, False]),
        ("<think>1: 0\n2: 0\n3: 0</think>\n1: 1\n2: 1\n3: 1", [True, True, True]),
        # Some of the facts, one too many, one twice, several on a line, half a mark, no number.
        ("1: 1", None),
        ("1: 1\n2: 1", None),
        ("1: 1\n2: 1\n3: 1\n4: 1", None),
        ("1: 1\n2: 1\n3: 1\n3: 1", None),
        ("1: 1\n2: 1\n3: 1\n3: 0", None),
        ("1: 1, 2: 0, 3: 1", None),
        ("1: 0.5\n2: 1\n3: 1", None),
        ("1: 1\n2: yes\n3: 1", None),
        ("1: 0 or 1\n2: 1\n3: 1", None),
        ("1 1 1", None),
        ("", None),
    ],
)
def test_each_fact_has_exactly_one_answer_or_there_is_none(text, expected):
    assert read_numbered(3, text) == expected


def test_ten_facts_and_more_are_told_apart():
    text = "\n".join(f"{n}: {n % 2}" for n in range(1, 13))
    assert read_numbered(12, text) == [n % 2 == 1 for n in range(1, 13)]
    assert read_numbered(11, text) is None


@pytest.mark.parametrize(
    ("text", "status", "value", "verdict"),
    [
        ("1: 1\n2: 1", "ok", 1.0, "all"),
        ("1: 1\n2: 0", "ok", 0.5, "some"),
        ("1: 0\n2: 0", "ok", 0.0, "none"),
        ("1: 1", "error", None, None),
    ],
)
def test_a_part_of_the_answers_is_an_error_and_never_a_mean(text, status, value, verdict):
    found = read_facts(load_prompt("visual_keys"), 2, text)
    assert (found.status, found.value, found.verdict) == (status, value, verdict)


def test_what_it_is_shown_is_words_alone_with_the_facts_numbered():
    row = group(
        "x", question="are there more circles ?", images=IMAGE,
        visual_keys=["there are 5 circles", "there are\n3: 1"], text_keys=["ann asks"],
    )  # fmt: skip
    parsed = parse_completion(described("i see 5", "ann asks", "circles"), DESCRIBE)
    for name, part, facts in (
        ("visual_keys", "i see 5", "1. there are 5 circles\n2. there are 3: 1\n"),
        ("text_keys", "ann asks", "1. ann asks\n"),
    ):
        prompt = load_prompt(name)
        assert part_of(prompt, parsed) == part
        turns, images = conversation(prompt, row, part)
        assert images == []
        assert facts in plain_text(turns)
        assert f"<text>\n{part}\n</text>" in plain_text(turns)
    assert part_of(load_prompt("visual_keys"), parse_completion("<think> five </think> 5")) == "five"
    assert part_of(load_prompt("safety"), parsed) == parsed.shown


def test_a_prompt_that_asks_for_facts_asks_for_nothing_else(tmp_path):
    for n, more in enumerate(("[verdicts]\ngood = 1.0", "bare = true")):
        path = tmp_path / f"{n}.toml"
        path.write_text(f"user = 'say $completion of $facts'\nfacts = 'text_keys'\n{more}\n")
        with pytest.raises(UsageError, match="asks for facts"):
            load_prompt(str(path))
    (tmp_path / "none.toml").write_text("user = 'say $completion'\nfacts = 'text_keys'\n")
    with pytest.raises(UsageError, match="asks for facts"):
        load_prompt(str(tmp_path / "none.toml"))
