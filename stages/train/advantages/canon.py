"""CANON: the longer half of a group against the shorter one, and each half in itself (arXiv:2509.23962).

With S and L the shorter and the longer half of the group's known rewards (the odd one is in L),

    inter: A(L) = a * R - mean S,  A(S) = R - a * mean L
    intra: A    = R - mean of its own half
    A      = mu * inter + (1 - mu) * intra

mu = 0.5 and a = 1 give Dr.GRPO's R - mean R, if the halves are equal. a < 1 asks more of the longer half: so a
group of equal rewards is not flat. One of equal lengths has no halves and gets R - mean R. The default a is the
paper's for fewer tokens; the default mu is ours.
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


def advantages(batch: Batch) -> Advantages:
    """One group at a time."""
    mu, a = batch.settings.mu, batch.settings.a
    return [_of_group(r, n, mu, a) for r, n in zip(batch.rewards, batch.lengths, strict=True)]


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
