"""Which prompt of a prepared run a row's completion belongs to: by id, else by the prompt's text."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from schemas.prompts import PromptRow
from schemas.tables import PROMPTS
from stages.core.errors import BadSample, InputError
from stages.core.runs.folder import RunFolder
from stages.core.runs.shards import read_columns, rows_at
from stages.imports.samples import Sample, text_of
from stages.reading.literals import opened
from stages.reading.plain_samples import IMAGE_MARK

Address = tuple[int, int, int, str]
"""Where a prompt lies: input, shard, row; and its id."""


class PromptIndex:
    """Every prompt of the runs by its id, by the id that its source gave it, and by its words."""

    def __init__(self, folders: list[RunFolder]) -> None:
        self._by_id: dict[str, Address] = {}
        self._by_source_id: dict[str, list[Address]] = {}
        self._by_text: dict[str, list[Address]] = {}
        self._texts: dict[Address, str] = {}
        for number, folder in enumerate(folders):
            for shard, path in enumerate(folder.shard_paths()):
                self._add(number, shard, path)

    def _add(self, number: int, shard: int, path: Path) -> None:
        # No image is read: these three columns are a few hundred bytes a row.
        table = read_columns(path, ["id", "extra", "messages"], PROMPTS).select(["id", "extra", "messages"])
        for row, (ident, extra, messages) in enumerate(zip(*(c.to_pylist() for c in table.columns), strict=True)):
            address = (number, shard, row, ident)
            # The first one stands, as in `cosmo rollout`: two rows of one id are the same prompt.
            if self._by_id.setdefault(ident, address) != address:
                continue
            text = _bare(_words(messages or []))
            self._texts[address] = text
            self._by_text.setdefault(text, []).append(address)
            known = opened(extra)
            if isinstance(known, dict) and known.get("id") is not None:
                self._by_source_id.setdefault(str(known["id"]), []).append(address)

    def find(self, sample: Sample) -> Address:
        """The prompt that the sample answers; BadSample where there is none, or more than one."""
        if sample.id is not None and sample.id in self._by_id:
            return self._by_id[sample.id]
        text = _text_of(sample.prompt)
        same_text = self._by_text.get(text, []) if text else []
        if len(same_text) == 1:
            return same_text[0]
        named = self._by_source_id.get(sample.id or "", [])
        # Ids of sources count rows, most often: they are believed where the words don't speak against them. Tools put
        # options and hints around a question, so that one text need only hold the other.
        if text:
            named = [a for a in named if self._texts[a] in text or text in self._texts[a]]
        if len(named) == 1:
            return named[0]
        if len(same_text) > 1 or len(named) > 1:
            count = len(same_text) or len(named)
            raise BadSample("ambiguous_prompt", f"{count} prompts have this text or id, and none has the row's own id")
        about = f"id {sample.id!r}" if sample.id is not None else "no id"
        raise BadSample("no_such_prompt", f"{about}, and no prompt there reads: {text[:60]!r}")


def fetch(folders: list[RunFolder], addresses: list[Address]) -> dict[Address, PromptRow]:
    """The prompts at these places; InputError where another one lies there by now."""
    planned: dict[tuple[int, int], dict[int, Address]] = {}
    for address in addresses:
        planned.setdefault(address[:2], {})[address[2]] = address
    found: dict[Address, PromptRow] = {}
    for (number, shard), rows in sorted(planned.items()):
        path = folders[number].shard_paths()[shard]
        for row, prompt in zip(sorted(rows), rows_at(path, PROMPTS, sorted(rows)), strict=True):
            if prompt.id != rows[row][3]:
                raise InputError(f"{path} has changed since this run began", "start it again with the same command")
            found[rows[row]] = prompt
    return found


def _words(messages: list[dict[str, Any]]) -> str:
    return "\n".join(p["text"] for m in messages for p in m["content"] or [] if p["text"])


def _text_of(prompt: Mapping[str, Any]) -> str:
    """The words of a sample's prompt, as far as it has some."""
    given = opened(prompt["prompt"]) if "prompt" in prompt else opened(prompt.get("messages"))
    if isinstance(given, list):
        texts = []
        for turn in given:
            try:
                texts.append(text_of(turn) or "")
            # What is no turn has no words, and what it is has been said where its prompt is made.
            except BadSample:
                continue
        return _bare("\n".join(texts))
    return _bare(given) if isinstance(given, str) else ""


def _bare(text: str) -> str:
    """The words without image marks and with single blanks: tools lay them out anew."""
    return " ".join(text.replace(IMAGE_MARK, " ").split())
