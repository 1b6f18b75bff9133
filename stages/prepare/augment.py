"""Augmentation of any source's rows: which rows go through which families, and what is never trained on.

Planned after filters, duplicates and decontamination, so that what is left out of the mix is left out in every
shape. Planning makes each row of an augmented source once, to see what fits it; nothing is drawn or decoded.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from schemas.identity import digest
from schemas.prompts import HELDOUT_FAMILY, PromptRow
from stages.core import registry
from stages.core.errors import BadSample, UsageError, did_you_mean
from stages.prepare.augmentations.base import hints, words
from stages.prepare.config import PrepareConfig
from stages.prepare.datasets.base import Record
from stages.prepare.mixing import Choice, Pick, Step, rank_of
from stages.prepare.sources import Source

_PARTNERS = 64
"""Partners tried in a row before a pair goes without: only its own two rows are refused."""


def named_heldout_families(config: PrepareConfig, sources: list[Source]) -> frozenset[str]:
    """The held-out families that the config names."""
    return frozenset(config.heldout_families).union(*(s.augment.augment_heldout for s in sources))


def all_heldout_families(config: PrepareConfig, sources: list[Source], found: list[list[Record]]) -> frozenset[str]:
    """All held-out families of the mix: those named, and those that a source itself keeps for its test rows.

    UsageError for one that is neither a family nor in any row: a slip there would protect nothing.
    """
    every = [r for records in found for r in records]
    asked = {f for s in sources for f in (*s.augment.augment, *s.augment.augment_heldout)}
    known = {*registry.names("augmentation"), *asked, *(r.family for r in every if r.family)}
    for family in config.heldout_families:
        if family not in known:
            hint = f"{did_you_mean(family, sorted(known))} known: {', '.join(sorted(known))}"
            raise UsageError(f"prepare.heldout_families names {family!r}, which is no family of any row", hint.lstrip())
    return named_heldout_families(config, sources) | {r.family for r in every if HELDOUT_FAMILY in r.flags and r.family}


@dataclass(slots=True)
class _Candidate:
    """What planning remembers of a row once it has let go of it."""

    pick: Pick
    id: str
    source_id: str
    """The id that its source knows it by, for files whose twins name their parent by it."""
    parent: str
    harmful: bool | None
    partner: bool
    """Harmless, of one turn: may be mixed into another row."""
    families: list[str]
    """Those that fit it and its split."""
    content: str
    """Content key for the rows made of it: rows that ask the same of the same card are duplicates."""
    twin_of: _Candidate | None = None

    @property
    def pair(self) -> str:
        """What a harmful row and its twin have in common."""
        return (self.twin_of or self).pick.record.key


class Augmenter:
    """Adds the rows to be made to those that were chosen; what is worth telling goes into the choice's notes."""

    def __init__(self, sources: list[Source], config: PrepareConfig, heldout: frozenset[str]) -> None:
        self._sources, self._config, self._heldout = sources, config, heldout

    def __call__(self, choice: Choice, picks: list[Pick]) -> list[Pick]:
        """Further picks, each with the step that makes it."""
        made: list[Pick] = []
        for k, source in enumerate(self._sources):
            if source.augment.augment or source.augment.augment_heldout:
                made += self._of_source(choice, source, [p for p in picks if p.source == k])
        return made

    def _of_source(self, choice: Choice, source: Source, picks: list[Pick]) -> list[Pick]:
        # In the source's order, whatever order choosing left: which of two rows of equal content is kept must not hang
        # on it.
        seen = self._candidates(source, sorted(picks, key=lambda p: p.index))
        if not seen:
            labels = sorted({p.record.label for p in picks if not p.record.family})
            raise UsageError(
                f"{source.shown} has no {' or '.join(source.augment.augment_labels) or 'safety'} row to augment",
                f"augment_labels = [...] in its table; its labels: {', '.join(labels) or 'none'}",
            )
        made = list(self._steps(source, seen))
        self._note_what_is_missing(choice, source, seen, made)
        return made

    def _candidates(self, source: Source, picks: list[Pick]) -> list[_Candidate]:
        """The rows that may be augmented, each with what fits it, twins joined to their harmful rows."""
        seen = []
        for pick in picks:
            # A row that is of a family already is not sent through another: its parent would be no longer the plain
            # request.
            if pick.record.family:
                continue
            try:
                row = source.plugin.row(pick.record, source.options)
            except BadSample:
                continue  # The row itself is rejected with this reason when its shard is made.
            if _may_be_augmented(row, source.augment.augment_labels):
                seen.append(_candidate(pick, row, self._families(source, row)))
        harmful: dict[str, _Candidate] = {}
        for one in seen:
            # A twin in a file names its harmful row by the id that the file gave it, a twin of ours by the row's id.
            if one.harmful:
                harmful.update({name: one for name in (one.id, one.source_id) if name})
        for one in seen:
            if one.harmful is False:
                one.twin_of = harmful.get(one.parent)
        return seen

    def _families(self, source: Source, row: PromptRow) -> list[str]:
        asked = [*source.augment.augment, *source.augment.augment_heldout]
        legal = [f for f in dict.fromkeys(asked) if row.split == "test" or f not in self._heldout]
        # Held-out families see test rows only, also where `augment` names them: what they make must never be trained
        # on.
        return [f for f in legal if registry.load("augmentation", f).fits(row)]

    def _steps(self, source: Source, seen: list[_Candidate]) -> Iterator[Pick]:
        partners = {
            split: sorted((s for s in seen if s.partner and s.pick.record.split == split), key=lambda s: s.pick.rank)
            for split in ("train", "test")
        }
        made: set[tuple[str, str]] = set()
        for one in seen:
            for family in one.families:
                # Two rows that a card shows alike, because their title is the same, would be one row twice.
                if not self._is_drawn(source, family, one) or (family, one.content) in made:
                    continue
                made.add((family, one.content))
                pairs = registry.load("augmentation", family).pairs
                other = self._partner(partners[one.pick.record.split], family, one) if pairs else None
                yield self._pick(one, family, other)

    def _is_drawn(self, source: Source, family: str, one: _Candidate) -> bool:
        # By pair and not by row: a harmful row and its benign twin are both drawn or both left, or the twin proves
        # nothing. Twelve hex digits are 48 bits, which a float holds exactly.
        lot = int(digest([self._config.seed, "share", family, one.pair])[:12], 16) / 16**12
        return lot < source.augment.augment_share

    def _partner(self, partners: list[_Candidate], family: str, one: _Candidate) -> _Candidate | None:
        """A seeded harmless row that is not of the same pair; None where there is none."""
        start = int(digest([self._config.seed, "partner", family, one.pair])[:12], 16)
        for i in range(min(len(partners), _PARTNERS)):
            other = partners[(start + i) % len(partners)]
            if other.pair != one.pair:
                return other
        return None

    def _pick(self, one: _Candidate, family: str, other: _Candidate | None) -> Pick:
        record = one.pick.record
        # The harmful row has to fit the family as well: its twin is rewritten by the draws made for it.
        twin_of = one.twin_of if one.twin_of and family in one.twin_of.families else None
        key = digest([record.key, family])[:16]
        label = "jailbreak" if record.label == "safety" or one.harmful else record.label
        step = Step(
            family,
            None if twin_of is None else twin_of.pick.index,
            None if other is None else other.pick.index,
            family in self._heldout,
        )
        made = replace(record, ref=f"{record.ref} +{family}", key=key, label=label, family=family, text="")
        return Pick(one.pick.source, one.pick.index, made, rank_of(self._config.seed, key), step)

    def _note_what_is_missing(self, choice: Choice, source: Source, seen: list[_Candidate], made: list[Pick]) -> None:
        counts = Counter(p.record.family for p in made)
        for family in dict.fromkeys([*source.augment.augment, *source.augment.augment_heldout]):
            if not counts[family]:
                why = "it is held out, and no test row fits" if family in self._heldout else "no row fits"
                choice.notes.append(f"{source.shown}: no row of family {family!r}: {why}")
        harmful = sum(s.harmful is True for s in seen)
        alone = harmful - len({s.twin_of.id for s in seen if s.twin_of})
        if alone and not any(s.harmful is False for s in seen):
            choice.notes.append(
                f"{source.shown}: {alone} augmented harmful rows and no harmless one: over-refusal can't be seen"
            )


def _may_be_augmented(row: PromptRow, labels: list[str]) -> bool:
    if row.family:
        return False
    return row.label in labels if labels else row.label == "safety" or row.harmful is not None


def _candidate(pick: Pick, row: PromptRow, families: list[str]) -> _Candidate:
    extra: dict[str, Any] = json.loads(row.extra) if row.extra else {}
    asked = hints(row)
    # A title of the source stands for however the request was put.
    titled = not row.images and asked.title != words(row)
    return _Candidate(
        pick=pick,
        id=row.id,
        source_id=str(extra.get("id") or ""),
        parent=row.parent_id or "",
        harmful=row.harmful,
        partner=row.harmful is False and len(row.messages) == 1,
        families=families,
        content=digest([asked.context, asked.title]) if titled else pick.record.key,
    )


def flagged(row: PromptRow, heldout: bool) -> PromptRow:
    """The row, marked where its family is held out."""
    if not heldout or HELDOUT_FAMILY in row.flags:
        return row
    return replace(row, flags=[*row.flags, HELDOUT_FAMILY])
