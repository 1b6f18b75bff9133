"""A completion taken apart by its layout: the think block, the answer, and what a person reads.

think       <think>...</think> answer
describe    <description>...</description> <think>...</think> <answer>...</answer>
            (VTPerception-R1, arXiv:2509.24776: what is seen is written down before it is thought about)
search      turns of <think>...</think> and <search>...</search> or <read>1</read>; in the last one
            <think>...</think> <confidence>0-10</confidence> <answer>...</answer>
            (deliberative search, arXiv:2507.16727). What an environment answers between turns is none of its words
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

OPEN, CLOSE = "<think>", "</think>"
THINK, DESCRIBE, SEARCH = "think", "describe", "search"
LAYOUTS = (THINK, DESCRIBE, SEARCH)
_PARTS = ("description", "think", "answer")
_DESCRIBED = re.compile(r"\s*<description>(.*?)</description>\s*<think>(.*?)</think>\s*<answer>(.*?)</answer>\s*", re.S)
_TAGS = re.compile(r"</?(?:description|answer)>")
_SEARCH_TAGS = re.compile(r"</?(?:search|read|confidence|answer)>")
_INSIDE = r"((?:(?!</?(?:think|search|read|confidence|answer)>).)*)"
_THOUGHT = rf"\s*<think>{_INSIDE}</think>\s*"
_ACTION = re.compile(rf"{_THOUGHT}<(search|read)>{_INSIDE}</\2>", re.S)
_CONCLUSION = re.compile(rf"{_THOUGHT}<confidence>\s*(\d|10)\s*</confidence>\s*<answer>{_INSIDE}</answer>\s*", re.S)


@dataclass(frozen=True, slots=True)
class ParsedCompletion:
    """One completion's text, parsed once for all verifiers."""

    think: str | None
    """The reasoning without its tags; None when there is no think block."""
    answer: str
    """What verifiers of the task judge: everything outside the think block, stripped; in the layout `describe` what
    stands inside the answer's tags."""
    well_formed: bool
    """Whether it has the parts of its layout, each once, in order and not empty, with nothing between them."""
    flaw: str | None = None
    """What is wrong with the form, in one line; None when it is well formed."""
    description: str | None = None
    """What it says that it sees, in the layout `describe`; None where it says nothing."""
    seen_by_reader: str | None = None
    """All that is outside think blocks, where that is more than the answer."""
    confidence: int | None = None
    """How sure it says it is, 0 to 10, in a well-formed completion of the layout `search`."""
    actions: tuple[tuple[str, str], ...] = ()
    """Its actions in the layout `search`: (`search` or `read`, what stands in the tag), in order."""

    @property
    def shown(self) -> str:
        """All that is outside think blocks: what verifiers of safety judge, as people read descriptions, too."""
        return self.answer if self.seen_by_reader is None else self.seen_by_reader


def parse_completion(text: str, layout: str = THINK) -> ParsedCompletion:
    """Split a completion into the parts of its layout: `think`, `describe` or `search`.

    What is malformed loses nothing: whatever a reader would see is in `shown`, and where no part is marked as the
    answer, all of it but the description is.
    """
    if layout == SEARCH:
        return _parse_searched(text)
    return _parse_described(text) if layout == DESCRIBE else _parse_thought(text)


def _parse_searched(text: str) -> ParsedCompletion:
    thoughts, actions, at = [], [], 0
    while (turn := _ACTION.match(text, at)) is not None:
        thoughts.append(turn[1].strip())
        actions.append((turn[2], turn[3].strip()))
        at = turn.end()
    last = _CONCLUSION.fullmatch(text, at)
    thought = _parse_thought(text)
    shown = "\n".join(line for line in map(str.strip, _SEARCH_TAGS.sub("\n", thought.answer).split("\n")) if line)
    if last is not None and last[3].strip():
        think = "\n".join([*thoughts, last[1].strip()])
        return ParsedCompletion(think, last[3].strip(), True, None, None, shown, int(last[2]), tuple(actions))
    found = re.findall(r"<answer>(.*?)(?:</answer>|\Z)", thought.answer, re.S)
    flaw = "the answer is empty" if last is not None else _searched_flaw(text, at)
    answer = found[-1].strip() if found else shown
    return ParsedCompletion(thought.think, answer, False, flaw, None, shown, None, tuple(actions))


def _searched_flaw(text: str, at: int) -> str:
    if not text.strip():
        return "the completion is empty"
    if "<answer>" not in text:
        return "no answer"
    rest = " ".join(text[at:].split())
    return f"no turn of think and an action, or think, confidence and answer: {rest[:40]!r}"


def _parse_described(text: str) -> ParsedCompletion:
    whole = _DESCRIBED.fullmatch(text)
    counts = {name: (text.count(f"<{name}>"), text.count(f"</{name}>")) for name in _PARTS}
    if whole and all(count == (1, 1) for count in counts.values()):
        description, think, answer = (part.strip() for part in whole.groups())
        empty = next((n for n, part in zip(_PARTS, (description, think, answer), strict=True) if not part), None)
        shown = f"{description}\n{answer}".strip()
        flaw = f"the {empty} is empty" if empty else None
        return ParsedCompletion(think, answer, not empty, flaw, description, shown)
    thought = _parse_thought(text)
    outside = thought.answer
    description = _inside(outside, "description")
    answer = _inside(outside, "answer")
    if answer is None:
        answer = _TAGS.sub("\n", outside.replace(f"<description>{description or ''}", "", 1)).strip()
    shown = "\n".join(line for line in map(str.strip, _TAGS.sub("\n", outside).split("\n")) if line)
    return replace(
        thought,
        answer=answer,
        well_formed=False,
        flaw=_described_flaw(text, counts),
        description=description,
        seen_by_reader=shown,
    )


def _inside(text: str, name: str) -> str | None:
    """What stands in the last such part, up to its end, the next tag or the end of the text; None without one."""
    found = re.findall(rf"<{name}>(.*?)(?:</{name}>|(?=</?(?:description|answer)>)|\Z)", text, re.S)
    return found[-1].strip() if found else None


def _described_flaw(text: str, counts: dict[str, tuple[int, int]]) -> str:
    if not text.strip():
        return "the completion is empty"
    for name, (opened, closed) in counts.items():
        if not opened and not closed:
            return f"no {name}"
        if (opened, closed) != (1, 1):
            return f"{opened} opening and {closed} closing {name} tags"
    return "text between the parts, or the parts in another order than description, think, answer"


def _parse_thought(text: str) -> ParsedCompletion:
    """Split a completion into think block and answer.

    A well-formed completion's answer is what follows its think block. In a malformed one, *everything* outside
    think tags is the answer, so that nothing a reader would see escapes the verifiers. An unclosed think
    block runs to the end; text before a lone closing tag is thinking (some chat templates open the block in
    the prompt).
    """
    # Nearly every completion ends here; the walk over pieces below is for what is left.
    if text.count(OPEN) == 1 and text.count(CLOSE) == 1:
        before, _, rest = text.partition(OPEN)
        think, closed, answer = rest.partition(CLOSE)
        if closed:
            answer = answer.strip()
            if not before or before.isspace():
                return ParsedCompletion(think.strip(), answer, bool(answer), None if answer else "the answer is empty")
            shown = f"{before.strip()}\n{answer}".strip()
            return ParsedCompletion(think.strip(), shown, False, "text before the think block")
    return _malformed(text)


def _malformed(text: str) -> ParsedCompletion:
    think: list[str] = []
    outside: list[str] = []
    inside = False
    seen_close = False
    for piece in _split_tags(text):
        if piece == OPEN:
            inside = True
        elif piece == CLOSE:
            # Only the first closing tag: text between two of them was shown to the reader.
            if not inside and not think and not seen_close:
                think, outside = outside, []
            inside, seen_close = False, True
        else:
            (think if inside else outside).append(piece)
    # Pieces on lines of their own, so that words on both sides of a tag do not run together.
    answer = "\n".join(p.strip() for p in outside if p.strip())
    has_think = OPEN in text or CLOSE in text
    return ParsedCompletion("\n".join(think).strip() if has_think else None, answer, False, _flaw(text))


def _split_tags(text: str) -> list[str]:
    pieces = []
    for i, part in enumerate(text.split(OPEN)):
        if i:
            pieces.append(OPEN)
        for j, inner in enumerate(part.split(CLOSE)):
            if j:
                pieces.append(CLOSE)
            pieces.append(inner)
    return pieces


def _flaw(text: str) -> str:
    opened, closed = text.count(OPEN), text.count(CLOSE)
    if not text.strip():
        return "the completion is empty"
    if not opened and not closed:
        return "no think block"
    if opened > 1 or closed > 1:
        return f"{opened} opening and {closed} closing think tags"
    if not closed:
        return "the think block is never closed"
    return "a closing think tag comes first" if opened else "the think block is never opened"
