"""Records whose instructions can't be checked, and whether a remembered plan knew the checks that there are now."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from stages.core.errors import BadSample, UsageError
from stages.core.registry import plugin_key, short_name
from stages.core.stage import Plan
from stages.judging.instructions.checkable import UNKNOWN, families_asked
from stages.judging.instructions.find import KIND, builtin_families
from stages.prepare.datasets.base import Record


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
