"""Which rows with instructions can be graded: the one rule of everything that makes rows.

An instruction of an unknown kind, or with arguments that its kind doesn't take, would never have a reward, or leave
its row with that of the other instructions alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from stages.core.errors import BadSample
from stages.core.registry import plugin_key
from stages.judging.instructions.find import KIND, UnknownInstruction, asked

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


def checks_key(families: Iterable[str]) -> list[list[Any]]:
    """What identifies the code of these families, for a plan's key."""
    return sorted(plugin_key(KIND, family) for family in families)
