"""Judge prompts: a TOML file says what is asked, which verdicts may be answered, and what each is worth.

    user = '''Question: $question
    Completion: $completion
    ...'''
    [verdicts]
    good = 1.0
    bad = 0.0

`$question`, `$completion`, `$reference` and `$label` are filled in from the row. The judge has to end with a line
`Verdict: <one of them>`; anything else is unparsable, which is a status and not a score.
"""

from __future__ import annotations

import re
import string
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from schemas.identity import digest
from schemas.prompts import PromptRow
from schemas.values import Image, Message, Part, plain_text
from stages.core.config import build, option
from stages.core.errors import InputError, UsageError

FOLDER = Path(__file__).with_name("prompts")
BLANKS = ("question", "completion", "reference", "label")
# A line of its own, such as `Verdict: safe_with_warning` or ` verdict : Good.`; `the verdict: good or bad` is none.
_VERDICT = re.compile(r"^\s*verdict\s*:\s*([\w-]+)\s*\.?\s*$", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True)
class PromptFile:
    """The keys of a prompt file."""

    user: str = option("", "What the judge is asked; $question, $completion, $reference, $label are filled in")
    system: str = option("", "A system turn before it")
    images: bool = option(True, "Show the judge the prompt's images")
    verdicts: dict[str, float] = option({}, "Every verdict that may be answered, with its score")


@dataclass(frozen=True, slots=True)
class JudgePrompt:
    """A checked prompt file."""

    name: str
    """Its file's name without `.toml`."""
    asks: PromptFile
    digest: str
    """Of everything in it; part of a judge's identity."""

    @property
    def verdicts(self) -> dict[str, float]:
        """Verdict -> score, from 0 to 1."""
        return self.asks.verdicts

    @property
    def blanks(self) -> set[str]:
        """What it shows of a row: names in BLANKS."""
        return {b for text in (self.asks.user, self.asks.system) for b in string.Template(text).get_identifiers()}


def prompt_names() -> list[str]:
    """The prompts that come with cosmo."""
    return sorted(p.stem for p in FOLDER.glob("*.toml"))


@cache
def load_prompt(name: str) -> JudgePrompt:
    """A prompt that comes with cosmo, by name, or any file, by path.

    InputError for a file that is missing or malformed; UsageError for one that asks nothing, knows no verdict
    or has a blank that no row fills.
    """
    # `.toml` is what tells a path from a name: names have no dot.
    path = Path(name) if name.endswith(".toml") else FOLDER / f"{name}.toml"
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        known = ", ".join(prompt_names())
        raise InputError(f"no judge prompt {name!r}", f"known: {known}; or the path of a .toml file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise InputError(f"the judge prompt {path} can't be read: {error}", "check that line") from None
    asks: PromptFile = build(PromptFile, values, str(path))
    _check(asks, path)
    return JudgePrompt(path.stem, asks, digest(values))


def _check(asks: PromptFile, path: Path) -> None:
    if "$completion" not in asks.user and "${completion}" not in asks.user:
        raise UsageError(f"the judge prompt {path} never shows the $completion", "put $completion into `user`")
    if not asks.verdicts:
        raise UsageError(f"the judge prompt {path} knows no verdict", "[verdicts] good = 1.0, bad = 0.0")
    for text in (asks.user, asks.system):
        template = string.Template(text)
        # `get_identifiers` passes over a `$` that is no blank, and `substitute` would raise at it, in the middle of a
        # run.
        strange = [b for b in template.get_identifiers() if b not in BLANKS] if template.is_valid() else ["$"]
        if strange:
            raise UsageError(
                f"the judge prompt {path} has a blank that nothing fills: {strange[0]!r}",
                f"known: {', '.join(BLANKS)}; a plain dollar sign is $$",
            )
    for verdict, score in asks.verdicts.items():
        if not re.fullmatch(r"[\w-]+", verdict) or not 0.0 <= score <= 1.0:
            raise UsageError(
                f"the judge prompt {path} has a verdict that can't be: {verdict} = {score:g}",
                "letters, digits and underscores, worth 0 to 1",
            )


def conversation(prompt: JudgePrompt, row: PromptRow, completion: str) -> tuple[list[Message], list[Image]]:
    """What the judge is shown for one completion: its turns, and the images where the prompt wants them."""
    blanks = {
        "question": plain_text(row.messages),
        "completion": completion,
        "reference": row.answer or "none",
        "label": row.label,
    }
    images = row.images if prompt.asks.images else []
    turns = []
    # One pass over the template: a completion that holds `$reference` is not filled in.
    if prompt.asks.system:
        turns.append(Message("system", [Part("text", string.Template(prompt.asks.system).substitute(blanks))]))
    words = string.Template(prompt.asks.user).substitute(blanks)
    turns.append(Message("user", [Part("image") for _ in images] + [Part("text", words)]))
    return turns, images


def verdict_line(verdict: str) -> str:
    """How a verdict is answered; what a verifier is trained to say."""
    return f"Verdict: {verdict}"


def parse_verdict(prompt: JudgePrompt, text: str) -> str | None:
    """The verdict of an answer, or None unless exactly one known verdict is on a line of its own."""
    found = find_verdict(prompt, text)
    return found[0] if found else None


def find_verdict(prompt: JudgePrompt, text: str) -> tuple[str, int, int] | None:
    """`parse_verdict`, with where the verdict's word begins and ends in the text; the last time it is said."""
    found = list(_VERDICT.finditer(text))
    known = {v.lower(): v for v in prompt.verdicts}
    # Two different verdicts are none, whatever came last: a judge that lists its choices has not chosen.
    if not found or len({m[1].lower() for m in found}) > 1 or found[-1][1].lower() not in known:
        return None
    return known[found[-1][1].lower()], *found[-1].span(1)
