"""What the perception recipes measure beside right answers: functions of one completion, as any metric may be."""

from __future__ import annotations

from typing import Any


def described(completion: Any) -> bool | None:
    """Visual keys in the description.

    The share of the facts that have to be seen which the description states, of `[score.keys] graded = true`.
    """
    grade = completion.grades.get("visual_keys")
    return None if grade is None else grade.value


def taken_up(completion: Any) -> bool | None:
    """Text keys in the think block.

    The share of the facts that the words tell which the think block takes up.
    """
    grade = completion.grades.get("text_keys")
    return None if grade is None else grade.value


def conflicts(completion: Any) -> bool | None:
    """Descriptions that the think block contradicts."""
    grade = completion.grades.get("consistency")
    return None if grade is None or grade.value is None else grade.verdict == "conflict"
