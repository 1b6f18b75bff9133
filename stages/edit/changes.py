"""Edits as people give them: read from a file, found in a completion's text, stale where they are not."""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stages.core.config import build
from stages.core.errors import InputError, UsageError
from stages.edit.config import Change, EditConfig
from stages.judging.steps import split_steps

_STALE = "it was made of another completion: write it anew from the run as it is (cosmo show RUN --id {})"


@dataclass(frozen=True, slots=True)
class Cut:
    """A change as characters of the completion's text."""

    end: int
    """Where it ends in the old text; what follows is dropped."""
    text: str
    """The new text up to there."""


def changes_of(config: EditConfig) -> list[Change]:
    """The edits that the config names, each with its maker; InputError for a line that is none."""
    found = [*config.changes, *_read(Path(config.file))] if config.file else list(config.changes)
    if not found:
        raise UsageError("cosmo edit was given no edit", "cosmo edit RUN --id ID, or --from edits.jsonl")
    by = config.by or _user()
    return [change if change.by else replace(change, by=by) for change in found]


def _user() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # A container may run under a number that has no name.
        return "somebody"


def _read(path: Path) -> list[Change]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--from {path} can't be read: {error}", "one JSON object a line") from None
    return [_line(text, f"{path}, line {number}") for number, text in enumerate(lines, start=1) if text.strip()]


def _line(text: str, where: str) -> Change:
    try:
        record: Any = json.loads(text)
    except ValueError as error:
        raise InputError(f"{where} is no JSON: {error}", "one object a line") from None
    if not isinstance(record, dict) or not record.get("id") or "after" not in record:
        raise InputError(f"{where} has no id or no `after`", '{"id": "...", "index": 0, "step": 1, "after": "..."}')
    try:
        change: Change = build(Change, record, where)
    except UsageError as error:
        raise InputError(error.message, error.hint) from None
    return change


def cut(change: Change, text: str) -> Cut:
    """Where a change lies in the completion; InputError for one that is stale."""
    if change.step:
        return _step(change, text)
    if change.before is not None:
        return _words(change, change.before, text)
    return _whole(change.after, text)


def _step(change: Change, text: str) -> Cut:
    steps = split_steps(text)
    if change.step > len(steps):
        raise _stale(change, f"has {len(steps)} steps, and the edit is of step {change.step}")
    old = steps[change.step - 1]
    if change.before is not None and change.before.strip() != old.strip():
        raise _stale(
            change, f"has as step {change.step} {old.strip()[:60]!r}, and the edit is of {change.before[:60]!r}"
        )
    start = len("".join(steps[: change.step - 1]))
    return Cut(start + len(old), text[:start] + respaced(change.after, old))


def respaced(new: str, old: str) -> str:
    """New words with the blanks around them that the old ones had: editors take them away."""
    bare = old.strip()
    lead, tail = old[: len(old) - len(old.lstrip())], old[len(old.rstrip()) :]
    return old if new.strip() == bare else f"{lead}{new.strip()}{tail}"


def _words(change: Change, before: str, text: str) -> Cut:
    count = text.count(before) if before else 0
    if count != 1:
        raise _stale(change, f"has {before[:60]!r} {count} times, and it has to be there once")
    start = text.index(before)
    return Cut(start + len(before), text[:start] + change.after)


def _whole(after: str, text: str) -> Cut:
    """Up to the end of the last step that is not as it was; one that was taken out counts with the one after it."""
    old, new = split_steps(text), split_steps(after)
    end_old, end_new = 0, 0
    for tag, _, i2, j1, j2 in difflib.SequenceMatcher(a=old, b=new, autojunk=False).get_opcodes():
        if tag != "equal":
            kept_after = tag == "delete" and j1 < len(new)
            end_old, end_new = i2 + kept_after, j2 + kept_after
    if not end_old and not end_new:
        # Nothing is otherwise: all of it stays.
        return Cut(len(text), text)
    return Cut(len("".join(old[:end_old])), "".join(new[:end_new]))


def _stale(change: Change, why: str) -> InputError:
    message = f"a stale edit: completion {change.index} of {change.id} {why}"
    return InputError(message, _STALE.format(change.id))
