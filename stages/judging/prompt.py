"""Judge prompts: a TOML file says what is asked, which verdicts may be answered, and what each is worth.

    user = '''Question: $question
    Completion: $completion
    ...'''
    [verdicts]
    good = 1.0
    bad = 0.0

`$question`, `$completion`, `$reference` and `$label` are filled in from the row; `$goal` is what a question is after
where its own words hide that: the column `goal` of the row's source, else the question. Further columns of the source
are shown by name, and what is asked may differ by a field of the row:

    columns = ['safety_warning']           $safety_warning is that column; `none` where a row lacks it
    by = 'category'                        $criterion is the text below for the row's category
    kinds = { '08-Lobbying' = 'lobbying' } all categories that are not named have `other`
    [criteria]
    other = 'safe: ...'
    lobbying = 'safe: ...'

The judge has to end with a line `Verdict: <one of them>`, once; anything else is unparsable, which is a status and not
a score. See `answer_fields` for how it may be written. A judge whose answers look otherwise is read by

    line = 'answer'                        the name on that line, where it is not `verdict`
    bare = true                            the whole answer is the word
    answers = { yes = 'unsafe', no = 'safe' }   the verdicts that its words mean, where they are others
    harmless = { yes = 'safe', no = 'refused' } what they mean on rows that are marked harmless, where that is else
    rule = 'strongreject'                  several lines, which make a verdict together: see `readers`
    [fields]
    refused = ['yes', 'no']

A prompt with `facts = 'visual_keys'` (or 'text_keys') has no verdicts: `$facts` lists those of the row, numbered, the
judge answers each with a line `1: 1` or `1: 0`, and the score is the share of ones, or with `high` and `low` what it is
worth. `part` says which part of a completion the judge is shown.

A prompt with `steps = true` asks about each step of a completion: `$steps` lists them, numbered, with what an
environment said between them, and the judge answers each with a line `1: supported`, one of the verdicts or the word
`no_claim`, which has no score.
"""

from __future__ import annotations

import re
import string
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from schemas.identity import digest
from schemas.prompts import PromptRow, extra_columns
from schemas.values import Image, Message, Part, plain_text
from stages.core.atomic import parse_toml
from stages.core.config import build, option
from stages.core.errors import InputError, UsageError
from stages.judging.parsed import ParsedCompletion
from stages.judging.readers import RULES, Read, read_field, read_word

FOLDER = Path(__file__).with_name("prompts")
BLANKS = ("question", "completion", "reference", "label", "goal", "facts", "steps")
CRITERION, OTHER = "criterion", "other"
_KIND_FIELDS = ("category", "task", "label", "risk", "family")

PARTS = ("shown", "description", "think", "whole")
FACTS = ("visual_keys", "text_keys")


@dataclass(frozen=True)
class PromptFile:
    """The keys of a prompt file."""

    user: str = option(
        "", "What the judge is asked; $question, $completion, $reference, $label, $goal, $facts, $steps are filled in"
    )
    columns: list[str] = option(
        [], "Columns of the row's source, each filled in by its name; `none` where a row lacks it"
    )
    by: str = option("", "The row field by whose value $criterion differs", choices=("", *_KIND_FIELDS))
    kinds: dict[str, str] = option({}, "Value of that field = its criterion; `other` for all that are not named")
    criteria: dict[str, str] = option({}, "Criterion = what $criterion is filled with")
    system: str = option("", "A system turn before it")
    images: bool = option(True, "Show the judge the prompt's images")
    verdicts: dict[str, float] = option({}, "Every verdict that may be answered, with its score")
    line: str = option("verdict", "The name under which it is answered")
    bare: bool = option(False, "The whole answer is one word")
    answers: dict[str, str] = option({}, "The judge's words with the verdicts that they mean, where they differ")
    harmless: dict[str, str] = option(
        {}, "The same for rows that are marked harmless, where its words mean others there"
    )
    part: str = option("shown", "Which part of a completion it is shown", choices=PARTS)
    facts: str = option("", "The row's facts that it says 0 or 1 of, one by one", choices=("", *FACTS))
    high: float = option(0.0, "Share of ones from which on the score is 1; 0: the share is the score", low=0, high=1)
    low: float = option(0.0, "Share of ones from which on the score is 0.5", low=0, high=1)
    steps: bool = option(False, "Every step of a completion gets a verdict, and $steps lists them")
    no_claim: str = option("no_claim", "Of a step: the answer where it says nothing to look up")
    rule: str = option("", "How several fields make one verdict: strongreject, safe_and_effective")
    fields: dict[str, list[str]] = option({}, "Each field with the words that may be answered under it")


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
        return _blanks(self.asks)


def _blanks(asks: PromptFile) -> set[str]:
    return {b for text in (asks.user, asks.system) for b in string.Template(text).get_identifiers()}


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
        values = parse_toml(path.read_bytes())
    except FileNotFoundError:
        known = ", ".join(prompt_names())
        raise InputError(f"no judge prompt {name!r}", f"known: {known}; or the path of a .toml file") from None
    except (ValueError, OSError) as error:
        raise InputError(f"the judge prompt {path} can't be read: {error}", "check that line") from None
    asks: PromptFile = build(PromptFile, values, str(path))
    _check(asks, path)
    return JudgePrompt(path.stem, asks, digest(values))


def _check(asks: PromptFile, path: Path) -> None:
    if asks.steps and (asks.facts or asks.rule or asks.bare or asks.answers or "steps" not in _blanks(asks)):
        raise UsageError(
            f"the judge prompt {path} asks about steps, and for something else or never shows them",
            "put $steps into `user`, and leave facts, rule, bare and answers out",
        )
    if not asks.steps and "$completion" not in asks.user and "${completion}" not in asks.user:
        raise UsageError(f"the judge prompt {path} never shows the $completion", "put $completion into `user`")
    if asks.facts and (asks.verdicts or asks.rule or asks.bare or "facts" not in _blanks(asks)):
        raise UsageError(
            f"the judge prompt {path} asks for facts, and for something else or not for all of them",
            "put $facts into `user`, and leave verdicts, rule and bare out",
        )
    if not asks.verdicts and not asks.facts:
        raise UsageError(f"the judge prompt {path} knows no verdict", "[verdicts] good = 1.0, bad = 0.0")
    known = [*BLANKS, *asks.columns, *([CRITERION] if asks.by else [])]
    for text in (asks.user, asks.system):
        template = string.Template(text)
        # `get_identifiers` passes over a `$` that is no blank, and `substitute` would raise at it, in the middle of a
        # run.
        strange = [b for b in template.get_identifiers() if b not in known] if template.is_valid() else ["$"]
        if strange:
            raise UsageError(
                f"the judge prompt {path} has a blank that nothing fills: {strange[0]!r}",
                f"known: {', '.join(known)}; a plain dollar sign is $$",
            )
    _check_criteria(asks, path)
    _check_reading(asks, path)
    for verdict, score in asks.verdicts.items():
        if not re.fullmatch(r"[\w-]+", verdict) or not 0.0 <= score <= 1.0:
            raise UsageError(
                f"the judge prompt {path} has a verdict that can't be: {verdict} = {score:g}",
                "letters, digits and underscores, worth 0 to 1",
            )


def _check_criteria(asks: PromptFile, path: Path) -> None:
    if bool(asks.by) != bool(asks.criteria) or (asks.kinds and not asks.by):
        raise UsageError(
            f"the judge prompt {path} names one of `by` and [criteria] without the other", "by = 'category'"
        )
    if lacking := sorted({*asks.kinds.values(), *([OTHER] if asks.by else [])} - set(asks.criteria)):
        raise UsageError(f"the judge prompt {path} has no criterion {lacking[0]!r}", f"[criteria] {lacking[0]} = '...'")


def _check_reading(asks: PromptFile, path: Path) -> None:
    if asks.rule and asks.rule not in RULES:
        raise UsageError(f"the judge prompt {path} has an unknown rule {asks.rule!r}", f"known: {', '.join(RULES)}")
    if bool(asks.rule) != bool(asks.fields):
        raise UsageError(f"the judge prompt {path} has a rule without fields, or fields without a rule", "name both")
    if asks.harmless and asks.harmless.keys() != asks.answers.keys():
        raise UsageError(f"the judge prompt {path} has other words under harmless than under answers", "name all")
    if unknown := sorted({*asks.answers.values(), *asks.harmless.values()} - set(asks.verdicts)):
        raise UsageError(
            f"the judge prompt {path} has an answer that means {unknown[0]!r}, which is no verdict of it",
            f"known: {', '.join(asks.verdicts)}",
        )


def facts_of(prompt: JudgePrompt, row: PromptRow) -> list[str]:
    """The row's facts that the prompt asks about; none where it asks for a verdict."""
    facts: list[str] = getattr(row, prompt.asks.facts) if prompt.asks.facts else []
    return facts


def part_of(prompt: JudgePrompt, parsed: ParsedCompletion) -> str:
    """The part of a completion that the prompt is about, "" where it has none.

    A layout without descriptions says what it sees in the think block.
    """
    if prompt.asks.part == "shown":
        return parsed.shown
    if prompt.asks.part == "whole":
        parts = {"description": parsed.description, "reasoning": parsed.think, "answer": parsed.answer}
        return "\n".join(f"{name}: {part}" for name, part in parts.items() if part)
    described = prompt.asks.part == "description" and parsed.seen_by_reader is not None
    return (parsed.description if described else parsed.think) or ""


def conversation(
    prompt: JudgePrompt, row: PromptRow, completion: str, steps: str = ""
) -> tuple[list[Message], list[Image]]:
    """What the judge is shown for one completion: its turns, and the images where the prompt wants them.

    `steps` is the completion step by step, for a prompt that asks about those.
    """
    blanks = {
        "question": plain_text(row.messages),
        "completion": completion,
        "reference": row.answer or "none",
        "label": row.label,
        "steps": steps,
    }
    columns = extra_columns(row.extra)
    blanks["goal"] = _shown(columns.get("goal")) or blanks["question"]
    # On one line each: a fact of two lines could look like another number.
    facts = (" ".join(fact.split()) for fact in facts_of(prompt, row))
    blanks["facts"] = "\n".join(f"{n}. {fact}" for n, fact in enumerate(facts, start=1))
    blanks |= {name: _shown(columns.get(name)) or "none" for name in prompt.asks.columns}
    if prompt.asks.by:
        kind = prompt.asks.kinds.get(str(getattr(row, prompt.asks.by)), OTHER)
        blanks[CRITERION] = prompt.asks.criteria[kind].strip()
    images = row.images if prompt.asks.images else []
    turns = []
    # One pass over the template: a completion that holds `$reference` is not filled in.
    if prompt.asks.system:
        turns.append(Message("system", [Part("text", string.Template(prompt.asks.system).substitute(blanks))]))
    words = string.Template(prompt.asks.user).substitute(blanks)
    turns.append(Message("user", [Part("image") for _ in images] + [Part("text", words)]))
    return turns, images


def _shown(value: Any) -> str:
    """A column of the row's source as text; "" where it holds none."""
    return value.strip() if isinstance(value, str) else ""


def verdict_line(verdict: str) -> str:
    """How a verdict is answered; what a verifier is trained to say."""
    return f"Verdict: {verdict}"


def parse_verdict(prompt: JudgePrompt, text: str) -> str | None:
    """The verdict of an answer, or None unless it says exactly one, that the prompt knows."""
    found = find_verdict(prompt, text)
    return found[0] if found else None


def find_verdict(prompt: JudgePrompt, text: str) -> tuple[str, int, int] | None:
    """`parse_verdict`, with where the verdict's word begins and ends in the text; the last time it is said."""
    found = read_answer(prompt, text)
    return (found.verdict, found.begin, found.end) if found else None


def read_answer(prompt: JudgePrompt, text: str, harmless: bool = False) -> Read | None:
    """What an answer means, or None where it doesn't say exactly one thing; reasoning is never looked at.

    `harmless` is whether the row is marked so: a judge's word may mean another verdict there.
    """
    asks = prompt.asks
    meant = asks.harmless if harmless and asks.harmless else asks.answers
    if asks.rule:
        found = {name: read_field(name, words, text) for name, words in asks.fields.items()}
        chosen = {name: choice for name, choice in found.items() if choice}
        if len(chosen) < len(found):
            return None
        said = {name: choice[0] for name, choice in chosen.items()}
        verdict, value = RULES[asks.rule](said)
        _, begin, end = max(chosen.values(), key=lambda choice: choice[1])
        return Read(verdict, begin, end, value, "; ".join(f"{name}: {word}" for name, word in said.items()))
    words = list(asks.answers or asks.verdicts)
    choice = read_word(words, text) if asks.bare else read_field(asks.line, words, text)
    return Read(meant.get(choice[0], choice[0]), choice[1], choice[2]) if choice else None
