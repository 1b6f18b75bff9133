"""Tables of a recipe and what a step has otherwise: overrides by dotted key, and folders named by who makes them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from stages.core.config import assign, path_part, split_path

_NAME = re.compile(r"\$([A-Za-z_][A-Za-z0-9_]*)")


@dataclass(frozen=True, slots=True)
class Ref:
    """The run folder an earlier step made."""

    name: str


def flatten(table: dict[str, Any], before: str = "") -> dict[str, Any]:
    """Nested tables as dotted keys; label weights stay one value, and so does an empty table, which says `none`."""
    flat: dict[str, Any] = {}
    for key, value in table.items():
        dotted = f"{before}{path_part(key)}"
        # As dotted keys these would be merged into the recipe's own weights, which a phase means to replace.
        if isinstance(value, dict) and value and key not in ("labels", "weights"):
            flat.update(flatten(value, f"{dotted}."))
        else:
            flat[dotted] = value
    return flat


def overridden(table: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    """A copy of the table with dotted keys put over it."""
    # A deep copy: `assign` below goes into nested tables, which other steps share.
    values: dict[str, Any] = json.loads(json.dumps(table))
    for key, value in overrides.items():
        assign(values, split_path(key), value)
    return values


def named(flat: dict[str, Any]) -> dict[str, str]:
    """The settings of a flat table that are a run folder by its maker's name (`$almanac`), with the name."""
    found = {key: _NAME.fullmatch(value) for key, value in flat.items() if isinstance(value, str)}
    return {key: name[1] for key, name in found.items() if name is not None}
