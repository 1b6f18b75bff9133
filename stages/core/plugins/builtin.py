"""Built-in plugins: `<package>/<name>.py`, or `<package>/<name>/plugin.py`, with a module-level `PLUGIN`.

Names and one-line summaries are read from the file system and the syntax tree, so that listing loads nothing.
"""

from __future__ import annotations

import ast
import importlib
from functools import cache
from pathlib import Path
from types import ModuleType

from stages.core.plugins.kinds import KINDS


@cache
def files(kind: str) -> dict[str, Path]:
    """The file of each built-in plugin of a kind: those that assign `PLUGIN` at module level."""
    folder = KINDS[kind].folder
    found = {f.stem: f for f in folder.glob("*.py")} | {f.parent.name: f for f in folder.glob("*/plugin.py")}
    return {name: file for name, file in sorted(found.items()) if _is_plugin(file)}


@cache
def find(kind: str, name: str) -> Path | None:
    """The file of one built-in plugin, None where there is no such name; reads no other file of the folder."""
    # A path or `module:NAME` is no file of ours, and must not be joined to the folder.
    if not name.isidentifier():
        return None
    folder = KINDS[kind].folder
    for file in (folder / name / "plugin.py", folder / f"{name}.py"):
        if file.is_file() and _is_plugin(file):
            return file
    return None


def _is_plugin(file: Path) -> bool:
    # By text and not by syntax tree: this is asked of every file of a folder, and by commands that take no time
    # otherwise.
    text = file.read_text(encoding="utf-8")
    return "\nPLUGIN" in text


def module_name(kind: str, file: Path) -> str:
    """The module of a built-in plugin's file."""
    inside = file.relative_to(KINDS[kind].folder).with_suffix("")
    return ".".join((KINDS[kind].package, *inside.parts))


def module(kind: str, file: Path) -> ModuleType:
    """The module of a built-in plugin, imported once a process."""
    return importlib.import_module(module_name(kind, file))


def summary(file: Path) -> str:
    """The first line of a file's docstring, without importing it; "" where there is none."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return (ast.get_docstring(tree) or "").split("\n", 1)[0]
