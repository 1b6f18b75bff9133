"""Checkable instructions: a JSON object `{"kind": ..., ...}` and a rule for its kind.

A rule is a function of the answer and the object's other keys; it returns whether the answer obeys.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from stages.score.rules.instructions import builtin as plain
from stages.score.rules.instructions import ifeval

Rule = Callable[..., bool]
RULES: dict[str, Rule] = plain.RULES | ifeval.RULES


@lru_cache(maxsize=8192)
def _parsed(instruction: str) -> tuple[str, dict[str, Any]]:
    given = json.loads(instruction)
    kind = given.pop("kind")
    # IFEval's files give every kind the same keys, null where one does not apply.
    return kind, {k: v for k, v in given.items() if v is not None}


def check_all(instructions: list[str], answer: str) -> tuple[list[str], list[str], list[str]]:
    """(obeyed, broken, without a rule) kinds.

    ValueError for an instruction that is not a JSON object with a kind.
    """
    obeyed: list[str] = []
    broken: list[str] = []
    unknown: list[str] = []
    for instruction in instructions:
        try:
            kind, given = _parsed(instruction)
        # ValueError: no JSON; KeyError: no kind; TypeError, AttributeError: JSON, and no object.
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a checkable instruction: {instruction[:80]!r}") from error
        rule = RULES.get(kind)
        if rule is None:
            unknown.append(kind)
        else:
            (obeyed if rule(answer, **given) else broken).append(kind)
    return obeyed, broken, unknown


def loose_variants(answer: str) -> list[str]:
    """IFEval's loose forms of an answer: without its first line, last line, both; each also without `*`."""
    lines = answer.split("\n")
    whole = [answer, *("\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1]))]
    return [form for text in whole for form in (text, text.replace("*", "")) if form.strip()]


def obeyed_loosely(instruction: str, answer: str) -> bool:
    """Whether any loose form of the answer obeys an instruction."""
    return any(check_all([instruction], form)[0] for form in loose_variants(answer))
