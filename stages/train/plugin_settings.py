"""Settings that an objective, a loss or an advantage declares itself: a dataclass, filled from a table of the recipe.

A table is named after its plugin (`[train.objectives.dpo]`, `[train.losses.cpgd]`, `[train.advantages.canon]`), so
that a recipe whose phases use different ones may set them all in one place: the table of one that is not used changes
nothing.
"""

from __future__ import annotations

from typing import Any

from stages.core.config import build
from stages.core.errors import UsageError
from stages.core.registry import load, short_name

Tables = dict[str, dict[str, Any]]
_FIELD = {"objective": "objectives", "loss": "losses", "advantage": "advantages"}


def settings_of(kind: str, name: str, tables: Tables) -> Any:
    """An instance of the plugin's `settings`, filled from its table; None for a plugin that has none.

    The table of a plugin in a file goes by its short name, or by the whole one: `./pull.py:pull` is `pull`.
    UsageError for an unknown key, a wrong type, and for a table of a plugin without settings.
    """
    declared, values = load(kind, name).settings, tables.get(name, tables.get(short_name(name), {}))
    if declared is not None:
        return build(declared, values, f"train.{_FIELD[kind]}.{short_name(name)}")
    if values:
        hint = "what all of them share is set in [train] itself: learning_rate, clip_low, aggregation, ref_kl, ..."
        raise UsageError(f"[train.{_FIELD[kind]}.{name}]: the {kind} {name!r} has no settings of its own", hint)
    return None


def check_tables(kind: str, used: str, tables: Tables) -> None:
    """UsageError for a table that fits no plugin; one whose plugin is in a file is read when a run is planned.

    Loading a file runs it, and settings are also read of runs that somebody else made.
    """
    for name in tables:
        if ":" not in name and not (name == short_name(used) != used):
            settings_of(kind, name, tables)
