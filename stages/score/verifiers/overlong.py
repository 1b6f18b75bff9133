"""Overlong: 0 for a completion that keeps clear of the length limit, falling to -1 at it.

DAPO's soft overlong punishment (arXiv:2503.14476, eq. 13), with L generated tokens, the limit Lmax and a buffer Lc
before it:

    value = 0 if L <= Lmax - Lc,   ((Lmax - Lc) - L) / Lc up to Lmax,   -1 beyond

`[score.overlong] longest` is Lmax, by default the `max_new_tokens` that the completion was sampled under, and `buffer`
is Lc, by default a fifth of that (the paper's 4,096 of 20,480).
"""

from __future__ import annotations

from schemas.rollouts import Completion, RolloutGroup
from stages.judging.parsed import ParsedCompletion
from stages.score.config import OverlongTable, ScoreConfig
from stages.score.verifiers.base import Judgement, Verifier, does_not_apply, judged, with_settings


def judge(
    group: RolloutGroup,
    completion: Completion,
    parsed: ParsedCompletion,
    settings: OverlongTable = OverlongTable(),  # noqa: B008 (frozen)
) -> Judgement:
    """short 0.0, long between 0 and -1, overlong -1.0; `seen` has the tokens."""
    length = completion.generated_tokens
    longest = settings.longest or completion.sampling.max_new_tokens
    if not length or not longest:
        return does_not_apply(
            "no token of the completion is known to be generated" if not length else "nobody says how long it may be"
        )
    buffer = min(settings.buffer or max(1, longest // 5), longest)
    value = min(0.0, max(-1.0, (longest - buffer - length) / buffer))
    verdict = "short" if not value else "overlong" if value <= -1 else "long"
    return judged(value, verdict, None, f"{length} of {longest} tokens")


def bind(config: ScoreConfig) -> Verifier:
    """The verifier with the limits of a config."""
    return with_settings(PLUGIN, config.overlong)


PLUGIN = Verifier(version=1, judge=judge, bind=bind)
