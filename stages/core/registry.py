"""Plugins by file: `<package>/<name>.py`, or `<package>/<name>/plugin.py`, with a module-level `PLUGIN`.

Adding one is adding a file; one of several files is a folder, and its `plugin.py` is what is loaded first.

Names and one-line summaries are read from the file system and the syntax tree, so that listing loads nothing.
"""

from __future__ import annotations

import ast
import difflib
import importlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from stages.core.errors import UsageError

_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Kind:
    """One family of plugins and the package its files live in."""

    name: str
    package: str

    @property
    def folder(self) -> Path:
        """Where its files are."""
        return _ROOT / Path(*self.package.split("."))


KINDS = {
    k.name: k
    for k in (
        Kind("dataset", "stages.prepare.datasets"),
        Kind("augmentation", "stages.prepare.augmentations"),
        Kind("engine", "stages.engines"),
        Kind("backbone", "stages.models.tiny"),
        Kind("verifier", "stages.score.verifiers"),
        Kind("loss", "stages.train.losses"),
        Kind("advantage", "stages.train.advantages"),
        Kind("objective", "stages.train.objectives"),
        Kind("metric", "stages.eval.metrics"),
        Kind("export", "stages.export.targets"),
        Kind("executor", "stages.core.executors"),
    )
}


@lru_cache
def _files(kind: str) -> dict[str, Path]:
    """The file of each plugin of a kind: those that assign `PLUGIN` at module level."""
    folder = KINDS[kind].folder
    found = {f.stem: f for f in folder.glob("*.py")} | {f.parent.name: f for f in folder.glob("*/plugin.py")}
    return {name: file for name, file in sorted(found.items()) if _is_plugin(file)}


def _is_plugin(file: Path) -> bool:
    return "\nPLUGIN" in file.read_text(encoding="utf-8")


def names(kind: str) -> list[str]:
    """Plugin names of a kind, sorted."""
    return list(_files(kind))


def summary(kind: str, name: str) -> str:
    """The first line of the plugin's module docstring, without importing it."""
    tree = ast.parse(_files(kind)[name].read_text(encoding="utf-8"))
    return (ast.get_docstring(tree) or "").split("\n", 1)[0]


def load(kind: str, name: str) -> Any:
    """The plugin object; UsageError with did-you-mean for an unknown name."""
    known = names(kind)
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise UsageError(f"unknown {kind} {name!r}", f"{hint}known: {', '.join(known)} (cosmo list {kind})")
    module = f"{KINDS[kind].package}.{name}"
    if _files(kind)[name].name == "plugin.py":
        module += ".plugin"
    return importlib.import_module(module).PLUGIN


def find(kind: str, name: str) -> Any | None:
    """The plugin object, or None where there is no such plugin here: for rows and runs that come from elsewhere."""
    return load(kind, name) if name in names(kind) else None


def plugin_key(kind: str, name: str) -> list[Any]:
    """What a plugin contributes to a run's key: its name and what identifies its code."""
    return [name, load(kind, name).version]
