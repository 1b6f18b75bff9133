"""Going through the files once: which rows make which group, and which rows are none."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from schemas.identity import digest
from schemas.rejected import RejectedRow
from stages.core.errors import BadSample, InputError, UsageError
from stages.core.field_paths import LEFT_OUT
from stages.core.stage import Context
from stages.imports.config import ImportConfig
from stages.imports.files import open_file
from stages.imports.join import PromptIndex
from stages.imports.layouts import layout_of
from stages.imports.prompts import image_rules, prompt_draft
from stages.imports.samples import Sample, SampleReader, field_map
from stages.judging.instructions.checkable import families_asked
from stages.reading.containers.base import Container, Item, taken
from stages.reading.unread_images import UnreadImage


@dataclass(slots=True)
class Planned:
    """What the files hold."""

    groups: list[dict[str, Any]] = field(default_factory=list)
    """`{"prompt": address or null, "model": name, "rows": [[file, place, ref], ...]}`, in the order of first rows."""
    layouts: list[str] = field(default_factory=list)
    """By file."""
    rejected: list[RejectedRow] = field(default_factory=list)
    images: list[list[str]] = field(default_factory=list)
    """(name, sha256) of every image file that a row names."""
    policies: dict[str, int] = field(default_factory=dict)
    """Rows by model."""
    families: set[str] = field(default_factory=set)
    """What checks the rows' instructions."""
    reading: list[str] = field(default_factory=list)
    """How each file was read, in one line."""


class Planner:
    """Groups the rows of all files."""

    def __init__(self, ctx: Context, paths: list[Path]) -> None:
        self._ctx, self._config, self._paths = ctx, ctx.config, paths
        self._index = PromptIndex(ctx.inputs) if ctx.inputs else None
        self._groups: dict[tuple[Any, str], dict[str, Any]] = {}
        self._hashed: set[str] = set()
        self._found = Planned()

    def plan(self) -> Planned:
        """The groups of all rows that can be used; InputError where there is none."""
        self._ctx.progress.start("read", None, "rows")
        for number, path in enumerate(self._paths):
            self._read_file(number, open_file(path))
        self._found.groups = list(self._groups.values())
        if not self._found.groups:
            reasons = Counter(r.reason for r in self._found.rejected)
            counts = ", ".join(f"{n} {reason}" for reason, n in reasons.most_common()) or "the files are empty"
            first = next(iter(self._found.rejected), None)
            hint = (
                f"the first: {first.source} {first.ref}: {first.detail}"
                if first
                else "check that they are the right ones"
            )
            raise InputError(f"no completion to import: {counts}", hint)
        return self._found

    def _read_file(self, number: int, file: Container) -> None:
        reader: SampleReader | None = None
        layout, used, kept = "rows", Counter[Any](), 0
        path = file.files[0]
        seen_filters: set[str] = set()
        for found in file.items():
            self._ctx.progress.advance()
            try:
                row = taken(found)
                if reader is None:
                    layout = self._layout(row)
                    reader = SampleReader(self._config, layout, path, file.head)
                _refuse_other_filter(row, layout, seen_filters)
                sample = reader.sample(row)
                self._add(number, path, found, sample)
            except BadSample as bad:
                source = path.name
                # The file's name is a column of its own.
                ref = found.ref.removeprefix(f"{source} ")
                self._found.rejected.append(
                    RejectedRow(stage="import", source=source, ref=ref, reason=bad.reason, detail=bad.detail)
                )
                continue
            kept += 1
            used.update(sample.used.items())
        self._found.layouts.append(layout)
        self._say(path, layout, used, kept)

    def _layout(self, row: dict[str, Any]) -> str:
        config: ImportConfig = self._config
        return layout_of(row) if config.layout == "auto" else config.layout

    def _add(self, number: int, path: Path, found: Item, sample: Sample) -> None:
        if self._index is not None:
            address = self._index.find(sample)
            prompt: Any = list(address)
            key: Any = address
        elif "prompt" in sample.prompt or "messages" in sample.prompt:
            rules = image_rules(self._config, path)
            draft = prompt_draft(sample.prompt, self._config, f"import:{path.stem}", rules)
            row = draft.row
            self._found.families.update(families_asked(row.instructions, self._config.checks))
            images = [self._image_key(image) for image in draft.images]
            turns = [[m.role, [[p.type, p.text] for p in m.content]] for m in row.messages]
            prompt, key = None, digest([row.label, turns, images, row.answer])
        else:
            raise BadSample("malformed", f"id {sample.id!r} and no prompt: --prompts RUN says what it is the id of")
        group = self._groups.setdefault((key, sample.model), {"prompt": prompt, "model": sample.model, "rows": []})
        group["rows"].append([number, found.position, found.ref.removeprefix(f"{path.name} ")])
        self._found.policies[sample.model] = self._found.policies.get(sample.model, 0) + 1

    def _image_key(self, image: UnreadImage) -> str:
        found = image.digest()
        # What lies in a file or on the web is no part of the rows' own digest.
        if image.is_apart and found not in self._hashed:
            self._hashed.add(found)
            self._found.images.append([image.name, found])
        return found

    def _say(self, path: Path, layout: str, used: Counter[Any], kept: int) -> None:
        """One line about the file: which layout, and which column was read as what."""
        fields: dict[str, str] = {}
        for (name, column), _ in used.most_common():
            fields.setdefault(name, column)
        asked = {name: f"--map {name}=" for name in self._mapped()}
        asked |= {f"grade {name}": f"--set grades.{name}=" for name in self._config.grades}
        wrong = next((typed for name, typed in asked.items() if name not in fields), None)
        if wrong is not None and kept:
            raise UsageError(f"{wrong}...: no row of {path.name} has anything there", "look at one of its rows")
        shown = ", ".join(f"{column} -> {name}" if column != name else name for name, column in fields.items())
        line = f"{path.name} ({layout}): {shown or 'nothing to map'}; {kept} rows"
        self._found.reading.append(line)
        self._ctx.progress.log(line)

    def _mapped(self) -> list[str]:
        return [name for name, path in field_map(self._config.map).items() if path.text != LEFT_OUT]


def _refuse_other_filter(row: dict[str, Any], layout: str, seen: set[str]) -> None:
    """lm-eval writes a document once for each of its filters, with the same responses: the first filter's count."""
    if layout == "lm_eval" and isinstance(name := row.get("filter"), str):
        seen.add(name) if not seen else None
        if name not in seen:
            raise BadSample("other_filter", f"the same responses under the filter {name!r}")
