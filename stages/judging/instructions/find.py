"""Which check an instruction asks for: among this repository's, those a config names, and those of packages."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from stages.core import registry
from stages.core.errors import UsageError, did_you_mean
from stages.core.plugins import builtin, installed
from stages.judging.instructions.base import Check, Checks

KIND = "instruction"


@dataclass(frozen=True, slots=True)
class Asked:
    """An instruction of a row with its check."""

    check: Check
    family: str
    """The plugin that the check is of, as `plugin_key` takes it."""
    given: dict[str, Any]
    """The arguments as the check takes them."""


class UnknownInstruction(ValueError):
    """An instruction of a kind that no check is for."""

    def __init__(self, kind: str, known: Iterable[str]) -> None:
        hint = did_you_mean(kind, known)
        super().__init__(f"no check for {kind!r}{f': {hint}' if hint else ''} (cosmo list {KIND})")
        self.kind = kind


def asked(instruction: str, named: Sequence[str] = ()) -> Asked:
    """The check of a row's instruction, and its arguments.

    `named` are checks by where their code is. UnknownInstruction where there is no check of its kind; ValueError
    where it is no JSON object with a kind, or its arguments are wrong.
    """
    return _asked(instruction, tuple(named))


@lru_cache(maxsize=8192)
def _asked(instruction: str, named: tuple[str, ...]) -> Asked:
    try:
        given = json.loads(instruction)
        kind = given.pop("kind")
    # ValueError: no JSON; KeyError: no kind; TypeError, AttributeError: JSON, and no object.
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a checkable instruction: {instruction[:80]!r}") from error
    family, check = find(kind, named)
    return Asked(check, family, check.given(given))


def find(kind: str, named: tuple[str, ...] = ()) -> tuple[str, Check]:
    """The family and the check of an instruction's kind; UnknownInstruction where there is none.

    Packages are looked at last, for their metadata is slow to read, and their code need not be imported.
    """
    if (found := _of(builtin_families(), kind)) or (found := _of(named, kind)):
        return found
    offered = list(installed.offered(KIND))
    # A function's check is called as its entry point is: most often no other need be imported.
    if found := _of([name for name in offered if name == kind] or offered, kind):
        return found
    raise UnknownInstruction(str(kind), ids(named))


def ids(named: Sequence[str] = ()) -> list[str]:
    """The ids of all checks: this repository's, the named ones', and those of packages."""
    return [i for family in families(named) for i in family_of(family).checks]


def families(named: Sequence[str] = ()) -> list[str]:
    """All families as `plugin_key` takes them."""
    return [*builtin_families(), *named, *installed.offered(KIND)]


def builtin_families() -> list[str]:
    """The names of this repository's families."""
    return list(builtin.files(KIND))


def family_of(name: str) -> Checks:
    """A family by its name, or by where its code is."""
    loaded: Checks = registry.load(KIND, name)
    return loaded


def check_names(named: Sequence[str]) -> None:
    """UsageError for code that is no check, and for an id that two have."""
    owner = {i: family for family in builtin_families() for i in family_of(family).checks}
    for family in named:
        for i in family_of(family).checks:
            if (other := owner.setdefault(i, family)) != family:
                raise UsageError(f"{KIND} {family} has a check {i!r}, as {other} has", "rename the one in your file")


def _of(names: Iterable[str], kind: str) -> tuple[str, Check] | None:
    for name in names:
        if kind in (family := family_of(name)).checks:
            return name, family[kind]
    return None
