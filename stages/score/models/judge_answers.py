"""What a judge's answer means: its verdict's score, by itself or weighted with how likely the verdict was."""

from __future__ import annotations

import math
from itertools import accumulate, pairwise

from schemas.verdicts import UNPARSABLE
from stages.engines.base import Engine, SampledCompletion
from stages.judging.answer_fields import without_reasoning
from stages.judging.prompt import JudgePrompt, find_verdict
from stages.judging.prompt import read_answer as read
from stages.judging.readers import read_numbered
from stages.score.config import KeyFactsTable
from stages.score.rules.key_facts import worth
from stages.score.verifiers.base import Judgement, failed, judged

_EXCERPT = 80
"""Characters of an answer that a reason quotes."""


def read_answer(prompt: JudgePrompt, score: str, text: str, p: float | None, harmless: bool = False) -> Judgement:
    """The judgement that an answer means: strictly its verdict, and a failure where it has none.

    `score` is `verdict` for the verdict's own score, or `probability`: with P(verdict) = p and two verdicts, what was
    not given has the rest of the probability, so the value is (P(true) + 1 - P(false)) / 2.
    """
    found = read(prompt, text, harmless)
    if found is None:
        return failed(f"{UNPARSABLE}: {_excerpt(text)!r}")
    verdict, begin = found.verdict, found.begin
    value = prompt.verdicts[verdict] if found.value is None else found.value
    why = _excerpt(without_reasoning(text)[:begin].rpartition("\n")[0]) or None
    if score == "verdict":
        return judged(value, verdict, why, found.fields)
    if p is None:
        return failed("the verdict has no probability: the engine gave no log-probs for it")
    (other,) = (score for name, score in prompt.verdicts.items() if name != verdict)
    return judged(p * value + (1 - p) * other, verdict, f"said with probability {p:.3f}")


def read_facts(prompt: JudgePrompt, count: int, text: str) -> Judgement:
    """The judgement of a judge that says 0 or 1 of each fact: never a mean over those that it happened to answer."""
    found = read_numbered(count, text)
    if found is None:
        return failed(f"{UNPARSABLE}: not one 0 or 1 for each of {count} facts: {_excerpt(text)!r}")
    asks, stated = prompt.asks, sum(found)
    verdict = "all" if stated == count else "some" if stated else "none"
    value = worth(stated / count, KeyFactsTable(asks.high, asks.low, graded=not asks.high))
    missing = ", ".join(str(n) for n, there in enumerate(found, start=1) if not there)
    return judged(value, verdict, f"not stated: {missing}" if missing else None, f"{stated}/{count} facts")


def answer_pieces(engine: Engine, sampled: SampledCompletion, *, apart: bool) -> list[str]:
    """The answer token by token where it is wanted `apart` and can be had; else in one piece."""
    if sampled.words is not None:
        return sampled.words
    text = engine.decode(sampled.token_ids)
    if not apart:
        return [text]
    # A token may hold a part of a character: what is shown of a beginning can be longer than its share.
    shown = (min(len(engine.decode(sampled.token_ids[:n])), len(text)) for n in range(len(sampled.token_ids)))
    return [text[a:b] for a, b in pairwise([*accumulate(shown, max), len(text)])]


def verdict_probability(prompt: JudgePrompt, pieces: list[str], logprobs: list[float]) -> float | None:
    """How likely the verdict's own tokens were, 0 to 1; None without a verdict or a log-prob for each piece."""
    found = find_verdict(prompt, "".join(pieces))
    if found is None or len(pieces) != len(logprobs):
        return None
    _, begin, end = found
    total, at = 0.0, 0
    for piece, logprob in zip(pieces, logprobs, strict=True):
        # Every token that overlaps the verdict's word counts: a tokenizer may join it with the blank before it.
        if at < end and at + len(piece) > begin:
            total += logprob
        at += len(piece)
    # Rounded log-probs may add up to a little above 0, which would be a probability above 1.
    return round(math.exp(min(total, 0.0)), 6)


def _excerpt(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= _EXCERPT else words[: _EXCERPT - 4] + " ..."
