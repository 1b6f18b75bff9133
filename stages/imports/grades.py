"""What people and other tools thought of a completion, as grades."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from schemas.rollouts import Completion
from schemas.scored import OK, Grade, ScoredCompletion, Term
from schemas.values import finite_number
from stages.imports.config import ImportConfig
from stages.imports.layouts import PREFERENCE

_WORTH = {"correct": 1.0, "incorrect": 0.0, "partial": 0.5, "no_answer": 0.0, "true": 1.0, "false": 0.0}
"""What verdicts are worth that say so themselves."""


def scored(completion: Completion, verdicts: Mapping[str, Any], config: ImportConfig) -> ScoredCompletion:
    """The completion with a grade for each verdict, and the reward that one of them is."""
    named = ((name, _grade(name, value, config)) for name, value in verdicts.items())
    grades = [grade for _, grade in named if grade is not None]
    reward = next((g.value for g in grades if g.name == (config.reward or PREFERENCE)), None)
    return ScoredCompletion(
        **{name: getattr(completion, name) for name in Completion.__dataclass_fields__},
        grades=grades,
        terms=[] if reward is None else [Term(config.reward or PREFERENCE, 1.0, reward)],
        reward=reward,
    )


def formula(config: ImportConfig) -> str:
    """The reward formula of scored groups, in the words of `cosmo score`."""
    return f"sum: {config.reward or PREFERENCE}*1"


def _grade(name: str, value: Any, config: ImportConfig) -> Grade | None:
    """The grade; None for what is no verdict: an object of figures, a list, a number that is none."""
    if isinstance(value, bool):
        value = "true" if value else "false"
    if isinstance(value, int | float):
        if not math.isfinite(value):
            return None
        # A whole number may be a class (1 to 5, or the third of seven); 0.8337 is only a value.
        text = str(int(value)) if float(value).is_integer() else None
        verdict = config.verdicts.get(text, text) if text is not None else None
        worth: float | None = config.values.get(verdict or "", float(value))
    elif isinstance(value, str) and value.strip():
        text = value.strip()
        verdict = config.verdicts.get(text, text)
        number = finite_number(text)
        worth = config.values.get(verdict, _WORTH.get(verdict.lower(), number))
        # 0.5 as a text, which is all that CSV has, is a value as well and no class.
        if number is not None and not number.is_integer() and verdict == text:
            verdict = ""
    else:
        return None
    return Grade(name=name, version=1, value=worth, status=OK, verdict=verdict or None)
