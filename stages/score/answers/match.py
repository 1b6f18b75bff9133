"""Is a completion's answer the reference? One rule for each `answer_kind`, for all verifiers."""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from schemas.prompts import PromptRow
from schemas.values import plain_text
from stages.score.answers import exact_math, math_pool
from stages.score.answers.extract import as_number, boxed, choice_index, final_number, stated
from stages.score.answers.normalize import phrase, spaced


class Match(NamedTuple):
    """Whether an answer is right, what was compared, and why it is not."""

    right: bool
    seen: str | None = None
    reason: str | None = None


def match(row: PromptRow, answer: str) -> Match:
    """Compare an answer with the row's reference by the row's `answer_kind`.

    The row must have a reference. Where it gives no kind, options mean choice, a numeric reference means
    number, a backslash means math, and anything else is text. Raises `math_pool.TimedOut` and
    `math_pool.JobFailed` for kind math.
    """
    assert row.answer is not None
    kind = row.answer_kind or _guess(row)
    if kind not in _RULES:
        raise ValueError(f"unknown answer_kind {kind!r}; known: {', '.join(_RULES)}")
    if not answer.strip():
        return Match(False, None, "nothing follows the think block")
    return _RULES[kind](row, row.answer, answer)


def _guess(row: PromptRow) -> str:
    if row.choices:
        return "choice"
    if as_number(row.answer or "") is not None:
        return "number"
    return "math" if "\\" in (row.answer or "") else "text"


def _number(row: PromptRow, gold: str, answer: str) -> Match:
    """Equal as exact numbers; a decimal reference also takes completions that round to it."""
    expected = as_number(gold)
    if expected is None:
        # Upstream calls some answers numbers that are not: `10^5`, `3:45`.
        # As text where there is no digit, for math-verify would look for variables in words.
        return _math(row, gold, answer) if any(c.isdigit() for c in gold) else _text(row, gold, answer)
    found, written = final_number(answer)
    if found is None:
        return Match(False, written, "no number in the answer")
    if equal_numbers(expected, found, gold):
        return Match(True, written)
    return Match(False, written, f"{written} is not {gold}")


def equal_numbers(expected: Fraction, found: Fraction, gold: str) -> bool:
    """Exactly equal, or equal once rounded to the places of a reference with two or more decimals."""
    if expected == found:
        return True
    # From two decimals on a reference is taken for rounded. One decimal is no rounding: 2.5 beside 2.46 is another
    # answer.
    places = len(gold.strip().rstrip("%").strip().partition(".")[2])
    return places >= 2 and "/" not in gold and round(found, places) == expected


def option_index(gold: str, choices: list[str]) -> int | None:
    """Which option a reference means: by its text, else by its letter; None when it is neither."""
    same = [i for i, c in enumerate(choices) if c.strip() == gold.strip()]
    if not same:
        same = [i for i, c in enumerate(choices) if phrase(c) == phrase(gold) and len(phrase(c)) > 2]
    if len(same) == 1:
        return same[0]
    letter = gold.strip().strip("().").upper()
    if len(letter) == 1 and "A" <= letter <= "Z" and (not choices or ord(letter) - 65 < len(choices)):
        return ord(letter) - 65
    return None


def answered_option(row: PromptRow, answer: str) -> int | None:
    """The option that an answer settles on, or None."""
    gold = option_index(row.answer or "", row.choices)
    # MATH-V draws options up to E in its images, so as many letters are taken where the texts are not known.
    return choice_index(answer, row.choices, count=max(5, (gold or 0) + 1))


def _choice(row: PromptRow, gold: str, answer: str) -> Match:
    """The choice_index option is the reference option, by letter or text (MATH-V also takes the option's value)."""
    expected = option_index(gold, row.choices)
    if expected is None:
        return _number(row, gold, answer) if as_number(gold) is not None else _text(row, gold, answer)
    found = answered_option(row, answer)
    if found is None:
        value = row.choices[expected] if row.choices else ""
        if as_number(value) is not None and (final := _number(row, value, answer)).right:
            return final
        return Match(False, None, "no single option in the answer")
    name = row.choices[found] if row.choices else chr(65 + found)
    if found == expected:
        return Match(True, name)
    return Match(False, name, f"chose {chr(65 + found)}, not {gold}")


# Members of one small class exclude each other, so naming two of them is naming several answers.
RIVALS = [
    frozenset(words.split())
    for words in (
        "yes no",
        "true false",
        "red blue green yellow purple orange black white pink brown grey gray",
        "circle square triangle star cross heart diamond",
        "left right",
        "above below",
        "more fewer less same equal",
    )
]
RIVALS_OF = {word: [r for r in RIVALS if word in r] for rivals in RIVALS for word in rivals}
_LIST = re.compile(r"[,;\n]|\bor\b|\band\b")
_ITEM_WORDS = 3
_SENTENCE_WORDS = 12
_GRAMMAR_WORDS = (
    "a an the it its it's is are was were be been has have had do does did this that these those there here"
    " they their he she his her i my we our you your in on at of to and or with for from by as so answer"
    " final shown shows image image see"
)
GRAMMAR = frozenset(_GRAMMAR_WORDS.split())
_ARTICLE = re.compile(r"^ (?:a|an|the) (?=\w)")
_DENIED = re.compile(r" (?:not|than|instead of|rather than) (?:(?:a|an|the|one) ){0,1}\w+(?= )")
_SHORT_WORDS = 40


def _text(row: PromptRow, gold: str, answer: str) -> Match:
    """The reference's words stand in the answer as one phrase, and the answer names nothing else beside it.

    Looked at: what the completion marks as its answer, else all of a short completion, else a long one's last line.
    `not blue` and `than the blue one` don't count as naming blue. What counts as naming several, so that no
    completion is right by listing every possibility: see `_also_named`.
    """
    # No words at all: the reference is made of signs, and only the very same signs will do.
    if len(phrase(gold)) <= 2:
        return Match(answer.strip() == gold.strip(), answer.strip()[:200])
    judged = _judged_part(answer)
    seen = judged.strip()[:200]
    expected, words = _ARTICLE.sub(" ", phrase(gold)), spaced(judged)
    if expected == words:
        return Match(True, seen)
    # A reference that itself denies (`not blue`) must not lose its words to the rule for denials.
    if not _DENIED.search(expected):
        words = _DENIED.sub(" ", words)
    if expected not in words:
        return Match(False, seen, f"{gold!r} is not in the answer")
    if also := _also_named(row, expected, words, judged):
        return Match(False, seen, f"the answer also says {', '.join(also[:4])}")
    return Match(True, seen)


def _also_named(row: PromptRow, expected: str, words: str, judged: str) -> list[str]:
    """Other answers that a completion names beside the reference; empty when it commits itself.

    Members of the reference's own small class (colours, yes and no, ...); the other items of a list that
    has the reference as an item; in a short completion, words that neither the question, nor the row's facts,
    nor plain grammar account for: none are allowed where there is no grammar at all (a bare list), two
    elsewhere.
    """
    named_words, own = set(words.split()), set(expected.split())
    asked = set(spaced(plain_text(row.messages)).split())
    for word in expected.split():
        for rivals in RIVALS_OF.get(word, ()):
            # A question that offers the reference itself (`red or blue ?`) offers its rivals too; otherwise
            # a completion may repeat the question's words (`the circle is left of the square`).
            repeated = set() if word in asked else asked
            if named := sorted(rivals & named_words - own - repeated):
                return named
    items = [_DENIED.sub(" ", spaced(item)) for item in _LIST.split(judged)]
    items = [item for item in items if 0 < len(item.split()) <= _ITEM_WORDS]
    if len(items) > 1 and expected in items:
        return [item.strip() for item in items if item != expected]
    known = asked | set(spaced(" ".join(row.facts)).split()) | GRAMMAR
    either = [set(part.split()) - known for part in words.split(" or ")]
    if own - known in either and (named := sorted(set().union(*either) - own)) and len(either) > 1:
        return named
    extra = sorted(named_words - own - known)
    bare = not named_words & known - own
    # The grammar is English, and other scripts come apart into characters.
    few = len(words.split()) <= _SENTENCE_WORDS and expected.isascii()
    return extra if few and len(extra) > (0 if bare else 2) else []


def _judged_part(answer: str) -> str:
    if marked := stated(answer):
        return marked
    if spaced(answer).count(" ") <= _SHORT_WORDS:
        return answer
    lines = [line for line in answer.splitlines() if line.strip()]
    return lines[-1]


_NO_MEANING = re.compile(r"\s+|\\[,;! ]|\\(?:left|right|displaystyle)\b|\$|\^\{?\\circ\}?")
_LONGEST_MATH = 4000


def _plain_math(latex: str) -> str:
    text = _NO_MEANING.sub("", latex.strip().rstrip("."))
    return text.replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac")


def _math(row: PromptRow, gold: str, answer: str) -> Match:
    """Equal as mathematics: same spelling or exact numbers at once, anything else by math-verify in a child."""
    final = boxed(answer)
    if final is None:
        final = stated(answer)
    candidate = final if final is not None else answer
    # From cheap to dear: same letters, exact numbers, exact forms in microseconds; algebra in a child takes
    # milliseconds.
    if _plain_math(candidate) == _plain_math(gold):
        return Match(True, candidate.strip()[:200])
    expected, found = as_number(gold), as_number(candidate)
    if expected is not None and found is not None:
        right = equal_numbers(expected, found, gold)
        return Match(right, candidate.strip(), None if right else f"{candidate.strip()} is not {gold}")
    if (equal := exact_math.same(gold, candidate)) is not None:
        return Match(equal, candidate.strip()[:200], None if equal else f"{candidate.strip()[:200]} is not {gold}")
    if not any(c.isalnum() for c in candidate):
        return Match(False, None, "no mathematical expression in the answer")
    # A box is handed over alone; without one math-verify searches, and a long text's end is where answers stand.
    expression = f"\\boxed{{{final}}}" if final is not None and "\n" not in final else answer[-_LONGEST_MATH:]
    right, seen = _by_algebra(gold, expression, math_pool.limit_s())
    if seen is None:
        return Match(False, None, "no mathematical expression in the answer")
    return Match(right, seen, None if right else f"{seen} is not {gold}")


def _by_algebra(gold: str, candidate: str, limit_s: float) -> tuple[bool, str | None]:
    outcome = _remembered(gold, candidate, limit_s)
    if isinstance(outcome, Exception):
        # A new exception each time: the kept one would gather the tracebacks of all threads that raise it.
        raise type(outcome)(*outcome.args)
    return outcome


@lru_cache(maxsize=4096)
def _remembered(gold: str, candidate: str, limit_s: float) -> tuple[bool, str | None] | Exception:
    # A group's samples often end in the same words; failures are remembered too, so that eight equal completions
    # that hang cost one timeout.
    try:
        answer = math_pool.POOL.run({"gold": gold, "candidate": candidate}, limit_s)
    except (math_pool.TimedOut, math_pool.JobFailed) as error:
        return error
    return answer["correct"], answer["seen"]


_RULES = {"number": _number, "choice": _choice, "text": _text, "math": _math}
