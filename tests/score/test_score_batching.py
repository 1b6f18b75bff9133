"""Verifiers that need a model: asked about windows of groups, and only about what lacks their grade."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pytest

from schemas.rollouts import RolloutGroup, Sampling
from schemas.scored import Grade, ScoredGroup, grade_of
from stages.core.errors import InputError
from stages.core.registry import load
from stages.core.stage import Context, Resources, Silent
from stages.engines.base import SampledCompletion, SampleRequest
from stages.engines.fake import FakeEngine, FakePlugin
from stages.score.config import JudgeTable, RewardTable, ScoreConfig
from stages.score.grading import Grader
from stages.score.models.batching import open_models, with_model_grades
from stages.score.models.judge import bind
from stages.score.rewards import resolve
from stages.score.verifiers.base import Judgement, ModelVerifier, Ungraded, does_not_apply, judged
from tests.score.made import completion, group, thought

CONTEXT = Context(ScoreConfig(), [], Silent(), Resources())


class Counting:
    """Grades by length; raises where it is told to."""

    def __init__(self, **identity: Any) -> None:
        self.windows: list[list[int]] = []
        self.verifier = ModelVerifier("length", {"rule": 1, **identity}, lambda ctx: self.grade_groups)

    def grade_groups(self, window: Sequence[Ungraded]) -> list[list[Judgement]]:
        self.windows.append([len(w.completions) for w in window])
        if any("trouble" in c.text for w in window for c in w.completions):
            raise RuntimeError("no luck\nat all")
        if any("unreadable" in c.text for w in window for c in w.completions):
            raise InputError("the model is gone")
        if any("short" in c.text for w in window for c in w.completions):
            return [[]]
        return [
            [does_not_apply("long") if len(c.text) > 99 else judged(float(len(c.text)), "long") for c in w.completions]
            for w in window
        ]

    def grader(self, **more: Any) -> Grader:
        formulas = resolve(ScoreConfig(rewards={"general": RewardTable(terms={"refusal": 1.0})}))
        verifiers = {n: load("verifier", n) for n in ("format", "refusal", "safety")} | {"length": self.verifier}
        return Grader(formulas, verifiers, ("length",), **more)

    def run(self, rows: Iterable[RolloutGroup], size: int, **more: Any) -> list[ScoredGroup]:
        grader = self.grader(**more)
        opened = open_models(grader, CONTEXT)
        return [grader.group(g, given) for g, given in with_model_grades(grader, opened, rows, size)]


def lengths(rows: list[ScoredGroup]) -> list[float | None]:
    return [grade.value for row in rows for c in row.completions if (grade := grade_of(c, "length"))]


ROWS = [group(*["x" * (n + k) for k in range(3)], question=f"{n} ?", label="safety", harmful=True) for n in range(7)]


@pytest.mark.parametrize(("size", "windows"), [(1, 7), (3, 3), (50, 1)])
def test_windows_change_nothing(size: int, windows: int) -> None:
    model = Counting()
    done = model.run(iter(ROWS), size)
    assert len(model.windows) == windows
    assert sum(map(sum, model.windows)) == 21
    assert lengths(done) == [float(n + k) for n in range(7) for k in range(3)]
    assert [g.id for g in done] == [g.id for g in ROWS]
    assert done == Counting().run(ROWS, 50)


def test_little_is_read_ahead() -> None:
    taken = []

    def rows() -> Iterator[RolloutGroup]:
        for row in ROWS:
            taken.append(row)
            yield row

    grader = Counting().grader()
    pairs = with_model_grades(grader, open_models(grader, CONTEXT), rows(), 2)
    next(pairs)
    assert len(taken) == 2


def test_what_it_raises_is_the_grade_of_that_window() -> None:
    rows = [group("fine", question="a ?"), group("trouble", "fine", question="b ?"), group("short", question="c ?")]
    first, second, third = Counting().run(rows, 1)
    assert lengths([first]) == [4.0]
    for row, reason in ((second, "RuntimeError: no luck at all"), (third, "did not answer for each completion")):
        for sample in row.completions:
            found = grade_of(sample, "length")
            assert found is not None
            assert (found.value, found.status) == (None, "error")
            assert reason in (found.reason or "")
            assert sample.reward is not None  # a verifier beside the formula costs no reward
    with pytest.raises(InputError, match="gone"):
        Counting().run([group("unreadable")], 1)


def test_only_completions_that_lack_the_grade_are_asked_about() -> None:
    lost = completion("", 3, finish_reason="error", error="lost", token_ids=[], logprobs=[])
    row = group("a", "bb", "trouble", question="a ?")
    row.completions.append(lost)
    (once,) = Counting().run([row], 1)
    statuses = [grade_of(c, "length").status for c in once.completions]  # type: ignore[union-attr]
    assert statuses == ["error"] * 4
    settled = [group("a", "bb", "y" * 120, question="a ?")]
    settled = list(Counting().run(settled, 1))
    again, other = Counting(), Counting(model="another")
    assert again.run(settled, 1) == settled
    assert again.windows == []
    other.run(settled, 1)
    assert other.windows == [[3]]
    anew = Counting()
    anew.run(settled, 1, regrade=True)
    assert anew.windows == [[3]]
    retried = Counting()
    retried.run([once], 1)
    assert retried.windows == [[3]]


class Says(FakeEngine):
    """Says one thing, a byte a token, each byte less likely than the one before."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.said = text.encode()
        self.logprobs = [-n / 1000 for n in range(len(self.said))]

    def sample(
        self, requests: Iterable[SampleRequest], sampling: Sampling
    ) -> Iterator[tuple[str, list[SampledCompletion]]]:
        for request in requests:
            yield request.id, [SampledCompletion(list(self.said), list(self.logprobs), "stop")]


@pytest.mark.parametrize(
    "text", ["Verdict: good", "nice \u2713 na\u00efve \U0001f600\nVerdict: good", "Verdict: good.\n\u2713"]
)
def test_a_verdicts_tokens_are_found_where_tokens_are_parts_of_characters(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Says(text)
    monkeypatch.setattr(FakePlugin, "open", lambda *_: engine)
    grade_groups = bind("value", JudgeTable(engine="fake", score="probability")).open(CONTEXT)
    ((judgement,),) = grade_groups([Ungraded(row := group(thought("yes"), label="value"), row.completions)])
    at = engine.said.index(b"good")
    assert judgement.verdict == "good"
    assert judgement.value == pytest.approx(math.exp(sum(engine.logprobs[at : at + 4])), abs=1e-6)
    assert isinstance(judgement, Judgement)
    assert not isinstance(judgement, Grade)
