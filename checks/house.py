"""The house's own rules: `python -m checks.house` prints the tree's numbers and exits 1 where one falls short.

What a newcomer meets: files of a size one reads, folders one takes in, names that say what they do, docstrings that
say something, and no two modules that need each other. A rule that others can check (imports between stages, unused
names, types) is theirs.
"""

from __future__ import annotations

import ast
import io
import statistics
import sys
import tokenize
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from checks.source import Module, cycles, modules

PACKAGES = ["cosmo_cli", "stages", "schemas", "checks"]
MOST_LINES, MOST_CLASS_LINES, MOST_FILES, FEWEST_WORDS = 500, 120, 13, 4
FIRST_LINE_IN = Path("stages/core/errors.py")
"""Where the one function lives that takes the first line of a foreign error."""

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@dataclass(frozen=True, slots=True)
class Fault:
    """One place that falls short of one rule."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


def import_cycles(found: list[Module]) -> Iterator[Fault]:
    """Modules that need each other: none can be read, tested or moved alone."""
    for ring in cycles(found):
        yield Fault(ring[0], f"imports in a ring: {', '.join(ring)}")


def crowded_folders(found: list[Module]) -> Iterator[Fault]:
    """Folders of more files than one takes in; a folder that is mostly plugins has as many as there are."""
    files = Counter(m.path.parent for m in found if not m.is_package)
    plugins = Counter(m.path.parent for m in found if m.is_plugin)
    for folder, number in files.items():
        if number > MOST_FILES and 2 * plugins[folder] < number:
            yield Fault(str(folder), f"{number} files, of which {plugins[folder]} are plugins; at most {MOST_FILES}")


def long_files(found: list[Module]) -> Iterator[Fault]:
    """Files over the limit."""
    for module in found:
        if module.lines > MOST_LINES:
            yield Fault(str(module.path), f"{module.lines} lines; at most {MOST_LINES}")


def large_classes(found: list[Module]) -> Iterator[Fault]:
    """Classes that do more than one thing, by their length."""
    for module in found:
        for node in _definitions(module):
            if isinstance(node, ast.ClassDef) and _length(node) > MOST_CLASS_LINES:
                yield Fault(_at(module, node), f"{_length(node)} lines; at most {MOST_CLASS_LINES}")


def short_docstrings(found: list[Module]) -> Iterator[Fault]:
    """Docstrings that repeat a name instead of saying what comes back."""
    for module in found:
        for node in (module.tree, *_definitions(module)):
            text = ast.get_docstring(node)
            if text is not None and len(text.split()) < FEWEST_WORDS:
                yield Fault(_at(module, node), f"docstring {text!r} says too little; {FEWEST_WORDS} words or more")


def banned_names(found: list[Module]) -> Iterator[Fault]:
    """Functions, classes, attributes and modules whose name needs a dictionary: names.toml says which, and why."""
    table = tomllib.loads(Path(__file__).with_name("names.toml").read_text(encoding="utf-8"))
    for module in found:
        own = module.name.rpartition(".")[2]
        for where, name, reasons in (
            (str(module.path), own, {**table["names"], **table["modules"]}),
            *((where, name, table["names"]) for where, name in _named(module)),
        ):
            plain = name.strip("_").lower()
            if plain in reasons:
                yield Fault(where, f"name {name!r}: {reasons[plain]}")


def foreign_first_lines(found: list[Module]) -> Iterator[Fault]:
    """`str(error).splitlines()[0]` and its like: an IndexError where an exception has no text."""
    for module in found:
        if module.path == FIRST_LINE_IN:
            continue
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Subscript) and _cuts_lines_of_error(node.value):
                yield Fault(f"{module.path}:{node.lineno}", "use stages.core.errors.first_line(error)")


RULES: tuple[Callable[[list[Module]], Iterator[Fault]], ...] = (
    import_cycles,
    crowded_folders,
    long_files,
    large_classes,
    short_docstrings,
    banned_names,
    foreign_first_lines,
)


def _definitions(module: Module) -> Iterator[Definition]:
    return (n for n in ast.walk(module.tree) if isinstance(n, Definition))


def _length(node: Definition) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def _at(module: Module, node: ast.AST) -> str:
    return f"{module.path}:{getattr(node, 'lineno', 1)} {getattr(node, 'name', 'module')}"


def _named(module: Module) -> Iterator[tuple[str, str]]:
    """(where, name) of every definition and every attribute that is set; a variable inside a function is its own."""
    for node in ast.walk(module.tree):
        if isinstance(node, Definition):
            yield f"{module.path}:{node.lineno}", node.name
        if isinstance(node, ast.ClassDef):
            for field in node.body:
                targets = field.targets if isinstance(field, ast.Assign) else [getattr(field, "target", None)]
                yield from ((f"{module.path}:{field.lineno}", t.id) for t in targets if isinstance(t, ast.Name))
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield f"{module.path}:{node.lineno}", node.attr


def _cuts_lines_of_error(node: ast.expr) -> bool:
    """Whether this is some text of `str(...)`, `repr(...)` or an f-string cut into lines, an `or` behind it or not."""
    for part in ast.walk(node):
        if isinstance(part, ast.Call) and isinstance(part.func, ast.Attribute):
            at_newline = part.args and isinstance(part.args[0], ast.Constant) and part.args[0].value == "\n"
            cut = part.func.attr == "splitlines" or (part.func.attr in ("split", "partition", "rsplit") and at_newline)
            if cut and any(_is_text_of_something(inner) for inner in ast.walk(part.func.value)):
                return True
    return False


def _is_text_of_something(node: ast.AST) -> bool:
    named = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("str", "repr")
    return named or isinstance(node, ast.JoinedStr)


def comment_lines(module: Module) -> int:
    """Comments that say something to a reader: words for tools (`noqa`, `type:`, `fmt:`) are none."""
    tokens = tokenize.generate_tokens(io.StringIO(module.text).readline)
    texts = (t.string.lstrip("# ") for t in tokens if t.type == tokenize.COMMENT)
    return sum(not text.startswith(("noqa", "type:", "fmt:", "pragma", "!")) for text in texts)


def numbers(found: list[Module]) -> list[str]:
    """The tree's figures, a line each: what the rules hold, and how far it is from each limit."""
    classes = [(_length(n), _at(m, n)) for m in found for n in _definitions(m) if isinstance(n, ast.ClassDef)]
    functions = [(_length(n), _at(m, n)) for m in found for n in _definitions(m) if not isinstance(n, ast.ClassDef)]
    lines = sum(m.lines for m in found)
    comments = sum(comment_lines(m) for m in found)
    longest = max(found, key=lambda m: m.lines)
    return [
        f"files {len(found)}, lines {lines}, median {statistics.median_low(m.lines for m in found)}, "
        f"longest {longest.lines} ({longest.path})",
        "longest class {} ({})".format(*max(classes, default=(0, "none"))),
        "longest function {} ({})".format(*max(functions, default=(0, "none"))),
        f"comments {comments} lines, {comments / max(lines, 1):.2%}",
    ]


def main(root: Path) -> int:
    """Print figures and faults of the tree at `root`; 1 where there is a fault, else 0."""
    found = modules(root, PACKAGES)
    print(*numbers(found), sep="\n")
    faults = 0
    for rule in RULES:
        broken = list(rule(found))
        faults += len(broken)
        print(f"{rule.__name__.replace('_', ' ')} {len(broken)}")
        for fault in broken:
            print(f"  {fault}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(Path.cwd()))
