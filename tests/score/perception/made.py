"""Completions in the layout describe, graded by one verifier."""

from __future__ import annotations

from typing import Any

from schemas.arrow import hints
from schemas.prompts import PromptRow
from schemas.rollouts import RolloutGroup
from schemas.scored import Grade
from schemas.values import Image
from stages.core.config import build
from stages.judging.parsed import DESCRIBE, parse_completion
from stages.score.config import ScoreConfig
from stages.score.verifiers.load import load_verifier
from stages.world.case import Case
from tests.score.made import completion, group

IMAGE = [Image(b"png")]


def described(description: str, think: str = "so", answer: str = "4") -> str:
    return f"<description> {description} </description> <think> {think} </think> <answer> {answer} </answer>"


def graded(
    verifier: str, text: str, row: RolloutGroup | dict[str, Any], layout: str = DESCRIBE, settings: Any = None
) -> Grade:
    """The grade of a raw completion to a row, or to one made of these fields; `settings` are ScoreConfig's."""
    given = row if isinstance(row, RolloutGroup) else group(text, **{"images": IMAGE, **row})
    bound = load_verifier(verifier, build(ScoreConfig, settings or {}, "score"))
    return bound.grade(given, completion(text), parse_completion(text, layout))


def group_of(case: Case) -> RolloutGroup:
    """A case's row, with a stand-in for its image: no verifier of these looks at it."""
    row = case.row("train", 28, None)
    return RolloutGroup(**{name: getattr(row, name) for name in hints(PromptRow)})
