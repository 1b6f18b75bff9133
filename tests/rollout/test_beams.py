"""Beams and lookahead on a tree that is known whole: what is kept, what is logged, and by hand what it is worth."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from schemas.rollouts import FinishReason, GuidedStep, Sampling
from stages.core.errors import UsageError
from stages.engines.base import SampledCompletion, SampleRequest
from stages.engines.fake import FakeEngine
from stages.engines.stop_strings import StopStrings
from stages.rollout.methods.base import Asked, DrawnGroup
from stages.rollout.methods.guide_table import GuideTable
from stages.rollout.methods.guided import Guide
from stages.rollout.methods.values import Values
from tests.score.made import group

_EOS = 256
# What is said behind each text, by candidate; the first is the likeliest. Behind all others it ends.
TREE = {"": ["a.", "b.", "c."], "a.": ["x.", "w."], "b.": ["y.", "z."], "c.": ["u."]}
# `a` looks best and comes to nothing, `b` looks worse and comes to most.
VALUES = {"a.": 0.9, "b.": 0.6, "c.": 0.2, "a.x.": 0.1, "a.w.": 0.2, "b.y.": 0.8, "b.z.": 0.9, "c.u.": 0.3}


class Tree(FakeEngine):
    """Says what the tree has; K candidates of one completion a group."""

    def __init__(self, k: int, fails: str = "") -> None:
        super().__init__()
        self.k, self.fails, self.greedy, self.tokens = k, fails, 0, 0

    def sample(
        self, requests: Iterable[SampleRequest], sampling: Sampling
    ) -> Iterator[tuple[str, list[SampledCompletion]]]:
        for request in requests:
            yield request.id, [self._said(request, index, sampling) for index in range(request.n)]

    def _said(self, request: SampleRequest, index: int, sampling: Sampling) -> SampledCompletion:
        prefix, limit = request.prefix(index), request.limit(index, sampling.max_new_tokens)
        if not limit:
            return SampledCompletion([], [], FinishReason.LENGTH)
        text = self.decode(list(prefix))
        if self.fails and text == self.fails:
            return SampledCompletion.failed("out of memory")
        self.greedy += sampling.temperature == 0
        ids, choice = list(text.encode()), 0 if sampling.temperature == 0 else index % self.k
        while (more := TREE.get(self.decode(ids))) is not None:
            ids += more[choice % len(more)].encode()
        ids = [*ids, _EOS][len(prefix) :]
        reason = FinishReason.STOP if len(ids) <= limit else FinishReason.LENGTH
        sampled = SampledCompletion(ids[:limit], [-0.5] * len(ids[:limit]), reason)
        found = StopStrings(sampling.stop, self.decode).cut(prefix, sampled)
        self.tokens += len(found.token_ids)
        return found


class Known(Values):
    """The tree's values; of a text that is not whole, the value of the step that it begins."""

    dimensions = ["known"]  # noqa: RUF012

    def weights(self, asked: Any) -> list[float]:
        return [1.0]

    def of(self, asked: Any, prefix: list[int], candidates: list[list[int]]) -> list[list[float]]:
        texts = [bytes(i for i in [*prefix, *ids] if i < _EOS).decode() for ids in candidates]
        return [[VALUES.get(text, VALUES.get(f"{text}.", 0.0))] for text in texts]


def guided(fails: str = "", new: int = 20, **table: Any) -> tuple[DrawnGroup, Tree]:
    guide = GuideTable(values="known", **table)
    row, engine = group("x"), Tree(guide.k, fails)
    request = SampleRequest("p", [1], {}, 1, row.messages, [])
    sampling = Sampling(1.0, 1.0, 0, new, 0)
    (drawn,) = Guide(guide, Known(), engine, sampling).draw([Asked(row, request)])
    return drawn, engine


def text(drawn: DrawnGroup) -> str:
    return bytes(i for i in drawn.completions[0].token_ids if i < _EOS).decode()


def said(step: GuidedStep) -> list[str]:
    return [bytes(i for i in c.token_ids if i < _EOS).decode() for c in step.candidates]


def test_a_second_beam_keeps_what_looks_worse_at_first() -> None:
    assert text(guided(k=3)[0]) == "a.w."
    drawn, _ = guided(k=3, beams=2)
    assert text(drawn) == "b.z."
    assert drawn.completions[0].guided
    assert drawn.completions[0].finish_reason == FinishReason.STOP
    first, *second = [row for row in drawn.rows if row.step < 2]
    assert (said(first), first.chosen, first.beam) == (["a.", "b.", "c."], 0, 0)
    assert [(c.beam, c.cumulative) for c in first.candidates] == [(0, 0.9), (1, 0.6), (None, 0.2)]
    # By hand: a.x .5, a.w .55; b.y .7, b.z .75. Candidate 2 repeats candidate 0, and counts once.
    assert [(row.beam, said(row), row.chosen) for row in second] == [
        (0, ["x.", "w.", "x."], -1), (1, ["y.", "z.", "y."], 1),
    ]  # fmt: skip
    assert [c.cumulative for row in second for c in row.candidates] == [
        pytest.approx(v, abs=1e-12) for v in (0.5, 0.55, 0.5, 0.7, 0.75, 0.7)
    ]
    assert [c.beam for row in second for c in row.candidates] == [None, None, None, 1, 0, None]
    # Every choice stands in the table: two beams, of which the better one is read first.
    assert [(row.step, row.beam, row.from_token) for row in drawn.rows] == [
        (0, 0, 0), (1, 0, 2), (1, 1, 2), (2, 0, 4), (2, 1, 4),
    ]  # fmt: skip


def test_beams_are_of_different_tokens_and_by_all_of_their_choices() -> None:
    """By hand: b.z .75, b.y .7 (twice, one beam), a.w .55; by the last choice alone c.u, .3 to .2."""
    drawn, _ = guided(k=3, beams=3)
    second = [row for row in drawn.rows if row.step == 1]
    kept = {c.beam: said(row)[at] for row in second for at, c in enumerate(row.candidates) if c.beam is not None}
    assert kept == {0: "z.", 1: "y.", 2: "w."}


@pytest.mark.parametrize(
    ("unit", "ahead", "behind"),
    [
        ("step", 1, ["x.", "y.", "u."]),
        ("token", 1, ["x", "y", "u"]),
        ("token", 2, ["x.", "y.", "u."]),
        ("step", 5, ["x.", "y.", "u."]),
    ],
)
def test_a_look_ahead_sees_where_a_step_leads(unit: str, ahead: int, behind: list[str]) -> None:
    """The likeliest way on: a.x is worth .1, b.y .8, c.u .3; what was seen is dropped, and counted."""
    drawn, engine = guided(k=3, lookahead=ahead, lookahead_unit=unit)
    assert text(drawn) == "b.z."
    first = drawn.rows[0]
    assert [bytes(i for i in c.ahead if i < _EOS).decode() for c in first.candidates] == behind
    assert [c.values for c in first.candidates] == [[0.1], [0.8], [0.3]]
    assert (first.chosen, first.candidates[0].beam, first.candidates[0].cumulative) == (1, None, None)
    assert engine.greedy
    assert engine.tokens == sum(len(c.token_ids) + len(c.ahead) for row in drawn.rows for c in row.candidates)


def test_nothing_is_looked_at_beyond_the_longest_completion() -> None:
    drawn, _ = guided(k=3, lookahead=3, new=3)
    assert [len(c.ahead) for c in drawn.rows[0].candidates] == [1, 1, 1]
    assert len(drawn.completions[0].token_ids) == 3
    assert drawn.completions[0].finish_reason == FinishReason.LENGTH


def test_a_beam_that_fails_is_given_up_and_the_last_one_is_the_error() -> None:
    assert text(guided(k=3, beams=2, fails="b.")[0]) == "a.w."
    failed, _ = guided(k=3, beams=2, fails="")
    assert failed.completions[0].error is None
    alone, _ = guided(k=3, fails="a.")
    assert (alone.completions[0].error, alone.completions[0].finish_reason) == ("out of memory", FinishReason.ERROR)


def test_random_beams_are_drawn_by_name() -> None:
    one = guided(k=3, beams=2, pick="random")[0]
    assert guided(k=3, beams=2, pick="random")[0].rows == one.rows
    kept = [c.beam for c in one.rows[0].candidates]
    assert sorted(b for b in kept if b is not None) == [0, 1]


def test_what_beams_and_lookahead_need() -> None:
    with pytest.raises(UsageError, match="one continuation each"):
        GuideTable(values="x", beams=2)
    with pytest.raises(UsageError, match="nothing is judged"):
        GuideTable(k=2, pick="random", lookahead=1)
