"""Plugins by file: `<package>/<name>.py` with a module-level `PLUGIN`. Adding one is adding a file.

Names and one-line summaries are read from the file system and the syntax tree, so that listing loads nothing.
"""

from __future__ import annotations

import ast
import difflib
import importlib
from dataclasses import dataclass
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
        Kind("backbone", "stages.models.backbones"),
        Kind("verifier", "stages.score.verifiers"),
        Kind("loss", "stages.train.losses"),
        Kind("advantage", "stages.train.advantages"),
        Kind("metric", "stages.eval.metrics"),
        Kind("export", "stages.export.targets"),
        Kind("executor", "stages.core.executors"),
    )
}


def names(kind: str) -> list[str]:
    """Plugin names of a kind, sorted; files that start with an underscore or are called base are not plugins."""
    files = KINDS[kind].folder.glob("*.py")
    return sorted(f.stem for f in files if not f.stem.startswith("_") and f.stem != "base")


def summary(kind: str, name: str) -> str:
    """The first line of the plugin's module docstring, without importing it."""
    tree = ast.parse((KINDS[kind].folder / f"{name}.py").read_text(encoding="utf-8"))
    return (ast.get_docstring(tree) or "").split("\n", 1)[0]


def load(kind: str, name: str) -> Any:
    """The plugin object; UsageError with did-you-mean for an unknown name."""
    known = names(kind)
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise UsageError(f"unknown {kind} {name!r}", f"{hint}known: {', '.join(known)} (cosmo list {kind})")
    return importlib.import_module(f"{KINDS[kind].package}.{name}").PLUGIN
