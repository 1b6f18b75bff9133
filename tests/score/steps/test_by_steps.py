"""What grades of steps make together, where they stand in the row, and a verifier of steps from outside."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from schemas.prompts import PromptRow
from schemas.rollouts import Span
from schemas.scored import Grade, ScoredGroup
from stages.engines.steps import STEP_ENDS, step_ends, text_steps
from stages.score.config import RewardTable, StepsTable
from stages.score.verifiers.base import Judgement, does_not_apply, failed, judged
from stages.score.verifiers.by_steps import of_steps
from tests.score.made import completion, grader, group, on_disk, score, scored

TEXT = "<think> there are 4 stars . there are 5 hearts . let me see . </think> 4"
KNOWN = {"facts": ["there are 4 stars", "there are 2 hearts"], "key_facts": ["there are 4 stars"], "answer": "4"}


@pytest.mark.parametrize("step", list(STEP_ENDS))
def test_a_text_is_split_where_guided_sampling_would_split_it_letter_by_letter(step: str) -> None:
    text = "<think> one . two !\nthree\n</think> <search>q 1.5</search><answer>ja。nein</answer> ."
    ends = step_ends(list(map(ord, text)), lambda ids: "".join(map(chr, ids)), step)
    whole = [text[a:b] for a, b in zip([0, *ends], ends, strict=False)]
    # Pieces without a word are no step of a text.
    assert [s.text for s in text_steps(text, step)] == [p for p in whole if p.strip(" .!\n") not in ("", "</think>")]
    assert all(text[s.start : s.stop] == s.text for s in text_steps(text, step))


def test_what_an_environment_wrote_is_in_no_step_and_known_to_the_later_ones() -> None:
    text = "a . b <r>c . d</r> e . <r>f</r> g"
    steps = text_steps(text, "sentence", [Span(6, 18), Span(23, 31)])
    assert [(s.text.strip(), s.read) for s in steps] == [
        ("a .", ()), ("b", ()), ("e .", ("<r>c . d</r>",)), ("g", ("<r>c . d</r>", "<r>f</r>")),
    ]  # fmt: skip
    assert all(text[s.start : s.stop] == s.text for s in steps)


@pytest.mark.parametrize(
    ("values", "share", "lowest", "verdict"),
    [
        ([1.0, None, 0.0, 1.0], 2 / 3, 0.0, "partly"),
        ([1.0, None, 1.0, None], 1.0, 1.0, "supported"),
        ([0.0, 0.0, None, None], 0.0, 0.0, "unsupported"),
        ([0.5, 1.0, 1.0, 0.25], 2.75 / 4, 0.25, "partly"),
        ([None] * 4, None, None, None),
    ],
)
def test_the_value_of_steps(
    values: list[float | None], share: float | None, lowest: float | None, verdict: str | None
) -> None:
    steps = text_steps("a . b . c . d .", "sentence")
    given = [does_not_apply("nothing") if v is None else judged(v, "made") for v in values]
    for name, expected in (("share", share), ("lowest", lowest)):
        found = of_steps("made", steps, given, StepsTable(value=name))
        assert found.value == (expected if expected is None else pytest.approx(expected, abs=1e-12))
        assert found.verdict == verdict
        assert [s.value for s in found.steps or []] == values


def test_a_step_without_a_grade_or_with_a_failed_one_is_no_mean_of_the_others() -> None:
    steps = text_steps("a . b .", "sentence")
    found = of_steps("made", steps, [judged(1.0, "x"), failed("no answer")], StepsTable())
    assert (found.status, found.value, found.steps) == ("error", None, None)
    with pytest.raises(ValueError, match="1 judgements of 2 steps"):
        of_steps("made", steps, [judged(1.0, "x")], StepsTable())
    with pytest.raises(ValueError, match="finite"):
        of_steps("made", steps, [judged(1.0, "x"), judged(float("nan"), "x")], StepsTable())


def of(row: ScoredGroup, index: int = 0, name: str = "step_support") -> Grade:
    return next(g for g in row.completions[index].grades if g.name == name)


def test_the_share_is_a_term_of_a_gated_reward_and_the_steps_come_back_from_disk(tmp_path: Path) -> None:
    formula = RewardTable(terms={"answer": 0.5, "step_support": 0.5}, combine="gated")
    rows = [group(TEXT, TEXT.replace("<think>", ""), question="how many stars ?", **KNOWN)]
    folder = score(tmp_path / "runs", on_disk(tmp_path / "runs", rows), rewards={"general": formula})
    (row,) = scored(folder)
    found = of(row)
    assert [TEXT[s.start : s.stop].strip() for s in found.steps or []] == [
        "<think> there are 4 stars .", "there are 5 hearts .", "let me see .", "</think> 4",
    ]  # fmt: skip
    assert [(s.value, s.verdict) for s in found.steps or []] == [
        (1.0, "supported"), (0.0, "unsupported"), (None, None), (1.0, "supported"),
    ]  # fmt: skip
    assert found.value == pytest.approx(2 / 3)
    assert row.completions[0].reward == pytest.approx(1.0 + 0.5 + 0.5 * 2 / 3)
    assert row.completions[1].reward == 0.0, "without its form it earns nothing"
    assert next(g for g in row.completions[0].grades if g.name == "answer").steps is None
    # Alone it is no reward: it says how a completion comes to its answer, and not whether.
    alone = grader(rewards={"general": RewardTable(terms={"answer": 1.0, "step_support": 1.0})})
    assert alone.group(replace(rows[0], answer=None)).completions[0].reward is None


def test_settings_are_another_version() -> None:
    row = group(TEXT, question="how many stars ?", **KNOWN)
    kept = [
        of(grader(also=["step_support"], steps=StepsTable(**settings)).group(row))
        for settings in ({}, {"value": "lowest"}, {"split": "line"})
    ]
    assert kept[0].version == 1
    assert len({grade.version for grade in kept}) == 3
    assert [grade.value for grade in kept] == [pytest.approx(2 / 3), 0.0, 0.0]
    assert len(kept[2].steps or []) == 1


def test_a_file_of_ones_own_grades_steps_as_the_built_in_one_does(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        "from stages.score.verifiers.base import judged\n"
        "from stages.score.verifiers.by_steps import by_steps\n"
        "def judge(row, steps):\n"
        "    return [judged(float('star' in s.text), str(len(s.read))) for s in steps]\n"
        "starry = by_steps(1, judge)\n"
    )
    row = group("a star . a heart", question="what is there ?")
    first, said = "a star . <search>x</search>", "<results>a star</results>"
    made = [completion(f"{first}{said} a heart", observed=[Span(len(first), len(first) + len(said))])]
    config = grader(also=[f"{path}:starry"])
    found = of(config.group(replace(row, completions=made)), name="starry")
    assert [(s.value, s.verdict) for s in found.steps or []] == [(1.0, "0"), (0.0, "0"), (0.0, "1")]
    assert found.value == pytest.approx(1 / 3)


def test_what_a_file_raises_is_an_error_grade() -> None:
    def judge(row: PromptRow, steps: object) -> list[Judgement]:
        raise LookupError("nothing there")

    from stages.judging.parsed import parse_completion
    from stages.score.verifiers.by_steps import by_steps

    row = group(TEXT)
    found = by_steps(1, judge).grade(row, row.completions[0], parse_completion(TEXT))
    assert (found.status, found.value) == ("error", None)
