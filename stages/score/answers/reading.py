r"""From a completion to its answer: layouts off, the marked part found, wrappers off.

All rules start from a `Reading`, so that `\boxed{\text{B}}`, `**Answer:** B`, `<answer>B</answer>` and `答案：B` are
one thing to each of them. What marks an answer, the strongest first: an `<answer>` tag or a field of JSON, a box,
`####` (GSM8K), a statement (`The final answer is`). The last of its sort counts, for worked solutions mark what they
reach on the way.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import lru_cache

from stages.judging.parsed import parse_completion
from stages.score.answers.markers import HEADING, HINTS, NAME, STATEMENT

_DESCRIPTION = re.compile(r"<(description|caption|summary)>.*?(?:</\1>|\Z)", re.DOTALL | re.IGNORECASE)
_ANSWER = re.compile(r"<answer>(.*?)(?:</answer>|\Z)", re.DOTALL | re.IGNORECASE)
_BOX = re.compile(r"\\(?:boxed|fbox|framebox)\s*(?=\{)")
_HASHES = re.compile(r"####[ \t]*([^\n#]+)")
_A_LINE = re.compile(r"^[ \t]*A:[ \t]*(\S.*)", re.MULTILINE)
_B_LINE = re.compile(r"^[ \t]*B:", re.MULTILINE)
# Between two boxes of one answer: `\boxed{1} and \boxed{2}`, `x = \boxed{1}, y = \boxed{2}`.
_BETWEEN_BOXES = re.compile(
    r"[\s$,;()\\]*(?:and|or|or\s+else|with|、|和|或)?[\s$,;()\\]*(?:\w{1,3}\s*=\s*)?[\s$(\\]*", re.IGNORECASE
)
# Set apart by a space or full-width, and no formula: `\\left( 3, \\frac{\\pi}{2} \\right)` and `f(ab)` are no notes.
_NOTE = re.compile(
    r"(?<=\S)(?:(?<!\\left)\s+[(\[][^()（）\[\]\\]*[^\W\d_]{2}[^()（）\[\]\\]*[)\]]"
    r"|\s*（[^()（）\[\]]*[^\W\d_]{2}[^()（）\[\]]*）)[\s.]*$"
)
_OBJECT = re.compile(r"\{[^{}]*\}")
_STYLES = (
    "text|textbf|textrm|textit|texttt|textsf|mathrm|mathbf|mathit|mathsf|mathbb|mathnormal|mbox|emph|bf|rm|boldsymbol|bm"
    "|operatorname"
)
_STYLE = re.compile(rf"\\(?:{_STYLES})\s*(?=\{{)")
_INLINE_STYLE = re.compile(rf"\\(?:{_STYLES})\s*\{{([^{{}}]*)\}}")
_FENCE = re.compile(r"^[ \t]*(?:```|~~~)[\w+-]*[ \t]*$\n?", re.MULTILINE)
_BOLD = re.compile(r"(?<![\w*])(\*{1,3}|_{2})(?=[^\s*])(.+?)(?<=[^\s*])\1(?![\w*])", re.DOTALL)
_PAIRS = (
    *(("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]"), ("***", "***"), ("**", "**"), ("__", "__"), ("*", "*")),
    *(("`", "`"), ('"', '"'), ("'", "'"), ("“", "”"), ("‘", "’"), ("«", "»"), ("「", "」"), ("『", "』"), ("„", "“")),
)
_PLAIN = re.compile(r"[\w,/+=-][\w ,/+=-]*\.?")
_ENDS = " \t\n.。"


@dataclass(frozen=True, slots=True)
class Reading:
    """What a completion answers, as every rule takes it."""

    whole: str
    """All that a reader sees, without layout tags and code fences."""
    final: str
    """What is marked as the answer, wrappers and trailing notes off; `whole` where nothing is."""
    mark: str
    """What marks it: tag, box, hash or statement; empty where nothing does."""
    noted: str
    """`final` with its trailing note, where it has one."""
    earlier: tuple[str, ...] = ()
    """What earlier statements say, the last first: for a last one that holds no answer of the row's kind."""


def boxes(text: str) -> list[tuple[int, int, str]]:
    r"""Start, end and inside of each `\boxed{...}` with balanced braces that is in no other box and not empty."""
    found, at = [], 0
    while box := _BOX.search(text, at):
        end = _closing(text, box.end())
        if end is None:
            break
        if inside := text[box.end() + 1 : end].strip():
            found.append((box.start(), end + 1, inside))
        at = end + 1
    return found


def boxed(text: str) -> str | None:
    r"""The inside of the last `\boxed{...}` that holds anything, innermost where boxes are nested; or None."""
    if "box" not in text or not (found := boxes(text)):
        return None
    return boxed(found[-1][2]) or found[-1][2]


def _closing(text: str, opening: int) -> int | None:
    """Where the brace that opens there is closed, or None."""
    depth = 0
    for at in range(opening, len(text)):
        char = text[at]
        if char == "{":
            depth += 1
        elif char == "}":
            depth -= 1
            if depth == 0:
                return at
    return None


def _last_boxes(text: str) -> str | None:
    """The last box, with those before it that nothing but `and`, `or` or a comma parts from it."""
    found = boxes(text)
    if not found:
        return None
    last = [found[-1]]
    for box in reversed(found[:-1]):
        if not _BETWEEN_BOXES.fullmatch(text[box[1] : last[0][0]]):
            break
        last.insert(0, box)
    insides = [boxed(inside) or inside for _, _, inside in last]
    # One answer boxed twice is one answer.
    return ", ".join(dict.fromkeys(insides))


@lru_cache(maxsize=64)
def read(completion: str, options: bool = False) -> Reading:
    """The answer of a completion, or of what follows its think block.

    With `options` the row is a choice: then `A:` at the start of a line names an option, elsewhere it is the mark of
    older GSM8K files.
    """
    whole = _shown(completion)
    body, mark = whole, ""
    if "<answer>" in whole.lower() and (tags := _ANSWER.findall(whole)):
        body, mark = tags[-1].strip(), "tag"
        whole = body
    elif '"' in whole and "{" in whole and (field := _json_answer(whole)) is not None:
        body, mark = field, "tag"
    if "box" in body and (inside := _last_boxes(body)) is not None:
        return _reading(whole, [inside], "box")
    if not options and (line := _marked_line(body)) is not None:
        return _reading(whole, [line], "hash")
    if said := _statements(body):
        return _reading(whole, said, "statement")
    return _reading(whole, [body], mark)


def _json_answer(text: str) -> str | None:
    """What the last JSON object says under a name for the answer, where one does; of a list its items."""
    for found in reversed(_OBJECT.findall(text)):
        try:
            fields = json.loads(found)
        except ValueError:
            continue
        said = [v for k, v in fields.items() if NAME.fullmatch(k.replace("_", " ").strip())]
        if said and isinstance(said[-1], str | int | float | list):
            value = said[-1]
            shown = ", ".join(map(str, value)) if isinstance(value, list) else value
            return json.dumps(value) if isinstance(value, bool) else str(shown).strip()
    return None


def _shown(text: str) -> str:
    if "think>" in text:
        text = parse_completion(text).answer
    if "<" in text:
        text = _DESCRIPTION.sub("", text)
    if "```" in text or "~~~" in text:
        text = _FENCE.sub("", text)
    return text.strip()


def _marked_line(text: str) -> str | None:
    """What follows GSM8K's `####` or `A:`; None for a heading, an echoed option, and where a statement comes later."""
    at = -1
    line = None
    if "####" in text:
        for hashes in _HASHES.finditer(text):
            at, line = hashes.end(), hashes.group(1).strip()
    # Options `A: 5 m`, `B: 7 m` are a list; the mark has no line with a B beside it.
    elif "A:" in text and not _B_LINE.search(text):
        for a_line in _A_LINE.finditer(text):
            at, line = a_line.end(), a_line.group(1).strip()
    if line is None or line.endswith(":") or STATEMENT.search(text, at) or HEADING.match(line):
        return None
    return line


def _statements(text: str) -> list[str]:
    """What statements of the answer say, the last first."""
    lower = text.lower()
    if not any(hint in lower for hint in HINTS):
        return []
    ends = [m.end() for m in STATEMENT.finditer(text)]
    ends += [m.end() for m in HEADING.finditer(text)]
    parts = [_after_mark(text, at) for at in sorted(set(ends), reverse=True)]
    return [part for part in parts if part]


def _after_mark(text: str, at: int) -> str:
    """The rest of the line, or the next line or displayed formula where nothing is left of it."""
    rest = text[at:].lstrip(" \t:：*_").removeprefix("\n").lstrip()
    for opening, closing in (("$$", "$$"), ("\\[", "\\]")):
        if rest.startswith(opening) and (end := rest.find(closing, len(opening))) > 0:
            return rest[: end + len(closing)]
    return (
        _bullet_off(rest.partition("\n")[0])
        if "\n" in text[at : len(text) - len(rest) + 1]
        else rest.partition("\n")[0]
    )


def _bullet_off(line: str) -> str:
    """A line without the bullet that opens it: `- 7` below a heading is seven."""
    return re.sub(r"^\s*[-*•–]\s+", "", line)


def _reading(whole: str, parts: list[str], mark: str) -> Reading:
    noted = unwrap(parts[0])
    final = unwrap(_NOTE.sub("", noted)) if mark and noted.endswith((")", "）", "]")) else noted
    return Reading(whole, final or noted, mark, noted, tuple(unwrap(part) for part in parts[1:]))


def unwrap(text: str) -> str:
    r"""A text without what encloses all of it: `$...$`, `\(...\)`, `**...**`, `\text{...}`, quotes, a full stop."""
    if _PLAIN.fullmatch(text):
        return text.rstrip(".")
    while True:
        bare = text.strip()
        # An ellipsis at the end is part of what it ends.
        bare = bare if bare.endswith("..") else bare.rstrip(_ENDS)
        bare = _dangling(bare)
        for opening, closing in _PAIRS:
            inner = bare[len(opening) : len(bare) - len(closing)]
            if (
                len(bare) > len(opening) + len(closing)
                and bare.startswith(opening)
                and bare.endswith(closing)
                and opening not in inner
                and closing not in inner
            ):
                bare = inner
                break
        if bare.startswith("\\") and (style := _STYLE.match(bare)) and _closing(bare, style.end()) == len(bare) - 1:
            bare = bare[style.end() + 1 : -1]
        if bare == text:
            return bare
        text = bare


def _dangling(text: str) -> str:
    """Half of a pair that the cut of a line left: `B**` of `**Answer: B**`."""
    for half in ("**", "`", "$", '"'):
        if text.count(half) == 1 and len(text) > len(half):
            if text.endswith(half):
                return text[: -len(half)]
            # A dollar in front may be a price.
            if text.startswith(half) and half != "$":
                return text[len(half) :]
    return text


def plain_markup(text: str) -> str:
    r"""A text without any markup inside: `**B** because` as `B because`, `\text{D. It moves}` as its words."""
    if "\\" in text:
        for _ in range(2):
            text = _INLINE_STYLE.sub(r"\1", text)
        text = re.sub(r"\\[()\[\]]|\\(?:left|right)(?![a-zA-Z])", "", text)
        text = re.sub(r"\\[ ,;:!~]|\\q?quad", " ", text)
    if "*" in text or "__" in text:
        text = _BOLD.sub(r"\2", text)
    return text.replace("`", "").replace("$", "") if "`" in text or "$" in text else text


def emphasised(text: str) -> str | None:
    """What the last line sets in bold, where it does so once; or None."""
    last = text.rstrip().rpartition("\n")[2]
    found = [m.group(2) for m in _BOLD.finditer(last)]
    return found[0] if len(found) == 1 and not found[0].endswith(":") else None
