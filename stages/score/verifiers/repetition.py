"""Repetition: minus the share of a completion's word n-grams that repeat an earlier one; 0 where none does.

    value = -(1 - distinct / total)        over n-grams of n words, 0 for fewer than n; from -1 to 0

From the public code of Perception-R1 (arXiv:2506.07218), where n is 20 and the term's weight 2. `[score.repetition]
words` sets n: 4 suits the short completions of the built-in world.
"""

from __future__ import annotations

from schemas.rollouts import Completion, RolloutGroup
from stages.judging.parsed import ParsedCompletion
from stages.score.config import RepetitionTable, ScoreConfig
from stages.score.verifiers.base import Judgement, Verifier, judged, with_settings


def judge(
    group: RolloutGroup,
    completion: Completion,
    parsed: ParsedCompletion,
    settings: RepetitionTable = RepetitionTable(),  # noqa: B008 (frozen)
) -> Judgement:
    """varied 0.0, or repeats with less; `seen` counts the n-grams."""
    words = completion.text.split()
    total = len(words) - settings.words + 1
    if total < 1:
        return judged(0.0, "varied", f"fewer than {settings.words} words")
    distinct = len({tuple(words[i : i + settings.words]) for i in range(total)})
    verdict = "varied" if distinct == total else "repeats"
    return judged(distinct / total - 1.0, verdict, None, f"{distinct} distinct of {total}")


def bind(config: ScoreConfig) -> Verifier:
    """The verifier with the n of a config."""
    return with_settings(PLUGIN, config.repetition)


PLUGIN = Verifier(version=1, judge=judge, bind=bind)
