"""A completion as a file for an editor: its steps under numbered lines, and what came back of them."""

from __future__ import annotations

import re

from schemas.identity import digest
from stages.core.errors import InputError
from stages.edit.changes import respaced
from stages.judging.steps import split_steps

_HEAD = """\
Completion {index} of {id}, by {policy}.
Change what you like under the numbered lines, and leave those. What follows the last change is sampled anew.
An empty step is taken out. What stands above the first numbered line is not read.
"""


def document(text: str, ident: str, index: int, policy: str, step: int = 0) -> str:
    """The file; with a step, that one alone can be changed, and what is before it stands there to be read."""
    steps, mark = split_steps(text), _mark(text)
    head = _HEAD.format(index=index, id=ident, policy=policy)
    shown = range(1, len(steps) + 1) if not step else [step]
    if step:
        head += "\n" + "".join(steps[: step - 1]).strip("\n") + "\n"
    return head + "".join(f"\n--- step {n} {mark}\n{_bare(steps[n - 1])}\n" for n in shown)


def text_of(edited: str, text: str, step: int = 0) -> str:
    """The completion as the file has it now; InputError where a numbered line is gone.

    A step that is as it was keeps its blanks to the letter; a changed one keeps those around it.
    """
    steps, mark = split_steps(text), _mark(text)
    wanted = list(range(1, len(steps) + 1)) if not step else [step]
    parts = re.split(rf"^--- step (\d+) {re.escape(mark)}[ \t]*\n", edited, flags=re.MULTILINE)
    if [int(number) for number in parts[1::2]] != wanted:
        raise InputError("the numbered lines of the edited file are not as they were", "edit again, and leave them")
    found = dict(zip(wanted, parts[2::2], strict=True))
    kept = range(1, len(steps) + 1) if not step else range(1, step + 1)
    return "".join(_as_step(found[n], steps[n - 1]) if n in found else steps[n - 1] for n in kept)


def _bare(step: str) -> str:
    return step.strip()


def _as_step(new: str, old: str) -> str:
    return respaced(new, old) if new.strip() or not old.strip() else ""


def _mark(text: str) -> str:
    """What no line of the completion holds, in practice: a digest of all of it."""
    return f"({digest(text)[:6]})"
