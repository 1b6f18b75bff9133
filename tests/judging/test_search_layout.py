"""Completions that search: which part is which, and what is well formed."""

from __future__ import annotations

import pytest

from stages.judging.parsed import SEARCH, parse_completion

T, S, R = "<think>t</think>", "<search>q a</search>", "<read>1</read>"
END = "<think>so</think> <confidence>7</confidence> <answer>red</answer>"
# text, think, answer, shown, confidence, actions, flaw
CASES = [
    (END, "so", "red", "7\nred", 7, (), None),
    (f"{T}{S}\n{T} {R}\n {END}\n", "t\nt\nso", "red", "q a\n1\n7\nred", 7, (("search", "q a"), ("read", "1")), None),
    (f"{T}{S}{END.replace('7', '10')}", "t\nso", "red", "q a\n10\nred", 10, (("search", "q a"),), None),
    (END.replace("7", "11"), "so", "red", "11\nred", None, (), "no turn of think and an action"),
    (END.replace("7", "0"), "so", "red", "0\nred", 0, (), None),
    (END.replace("red", " "), "so", "", "7", None, (), "the answer is empty"),
    (f"{S}{END}", "so", "red", "q a\n7\nred", None, (), "no turn of think and an action"),
    (f"{T}{S}", "t", "q a", "q a", None, (("search", "q a"),), "no answer"),
    (f"{END}{END}", "so\nso", "red", "7\nred\n7\nred", None, (), "no turn of think and an action"),
    (f"{END} more", "so", "red", "7\nred\nmore", None, (), "no turn of think and an action"),
    (f"{T}<answer>red</answer>", "t", "red", "red", None, (), "no turn of think and an action"),
    ("red", None, "red", "red", None, (), "no answer"),
    ("", None, "", "", None, (), "the completion is empty"),
]


@pytest.mark.parametrize("case", CASES, ids=[c[0][:60] for c in CASES])
def test_parts_of_a_completion_that_searches(case: tuple[object, ...]) -> None:
    text, think, answer, shown, sure, actions, flaw = case
    parsed = parse_completion(str(text), SEARCH)
    assert parsed.well_formed == (flaw is None), parsed.flaw
    assert str(flaw or "") in (parsed.flaw or "")
    assert (parsed.answer, parsed.shown, parsed.confidence, parsed.actions) == (answer, shown, sure, actions)
    if str(text).count("<think>") < 2 or flaw is None:
        assert parsed.think == think
