r"""What a completion says of its own confidence, by rule: a number it states, else words that hedge.

The scale is that of deliberative search (arXiv:2507.16727): 0 to 10, certain from 5 on. Read are `confidence: 7`,
`7/10`, `70%`, `0.7` (a share, where it is written with a point and is at most 1), `high`, `medium`, `low`, and
`<confidence>7</confidence>`. Which words hedge is ours, for no paper lists them: those that claim at most an even
chance. `Probably`, `I think` and `likely` claim more, and open many a completion that means nothing by them.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from stages.score.answers.normalize import contains, plain

CERTAIN_FROM = 5.0
"""Of 10; as the paper has it."""
_LEVELS = {"low": 2.0, "medium": 5.0, "moderate": 5.0, "high": 8.0}
_VALUE = r"(?P<number>\d+(?:\.\d+)?|\.\d+)\s*(?:(?P<percent>%|percent\b)|(?:/|out\s+of)\s*(?P<of>\d+))?"
# A name may stand for one group only, so those inside the tag get `t_` in front, and those before the word `w_`.
_STATED = re.compile(
    rf"""[(\[]?\s*
    (?: <confidence>\s*(?:{_VALUE.replace("?P<", "?P<t_")}|(?P<t_level>low|medium|moderate|high))\s*</confidence>
    | \b(?:my\s+)?confidence(?:\s+(?:level|score))?\**\s*(?:is\b|:|=)\s*:?\s*\**\s*
      (?:{_VALUE}|(?:rather\s+|very\s+)?(?P<level>low|medium|moderate|high)\b)
    | \b(?:with\s+)?(?P<w_level>low|medium|moderate|high)\s+confidence\b
    )\s*\**[)\]]?""",
    re.IGNORECASE | re.VERBOSE,
)
_VERY = r"(?:(?:really|quite|entirely|completely|totally|at all|all that|so|very|too|100%) )?"
_OF_IT = r"(?: (?:about|of) (?:this|that|it|my answer))?"
_GUESS = r"(?:best |wild |pure |mere |rough )?guess"
_HEDGES = (
    rf"(?:(?:i am|i'm|we are|we're) )?{_VERY}not {_VERY}(?:sure|certain|confident){_OF_IT}",
    rf"(?:i am|i'm|we are|we're) {_VERY}(?:unsure|uncertain){_OF_IT}",
    rf"(?:(?:it|this|that)(?:'s| is) )?(?:just |only |merely )?(?:a|my) {_GUESS}(?: (?:is|would be))?",
    r"(?:i am|i'm) (?:just |only )?guessing",
    r"i (?:can only |would |just )?guess",
    r"i (?:might|may|could) be (?:wrong|mistaken)",
    r"(?:it is |it's )?hard to (?:say|tell)",
    r"i have no idea|i (?:don't|do not) (?:really )?know(?: for sure)?",
    r"maybe|perhaps|possibly|might be|could be",
)
# Blanks in the phrases above stand for any white space.
_HEDGE = re.compile(rf"(?<![\w'])(?:{'|'.join(_HEDGES)})(?![\w'])(?:,? but\b)?".replace(" ", r"\s+"), re.IGNORECASE)
# `this is not just a guess`: what stands before a hedge may turn it into its opposite.
_ASSERTED = re.compile(
    r"\b(?:not|no|isn't|never)\s+(?:just\s+|only\s+|merely\s+)?(?:a|my(?:\s+best)?)?\s*$", re.IGNORECASE
)


class Confidence(NamedTuple):
    """How sure a completion says it is."""

    certain: bool
    words: str | None
    """The words that say so; None where it says nothing, which counts as certain."""
    rest: str
    """The completion without those words: what it answers."""


def confidence(answer: str, reference: str = "") -> Confidence:
    """What the answer says of its own confidence; the last number counts, and it outweighs words that hedge.

    Words that the reference has too are part of the answer, and hedge nothing.
    """
    text = plain(answer)
    levels = [(m, level) for m in _STATED.finditer(text) if (level := _level(m)) is not None]
    hedges = [m for m in _HEDGE.finditer(text) if not _ASSERTED.search(text[: m.start()])]
    hedges = [m for m in hedges if not contains(reference, m.group())]
    if not levels and not hedges:
        return Confidence(True, None, answer)
    # Cut out of the answer, or the 7 of `confidence: 7` would be the last number of the completion.
    rest = _without(text, [m.span() for m, _ in levels] + [m.span() for m in hedges])
    if levels:
        last, level = levels[-1]
        return Confidence(level >= CERTAIN_FROM, " ".join(last.group().split()), rest)
    return Confidence(False, " ".join(hedges[0].group().split()), rest)


def _level(found: re.Match[str]) -> float | None:
    """A stated confidence on the scale of 0 to 10, or None for a number that lies on no scale."""
    words = {name.removeprefix("t_").removeprefix("w_"): v for name, v in found.groupdict().items() if v is not None}
    if "level" in words:
        return _LEVELS[words["level"].lower()]
    number = float(words["number"])
    if "of" in words:
        scale = float(words["of"])
    elif "percent" in words:
        scale = 100.0
    else:
        # `1` is one of ten and `1.0` is all of one: only the point tells them apart.
        scale = 1.0 if "." in words["number"] and number <= 1 else 10.0
    return 10 * number / scale if scale and number <= scale else None


def _without(text: str, spans: list[tuple[int, int]]) -> str:
    kept, at = [], 0
    for start, end in sorted(spans):
        kept.append(text[at : max(at, start)])
        at = max(at, end)
    return "".join([*kept, text[at:]]).strip()
