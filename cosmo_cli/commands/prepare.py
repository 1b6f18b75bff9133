"""`cosmo prepare`: datasets to prompts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cosmo_cli.stage_command import stage_command

_SHOWN_ROWS, _SHOWN_TEXT = 3, 300
_FIELDS = ("label", "task", "split", "answer", "answer_kind", "choices", "reference_response", "harmful", "extra")


def _show_first_rows(config: Any, inputs: list[Path], given: dict[str, Any]) -> bool:
    """With --dry-run, the first rows of every file as they would be, before the plan is made."""
    if given["dry_run"]:
        from cosmo_cli.terminal.output import Output
        from stages.prepare.sources import first_rows
        from stages.prepare.stage import sources_of

        output = Output("prepare", given["json"], given["quiet"])
        for source in sources_of(config):
            for row in first_rows(source, _SHOWN_ROWS, config.checks):
                output.say(row if isinstance(row, str) else _shown(row))
    return False


def _shown(row: Any) -> str:
    """A row in one line: its turns, images by size, and what it has of the other fields."""
    turns = []
    for message in row.messages:
        parts = ["<image>" if p.type == "image" else p.text for p in message.content]
        turns.append(f"{message.role}: {_cut(' '.join(parts))}")
    fields = {name: value for name in _FIELDS if (value := getattr(row, name)) not in (None, [], "")}
    images = [f"{image.path} ({len(image.bytes)} bytes)" for image in row.images]
    return " | ".join(
        turns + [f"images: {', '.join(images)}"] * bool(images) + [_cut(json.dumps(fields, ensure_ascii=False))]
    )


def _cut(text: str) -> str:
    text = text.replace("\n", "\\n")
    return text if len(text) <= _SHOWN_TEXT else f"{text[: _SHOWN_TEXT - 3]}..."


def _say_labels(output: Any, result: Any, given: dict[str, Any]) -> None:
    """With a recipe, the labels that it pays nothing for."""
    from cosmo_cli.recipe.label_check import warn_where_known

    warn_where_known(given, [result.where], output)


COMMAND = stage_command("prepare", after=_say_labels, instead=_show_first_rows)
