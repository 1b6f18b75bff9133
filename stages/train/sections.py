"""Sections of the config that plugins own: `[train.NAME]` is declared in the plugin's own file."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

from stages.core.config import section
from stages.core.registry import load, names, summary

T = TypeVar("T")


def with_plugin_sections(*kinds: str) -> Callable[[type[T]], type[T]]:
    """Class decorator: one more section for each plugin of these kinds that has `settings`, called like the plugin.

    A section is no part of the stage's own key: a plugin's settings identify the runs that use it, by the plugin's
    part of the plan's key, and no others. A plugin that can't be imported has no section; whoever names it is told.
    """

    def extend(cls: type[T]) -> type[T]:
        found: dict[str, tuple[str, Any, Any]] = {}
        for kind in kinds:
            for name in names(kind):
                try:
                    settings = getattr(load(kind, name), "settings", None)
                except Exception:  # Outside code: a broken file must not keep the others from being used.
                    continue
                if settings is not None:
                    found[name] = (name, settings, section(settings, f"{name}: {summary(kind, name)}", affects=False))
        # Annotations are real types here, so that `get_type_hints` needs no names of the plugins' modules.
        namespace = {"__module__": cls.__module__, "__doc__": cls.__doc__}
        made = dataclasses.make_dataclass(
            cls.__name__, list(found.values()), bases=(cls,), frozen=True, namespace=namespace
        )
        made.__qualname__ = cls.__qualname__
        return made

    return extend
