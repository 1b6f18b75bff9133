"""cosmo show.

Reads any run folder or Parquet shard. A prompt group is a card of one screen, its completions by reward; --all and
--json have every field. An image is named with its type and size, and shown small on a terminal that can.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cosmo_cli.options import JsonOption
from cosmo_cli.terminal.images import Images

if TYPE_CHECKING:
    from rich.text import Text

    from cosmo_cli.terminal.output import Output
    from schemas.values import Image

TOKENS = ("token_ids", "prompt_token_ids", "banned_token_ids", "logprobs", "generated", "written")
"""Fields for programs, left out of what people read."""
_MOST_DRAWN = 4


def command(
    path: Annotated[Path, typer.Argument(help="A run folder or a Parquet file.")],
    limit: Annotated[int, typer.Option("--limit", "-n", help="How many rows.", min=1)] = 3,
    id: Annotated[str | None, typer.Option("--id", help="Only the row with this id (a prefix will do).")] = None,
    label: Annotated[str | None, typer.Option("--label", help="Only rows with this label.")] = None,
    rejected: Annotated[bool, typer.Option("--rejected", help="The rejected rows and their reasons.")] = False,
    all: Annotated[bool, typer.Option("--all", help="Every field, token ids and log-probs too.")] = False,
    query: Annotated[
        str | None, typer.Option("--query", help="SQL over the table `rows`, by DuckDB.", metavar="SQL")
    ] = None,
    images: Annotated[
        Images,
        typer.Option(
            "--images",
            help="Images of a group as pictures: where the terminal says that it can, never, or so.",
        ),
    ] = Images.AUTO,
    json: JsonOption = False,
) -> None:
    """Print the first rows that fit; InputError where an id or a label was asked for and none does."""
    from cosmo_cli.terminal.output import Output
    from schemas.arrow import to_record
    from schemas.tables import TABLES
    from stages.core.errors import InputError
    from stages.core.runs.folder import RunFolder

    output = Output("show", json)
    folder = RunFolder.open(path)
    if query is not None:
        from cosmo_cli.inspection.sql import show_query

        show_query(folder, query, output)
        return
    if not rejected and folder.table not in TABLES:
        raise InputError(
            f"{folder.where} holds no table of ours", "any Parquet tool reads it: duckdb, pandas, datasets"
        )
    rows = folder.rejected() if rejected else folder.rows(TABLES[folder.table or ""])
    shown: list[dict[str, Any]] = []
    drawn: list[list[tuple[str | Text, int]]] = []
    for row in rows:
        if id is not None and not str(getattr(row, "id", "")).startswith(id):
            continue
        if label is not None and getattr(row, "label", None) != label:
            continue
        shown.append(readable(with_step_words(to_record(row))))
        drawn.append([] if json or all else drawn_images(getattr(row, "images", []), images))
        if len(shown) == limit:
            break
    if not shown and (id or label):
        raise InputError(f"no row matches {id or label!r} in {folder.where}", "cosmo show PATH lists the first rows")
    if json:
        output.document(shown)
        return
    for number, (record, own) in enumerate(zip(shown, drawn, strict=True)):
        output.lines([""] if number else [])
        _show(output, record, all, own)


def _show(output: Output, record: dict[str, Any], every_field: bool, drawn: list[tuple[str | Text, int]]) -> None:
    """A row, its images below the line that says which row it is."""
    from cosmo_cli.terminal.output import stdout_width

    lines = lines_of(record, every_field, stdout_width(), sum(rows for _, rows in drawn))
    output.styled(lines[:1])
    for one, _ in drawn:
        output.image(one)
    output.styled(lines[1:])


def drawn_images(stored: list[Image], asked: Images) -> list[tuple[str | Text, int]]:
    """A row's images as the terminal shows them, with the lines each may take; none for a pipe."""
    from cosmo_cli.terminal.images import MOST_ROWS, drawn_image, way_of
    from cosmo_cli.terminal.output import stdout_width

    width = stdout_width()
    way = way_of(os.environ) if asked == Images.AUTO else asked
    if width is None or way == Images.NEVER or not stored:
        return []
    # A third of the screen for all of them: the rest is the group's.
    room = max(2, min(MOST_ROWS, shutil.get_terminal_size().lines // 3 // len(stored)))
    drawn = (drawn_image(image, way, width - 1, room) for image in stored[:_MOST_DRAWN])
    return [(one, room) for one in drawn if one is not None]


def lines_of(
    record: dict[str, Any], every_field: bool, width: int | None, taken: int = 0
) -> list[tuple[str, str, int]]:
    """A row for a person: a group as a card, anything else field by field; token ids only with every field.

    `taken`: lines of the screen that are not the card's.
    """
    from cosmo_cli.terminal.card import card

    if not every_field and "messages" in record:
        return card(record, width, shutil.get_terminal_size().lines - taken)
    lines = spell(record if every_field else {k: v for k, v in record.items() if k not in TOKENS})
    return [(line, "", len(line) - len(line.lstrip()) + 2) for line in lines]


def with_step_words(record: dict[str, Any]) -> dict[str, Any]:
    """The record of a scored row with the words of each step that was graded, which has only their place."""
    completions = record.get("completions")
    # A figure of an evaluation counts them.
    for completion in completions if isinstance(completions, list) else []:
        for grade in completion.get("grades") or []:
            for step in grade["steps"] or []:
                step["words"] = completion["text"][step["start"] : step["stop"]].strip()
    return record


def readable(value: Any) -> Any:
    """Images as `PNG 84x84, 1,234 bytes`; everything else as it is."""
    if isinstance(value, dict):
        # An image is the only struct with just these two fields.
        if set(value) == {"bytes", "path"}:
            return image(value)
        return {k: readable(v) for k, v in value.items()}
    return [readable(v) for v in value] if isinstance(value, list) else value


def image(image: dict[str, Any]) -> str:
    """Type, size and name of an encoded image, from its header."""
    from stages.models.image_checks import header

    name = f" {image['path']}" if image["path"] else ""
    if (found := header(image["bytes"])) is None:
        return f"<not an image, {len(image['bytes']):,} bytes{name}>"
    kind, width, height = found
    return f"<{kind} {width}x{height}, {len(image['bytes']):,} bytes{name}>"


def spell(record: dict[str, Any], indent: str = "") -> list[str]:
    """A record as lines: short lists on one line, nested ones indented, empty fields left out."""
    lines = []
    for key, value in record.items():
        if value is None or value == [] or value == "":
            continue
        if isinstance(value, list) and isinstance(value[0], dict):
            for number, item in enumerate(value):
                lines += [f"{indent}{key}[{number}]", *spell(item, indent + "  ")]
        elif isinstance(value, dict):
            lines += [f"{indent}{key}", *spell(value, indent + "  ")]
        elif isinstance(value, list) and len(value) > 24:
            lines.append(f"{indent}{key}: {_short(value[:24])} ... ({len(value)})")
        elif isinstance(value, list):
            lines.append(f"{indent}{key}: {_short(value)}")
        else:
            lines.append(f"{indent}{key}: {value}")
    return lines


def _short(values: list[Any]) -> str:
    return ", ".join(f"{v:.4g}" if isinstance(v, float) else str(v) for v in values)


COMMAND = command
