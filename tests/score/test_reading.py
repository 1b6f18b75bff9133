"""One reader before all rules: every wrapper around every kind of answer, and what must hold of any answer."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.score.answers.choices import choice_index
from stages.score.answers.match import match
from stages.score.answers.reading import read
from tests.score.made import group

OPTIONS = ["tall tree", "small house", "long river", "round stone"]
KINDS = {
    "text": ("text", "stone bridge", "wooden gate", []),
    "number": ("number", "37", "73", []),
    "number as text": ("text", "-12", "12", []),
    "decimal": ("number", "2.5", "5.2", []),
    "choice": ("choice", "C", "B", OPTIONS),
    "choice by text": ("choice", "C", "small house", OPTIONS),
    "choices": ("choices", "BD", "BC", OPTIONS),
    "yes": ("text", "yes", "no", []),
    "signs": ("text", "F#", "F", []),
    "math": ("math", r"\frac{3}{7}", r"\frac{7}{3}", []),
}
RIGHT = {"choice by text": "long river", "choices": "B, D"}
WRAPPERS = [
    "{}",
    "{}.",
    r"\boxed{{{}}}",
    r"\boxed {{{}}}",
    r"\fbox{{{}}}",
    r"So $\boxed{{{}}}$.",
    r"\[\boxed{{{}}}\]",
    r"\boxed{{\boxed{{{}}}}}",
    r"\boxed{{wrong}} is not it. \boxed{{{}}}",
    r"\boxed{{{}}} \boxed{{}}",
    r"\boxed{{\text{{{}}}}}",
    r"\boxed{{\mathbf{{{}}}}}",
    "$ {} $",
    r"\( {} \)",
    r"\[ {} \]",
    "**{}**",
    "`{}`",
    "```\n{}\n```",
    "<answer>{}</answer>",
    "<think>it may be 4 or (A) or no</think> <answer>{}</answer>",
    "<think>one</think> <think>two, (A)</think> \\boxed{{{}}}",
    "<description>an image of 9 things</description><think>hm</think><answer>{}</answer>",
    "Answer: {}",
    "**Answer:** {}",
    "**Answer: {}**",
    "### Final Answer\n{}",
    "The final answer is {}.",
    "The answer is: **{}**",
    "We look at all of it first.\n\nThe answer is\n\n{}",
    "The answer is {} (see step 3).",
    "【答案】{}",
    "答案：{}",
    "答案是{}。",
    "答えは{}",
    "정답: {}",
    "La respuesta es {}",
    "Die Antwort lautet: {}",
    "La réponse est {}",
]


@pytest.mark.parametrize("name", KINDS)
def test_every_wrapper_of_every_kind(name: str) -> None:
    kind, gold, other, options = KINDS[name]
    row = group(answer=gold, answer_kind=kind, choices=options)
    # `\text{...}` and `\mathbf{...}` set words, and no mathematics.
    wrappers = [w for w in WRAPPERS if name != "math" or not any(s in w for s in ("text", "mathbf", "`"))]
    wrong = []
    for wrapper in wrappers:
        if match(row, wrapper.format(RIGHT.get(name, gold))).right is not True:
            wrong.append(("not right", wrapper))
        if match(row, wrapper.format(other)).right is not False:
            wrong.append(("not wrong", wrapper))
    assert not wrong


@given(st.permutations(["A", "B", "C", "D"]), st.sampled_from([", ", " or ", "/", " and ", "\n"]))
def test_a_listing_of_all_options_is_never_right(letters: list[str], joint: str) -> None:
    for shown in (letters, [OPTIONS[ord(c) - 65] for c in letters], [f"({c})" for c in letters]):
        assert choice_index(joint.join(shown), OPTIONS) is None or joint == "\n"
    for gold in letters:
        row = group(answer=gold, answer_kind="choice", choices=OPTIONS)
        assert not match(row, joint.join(f"({c})" for c in letters)).right or joint == "\n"


@given(st.integers(-(10**9), 10**9), st.integers(-(10**9), 10**9), st.sampled_from(WRAPPERS[2:9]))
def test_a_number_is_the_number_and_no_other(n: int, other: int, wrapper: str) -> None:
    for kind in ("number", "text"):
        row = group(answer=str(n), answer_kind=kind)
        assert match(row, wrapper.format(other)).right is (n == other)


@settings(max_examples=50)
@given(st.text(max_size=60))
def test_reading_reads_its_own_output_alike(text: str) -> None:
    """What is read off a box is not read again as something else."""
    final = read(text).final
    assert read(f"<answer>{final}</answer>").final in (final, read(final).final) or "<" in text


@pytest.mark.parametrize(
    ("rule", "gold", "answer", "right", "value"),
    [
        ('{"relative": 0.05}', "100", "104", True, 1.0),
        ('{"relative": 0.05}', "100", "106", False, 0.0),
        ('{"absolute": 0.5}', "10", "10.4", True, 1.0),
        (None, "100", "104", False, 0.0),
    ],
)
def test_a_row_says_how_exact_a_number_must_be(
    rule: str | None, gold: str, answer: str, right: bool, value: float
) -> None:
    found = match(group(answer=gold, answer_kind="number", answer_rule=rule), answer)
    assert (found.right, found.value) == (right, value)


def test_partial_credit_is_the_rows_rule() -> None:
    exact = group(answer="ACD", answer_kind="choices", choices=OPTIONS)
    part = group(answer="ACD", answer_kind="choices", choices=OPTIONS, answer_rule='{"partial": 0.5}')
    for answer, of_exact, of_part in (("ACD", 1.0, 1.0), ("A, C", 0.0, 0.5), ("A, B", 0.0, 0.0), ("ABCD", 0.0, 0.0)):
        assert (match(exact, answer).value, match(part, answer).value) == (of_exact, of_part)


def test_any_of_several_references_is_right() -> None:
    row = group(answer="car", answer_kind="text", accepted=["automobile", "motor car"])
    assert [match(row, said).right for said in ("car", "Automobile.", "a motor car", "bus")] == [
        True,
        True,
        True,
        False,
    ]


def test_a_reference_that_is_no_option_is_undecided_and_never_silently_wrong() -> None:
    row = group(answer="9", answer_kind="choice", choices=["cat", "dog"])
    assert match(row, "(A)").right is None


@pytest.mark.parametrize(
    ("said", "reference"), list(itertools.product(["It is blue and large.", "blue thing"], ["thing"]))
)
def test_free_text_among_other_words_is_undecided(said: str, reference: str) -> None:
    row = group(answer=reference, answer_kind="text", question="what is it ?")
    assert match(row, said).right is (None if reference in said else False)
