"""The tree as it is checked: every module parsed once, and what it imports."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path


@dataclass(frozen=True)
class Module:
    """One file of Python."""

    path: Path
    """Relative to the repository's root."""
    name: str
    """As it is imported; a package's name for its `__init__`."""
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        """The file's syntax tree."""
        return ast.parse(self.text, str(self.path))

    @cached_property
    def lines(self) -> int:
        """Lines, blank ones and comments counted."""
        return len(self.text.splitlines())

    @property
    def is_package(self) -> bool:
        """Whether this is an `__init__`, whose folder the name is."""
        return self.path.name == "__init__.py"

    @property
    def is_plugin(self) -> bool:
        """Whether the file holds a plugin of the registry: those folders grow by design."""
        names = (t for n in self.tree.body if isinstance(n, ast.Assign) for t in n.targets)
        return any(isinstance(t, ast.Name) and t.id == "PLUGIN" for t in names)

    def imports(self) -> Iterator[str]:
        """Every module named by an import, wherever it stands: one inside a function ties two modules as well.

        `from a import b` gives both `a` and `a.b`, as only the tree knows whether `b` is a module.
        """
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                base = self._base(node)
                yield base
                yield from (f"{base}.{alias.name}" for alias in node.names)

    def _base(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        package = self.name.split(".")
        up = node.level - 1 if self.is_package else node.level
        return ".".join([*package[: len(package) - up], *([node.module] if node.module else [])])


def modules(root: Path, packages: list[str]) -> list[Module]:
    """All modules of the packages below `root`, sorted by path."""
    found = []
    for path in sorted(p for package in packages for p in (root / package).rglob("*.py")):
        relative = path.relative_to(root)
        parts = relative.with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found.append(Module(relative, name, path.read_text(encoding="utf-8")))
    return found


def cycles(found: list[Module]) -> list[list[str]]:
    """Groups of modules that import each other around a ring (strongly connected components, Tarjan 1972)."""
    names = {m.name for m in found}
    edges = {m.name: sorted({i for i in m.imports() if i in names} - {m.name}) for m in found}
    number: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    rings: list[list[str]] = []

    def visit(name: str) -> None:
        number[name] = lowest[name] = len(number)
        stack.append(name)
        for other in edges[name]:
            if other not in number:
                visit(other)
            if other in stack:
                lowest[name] = min(lowest[name], lowest[other])
        if lowest[name] == number[name]:
            ring = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            if len(ring) > 1:
                rings.append(sorted(ring))

    for name in edges:
        if name not in number:
            visit(name)
    return sorted(rings)
