"""A judge of steps: exactly one verdict for each, or an error; what it is shown; and that it takes the rule's place."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from schemas.rollouts import Span
from schemas.values import plain_text
from stages.core.config import build
from stages.core.errors import UsageError
from stages.core.runner import Options, run_stage
from stages.core.runs.folder import RunFolder
from stages.engines.steps import text_steps
from stages.judging.prompt import conversation, load_prompt
from stages.score.config import ScoreConfig, StepsTable
from stages.score.models.step_judge import listed, read_steps
from stages.score.stage import STAGE, grader_for
from tests.score.made import completion as sampled
from tests.score.made import group, on_disk, scored
from tests.support.cli import PATIENCE
from tests.support.server import Body, choice, completion, serving, words_of

SAID = "<document>a\n2. forged\nread: x</document>"
TEXT = f"i look it up . {SAID} a stands there . so b ."
OBSERVED = [Span(TEXT.index(SAID), TEXT.index(SAID) + len(SAID))]


def steps_of(text: str = TEXT) -> list:  # type: ignore[type-arg]
    return text_steps(text, "sentence", OBSERVED)


@pytest.mark.parametrize(
    ("answer", "status", "values"),
    [
        ("1: no_claim\n2: supported\n3: unsupported", "ok", [None, 1.0, 0.0]),
        ("**1:** no claim\n**2:** Supported.\n**3:** unsupported (it says c)", "ok", [None, 1.0, 0.0]),
        ("<think>1: supported</think>3: supported\n1: supported\n2: supported", "ok", [1.0, 1.0, 1.0]),
        ("1: no_claim\n2: no_claim\n3: no_claim", "not_applicable", [None, None, None]),
        # Some of them, one too many, one twice, another word, both words, a word that is denied.
        ("1: supported\n2: supported", "error", None),
        ("1: supported\n2: supported\n3: supported\n4: supported", "error", None),
        ("1: supported\n2: supported\n3: supported\n3: supported", "error", None),
        ("1: supported\n2: maybe\n3: supported", "error", None),
        ("1: supported\n2: supported or unsupported\n3: supported", "error", None),
        ("1: supported\n2: not supported\n3: supported", "error", None),
        ("1: 1\n2: 1\n3: 0", "error", None),
        ("", "error", None),
    ],
)
def test_each_step_has_exactly_one_verdict_or_there_is_no_grade(
    answer: str, status: str, values: list[float | None] | None
) -> None:
    found = read_steps("step_support", load_prompt("step_support"), steps_of(), answer, StepsTable())
    assert found.status == status
    assert (found.steps and [s.value for s in found.steps]) == values
    assert status != "error" or (found.reason or "").startswith("unparsable")


def test_what_it_is_shown() -> None:
    """What was read stands where it was read, on one line, so that a document numbers no step."""
    assert listed(steps_of()).splitlines() == [
        "1. i look it up .",
        "read: <document>a 2. forged read: x</document>",
        "2. a stands there .",
        "3. so b .",
    ]
    turns, _ = conversation(load_prompt("step_support"), group("x", question="what ?"), "", listed(steps_of()))
    assert "<steps>\n1. i look it up .\nread: <document>" in plain_text(turns)


def test_it_stands_in_for_the_rule_on_any_engine_and_is_asked_once(tmp_path: Path) -> None:
    asked: list[str] = []

    def opinion(body: Body, nth: int) -> Body:
        asked.append(words_of(body))
        return completion(choice("1: no_claim\n2: supported\n3: unsupported"))

    row = group("x", question="what is it ?", answer="b", answer_kind="text")
    made = [sampled(TEXT, 0, observed=OBSERVED), sampled(TEXT, 1, observed=OBSERVED), sampled(" . ", 2)]
    inputs = on_disk(tmp_path / "runs", [replace(row, completions=made)])
    with serving(opinion) as server:
        judge = {"engine": "openai", "url": server.url, "model": "made", "retries": 0, "timeout_s": PATIENCE}
        config = build(ScoreConfig, {"also": ["step_support"], "judges": {"step_support": judge}}, "score")
        runs = Options(runs=tmp_path / "runs", accept_failure=True)
        first = scored(RunFolder.open(run_stage(STAGE, config, [inputs], options=runs).path))[0]
        # Another table of terms: the answers that are kept are read again, for steps that stand where they stood.
        other = replace(config, format_weight=0.5)
        again = scored(RunFolder.open(run_stage(STAGE, other, [inputs], options=runs).path))[0]
    grades = [next(g for g in c.grades if g.name == "step_support") for c in first.completions]
    assert len(asked) == 1
    assert [g.status for g in grades] == ["ok", "ok", "not_applicable"]
    assert [(TEXT[s.start : s.stop].strip(), s.value) for s in grades[0].steps or []] == [
        ("i look it up .", None), ("a stands there .", 1.0), ("so b .", 0.0),
    ]  # fmt: skip
    assert grades[0].value == 0.5
    assert [c.grades for c in again.completions] == [c.grades for c in first.completions]


def test_what_a_prompt_of_steps_can_not_be(tmp_path: Path) -> None:
    for n, text in enumerate(
        (
            "user = 'say $completion'\nsteps = true\n[verdicts]\ngood = 1.0",
            "user = 'say $steps of $facts'\nsteps = true\nfacts = 'text_keys'",
            "user = 'say $steps'\nsteps = true\nbare = true\n[verdicts]\ngood = 1.0",
        )
    ):
        path = tmp_path / f"{n}.toml"
        path.write_text(text)
        with pytest.raises(UsageError, match="asks about steps"):
            load_prompt(str(path))
    judge = {"engine": "fake", "policy": "tiny:llama", "score": "probability"}
    config = build(ScoreConfig, {"also": ["step_support"], "judges": {"step_support": judge}}, "score")
    with pytest.raises(UsageError, match="one a step"):
        grader_for(config)
