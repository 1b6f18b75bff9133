"""What objectives on preferences learn from: two completions of one group whose rewards lie a margin apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import islice, permutations
from typing import Any

from schemas.scored import ScoredGroup
from stages.core.errors import InputError
from stages.core.registry import short_name
from stages.core.runs.folder import RunFolder
from stages.core.runs.select import Entry
from stages.core.seeded import seeded_order
from stages.train.config import TrainConfig
from stages.train.rl.batches import Reject
from stages.train.supervised.examples import completions_by_shard, rows_to_take, trainable_entries
from stages.train.supervised.examples import permutations as epochs_of
from stages.train.supervised.pair_options import PairOptions


@dataclass(frozen=True, slots=True)
class Pair(Entry):
    """Where two completions of one prompt lie."""

    chosen: int
    """Place in the group of the one with the higher reward."""
    rejected: int
    """Place of the other."""

    @property
    def ref(self) -> str:
        """A name for it, as rejected samples have it."""
        return f"{self.id}#{self.chosen}>{self.rejected}"


def pair_entries(inputs: list[RunFolder], config: TrainConfig, reject: Reject) -> list[Pair]:
    """The pairs of all trainable groups, in order; groups without one are rejected.

    The objective's own section says which pairs count (`PairOptions`). InputError when there is none at all.
    """
    options: PairOptions = config.objective_settings()
    completions = completions_by_shard(inputs, ["text", "reward", "finish_reason"])
    kept: list[Pair] = []
    for entry in trainable_entries(inputs, config, reject):
        group = completions[entry.folder, entry.shard][entry.row]
        found = pairs_of(group, entry.id, options, config.seed)
        if not found:
            rewards = [c["reward"] for c in group if c["reward"] is not None]
            spread = f"rewards from {min(rewards):g} to {max(rewards):g}" if rewards else "no rewards"
            reject(inputs[entry.folder].path.name, entry.id, "no_pair", spread)
        values: dict[str, Any] = {f.name: getattr(entry, f.name) for f in fields(Entry)}
        kept += [Pair(**values, chosen=a, rejected=b) for a, b in found]
    if not kept:
        raise InputError(
            f"no trainable group holds two completions whose rewards lie {options.margin:g} apart",
            f"sample several completions a prompt, or --set objectives.{short_name(config.objective)}.margin=0.1",
        )
    return kept


def pairs_of(group: list[dict[str, Any]], name: str, options: PairOptions, seed: int) -> list[tuple[int, int]]:
    """(chosen, rejected) places of a group: a seeded draw of the pairs that lie far enough apart."""
    scored = [i for i, c in enumerate(group) if c["reward"] is not None and c["finish_reason"] != "error"]
    found = [
        (a, b)
        for a, b in permutations(scored, 2)
        # Rewards are sums of weighted terms: a gap of 0.5 may come out a rounding below it.
        if (gap := group[a]["reward"] - group[b]["reward"]) > 0 and gap >= options.margin - 1e-9
        # Equal texts that a judge graded otherwise have equal log-probs: they would teach nothing.
        if group[a]["text"] != group[b]["text"]
    ]
    return seeded_order(found, seed, name, name=lambda pair: pair)[: options.max_pairs or None]


def pair_order(refs: Sequence[str], config: TrainConfig) -> list[int]:
    """Every pair the run will see, by its place in `refs`, in order: one permutation an epoch.

    `steps` of `batch_size` where steps are given, else whole epochs. A resumed run is a slice of this.
    """
    return list(islice(epochs_of(range(len(refs)), config.seed, refs.__getitem__), rows_to_take(config, len(refs))))


@dataclass(frozen=True, slots=True)
class PairTexts:
    """One pair, ready to be encoded."""

    row: ScoredGroup
    chosen: str
    rejected: str
    own: bool
    """The policy, or a person who edited them, wrote all of both."""


def as_texts(pair: Pair, row: ScoredGroup) -> PairTexts:
    """The two whole completions, think blocks included: the reward was given to all of it."""
    chosen, rejected = row.completions[pair.chosen], row.completions[pair.rejected]
    own = all(c.whole_by_speakers(row.edit) for c in (chosen, rejected))
    return PairTexts(row, chosen.text, rejected.text, own)
