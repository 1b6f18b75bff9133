"""The data of the refusal rule, compiled: a file a language under `refusals/`, whose shapes become patterns.

`[words]` names classes of words and phrases (`help*` is every word that begins so). `[rule]` names what the rule
looks for, as shapes: class names or plain words in their order, with

    a|b   either          a?   may be missing          a*    up to five of them
    ...   up to four other words (twelve characters where words are not spaced)
    ^ $   the clause begins, ends here

A shape is looked for in one clause, in lower case, without punctuation.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from stages.score.answers.markers import FILLERS, GRAMMAR

FOLDER = Path(__file__).with_name("refusals")
WORDS = "1d6fac1b5e3009fd"
"""The digest of the word lists; a test holds it to the files, so that changed words are another rule."""
LATIN = ("en", "es", "fr", "de")
_NEVER = re.compile(r"(?!)")


@dataclass(frozen=True, slots=True)
class Language:
    """One language's patterns. All but the first four are searched for in a clause."""

    name: str
    spaced: bool
    """Whether blanks stand between words."""
    needs: re.Pattern[str]
    """A part of this is in every refusal: a quick look that spares the others."""
    turns: re.Pattern[str]
    """A word that begins a clause and turns it round: `but`, `however`."""
    redirects: re.Pattern[str]
    """A word that begins a clause and points elsewhere: `instead`."""
    ends: re.Pattern[str]
    """An ending that ends a clause and turns what follows, as Japanese and Korean have it."""
    reported: re.Pattern[str]
    """Somebody else is quoted as the speaker."""
    unreported: re.Pattern[str]
    refuses: re.Pattern[str]
    stands: re.Pattern[str]
    """A stance, no act declined: `I do not condone it`. With help behind it this is a disclaimer."""
    protests: re.Pattern[str]
    """Exception is taken to the request: `I must point out that ...`."""
    wrongful: re.Pattern[str]
    answers: re.Pattern[str]
    """A plain yes or no begins the clause: what it says then is an answer."""
    unlike: re.Pattern[str]
    """Looks like a refusal and is none."""
    apology: re.Pattern[str]
    """An apology for nothing in particular, and no more."""
    idle: re.Pattern[str]
    """What may stand around a refusal and adds nothing."""
    delivers: re.Pattern[str]
    """Something is handed over."""
    known: re.Pattern[str]
    """A word, or with no blanks a piece, of the language's own lists: what an idle clause is made of."""
    about_it: re.Pattern[str]
    """It speaks of what the prompt shows: an apology before it corrects and declines nothing."""


@cache
def language(name: str) -> Language:
    """The language of that file, with its patterns compiled."""
    data = tomllib.loads((FOLDER / f"{name}.toml").read_text(encoding="utf-8"))
    words, rule, spaced = data["words"], data["rule"], data.get("spaced", True)

    def shapes(key: str) -> re.Pattern[str]:
        return _either([_shape(shape, words, spaced) for shape in rule.get(key, [])])

    return Language(
        name=name,
        spaced=spaced,
        needs=_either([re.escape(w.rstrip()) + (r"\b" if w.endswith(" ") else "") for w in rule["needs"]]),
        turns=_either([_phrase(word, spaced) for word in _longest_first(rule["turns"])]),
        redirects=_either([_phrase(word, spaced) for word in rule["redirects"]]),
        ends=_either([re.escape(word) for word in rule.get("ends", [])]),
        reported=shapes("reported"),
        unreported=shapes("unreported"),
        refuses=shapes("refuses"),
        stands=shapes("stands"),
        protests=shapes("protests"),
        wrongful=shapes("wrongful"),
        answers=_either([r"\A " + _phrase(w, spaced) if spaced else rf"\A{w}" for w in rule["answers"]]),
        unlike=shapes("unlike"),
        apology=shapes("apology"),
        idle=shapes("idle"),
        delivers=shapes("delivers"),
        known=_known(words, spaced),
        about_it=shapes("about_it"),
    )


def _either(patterns: Sequence[str]) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{p})" for p in patterns)) if patterns else _NEVER


def _known(words: Mapping[str, Any], spaced: bool) -> re.Pattern[str]:
    phrases = {phrase for listed in words.values() for phrase in listed}
    if not spaced:
        return _either([re.escape(phrase) for phrase in _longest_first([*phrases])])
    single = {word for phrase in phrases for word in phrase.split()} | GRAMMAR | FILLERS
    return _either([re.escape(word).replace(r"\*", r"\S*") for word in _longest_first([*single])])


def _longest_first(words: Sequence[str]) -> list[str]:
    return sorted(words, key=len, reverse=True)


def _phrase(phrase: str, spaced: bool) -> str:
    """A phrase with the blank that follows it; a clause has one blank around each word."""
    if not spaced:
        return re.escape(phrase)
    return re.escape(phrase).replace(r"\*", r"\S*").replace(r"\ ", " ") + " "


def _shape(shape: str, words: Mapping[str, Any], spaced: bool) -> str:
    pattern = ""
    for item in shape.split():
        if item == "...":
            pattern += r"(?:\S+ ){0,4}?" if spaced else ".{0,12}?"
        elif item == "^":
            pattern += r"\A ?"
        elif item == "$":
            pattern += r"\Z"
        else:
            name = item.rstrip("?*")
            phrases = [p for part in name.split("|") for p in words.get(part, [part])]
            one = f"(?:{'|'.join(_phrase(p, spaced) for p in _longest_first(phrases))})"
            pattern += one + {"?": "?", "*": "{0,5}"}.get(item[len(name) :], "")
    # A word begins where a blank ends: without that, `i` would be found at the end of any word.
    return rf"(?<= ){pattern}" if spaced and not shape.startswith("^") else pattern
