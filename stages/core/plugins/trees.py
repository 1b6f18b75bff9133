"""The digest of one source file, and what it imports: its syntax tree without docstrings, comments and layout."""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from stages.core.plugins.unchanged import mark

# What says nothing of behaviour, or differs between versions of Python for the same text.
_SKIPPED = frozenset({"ctx", "kind", "type_comment", "type_ignores"})


@dataclass(frozen=True, slots=True)
class Tree:
    """What identity needs of a source file."""

    digest: str
    imports: tuple[str, ...]
    """Modules that it may import, at any depth: `a.b`, or with leading dots as it says them. A name that is imported
    from a package stands there as a module, too: whether it is one is for the file system to say."""


@cache
def tree_of(file: Path) -> Tree:
    """The digest and imports of a source file, once a process. SyntaxError where it is no Python, OSError where unread.

    A file that is no source (a compiled module) is its bytes.
    """
    # Before the file is read: with a mark from after it, an edit in between would be believed to be what was read.
    mark(str(file.parent))
    mark(str(file))
    data = file.read_bytes()
    if file.suffix != ".py":
        return Tree(hashlib.sha256(data).hexdigest(), ())
    parsed = ast.parse(data, filename=str(file))
    spelled = json.dumps(_spelled(parsed), separators=(",", ":"))
    return Tree(hashlib.sha256(spelled.encode()).hexdigest(), tuple(dict.fromkeys(_imports(parsed))))


def _spelled(node: Any) -> Any:
    """A tree as plain values. Not `ast.dump`: what that says of one text differs between versions of Python."""
    if isinstance(node, ast.AST):
        found: list[Any] = [type(node).__name__]
        for name in node._fields:
            # Newer versions have fields that older ones lack; unused they are empty.
            if name not in _SKIPPED and (value := getattr(node, name, None)) is not None and value != []:
                found.append([name, _spelled(value)])
        return found
    if isinstance(node, list):
        return [_spelled(item) for item in node if not _is_docstring(item)]
    return f"{type(node).__name__} {node!r}"


def _is_docstring(node: Any) -> bool:
    # A text alone in a statement does nothing, wherever it stands.
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


_BLOCKS = ("body", "orelse", "finalbody", "handlers", "cases")


def _imports(tree: ast.Module) -> Iterator[str]:
    # Statements alone, which lie in lists of statements: a tree has ten times as many nodes.
    waiting: list[Any] = [tree]
    while waiting:
        node = waiting.pop()
        waiting += (
            inner for name in _BLOCKS if isinstance(block := getattr(node, name, None), list) for inner in block
        )
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            yield base
            yield from (f"{base}{'' if base.endswith('.') else '.'}{a.name}" for a in node.names if a.name != "*")
