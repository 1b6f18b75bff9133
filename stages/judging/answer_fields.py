"""What a judge's answer says under a name: `Verdict: unsafe` and the other ways in which models write that.

A reasoning block is never looked at: a verdict that is weighed there is none. Everywhere else a name may be said as a
line of its own, with marks of Markdown or without, as a member of a JSON object, or between tags of that name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_TAGS = r"(?:think(?:ing)?|reasoning|thoughts?|scratchpad)"
_BLOCK = re.compile(rf"<{_TAGS}>.*?(?:</{_TAGS}>|\Z)", re.IGNORECASE | re.DOTALL)
_CLOSE = re.compile(rf"</{_TAGS}>", re.IGNORECASE)
_MARKS = r"[\s>#*_`~-]*"
_NUMBERED = rf"(?:{_MARKS}\(?\d{{1,2}}[.)])?{_MARKS}"
"""What may stand before a name: marks of Markdown, the number of a list's item."""
_OF_SCALE = re.compile(r"[\s*_`~\"']*(?:/\s*\d+|\(?(?:out )?of \d+\)?)[\s*_`~\"'.!]*$", re.IGNORECASE)
"""Behind a score: how far its scale goes."""
_END = re.compile(r"""[\s*_`~"'.!]*(?:$|[(\[,;:\u2013\u2014]|-\s|because\b|since\b|as\s)""", re.IGNORECASE)
"""What may stand behind a verdict: nothing, or the beginning of a reason."""


@dataclass(frozen=True, slots=True)
class Statement:
    """One thing that an answer says under a name."""

    text: str
    """As it stands, to the end of its line, string or tag."""
    begin: int
    """Where it begins in the answer."""


def without_reasoning(text: str) -> str:
    """The text with blanks in place of reasoning, so that what is left stands where it stood.

    A block that is never closed runs to the end; what comes before a lone closing tag is reasoning.
    """
    shown = _BLOCK.sub(lambda m: " " * len(m[0]), text)
    for close in _CLOSE.finditer(shown):
        shown = " " * close.end() + shown[close.end() :]
    return shown


def statements_under(name: str, text: str) -> list[Statement]:
    """All that the answer says under the name, in its order, reasoning left out."""
    word = re.escape(name).replace("_", "[ _-]")
    shown = without_reasoning(text)
    patterns = (
        # A line of its own: `Verdict: unsafe`, `**Final verdict:** unsafe`; `the verdict: good` is a sentence.
        rf"^{_NUMBERED}(?:final |my )?{word}[*_`\"]*[^\S\n]*[:=]{_MARKS}(?P<said>[^\n]*)$",
        rf"[{{,]\s*\"{word}\"\s*:\s*\"?(?P<said>[^\",}}\n]*)",
        rf"<{word}>\s*(?P<said>[^<]*?)\s*</{word}>",
    )
    found = {}
    for pattern in patterns:
        for m in re.finditer(pattern, shown, re.IGNORECASE | re.MULTILINE):
            found[m.start("said")] = m["said"]
    return [Statement(said, begin) for begin, said in sorted(found.items())]


def choice_of(statement: Statement, known: list[str]) -> tuple[str, int, int] | None:
    """Which of the known words it is, and where in the answer it begins and ends; None where it names none or several.

    A reason may follow; another of the known words may not.
    """
    for word in sorted(known, key=len, reverse=True):
        m = re.match(rf"[\s*_`~\"'(\[{{]*({_spelled(word)})(?!\w)[)\]}}]*", statement.text, re.IGNORECASE)
        if m is None:
            continue
        rest = statement.text[m.end() :]
        if word.isdigit():
            rest = _OF_SCALE.sub("", rest)
        others = [w for w in known if re.search(rf"(?<![\w-]){_spelled(w)}(?![\w-])", rest, re.IGNORECASE)]
        if others or not _END.match(rest):
            return None
        return word, statement.begin + m.start(1), statement.begin + m.end(1)
    return None


def _spelled(word: str) -> str:
    return re.escape(word).replace("_", "[ _-]")
