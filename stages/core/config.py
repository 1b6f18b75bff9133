"""Stage configs: frozen dataclasses filled from TOML tables, flags and `--set`, strictly.

`option(default, help, ...)` declares a field once: its default, its help, whether it can change rows
(`affects`), and whether it has a flag of its own (`flag`).
"""

from __future__ import annotations

import dataclasses
import json
import re
import types
import typing
from functools import lru_cache
from typing import Any

from stages.core.errors import UsageError, did_you_mean


def option(
    default: Any,
    help: str,
    *,
    affects: bool = True,
    flag: str | None = None,
    choices: tuple[str, ...] = (),
    low: float | None = None,
    high: float | None = None,
) -> Any:
    """A config field. `flag` is its command-line name (`--policy`), None for recipe and --set only."""
    metadata = {
        "help": help,
        "affects": affects,
        "flag": flag,
        "choices": choices,
        "low": low,
        "high": high,
    }
    # dataclasses refuse a mutable default; each config gets a copy of its own.
    if isinstance(default, list | dict):
        return dataclasses.field(default_factory=lambda: type(default)(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def section(cls: type[Any], help: str, *, affects: bool = True) -> Any:
    """A field that is a config of its own: a nested table, by default the section's defaults."""
    return dataclasses.field(default_factory=cls, metadata={"help": help, "affects": affects})


@lru_cache
def _fields(cls: type[Any]) -> dict[str, tuple[dataclasses.Field[Any], Any]]:
    """Its fields by name, each with its type."""
    # Reading annotations is most of what building a config takes, and `cosmo status` builds one for every run.
    hints = typing.get_type_hints(cls)
    return {f.name: (f, hints[f.name]) for f in dataclasses.fields(cls)}


def build(cls: type[Any], values: dict[str, Any], where: str) -> Any:
    """An instance of a config class from plain values; unknown keys and wrong types are UsageErrors."""
    known = _fields(cls)  # type: ignore[arg-type]  # classes do hash
    clean = {}
    for key, value in values.items():
        if key not in known:
            raise _unknown(key, list(known), where, getattr(cls, "MOVED", {}))
        field, hint = known[key]
        clean[key] = _coerce(hint, value, f"{where}.{key}")
        _check(field, clean[key], f"{where}.{key}")
    return cls(**clean)


def _unknown(key: str, known: list[str], where: str, moved: dict[str, str]) -> UsageError:
    if key in moved:
        table, _, last = moved[key].rpartition(".")
        inside = f"{where}.{table}" if table else where
        return UsageError(f"{key!r} in [{where}] is now {last!r} in [{inside}]", f"--set {moved[key]}=...")
    hint = did_you_mean(key, known) or f"known keys: {', '.join(known)}"
    return UsageError(f"unknown key {key!r} in [{where}]", hint)


def _check(field: dataclasses.Field[Any], value: Any, where: str) -> None:
    about = field.metadata
    choices, low, high = about.get("choices"), about.get("low"), about.get("high")
    if choices and value is not None and value not in choices:
        hint = f"{did_you_mean(str(value), choices)} choices: {', '.join(choices)}"
        raise UsageError(f"{where} = {value!r} is not a choice", hint.lstrip())
    # bool is a kind of int in Python, and a switch has no smallest value.
    if isinstance(value, int | float) and not isinstance(value, bool):
        if low is not None and value < low:
            raise UsageError(f"{where} = {value} is too small", f"the smallest is {low}")
        if high is not None and value > high:
            raise UsageError(f"{where} = {value} is too large", f"the largest is {high}")


def _coerce(hint: Any, value: Any, where: str) -> Any:
    """The value as its declared type; TOML and JSON types only, no silent conversion but int to float."""
    # The type itself and not isinstance: true would pass for a count of 1.
    if type(value) is hint or hint is Any:
        return value
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if isinstance(hint, types.UnionType):
        if value is None:
            return None
        return _coerce(next(a for a in args if a is not type(None)), value, where)
    if origin is list and isinstance(value, list):
        return [_coerce(args[0], v, f"{where}[{i}]") for i, v in enumerate(value)]
    if origin is dict and isinstance(value, dict):
        return {str(k): _coerce(args[1], v, f"{where}.{k}") for k, v in value.items()}
    if dataclasses.is_dataclass(hint) and isinstance(value, dict):
        return build(typing.cast(type, hint), value, where)
    # TOML and JSON have 1 where 1.0 is meant.
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    type_name = getattr(hint, "__name__", str(hint)) if origin is None else str(hint)
    raise UsageError(f"{where} = {value!r} is a {type(value).__name__}", f"it must be a {type_name}")


def parse_assignment(text: str) -> tuple[list[str], Any]:
    """`a.b=3` as (["a", "b"], 3): the right side is TOML, or else a plain string."""
    from stages.core.atomic import parse_toml

    name, sep, raw = text.partition("=")
    if not sep or not name.strip():
        raise UsageError(f"--set {text!r} has no '='", "write it as --set key=value")
    try:
        value = parse_toml(f"v = {raw}")["v"]
    except ValueError:
        # A shell eats the quotes that TOML wants around a text: `--set name=abc` means the text.
        value = raw
    return split_path(name.strip()), value


def split_path(dotted: str) -> list[str]:
    """`a.b` as ["a", "b"]; a part in quotes may have dots: `terms."./mine.py:accuracy"`."""
    return [quoted or plain for quoted, plain in re.findall(r'"([^"]*)"|([^."]+)', dotted)] or [dotted]


def path_part(name: str) -> str:
    """One part of a dotted path, in quotes where it would be read as several."""
    return f'"{name}"' if "." in name else name


def assign(values: dict[str, Any], path: list[str], value: Any) -> None:
    """Put a value at a dotted path of nested dicts, in place."""
    for name in path[:-1]:
        values = values.setdefault(name, {})
        if not isinstance(values, dict):
            raise UsageError(f"--set {'.'.join(path)}: {name!r} is not a table", "set the whole key instead")
    values[path[-1]] = value


def key_of(config: Any) -> dict[str, Any]:
    """The part of a config that can change rows, as plain values for the fingerprint.

    A field at its default is not in it, nor a section that is empty so: a new option makes no old run another one, and
    who changes a default raises the stage's version (tests/golden holds the defaults).
    """
    key = {}
    for f in dataclasses.fields(config):
        if not f.metadata.get("affects", True):
            continue
        value = getattr(config, f.name)
        default = f.default if f.default_factory is dataclasses.MISSING else f.default_factory()
        if value == default:
            continue
        plain = _plain(value)
        # A section may differ in what can't change rows alone.
        if plain or not dataclasses.is_dataclass(value):
            key[f.name] = plain
    return key


def _plain(value: Any) -> Any:
    """A value of a config as JSON has it; tables in it without what is at its default."""
    if dataclasses.is_dataclass(value):
        return key_of(value)
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list) else value


def settings_of(config: Any, prefix: str = "") -> list[str]:
    """What `--set` takes to make this config out of the defaults: `judges.safety.policy=ORG/NAME`."""
    found = []
    for f in dataclasses.fields(config):
        value = getattr(config, f.name)
        default = f.default if f.default_factory is dataclasses.MISSING else f.default_factory()
        if value != default:
            found += _settings(prefix + f.name, value)
    return found


def _settings(path: str, value: Any) -> list[str]:
    if dataclasses.is_dataclass(value):
        return settings_of(value, f"{path}.")
    if isinstance(value, dict) and value:
        return [s for name, inner in value.items() for s in _settings(f"{path}.{path_part(name)}", inner)]
    # JSON's texts, lists, numbers and switches are TOML's. A text that is nothing else may stand bare.
    bare = isinstance(value, str) and parse_assignment(f"v={value}")[1] == value and value == value.strip() != ""
    return [f"{path}={value if bare else json.dumps(value, ensure_ascii=False)}"]


def as_dict(config: Any) -> dict[str, Any]:
    """A whole config as plain values, for config.json."""
    return dataclasses.asdict(config)
