"""Whether a completion obeys a row's instructions: strictly, and in IFEval's loose sense.

Kinds and their rules: `stages/judging/instructions`.
"""

from __future__ import annotations

from collections.abc import Sequence

from stages.judging.instructions.find import UnknownInstruction, asked


def check_all(
    instructions: list[str], answer: str, prompt: str = "", named: Sequence[str] = ()
) -> tuple[list[str], list[str], list[str]]:
    """(obeyed, broken, without a rule) kinds.

    `named` are checks by where their code is. ValueError for an instruction that is no JSON object with a kind, and
    for arguments that its kind does not take; UnavailableError where a check lacks a package on this machine.
    """
    obeyed: list[str] = []
    broken: list[str] = []
    unknown: list[str] = []
    for instruction in instructions:
        try:
            found = asked(instruction, named)
        except UnknownInstruction as error:
            unknown.append(error.kind)
            continue
        (obeyed if found.check.obeys(answer, found.given, prompt) else broken).append(found.check.id)
    return obeyed, broken, unknown


def loose_variants(answer: str) -> list[str]:
    """IFEval's loose forms of an answer: without its first line, last line, both; each also without `*`."""
    lines = answer.split("\n")
    whole = [answer, *("\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1]))]
    return [form for text in whole for form in (text, text.replace("*", "")) if form.strip()]


def obeyed_loosely(instruction: str, answer: str, prompt: str = "", named: Sequence[str] = ()) -> bool:
    """Whether any loose form of the answer obeys an instruction."""
    return any(check_all([instruction], form, prompt, named)[0] for form in loose_variants(answer))
