"""An almanac to search: questions about drawn towns, a quarter of them without an entry, and about old ones.

Its corpus is `cosmo prepare corpus:almanac`. SFT completions search it and hold what it answers, in the tags `results`
and `document`: the objective sft is told not to learn those (`context`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from schemas.identity import prompt_id
from schemas.prompts import PromptRow
from schemas.values import text_message
from stages.core.config import option
from stages.corpus.index import Index, library
from stages.corpus.search_turns import played
from stages.prepare.corpus import almanac_documents
from stages.prepare.datasets.base import Record
from stages.world.almanac.questions import Habits, Question, about_drawn, about_old, turns
from stages.world.almanac.towns import DrawnTown, towns
from stages.world.chance import content_key, rng_for


@dataclass(frozen=True)
class AlmanacOptions:
    """How many questions, of which kinds, and the habits of those who wrote the SFT completions."""

    train: int = option(4000, "training rows", low=0)
    test: int = option(400, "test rows, of towns that no training row asks about", low=0)
    unknown: float = option(0.25, "share of drawn towns asked about that have no entry", low=0, high=1)
    memorised: float = option(0.25, "share of rows about old towns, known by heart", low=0, high=1)
    overconfident: float = option(0.5, "share of SFT guesses that are certain", low=0, high=1)
    needless: float = option(0.5, "share of SFT completions about old towns that look them up", low=0, high=1)
    hasty: float = option(0.2, "share of SFT completions about drawn towns that guess without a search", low=0, high=1)
    top_k: int = option(3, "hits that a search of the SFT completions lists: as in [rollout.environment]", low=1)


class Almanac:
    """Draws questions; everything follows from the seed and the options."""

    version = 3
    options = AlmanacOptions

    def __init__(self) -> None:
        self._index: Index | None = None

    def digest(self, options: AlmanacOptions) -> dict[str, str]:
        """No files, but what ranks the hits in SFT completions."""
        library()
        return {"bm25s": version("bm25s")}

    def records(self, options: AlmanacOptions, seed: int) -> Iterator[Record]:
        """Train rows, then test rows; no question twice on a side."""
        drawn = towns()
        for split, count in (("train", options.train), ("test", options.test)):
            own = {entry: [t for t in drawn if t.split == split and t.entry == entry] for entry in (True, False)}
            seen: set[str] = set()
            for number in range(count):
                question = _drawn(options, own, seed, split, number)
                if question.words not in seen:
                    seen.add(question.words)
                    yield _record(question, seed, split, number)

    def row(self, record: Record, options: AlmanacOptions) -> PromptRow:
        """The question; on the training side with the turns of a speaker and what the almanac answers."""
        question, seed = record.payload
        messages = [text_message("user", question.words)]
        return PromptRow(
            id=prompt_id(label=record.label, messages=messages, images=[], answer=question.answer),
            label=record.label,
            source="almanac",
            task=record.task,
            messages=messages,
            split=record.split,
            answer=question.answer,
            answer_kind="text",
            reference_response=self._completion(question, options, seed) if record.split == "train" else None,
            scene=record.key,
        )

    def _completion(self, question: Question, options: AlmanacOptions, seed: int) -> str:
        if self._index is None:
            self._index = Index.of(almanac_documents())
        index = self._index

        def first_hit(town: str) -> str:
            return index.documents[index.search(town, 1)[0]].title

        habits = Habits(options.overconfident, options.needless, options.hasty)
        spoken = turns(question, habits, rng_for(seed, "turns", question.words), first_hit)
        return played(index, options.top_k, spoken)


def _drawn(options: AlmanacOptions, own: dict[bool, list[DrawnTown]], seed: int, split: str, number: int) -> Question:
    rng = rng_for(seed, "almanac", split, number)
    if rng.random() < options.memorised:
        return about_old(rng)
    return about_drawn(rng, rng.choice(own[rng.random() >= options.unknown]))


def _record(question: Question, seed: int, split: str, number: int) -> Record:
    # By side: old towns are known by heart, and asked about on both.
    key = content_key("almanac", split, question.words)
    payload: Any = (question, seed)
    return Record(
        ref=f"{split} {number}", key=key, label="knowledge", task=question.task, split=split, text="", payload=payload
    )


PLUGIN = Almanac()
