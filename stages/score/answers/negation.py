"""Whether a text denies what it names: `not blue`, `never blue`, `rather than blue`, 不是蓝色, 青ではありません.

Who is quoted or reported as the speaker is another question, which only refusals ask (`rules.refusal_phrases`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from stages.score.answers.markers import AND, BUT, NEGATED_FOLLOWS, NEGATORS, NEGATORS_AFTER, NEGATORS_BEFORE, OR

CLAUSE = re.compile(rf"[.!?;:\n。！？；](?=\s|$|[\u3000-\u9fff])|[,，]|\b(?:{BUT})\b|但是|而是")
"""Between clauses: a denial reaches no further."""
SCRIPT = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]")
"""Characters of scripts that set no spaces between words."""
_NOT_IT = "wrong|incorrect|false|not|out|eliminated|ruled|excluded"
_WRONG = re.compile(
    rf"\s*(?:[)\].:]\s*)?(?:[\w\s]{{0,30}}?)\b(?:is|are|was|can be)\s*(?:\w+\s+){{0,2}}?(?:{_NOT_IT})\b"
    r"|\s*(?:isn't|can't be|cannot be|不对|错误|不正确|是错)",
    re.IGNORECASE,
)
_LETTERS_MORE = re.compile(rf"^(?:[)\]]?\s*(?:,\s*(?:(?:{AND}|{OR})\s+)?|\s(?:{AND}|{OR}|nor)\s+)[(\[]?[A-Z]\b)+")
_NOT_WRONG = re.compile(r"\bnot\s+(?:\w+\s+){0,2}?(?:wrong|incorrect|false)\b", re.IGNORECASE)
_FAR = 3
"""Words between a `not` and what it still plainly denies."""


def denies(before: Sequence[str]) -> bool:
    """Whether the words before one deny it: `not`, `never`, `no` at most a few words ahead, `than` right before."""
    near = before[-_FAR - 1 :]
    for n, word in enumerate(reversed(near)):
        if word in NEGATORS or word.endswith("n't"):
            return not idiom(near, len(near) - 1 - n)
        if word in NEGATED_FOLLOWS and n <= 1:
            return True
        if word == "of" and n + 1 < len(near) and near[-n - 2] == "instead":
            return True
    return False


def idiom(words: Sequence[str], at: int) -> bool:
    """Whether a word that denies opens an idiom that does not: `no doubt`, `not only`."""
    following = words[at + 1] if at + 1 < len(words) else ""
    return (words[at], following) in {("no", "doubt"), ("without", "doubt"), ("not", "only"), ("no", "question")}


def denies_in_script(before: str, after: str) -> bool:
    """The same of Chinese (in front), Japanese and Korean (behind), in the letters on both sides."""
    return bool(NEGATORS_BEFORE.search(before) or NEGATORS_AFTER.match(after))


def calls_wrong(after: str) -> bool:
    """Whether what stands behind something calls it wrong in the same clause: `is wrong`, `can be ruled out`, 不对.

    Behind a letter of an enumeration, `(C) and D can't be`, it is called wrong with the others.
    """
    after = _LETTERS_MORE.sub("", after, count=1)
    clause = re.split(r"[,;!?\n，。；]|\.\s", after, maxsplit=1)[0]
    return bool(_WRONG.match(clause)) and not _NOT_WRONG.search(clause)
