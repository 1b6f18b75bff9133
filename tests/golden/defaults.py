"""Every default that can change rows. A run's key leaves a field at its default out, so a default is a promise."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator
from typing import Any

from stages.core.stage_list import STAGES, load_config, load_stage
from stages.prepare.config import AugmentOptions


def present_defaults() -> dict[str, Any]:
    """Verb -> the stage's version and its defaults by dotted name."""
    found = {}
    for verb in STAGES:
        version = load_stage(verb).version
        defaults = dict(_defaults(load_config(verb), ""))
        if verb == "prepare":
            defaults |= _defaults(AugmentOptions, "sources[].")
        found[verb] = {"version": version, "defaults": defaults}
    return found


def _defaults(cls: type[Any], before: str) -> Iterator[tuple[str, Any]]:
    kinds = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        if not field.metadata.get("affects", True):
            continue
        inner = kinds[field.name]
        tables = [inner, *typing.get_args(inner)]
        if (table := next((t for t in tables if dataclasses.is_dataclass(t)), None)) is not None:
            yield from _defaults(typing.cast(type, table), f"{before}{field.name}{'' if table is inner else '[]'}.")
        else:
            default = field.default_factory() if field.default is dataclasses.MISSING else field.default  # type: ignore[misc]
            yield f"{before}{field.name}", default


def changed_defaults(now: dict[str, Any], recorded: dict[str, Any]) -> list[str]:
    """What changed under the same version of its stage, one line each. A new field makes no old run another."""
    return [
        f"{verb}.{name}: the default was {old!r} and is {stage['defaults'].get(name)!r}; "
        f"runs that left it out would pass for new ones: raise the version in stages/{verb}/stage.py first"
        for verb, stage in now.items()
        if verb in recorded and recorded[verb]["version"] == stage["version"]
        for name, old in recorded[verb]["defaults"].items()
        if name in stage["defaults"] and stage["defaults"][name] != old
    ]
