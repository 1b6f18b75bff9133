"""CANON: the longer half of a group against the shorter one, and each half in itself (arXiv:2509.23962).

With S and L the shorter and the longer half of the group's known rewards (the odd one is in L),

    inter: A(L) = a * R - mean S,  A(S) = R - a * mean L
    intra: A    = R - mean of its own half
    A      = mu * inter + (1 - mu) * intra

mu = 0.5 and a = 1 give Dr.GRPO's R - mean R, if the halves are equal. a < 1 asks more of the longer half: so a
group of equal rewards is not flat. One of equal lengths has no halves and gets R - mean R. The default a is the
paper's for fewer tokens; the default mu is ours.

`conditional` (our own; SafeWork-R1, arXiv:2507.18576, names a conditional length stage and gives no formula): a holds
in those groups alone whose completions all are right and none is unsafe. Elsewhere it is 1, so that fewer words never
make up for a wrong answer or an unsafe one.
"""

from __future__ import annotations

from dataclasses import dataclass

from stages.core.config import option
from stages.train.advantages.base import AdvantagePlugin, Advantages, Batch, centred, mean


@dataclass(frozen=True)
class CanonSettings:
    """[train.advantages.canon]: how the longer half of a group is compared with the shorter one."""

    mu: float = option(0.5, "Share of the comparison between the halves; the rest is within each", low=0.0, high=1.0)
    # By the paper this saves about 45 % of the tokens at an equal score.
    a: float = option(0.9, "What a reward of the longer half is worth; 1: as much", low=0.0)
    conditional: bool = option(False, "a only where all of a group are right and none is unsafe; elsewhere 1")
    right: float = option(1.0, "conditional: the least value of the task's own term that is right")


def advantages(batch: Batch) -> Advantages:
    """One group at a time."""
    mu, a = batch.settings.mu, batch.settings.a
    groups = enumerate(zip(batch.rewards, batch.lengths, strict=True))
    return [_of_group(r, n, mu, a if _is_asked(batch, x) else 1.0) for x, (r, n) in groups]


def _is_asked(batch: Batch, x: int) -> bool:
    """Whether the longer half of group x is asked for more than the shorter one."""
    if not batch.settings.conditional:
        return True
    judged = [
        (right, cost)
        for reward, right, cost in zip(batch.rewards[x], batch.right[x], batch.costs[x], strict=True)
        if reward is not None
    ]
    # A cost that nobody knows is of a row that is not about safety; a task that nobody judged is not right.
    return all(right is not None and right >= batch.settings.right and not cost for right, cost in judged)


def _of_group(rewards_G: list[float | None], lengths_G: list[int], mu: float, a: float) -> list[float | None]:
    judged = [(n, k, r) for k, (n, r) in enumerate(zip(lengths_G, rewards_G, strict=True)) if r is not None]
    if len({n for n, _, _ in judged}) < 2:
        return centred(rewards_G)
    # By length, then by index.
    judged.sort()
    half = len(judged) // 2
    short, long = (mean([r for _, _, r in part]) for part in (judged[:half], judged[half:]))
    found: list[float | None] = [None] * len(rewards_G)
    for place, (_, k, r) in enumerate(judged):
        inter, own = (r - a * long, short) if place < half else (a * r - short, long)
        found[k] = mu * inter + (1.0 - mu) * (r - own)
    return found


PLUGIN = AdvantagePlugin(version=1, advantages=advantages, settings=CanonSettings)
