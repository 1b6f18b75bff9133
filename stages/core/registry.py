"""Plugins of every kind: their names, their objects, and what identifies their code.

A plugin is named in one of three ways, in recipes, options and on the command line:

    brief                        a file of this repository, or what an installed package offers under that name
    ./my_rewards.py:accuracy     an object in a file
    my_package.rewards:accuracy  an object in a module

Listing loads nothing of ours. How to write one: docs/extending.md.
"""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from stages.core.errors import CosmoError, UsageError, did_you_mean, first_line
from stages.core.plugins import builtin, golden, installed, outside, references, source
from stages.core.plugins.kinds import KINDS, Kind
from stages.core.plugins.references import Reference

__all__ = [
    "KINDS",
    "Kind",
    "Listed",
    "enter",
    "is_known",
    "listed",
    "load",
    "members",
    "names",
    "plugin_key",
    "short_name",
    "summary",
]


def names(kind: str) -> list[str]:
    """Plugin names of a kind, sorted: built-in ones, and those of installed packages."""
    return sorted({*builtin.files(kind), *installed.offered(kind)})


def is_known(kind: str, name: str) -> bool:
    """Whether `name` is a plugin by name, or says where one is."""
    return builtin.find(kind, name) is not None or _by_place(kind, name) or name in installed.offered(kind)


def short_name(name: str) -> str:
    """What a plugin is called in rows and reports, however it was named: `./my_rewards.py:accuracy` is `accuracy`."""
    reference = references.parse(name)
    return name if reference is None else reference.name


_entered: dict[tuple[str, str], str] = {}


def enter(kind: str, name: str) -> str:
    """The short name of a plugin, under which `load` and `plugin_key` find it in this process from now on.

    For plugins whose names stand in plans and rows, where a path would make the same run another one elsewhere.
    UsageError where the name means another plugin already.
    """
    called = short_name(name)
    if called != name:
        other = called if builtin.find(kind, called) is not None else _entered.setdefault((kind, called), name)
        if references.parse(other) != references.parse(name):
            raise UsageError(f"{kind} {name} is called like {other}", "rename the one in your file")
    return called


def load(kind: str, name: str) -> Any:
    """The plugin object; UsageError with did-you-mean for an unknown name, with file and line for code that fails."""
    file = builtin.find(kind, name)
    return _load_outside(kind, _outside(kind, name), name) if file is None else _load_builtin(kind, name, file)


def _load_builtin(kind: str, name: str, file: Path) -> Any:
    # A plugin's own file may be what its author is writing just now.
    if (module := sys.modules.get(builtin.module_name(kind, file))) is None or not hasattr(module, "PLUGIN"):
        with outside.failures(f"{kind} {name}", str(file), file):
            module = builtin.module(kind, file)
    return module.PLUGIN


def _outside(kind: str, name: str) -> Reference:
    """Where the code of a plugin is that is no built-in one."""
    found = references.parse(_entered.get((kind, name), name)) or installed.find(kind, name)
    if found is not None:
        return found
    known = names(kind)
    hint = f"{did_you_mean(name, known)} known: {', '.join(known)} (cosmo list {kind})"
    raise UsageError(f"unknown {kind} {name!r}", hint.lstrip())


def _by_place(kind: str, name: str) -> bool:
    return references.parse(_entered.get((kind, name), name)) is not None


@cache
def _load_outside(kind: str, reference: Reference, name: str) -> Any:
    """The object as its kind has it: a plain function is made into one by the kind's adapter."""
    made = outside.load(kind, reference, _by_place(kind, name))
    try:
        if adapter := KINDS[kind].adapter:
            made = importlib.import_module(adapter).adapt(short_name(name), made)
    # An adapter's word for a function of another shape (`adapt` of losses, advantages, verifiers, ...).
    except TypeError as error:
        raise UsageError(f"{kind} {name} is none: {first_line(error)}", _HINT) from None
    if missing := [need for need in KINDS[kind].needs if not hasattr(made, need)]:
        raise UsageError(f"{kind} {name} is none: a {type(made).__name__} without {', '.join(missing)}", _HINT)
    return made


_HINT = "docs/extending.md says what a plugin of each kind must have"


def find(kind: str, name: str) -> Any | None:
    """The plugin object, or None where there is no such plugin here: for rows and runs that come from elsewhere."""
    return load(kind, name) if name in names(kind) else None


def plugin_key(kind: str, name: str) -> list[Any]:
    """What a plugin contributes to a run's key: its name and what identifies its code."""
    return [short_name(name), _identity(kind, name)]


@cache
def _identity(kind: str, name: str) -> Any:
    file = builtin.find(kind, name)
    if file is not None:
        return golden.identity(kind, name, builtin.module_name(kind, file))
    reference = _outside(kind, name)
    try:
        return source.outside(reference)
    except (OSError, ImportError, SyntaxError):
        # Importing it says what is wrong with it, and where.
        load(kind, name)
        raise


def summary(kind: str, name: str) -> str:
    """What a plugin is, in one line: of a built-in one without importing it."""
    file = builtin.find(kind, name)
    if file is not None:
        return builtin.summary(file)
    plugin, found = load(kind, name), outside.load(kind, _outside(kind, name), _by_place(kind, name))
    # A function says it itself; of an object its class does, but for what dataclasses write by themselves.
    for text in (found.__doc__, getattr(plugin, "title", None), type(found).__doc__):
        if text and not str(text).startswith(f"{type(found).__name__}("):
            summary_text = str(text).strip()
            return summary_text.partition("\n")[0]
    return f"a {kind} without a docstring"


@dataclass(frozen=True, slots=True)
class Listed:
    """A plugin as a list shows it."""

    name: str
    text: str
    """What it is, in one line; of one that can't be used, the error."""
    origin: str = ""
    """The package that it comes from; "" for a built-in one."""
    broken: bool = False

    @property
    def line(self) -> str:
        """The text with where it comes from."""
        return f"{self.text} [{self.origin}]" if self.origin else self.text


def listed(kind: str) -> list[Listed]:
    """All plugins of a kind. Installed ones are loaded, for only so it shows whether they can be; never raises."""
    ours = builtin.files(kind)
    found = [Listed(name, builtin.summary(file)) for name, file in ours.items()]
    for name, points in installed.offered(kind).items():
        origin = ", ".join(point.package for point in points)
        # `load` looks at built-in files first, so the installed plugin would never be reached.
        if name in ours:
            found.append(Listed(name, "can't be used by this name: a built-in plugin has it", origin, True))
            continue
        try:
            found.append(Listed(name, summary(kind, name), origin))
        except CosmoError as error:
            found.append(Listed(name, f"{error.message}; {error.hint}", origin, True))
        except Exception as error:
            # Whatever a stranger's object does when it is looked at, the others are shown.
            found.append(Listed(name, f"{type(error).__name__}: {first_line(error)}", origin, True))
    return sorted(found, key=lambda one: one.name)


def members(kind: str) -> list[Listed]:
    """What rows name of a kind: its plugins or, where a plugin is a family (of instruction checks), what is in them."""
    if "members" not in KINDS[kind].needs:
        return listed(kind)
    found: list[Listed] = []
    for family in listed(kind):
        if family.broken:
            found.append(family)
        else:
            entries = load(kind, family.name).members.items()
            found += [Listed(name, text, family.origin) for name, text in entries]
    return sorted(found, key=lambda one: one.name)
