"""Rows whose instructions can't be checked: of an unknown kind, or with arguments that their kind doesn't take.

Graded, such a row would never have a reward, or only for its other instructions.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from stages.core.errors import BadSample, UsageError
from stages.core.registry import plugin_key, short_name
from stages.core.stage import Plan
from stages.judging.instructions.find import KIND, UnknownInstruction, asked, builtin_families
from stages.prepare.datasets.base import Record

UNKNOWN, WRONG = "unknown_instruction", "wrong_instruction"


def families_asked(instructions: Sequence[str], named: Sequence[str]) -> list[str]:
    """The families that check these instructions; BadSample names the first that none checks, and why.

    `named` are checks by where their code is.
    """
    try:
        return [asked(instruction, named).family for instruction in instructions]
    except UnknownInstruction as error:
        raise BadSample(UNKNOWN, str(error)) from None
    except ValueError as error:
        raise BadSample(WRONG, str(error)) from None


def checked(records: list[Record], named: Sequence[str]) -> tuple[list[Record], set[str]]:
    """The records, those rejected whose instructions can't be checked, and the families that check the others."""
    families: set[str] = set()
    found = []
    for record in records:
        if record.instructions and record.rejected is None:
            try:
                families.update(families_asked(record.instructions, named))
            except BadSample as bad:
                record = dataclasses.replace(record, rejected=(bad.reason, bad.detail))
        found.append(record)
    return found, families


def checks_key(families: set[str]) -> list[list[Any]]:
    """What identifies the code of these families, for a plan's key."""
    return sorted(plugin_key(KIND, family) for family in families)


def still_checked(plan: Plan, named: Sequence[str]) -> bool:
    """Whether a remembered plan knew the checks that there are now: packages come and go beside its key."""
    if any(row.reason == UNKNOWN for row in plan.rejected):
        return False
    known = {short_name(family): family for family in (*builtin_families(), *named)}
    try:
        now = [plugin_key(KIND, known.get(name, name)) for name, _ in plan.key.get("checks", [])]
    # The package is gone.
    except UsageError:
        return False
    return now == plan.key.get("checks", [])
