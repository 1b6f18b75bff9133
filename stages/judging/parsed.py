"""A completion taken apart: the think block, and what a person reads."""

from __future__ import annotations

from dataclasses import dataclass

OPEN, CLOSE = "<think>", "</think>"


@dataclass(frozen=True, slots=True)
class ParsedCompletion:
    """One completion's text, parsed once for all verifiers."""

    think: str | None
    """The reasoning without its tags; None when there is no think block."""
    answer: str
    """What verifiers judge: everything outside the think block, stripped."""
    well_formed: bool
    """Exactly one think block, nothing but whitespace before it, and a non-empty answer after it."""
    flaw: str | None = None
    """What is wrong with the form, in one line; None when it is well formed."""


def parse_completion(text: str) -> ParsedCompletion:
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
