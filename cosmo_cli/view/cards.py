"""What a reader sees of a group: its prompt, and every completion by what it earned."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schemas.rollouts import Completion, RolloutGroup
from schemas.scored import NOT_APPLICABLE, ScoredCompletion, Term
from stages.eval.report.sample import TEST, Chip, grade_chip
from stages.judging.words import completion_key

if TYPE_CHECKING:
    from schemas.prompts import Edit, PromptRow
    from stages.core.runs.folder import RunFolder

LONGEST = 60_000
"""Characters of one text that a page shows; the row has all of it."""
THINK, ANSWER, OBSERVED = "think", "answer", "observed"
_BLOCK = re.compile(r"<think>(.*?)(?:</think>|\Z)", re.S)


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a completion."""

    kind: str
    """think, answer, or observed: what an environment said."""
    text: str


@dataclass(frozen=True, slots=True)
class CompletionCard:
    """One completion as a reader sees it."""

    index: int
    pieces: list[Piece]
    note: str
    """Tokens, and how it ended where that was not by itself."""
    reward: float | None
    above: float | None
    """Its reward less the group's mean: the sign of its advantage."""
    terms: list[Term]
    chips: list[Chip]
    edit: str
    """The command that opens it in an editor; empty where it can't be edited."""
    tokens: int
    guided: bool
    """Its steps were chosen among several."""
    key: str
    """What people's words call it; empty for one that is none."""


@dataclass(frozen=True, slots=True)
class Card:
    """One group as a reader sees it."""

    id: str
    tags: list[tuple[str, str]]
    """Label, task, family, split; with a tone."""
    turns: list[tuple[str, str]]
    images: int
    answer: str
    formula: str
    edit: Edit | None
    """What somebody changed, which completions go on from."""
    completions: list[CompletionCard] = field(default_factory=list)


def cards(folder: RunFolder, places: list[tuple[Path, list[int]]]) -> Iterator[Card]:
    """The cards of these rows, shard by shard. InputError for a shard that can't be read."""
    from schemas.tables import TABLES
    from stages.core.runs.shards import rows_at

    table = TABLES[folder.table or ""]
    for path, rows in places:
        for row in rows_at(path, table, rows):
            yield card(row, folder)


def card(row: PromptRow, folder: RunFolder) -> Card:
    """One row of prompts, rollouts or scored groups."""
    tags = [(row.label, ""), (row.task, "")]
    if row.harmful is not None:
        tags.append(("harmful", "bad") if row.harmful else ("benign", "good"))
    tags += [(f"family {row.family}", "")] if row.family else []
    tags += [(row.split, "")] if row.split == TEST else []
    turns = [(m.role, cut("\n".join(p.text for p in m.content if p.text))) for m in row.messages]
    found = Card(row.id, tags, turns, len(row.images), row.answer or "", getattr(row, "reward_formula", ""), row.edit)
    if isinstance(row, RolloutGroup):
        rewards = [r for c in row.completions if (r := getattr(c, "reward", None)) is not None]
        mean = sum(rewards) / len(rewards) if rewards else None
        made = [_completion(c, row, folder, mean) for c in row.completions]
        # The best first; a completion without a reward last.
        found.completions.extend(sorted(made, key=lambda c: (c.reward is None, -(c.reward or 0.0), c.index)))
    return found


def _completion(completion: Completion, row: RolloutGroup, folder: RunFolder, mean: float | None) -> CompletionCard:
    scored = completion if isinstance(completion, ScoredCompletion) else None
    reward = scored.reward if scored else None
    tokens = completion.generated_tokens
    ended = {"length": ", cut off", "error": ", no completion"}.get(completion.finish_reason, "")
    note = f"{tokens:,} tokens{ended}{', guided' if completion.guided else ''}"
    pieces = [Piece(ANSWER, cut(completion.error or ""))] if completion.finish_reason == "error" else parts(completion)
    grades = [g for g in scored.grades if g.status != NOT_APPLICABLE] if scored else []
    edit = ""
    if row.split != TEST and tokens and completion.finish_reason != "error":
        words = ["cosmo", "edit", folder.where, "--id", row.id, "--index", str(completion.index)]
        edit = shlex.join(words)
    return CompletionCard(
        completion.index,
        pieces,
        note,
        reward,
        None if reward is None or mean is None else reward - mean,
        scored.terms if scored else [],
        [grade_chip(g, row.harmful is False) for g in grades],
        edit,
        tokens,
        completion.guided,
        "" if completion.finish_reason == "error" else completion_key(completion.text),
    )


def parts(completion: Completion) -> list[Piece]:
    """A completion in pieces: what it thinks, what it says, and what an environment told it between."""
    found: list[Piece] = []
    at = 0
    for span in completion.observed:
        found += _own(completion.text[at : span.start])
        found.append(Piece(OBSERVED, cut(completion.text[span.start : span.stop].strip())))
        at = span.stop
    return found + _own(completion.text[at:])


def _own(text: str) -> list[Piece]:
    # Some templates open the block in the prompt, so a closing tag alone tells where the answer begins.
    if "</think>" in text and "<think>" not in text.partition("</think>")[0]:
        text = f"<think>{text}"
    found, at = [], 0
    for block in _BLOCK.finditer(text):
        found += [Piece(ANSWER, text[at : block.start()]), Piece(THINK, block[1])]
        at = block.end()
    found.append(Piece(ANSWER, text[at:]))
    return [Piece(p.kind, cut(p.text.strip())) for p in found if p.text.strip()]


def cut(text: str) -> str:
    """The text, or as much of it as a page bears."""
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} … ({len(text) - LONGEST:,} more characters)"


def image_of(folder: RunFolder, place: tuple[Path, list[int]], number: int) -> Any:
    """An image of a row as it is stored, or None for a number that it has not."""
    from schemas.tables import PROMPTS
    from stages.core.runs.shards import rows_at

    row = next(iter(rows_at(place[0], PROMPTS, place[1])), None)
    return row.images[number] if row is not None and 0 <= number < len(row.images) else None
