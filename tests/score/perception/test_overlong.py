"""overlong: DAPO's three pieces, and where its limits come from."""

from __future__ import annotations

import pytest

from schemas.rollouts import Sampling
from stages.core.config import build
from stages.judging.parsed import parse_completion
from stages.score.config import ScoreConfig
from stages.score.verifiers.load import load_verifier
from tests.score.made import completion, group


def overlong(tokens: int, settings: dict[str, int] | None = None, most: int = 100):
    bound = load_verifier("overlong", build(ScoreConfig, {"overlong": settings or {}}, "score"))
    done = completion("x", token_ids=[1] * tokens, logprobs=[0.0] * tokens, sampling=Sampling(1.0, 1.0, 0, most, 0))
    return bound.grade(group("x"), done, parse_completion("x"))


@pytest.mark.parametrize(
    ("tokens", "expected"), [(1, 0.0), (80, 0.0), (81, -0.05), (90, -0.5), (99, -0.95), (100, -1.0), (140, -1.0)]
)
def test_it_falls_from_0_to_minus_1_over_the_buffer(tokens, expected):
    assert overlong(tokens).value == pytest.approx(expected)


def test_what_an_environment_wrote_makes_no_completion_too_long():
    bound = load_verifier("overlong", build(ScoreConfig, {}, "score"))
    told = Sampling(1.0, 1.0, 0, 100, 0)
    ids = {"token_ids": [1] * 140, "logprobs": [0.0] * 140, "sampling": told}
    grades = [
        bound.grade(group("x"), completion("x", **ids, generated=generated), parse_completion("x"))
        for generated in ([True] * 60 + [False] * 80, [True] * 90 + [False] * 50, [False] * 140)
    ]
    assert [g.value for g in grades] == [0.0, pytest.approx(-0.5), None]


def test_limits_are_settings_and_without_ids_it_does_not_apply():
    limits = {"longest": 50, "buffer": 20}
    assert [overlong(n, limits).value for n in (30, 40, 50)] == [0.0, -0.5, -1.0]
    assert overlong(30, limits).version != overlong(30).version
    assert overlong(0).status == "not_applicable"
