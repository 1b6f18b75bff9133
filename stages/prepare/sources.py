"""Sources: `NAME`, `NAME:PATH` or a recipe table, as a plugin with its options, and its records.

NAME may be `FILE.py:OBJECT` or `MODULE:OBJECT`, too; then a path comes after a second colon.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path, PurePath
from typing import Any

from schemas.identity import digest
from schemas.prompts import PromptRow
from stages.core import registry
from stages.core.config import build, key_of
from stages.core.errors import BadSample, InputError, UsageError
from stages.core.plugins import references
from stages.core.resources import Kind, Resources
from stages.judging.instructions.checkable import families_asked
from stages.prepare.config import AugmentOptions
from stages.prepare.datasets.base import Dataset, FoundOut, Record


@dataclass(frozen=True, slots=True)
class Source:
    """One dataset as it was asked for."""

    name: str
    """What the plugin is called."""
    plugin: Dataset
    options: Any
    """An instance of the plugin's options dataclass."""
    limit: int = 0
    """At most so many of its rows, seeded; 0 takes all. Any source's table may say it."""
    augment: AugmentOptions = field(default_factory=AugmentOptions)
    """Which families its rows go through, on top."""
    named: str = ""
    """The plugin as it was named: `./mine.py:rows`; left out, its name."""

    @property
    def shown(self) -> str:
        """How a person would type it."""
        path = getattr(self.options, "path", "")
        named = self.named or self.name
        return f"{named}:{path}" if path else named


def parse(spec: Any, where: str, reading: dict[str, Any] | None = None) -> Source:
    """A source from the command line or a recipe; UsageError for a wrong name, key or type.

    `reading` is what the command line says of how files are read (`map`, `images`, ...): a source's own table comes
    first.
    A text that names no dataset is a file, a folder or a hub id.
    """
    if isinstance(spec, str):
        name, path = _taken_apart(spec)
        if path is None and not registry.is_known("dataset", name) and _is_data(name):
            name, path = ANY, name
        elif reading and path is not None and name in _READERS:
            # One reader corrects them all in the same words.
            name = ANY
        values: dict[str, Any] = {} if path is None else {"path": path}
        if name == BENCH and path is not None:
            # `bench:NAME` with --from, or `bench:NAME:PATH`.
            values = dict(zip(("benchmark", "path"), path.split(":", 1), strict=False))
    elif isinstance(spec, dict):
        values = dict(spec)
        name = values.pop("name", None)
    else:
        name = None
    if not isinstance(name, str) or not name:
        hint = 'write "NAME:PATH", or a table with name = "..."'
        raise UsageError(f"{where} = {spec!r} names no dataset", hint)
    plugin = _plugin(name)
    folder = (reading or {}).get("from")
    if name == ANY:
        values = {**{k: v for k, v in (reading or {}).items() if k != "from"}, **values}
    elif name == BENCH and folder:
        values = {"path": folder, **values}
    _refuse_path(name, plugin, values)
    limit = values.pop("limit", 0)
    # `type` and not `isinstance`: True is an int in Python, and `limit = true` would take one row.
    if type(limit) is not int or limit < 0:
        raise UsageError(f"{where} {name}.limit = {limit!r} is no number of rows", "0 takes all")
    augment = _augment(values, f"{where} {name}")
    options = build(plugin.options, values, f"{where} {name}")
    # A benchmark says itself where its files are to be had.
    if getattr(options, "path", None) == "" and name != BENCH:
        raise UsageError(f"{name} needs a path", f"cosmo prepare {name}:PATH, or path = in its table")
    return Source(registry.short_name(name), plugin, options, limit, augment, name)


ANY = "any"
"""The dataset that finds out what a file is."""
BENCH = "bench"
"""The dataset of public benchmarks."""
_READERS = ("jsonl", "parquet", "hf")


def _is_data(text: str) -> bool:
    """Whether a text that names no dataset is a path, or may be a hub id."""
    path = Path(text).expanduser()
    with contextlib.suppress(OSError, ValueError):
        if path.exists():
            return True
    return "/" in text or registry.is_known("dataset", path.suffix.lstrip("."))


def reading_notes(source: Source) -> list[str]:
    """How a source that was found out is read, in a line or two; nothing for any other."""
    return source.plugin.reading(source.options) if isinstance(source.plugin, FoundOut) else []


def first_rows(source: Source, most: int, checks: Sequence[str] = ()) -> Iterator[PromptRow | str]:
    """The first rows of a source that is found out, as they would be; nothing of any other.

    `checks` are instruction checks by where their code is.
    """
    if not isinstance(source.plugin, FoundOut):
        return
    for row in source.plugin.first_rows(source.options, most):
        try:
            families_asked([] if isinstance(row, str) else row.instructions, checks)
            yield row
        except BadSample as bad:
            yield f"a row is rejected: {bad}"


def _taken_apart(spec: str) -> tuple[str, str | None]:
    """`NAME:PATH`, `FILE.py:NAME:PATH` or `MODULE:NAME:PATH` as the plugin and the path; None where there is none.

    What is before the first colon decides: the name of a dataset is one, whatever follows it; else a file's or a
    module's object is looked for.
    """
    first, _, rest = spec.partition(":")
    attribute, colon, path = rest.partition(":")
    if not registry.is_known("dataset", first) and references.parse(f"{first}:{attribute}") is not None:
        named_file = first.endswith(".py")
        # `jsnol:data` is a dataset misspelt, and `toy:rows` no dataset of ours: only what can be imported is a module.
        if named_file or (first.partition(".")[0] not in sys.stdlib_module_names and _is_module(first)):
            return f"{first}:{attribute}", path if colon else None
    return first, rest if ":" in spec else None


def _is_module(name: str) -> bool:
    try:
        # Of `a.b` only `a` is looked for: `find_spec("a.b")` would import `a`, and a spec from the command line runs
        # nothing yet.
        return importlib.util.find_spec(name.partition(".")[0]) is not None
    # ValueError: a module that is running without a spec, `__main__` for one.
    except (ImportError, ValueError):
        return False


def _plugin(name: str) -> Dataset:
    kind = PurePath(name).suffix.lstrip(".")
    if not registry.is_known("dataset", name) and registry.is_known("dataset", kind):
        raise UsageError(f"{name!r} is a file, not a dataset", f"cosmo prepare {kind}:{name}")
    plugin: Dataset = registry.load("dataset", name)
    return plugin


def _augment(values: dict[str, Any], where: str) -> AugmentOptions:
    """What the table says of augmentation, taken out of it; UsageError for an unknown family."""
    own_keys = [f.name for f in dataclasses.fields(AugmentOptions)]
    asked: AugmentOptions = build(AugmentOptions, {k: values.pop(k) for k in own_keys if k in values}, where)
    asked = dataclasses.replace(
        asked,
        augment=[registry.enter("augmentation", f) for f in asked.augment],
        augment_heldout=[registry.enter("augmentation", f) for f in asked.augment_heldout],
    )
    # Loaded for its error alone: an unknown family is told before any source is read.
    for family in (*asked.augment, *asked.augment_heldout):
        registry.load("augmentation", family)
    if both := sorted(set(asked.augment) & set(asked.augment_heldout)):
        raise UsageError(
            f"{where}: family {both[0]!r} is in augment and in augment_heldout", "held out means never trained"
        )
    return asked


def _refuse_path(name: str, plugin: Dataset, values: dict[str, Any]) -> None:
    known = [f.name for f in dataclasses.fields(plugin.options)]
    if "path" in values and "path" not in known:
        hint = f"its options: {', '.join(known) or 'none'}"
        raise UsageError(f"{name} takes no path, and was given {values['path']!r}", hint)


def identity(source: Source) -> dict[str, Any]:
    """What decides a source's records: plugin, version, options, content. No path."""
    asked = source.augment
    families = [registry.plugin_key("augmentation", f) for f in (*asked.augment, *asked.augment_heldout)]
    return {
        "plugin": registry.plugin_key("dataset", source.named or source.name),
        "options": key_of(source.options),
        "limit": source.limit,
        "digest": source.plugin.digest(source.options),
        # Words and images of cards follow from Pillow's font, as those of the built-in world do.
        **({"augment": key_of(asked), "families": families, "pillow": version("pillow")} if families else {}),
    }


RECORDS: Kind[dict[str, list[Record]]] = Kind("records")
"""What sources hold, by seed: planning reads them, and so does the work."""


def records(source: Source, seed: int, resources: Resources) -> list[Record]:
    """All records of a source in order, rejected ones included; InputError when there is none."""
    cached = resources.get(RECORDS, str(seed), dict)
    # A limit is applied while mixing, so that the same file with two limits is read once.
    key = digest({**identity(source), "limit": 0})
    if key not in cached:
        cached[key] = list(source.plugin.records(source.options, seed))
    if not cached[key]:
        raise InputError(f"{source.shown} holds no samples", "check that it is the right file and not empty")
    return cached[key]
