"""What each rank does of a step: whole groups, dealt by cost, with no rule about how many there are.

A completion's weight is its share in the whole step's loss, so ranks may have as many groups as they like. Where the
model is whole on each rank (DDP), a rank without a group takes part with a filler: a completion of weight 0. Where
it is sharded, or learns from images alone, every forward is a meeting of all ranks: then they have equally many
micro-batches, and where the step has images, each of these has one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from stages.train.rl.batches import Group, MicroBatch, TrainCompletion, Update

Cut = Callable[[Update], Iterable[MicroBatch]]


@dataclass(frozen=True, slots=True)
class Part:
    """Whose part of a step it is."""

    rank: int
    count: int
    lockstep: bool
    """Every forward is a meeting of all ranks."""


def part_of(update: Update, cut: Cut, part: Part) -> list[MicroBatch]:
    """A rank's micro-batches of an update; `cut` makes them of any update."""
    if part.count == 1:
        return list(cut(update))
    shares = [list(cut(replace(update, groups=groups))) for groups in deal(update.live, part.count)]
    share, live = shares[part.rank], update.live
    if not live:
        return share
    seen = next(iter(sorted((g for g in live if g.row.images), key=_cost)), None) if part.lockstep else None
    if seen is not None:
        share = [m if any(g.row.images for g, _ in m.parts) else MicroBatch([*m.parts, _filler(seen)]) for m in share]
    count = max(map(len, shares)) if part.lockstep else 1
    blank = MicroBatch([_filler(seen or min(live, key=_cost))])
    return share + [blank] * (count - len(share))


def deal(groups: Sequence[Group], count: int) -> list[list[Group]]:
    """The groups over `count` ranks, the dearest first to whoever has least; each rank keeps their order."""
    cost, owner = [0] * count, {}
    # Longest first to the least loaded is at most 4/3 of the best split (Graham, 1969). Ties go by position: each rank
    # deals for itself, and all have to come to the same.
    for position in sorted(range(len(groups)), key=lambda i: (-_cost(groups[i]), i)):
        owner[position] = cost.index(min(cost))
        cost[owner[position]] += _cost(groups[position])
    return [[g for i, g in enumerate(groups) if owner[i] == rank] for rank in range(count)]


def _cost(group: Group) -> int:
    """About what a group takes: its prompt once, and its completions."""
    return len(group.row.prompt_token_ids) + group.tokens


def _filler(group: Group) -> tuple[Group, list[TrainCompletion]]:
    """The group's shortest completion, counting for nothing."""
    # Without old log-probs it gets its own (`loss_inputs`): a ratio of 1 can't overflow, and 0 x inf would be NaN.
    return group, [replace(min(group.completions, key=lambda c: c.length), weight=0.0, old_logprobs=None)]


@dataclass(frozen=True, slots=True)
class Portion:
    """Positions of examples that go through the model at once: one rank's, and the whole step's."""

    own: range
    """This rank's."""
    step: range
    """All ranks'."""


def portions(positions: range, batch: int, micro: int, part: Part) -> list[Portion]:
    """A rank's micro-batches over all the steps; as many for every rank, the last ones of a step perhaps empty."""
    found = []
    for begin in range(positions.start, positions.stop, batch):
        step = range(begin, min(begin + batch, positions.stop))
        share = _share(step, part.rank, part.count)
        for at in range(passes(len(step), micro, part.count)):
            found.append(Portion(share[at * micro : (at + 1) * micro], step))
    return found


def passes(examples: int, micro: int, count: int) -> int:
    """Micro-batches that each rank has of a step with so many examples."""
    return math.ceil(math.ceil(examples / count) / micro)


def _share(step: range, rank: int, count: int) -> range:
    """Part `rank` of `count` consecutive parts, the first ones larger by one."""
    small, larger = divmod(len(step), count)
    begin = rank * small + min(rank, larger)
    return step[begin : begin + small + (rank < larger)]
