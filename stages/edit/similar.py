"""The same edit for other completions: proposals, which a person looks at before `cosmo edit --from` takes them.

A completion is like an edited one where it has, once, the very steps that the edit changed; of those the ones come
first whose questions are most alike (BM25 over their words). Our own design: what is false of one image may be true of
another, so nothing is edited by likeness alone, and each proposal goes through the gates of any edit.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from schemas.prompts import DocumentRow
from schemas.tables import ROLLOUTS
from stages.core.runs.folder import RunFolder
from stages.core.runs.shards import read_columns
from stages.corpus.index import Index
from stages.edit.changes import Cut, cut
from stages.edit.config import Change
from stages.judging.steps import split_steps

_COLUMNS = ["id", "split", "messages", *(f"completions.list.element.{name}" for name in ("index", "text", "error"))]
_TAGS = re.compile(r"(\s*</?\w+>\s*)*")


@dataclass(frozen=True, slots=True)
class Other:
    """A completion that an edit could be of, too."""

    id: str
    question: str
    index: int
    text: str


def changed_steps(text: str, place: Cut) -> tuple[str, str]:
    """The steps that a change is of, as they were and as they are, without tags that both begin with."""
    old, new = split_steps(text[: place.end]), split_steps(place.text)
    same = len(list(takewhile(lambda pair: pair[0] == pair[1], zip(old, new, strict=False))))
    before, after = "".join(old[same:]).strip(), "".join(new[same:]).strip()
    tags = _tags(before)
    return (before[len(tags) :], after[len(tags) :]) if tags == _tags(after) else (before, after)


def proposals(folders: list[RunFolder], edits: list[tuple[Change, Any]], most: int) -> list[Change]:
    """For each edit, with the group that it is of, at most so many others, those with the likest questions first.

    No completion is given two edits; rows of the split `test` are given none, nor completions that failed. An edit
    that changes no step, or only adds some, has nothing that others could share.
    """
    wanted = []
    for change, group in edits:
        text = next(c.text for c in group.completions if c.index == change.index)
        wanted.append(changed_steps(text, cut(change, text)))
    holding: list[list[Other]] = [[] for _ in edits]
    for other in _others(folders):
        for own, (before, after) in zip(holding, wanted, strict=True):
            if before != after and before and other.text.count(before) == 1:
                own.append(other)
    taken = {(change.id, change.index) for change, _ in edits}
    found: list[Change] = []
    for (change, group), (before, after), own in zip(edits, wanted, holding, strict=True):
        free = [o for o in own if (o.id, o.index) not in taken]
        for other in _likest(_question(group.messages), free)[:most]:
            taken.add((other.id, other.index))
            why = f"as {change.id}#{change.index}" + (f": {change.why}" if change.why else "")
            found.append(Change(other.id, other.index, after, before=before, by=change.by, why=why))
    return found


def _tags(text: str) -> str:
    found = _TAGS.match(text)
    return found[0] if found else ""


def _others(folders: list[RunFolder]) -> Iterator[Other]:
    """Every completion that could be edited; of two groups with one id those of the first, as everywhere."""
    seen: set[str] = set()
    for path in (path for folder in folders for path in folder.shard_paths()):
        for row in read_columns(path, _COLUMNS, ROLLOUTS).to_pylist():
            if row["split"] == "test" or row["id"] in seen:
                continue
            seen.add(row["id"])
            question = " ".join(p["text"] or "" for message in row["messages"] for p in message["content"])
            for completion in row["completions"]:
                if completion["error"] is None:
                    yield Other(row["id"], question, completion["index"], completion["text"])


def _question(messages: list[Any]) -> str:
    return " ".join(part.text or "" for message in messages for part in message.content)


def _likest(question: str, others: list[Other]) -> list[Other]:
    """Those whose questions share a word with this one, by BM25, then in order."""
    questions = list(dict.fromkeys(o.question for o in others))
    if not any(re.search(r"\w", text) for text in questions):
        return []
    index = Index.of(DocumentRow(id=str(n), title="", text=text) for n, text in enumerate(questions))
    rank = {questions[hit]: place for place, hit in enumerate(index.search(question, len(questions)))}
    return sorted((o for o in others if o.question in rank), key=lambda o: rank[o.question])
