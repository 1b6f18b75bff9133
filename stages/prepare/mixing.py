"""Which records become rows, and in what order: a pure function of content, config and seed.

Every record ends as a row, as a rejected row, or in the counts of what was not asked for (another split,
a label without weight, more than the limit).
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from schemas.prompts import NO_TRAINING
from schemas.rejected import RejectedRow
from stages.core.errors import UsageError, did_you_mean
from stages.core.seeded import seeded_digest
from stages.prepare.config import PrepareConfig
from stages.prepare.datasets.base import Record
from stages.prepare.near_duplicates import Benchmark, likeness, near_duplicates, shared_by_most


@dataclass(frozen=True, slots=True)
class Step:
    """How an augmented row comes of its record; other records of the source are named by their position."""

    family: str
    twin_of: int | None
    """For a benign twin, the harmful record that it goes with."""
    partner: int | None
    """The record to be mixed in, for families that take one."""
    heldout: bool
    """Whether the family is kept out of training."""


@dataclass(frozen=True, slots=True)
class Pick:
    """One record in hand."""

    source: int
    """Which of the config's sources."""
    index: int
    """Its position in that source's records."""
    record: Record
    rank: str
    """Digest of (seed, content key): a shuffle that does not depend on where records lie."""
    step: Step | None = None
    """For an augmented row, how it is made of the record."""


@dataclass(slots=True)
class Choice:
    """The decision, with its account."""

    picks: list[Pick] = field(default_factory=list)
    """What becomes a row, in output order."""
    rejected: list[RejectedRow] = field(default_factory=list)
    not_drawn: Counter[str] = field(default_factory=Counter)
    """Records that were fine and not asked for, by why."""
    notes: list[str] = field(default_factory=list)
    """Lines worth telling a person."""

    def reject(self, names: list[str], pick: Pick, reason: str, detail: str) -> None:
        """One record left out for a fault."""
        name = names[pick.source]
        self.rejected.append(
            RejectedRow(stage="prepare", source=name, ref=pick.record.ref, reason=reason, detail=detail)
        )


def choose(
    names: list[str],
    records: list[list[Record]],
    config: PrepareConfig,
    benchmark: Benchmark | None = None,
    caps: list[int] | None = None,
    heldout: frozenset[str] = frozenset(),
    augment: Callable[[Choice, list[Pick]], list[Pick]] | None = None,
) -> Choice:
    """Filter, deduplicate, decontaminate, augment and mix.

    `names` are the sources' names, in order; `caps` their own limits, 0 for none; `heldout` the families that no
    training row may have; `augment` what gives further rows made of the chosen ones.
    """
    choice = Choice()
    picks = []
    for source, of_source in enumerate(records):
        for index, record in enumerate(of_source):
            picks.append(Pick(source, index, record, rank_of(config.seed, record.key)))
    # The order matters. A training row of a held-out family is an error of the config, so it is looked for before a
    # duplicate could hide it, and after the filters that may have left it out on purpose. Exact duplicates go first
    # because they cost nothing. A source's limit counts rows that are good, and augmented rows come on top of it.
    picks = _usable(choice, names, picks, config)
    _refuse_heldout_training_rows(names, picks, heldout)
    picks = _without_duplicates(choice, names, picks)
    if config.near_duplicates > 0:
        picks = _without_near_duplicates(choice, names, picks, config.near_duplicates)
    if benchmark is not None:
        picks = _decontaminated(choice, names, picks, benchmark)
    picks = _limited_by_source(choice, picks, caps or [0] * len(names))
    if augment is not None:
        picks += augment(choice, picks)
    picks = _mixed(choice, picks, config)
    choice.picks = sorted(picks, key=_BY_RANK)
    return choice


_BY_RANK = operator.attrgetter("rank", "source", "index")
"""A seeded order that does not hang on where records lie, except between rows of the same content."""


def rank_of(seed: int, key: str) -> str:
    """The rank of a content key: 64 hex digits, by which picks are shuffled alike on every machine."""
    return seeded_digest(seed, key).hex()


def _refuse_heldout_training_rows(names: list[str], picks: list[Pick], heldout: frozenset[str]) -> None:
    """UsageError when a row to be trained on is of a held-out family."""
    for pick in picks:
        if pick.record.family in heldout and pick.record.split == "train":
            raise UsageError(
                f"source {names[pick.source]} gives training rows of the held-out family {pick.record.family!r}: "
                f"{pick.record.ref}",
                "leave them out of that source, give them split test, or hold the family out no longer",
            )


def _usable(choice: Choice, names: list[str], picks: list[Pick], config: PrepareConfig) -> list[Pick]:
    kept = []
    for pick in picks:
        record = pick.record
        flagged = [f for f in record.flags if f in config.drop_flags]
        # What the source said comes first, or a bad line would vanish among those of another split; what was not asked
        # for is no fault; a flag comes last, so that only a row that was wanted is rejected for one.
        if record.rejected is not None:
            choice.reject(names, pick, *record.rejected)
        elif config.split and record.split != config.split:
            choice.not_drawn[f"split {record.split}"] += 1
        elif config.images and config.images != ("with" if record.images else "without"):
            choice.not_drawn["with images" if record.images else "without images"] += 1
        elif flagged:
            choice.reject(names, pick, "filtered", f"flag {flagged[0]} is dropped")
        else:
            kept.append(pick)
    return kept


def _without_duplicates(choice: Choice, names: list[str], picks: list[Pick]) -> list[Pick]:
    """One row a content key: a test row stays before a training row, one not for training first."""
    kept: dict[str, Pick] = {}

    # False sorts before True: test rows first, and among them those that must not be trained on; else as they came.
    def order(pick: Pick) -> tuple[bool, bool]:
        return pick.record.split != "test", NO_TRAINING not in pick.record.flags

    for pick in sorted(picks, key=order):
        first = kept.setdefault(pick.record.key, pick)
        if first is not pick:
            choice.reject(names, pick, "duplicate", f"the same as {_where(names, first)}")
    return list(kept.values())


def _without_near_duplicates(choice: Choice, names: list[str], picks: list[Pick], threshold: float) -> list[Pick]:
    # Test rows first, so that the training twin goes; then by rank, so that file order decides nothing.
    picks = sorted(picks, key=lambda p: (p.record.split != "test", p.rank, p.source, p.index))
    by_source: dict[int, list[Record]] = {}
    for pick in picks:
        by_source.setdefault(pick.source, []).append(pick.record)
    shared = shared_by_most(by_source.values())
    repeats = near_duplicates((p.record for p in picks), threshold, shared)
    for position, twin in repeats.items():
        alike = likeness(picks[position].record, picks[twin].record, shared)
        detail = f"nearly the same words as {_where(names, picks[twin])}: {alike}"
        choice.reject(names, picks[position], "near_duplicate", detail)
    return [p for position, p in enumerate(picks) if position not in repeats]


def _decontaminated(choice: Choice, names: list[str], picks: list[Pick], benchmark: Benchmark) -> list[Pick]:
    kept = []
    for pick in picks:
        why = None if pick.record.split == "test" else benchmark.find(pick.record)
        if why is None:
            kept.append(pick)
        else:
            choice.reject(names, pick, "contaminated", why)
    return kept


def _limited_by_source(choice: Choice, picks: list[Pick], caps: list[int]) -> list[Pick]:
    """At most so many of each source, seeded."""
    kept, taken = [], Counter[int]()
    for pick in sorted(picks, key=_BY_RANK):
        if not caps[pick.source] or taken[pick.source] < caps[pick.source]:
            taken[pick.source] += 1
            kept.append(pick)
        else:
            choice.not_drawn["limit of its source"] += 1
    return kept


def _mixed(choice: Choice, picks: list[Pick], config: PrepareConfig) -> list[Pick]:
    """The draw: seeded, without replacement, label by label where there are weights."""
    pools: dict[str, list[Pick]] = {}
    # By rank, so that the first rows of a pool are a seeded sample of it.
    for pick in sorted(picks, key=_BY_RANK):
        pools.setdefault(pick.record.label if config.weights else "", []).append(pick)
    if not config.weights:
        shares = {"": config.limit or len(picks)}
    else:
        shares = _shares(choice, {label: len(pool) for label, pool in pools.items()}, config)
    drawn = []
    for label, pool in sorted(pools.items()):
        share = shares.get(label, 0)
        drawn += pool[:share]
        if share < len(pool):
            why = "label without weight" if config.weights and label not in shares else "limit"
            choice.not_drawn[why] += len(pool) - share
    return drawn


def _shares(choice: Choice, available: dict[str, int], config: PrepareConfig) -> dict[str, int]:
    """Rows wanted a label, by largest remainder; never more than there are."""
    weights = {label: w for label, w in sorted(config.weights.items()) if w > 0}
    for label, weight in config.weights.items():
        if weight < 0:
            raise UsageError(f"prepare.weights.{label} = {weight} is negative", "a share is 0 or more")
        if weight > 0 and label not in available:
            known = ", ".join(sorted(available)) or "none"
            hint = f"{did_you_mean(label, available)} labels: {known}"
            raise UsageError(f"prepare.weights names {label!r}, which no row has", hint.lstrip())
    if not weights:
        raise UsageError("prepare.weights are all 0", "give one label a share, or leave weights out")
    total = sum(weights.values())
    # Without a limit, the label that is scarcest for its weight decides: more rows than that would bend the mix.
    limit = config.limit or int(min(available[label] * total / w for label, w in weights.items()))
    exact = {label: limit * w / total for label, w in weights.items()}
    rows = {label: int(x) for label, x in exact.items()}
    # Largest remainder: most negative is what lost most by rounding down; the label breaks ties the same way
    # everywhere.
    spare = sorted(exact, key=lambda label: (rows[label] - exact[label], label))
    for label in spare[: limit - sum(rows.values())]:
        rows[label] += 1
    for label, n in rows.items():
        if n > available[label]:
            choice.notes.append(f"label {label}: {n} rows wanted for its weight, {available[label]} there are")
    return {label: min(n, available[label]) for label, n in rows.items()}


def _where(names: list[str], pick: Pick) -> str:
    return f"{names[pick.source]} {pick.record.ref}"
