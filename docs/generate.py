"""Write the generated references under docs/reference; `--check` only says whether they are in step.

Everything is read from where it is declared: config fields, plugin docstrings, row docstrings.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import sys
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cosmo_cli.recipe.schema import Evaluate, Phase, RecipeFile, Retention
from schemas.arrow import describe, hints, unwrap
from schemas.tables import TABLES
from stages.benchmarks import catalogue
from stages.benchmarks.benchmark import Arm, Benchmark, Figure, Judge, Published, Rows
from stages.core.registry import KINDS, load, names, summary
from stages.core.stage_list import STAGES, load_config
from stages.prepare.config import AugmentOptions

FOLDER = Path(__file__).parent / "reference"
NOTE = "<!-- Written by docs/generate.py from the code: edit there, then `make docs`. -->"


def config_page() -> Iterator[str]:
    """Every stage's fields."""
    yield from ("# Stage options", "", NOTE, "")
    yield "Every field can be set by `--set key=value` or in the recipe's table; some have a flag of their own."
    yield "Fields marked · are not in the fingerprint as they stand: they cannot change rows, or what they come to is."
    for verb in STAGES:
        yield from ("", f"## cosmo {verb}", "", STAGES[verb].summary, "")
        yield from _fields(load_config(verb), "")
        if verb == "train":
            yield from _own_settings()
        if verb == "prepare":
            yield from ("", "### Any source's table", "")
            yield from _fields(AugmentOptions, "")
    yield from ("", "# Executors", "", "`--set executor.KEY=VALUE` of prepare, rollout and score, beside `--executor`.")
    for name in names("executor"):
        if dataclasses.fields(settings := load("executor", name).config):
            yield from ("", f"## --executor {name}", "")
            yield from _fields(settings, "")
    yield from ("", "# Recipes", "", "One TOML file: a table a stage (above), and what `cosmo run` adds.", "")
    yield from _fields(RecipeFile, "")
    for title, cls in (("[[phases]]", Phase), ("[evaluate]", Evaluate), ("[retention]", Retention)):
        yield from ("", f"## {title}", "")
        yield from _fields(cls, "")


def _own_settings() -> Iterator[str]:
    """What plugins declare themselves, under the key of each one's table."""
    for kind, table in (("objective", "objectives"), ("loss", "losses"), ("advantage", "advantages")):
        for name in names(kind):
            if settings := load(kind, name).settings:
                yield from _fields(settings, f"{table}.{name}.")


def _fields(cls: type[Any], prefix: str) -> Iterator[str]:
    if not prefix:
        yield from ("| key | flag | default | |", "|---|---|---|---|")
    kinds = typing.get_type_hints(cls)
    for f in dataclasses.fields(cls):
        inner = kinds[f.name]
        if dataclasses.is_dataclass(inner) and prefix.count(".") < 3 and cls is not RecipeFile:
            yield from _fields(typing.cast(type, inner), f"{prefix}{f.name}.")
            continue
        if typing.get_origin(inner) is dict and dataclasses.is_dataclass(table := typing.get_args(inner)[1]):
            yield from _fields(typing.cast(type, table), f"{prefix}{f.name}.NAME.")
            continue
        default = f.default_factory() if f.default is dataclasses.MISSING else f.default  # type: ignore[misc]
        shown = "" if dataclasses.is_dataclass(default) else f"`{default!r}`"
        flag = f"`{f.metadata['flag']}`" if f.metadata.get("flag") else ""
        mark = "" if f.metadata.get("affects", True) else " ·"
        choices = [f"`{c}`" for c in f.metadata.get("choices", ()) if c != ""]
        text = str(f.metadata.get("help", "")).replace("|", "\\|") + (f" ({', '.join(choices)})" if choices else "")
        yield f"| `{prefix}{f.name}`{mark} | {flag} | {shown} | {text} |"


def plugins_page() -> Iterator[str]:
    """Every plugin, by kind."""
    yield from (
        "# Plugins",
        "",
        NOTE,
        "",
        "Each is one file; its first line is shown here and by `cosmo list`.",
    )
    for kind, where in KINDS.items():
        yield from (
            "",
            f"## {kind}",
            "",
            f"`{where.package.replace('.', '/')}/NAME.py`",
            "",
            "| name | |",
            "|---|---|",
        )
        yield from (f"| `{n}` | {summary(kind, n)} |" for n in names(kind))


def instructions_page() -> Iterator[str]:
    """Every instruction check of this repository, by family."""
    yield from (
        "# Instruction checks",
        "",
        NOTE,
        "",
        "What they are for, and how to add one: [instructions](../instructions.md).",
    )
    for family in names("instruction"):
        yield from ("", f"## {family}", "", summary("instruction", family), "")
        yield from ("| kind | arguments | |", "|---|---|---|")
        for check in load("instruction", family).checks.values():
            said = [f"`{a.name}` {a.needs}{'' if a.required else ', may be left out'}" for a in check.arguments]
            doc = " ".join((inspect.getdoc(check.rule) or "").split())
            yield f"| `{check.id}` | {'; '.join(said)} | {doc} |"


def benchmarks_page() -> Iterator[str]:
    """Every benchmark of the catalogue, and every key that a benchmark's file may have."""
    yield from (
        "# Benchmarks",
        "",
        NOTE,
        "",
        "How they are used, and how one is written: [benchmarks](../benchmarks.md).",
    )
    yield from ("", "| name | asks | packs | figures | licence | read from |", "|---|---|---|---|---|---|")
    for name in catalogue.names():
        one = catalogue.benchmark(name)
        figures = ", ".join(f"`{f.name}`" if f.headline else f.name for f in one.figures)
        asks = f"{one.title} ({one.paper}): {one.about}" if one.paper else f"{one.title}: {one.about}"
        cells = (f"`{name}`", asks, ", ".join(one.packs), figures, one.licence or "none is stated", one.seen)
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
    yield from ("", "Figures in `code` are those that a benchmark is known by. The keys of a benchmark's file:")
    for title, part in (
        ("the file itself", Benchmark),
        ("[rows]", Rows),
        ("[[rows.arms]]", Arm),
        ("[judge]", Judge),
        ("[[figures]]", Figure),
        ("[[figures.published]]", Published),
    ):
        yield from ("", f"## {title}", "", "| key | default | |", "|---|---|---|")
        for f in dataclasses.fields(part):
            if "help" not in f.metadata or dataclasses.is_dataclass(f.type):
                continue
            default = f.default_factory() if f.default is dataclasses.MISSING else f.default  # type: ignore[misc]
            if not dataclasses.is_dataclass(default):
                yield f"| `{f.name}` | `{default!r}` | {str(f.metadata['help']).replace('|', chr(92) + '|')} |"


def rows_page() -> Iterator[str]:
    """Every table and its columns."""
    yield from ("# Rows", "", NOTE, "", "What each stage writes. A `?` marks a column that may be null.")
    for table in TABLES.values():
        doc = (inspect.getdoc(table.row) or "").split("\n")[0]
        yield from ("", f"## {table.name} v{table.version}", "", f"`{table.row.__name__}`: {doc}", "")
        yield from ("| column | type | |", "|---|---|---|")
        docs = _field_docs(table.row)
        yield from (f"| `{n}` | {_kind(h)} | {docs.get(n, '')} |" for n, h in hints(table.row).items())


def _kind(hint: Any) -> str:
    inside = describe(hint)
    if isinstance(inside, list):
        return f"list of {_kind(typing.get_args(hint)[0])}"
    if not isinstance(inside, dict):
        return f"`{inside}`"
    kind, nullable = unwrap(hint)
    return f"{kind.__name__}?" if nullable else str(kind.__name__)


def _field_docs(row: type[Any]) -> dict[str, str]:
    """The string below each field, along the class and its bases."""
    docs: dict[str, str] = {}
    for cls in reversed(row.__mro__[:-1]):
        body = ast.parse(inspect.getsource(cls)).body[0]
        assert isinstance(body, ast.ClassDef)
        for field, below in zip(body.body, body.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr):
                docs[ast.unparse(field.target)] = " ".join(str(ast.literal_eval(below.value)).split())
    return docs


PAGES = {
    "options.md": config_page,
    "plugins.md": plugins_page,
    "instructions.md": instructions_page,
    "benchmarks.md": benchmarks_page,
    "rows.md": rows_page,
}


def main() -> int:
    """0 when the files are (now) in step."""
    stale = []
    for name, page in PAGES.items():
        path, text = FOLDER / name, "\n".join(page()) + "\n"
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            stale.append(name)
            if "--check" not in sys.argv:
                FOLDER.mkdir(exist_ok=True)
                path.write_text(text, encoding="utf-8")
    if stale and "--check" in sys.argv:
        print(f"docs/reference is out of step: {', '.join(stale)}; run make docs", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
