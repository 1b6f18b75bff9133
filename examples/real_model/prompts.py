"""The example's own prompts, as dataset functions: twins, instructions, and small sums and facts.

    cosmo prepare examples/real_model/prompts.py:twins --dry-run

Every word is in `words/` or here, and written for this example; nothing of a benchmark is copied. Rows of split `test`
use verbs, forms, topics, stories and facts that no training row has. The row's `response` is what the supervised start
imitates, and what a test holds against the row's own rule.
"""

from __future__ import annotations

import itertools
import random
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

_WORDS = Path(__file__).parent / "words"
_SUM_ROWS = {"train": 20, "test": 10}
"""Rows of each story of a split."""
_DECLINE = "I can't help with that. It is {hazard}, and it would do harm."


def twins() -> Iterator[dict[str, Any]]:
    """Two rows for each verb and form: one to decline, one to answer. `category` is the verb, `scene` joins twins."""
    table = _read("pairs.toml")
    for split in ("train", "test"):
        forms = table["forms" if split == "train" else "heldout_forms"]
        for pair, (number, form) in itertools.product(table[split], enumerate(forms)):
            shared = {"label": "safety", "split": split, "category": pair["verb"], "scene": f"{pair['verb']} {number}"}
            yield shared | {
                "prompt": form.format(do=pair["harmful"]),
                "task": "to_decline",
                "harmful": True,
                "hazards": pair["hazards"],
                "response": _DECLINE.format(hazard=_as_told(pair["hazards"][0])),
            }
            yield shared | {
                "prompt": form.format(do=pair["harmless"]),
                "task": "to_answer",
                "harmful": False,
                # What an answer says; the verifier `stance` reads it.
                "key_facts": pair["words"],
                "response": pair["reply"],
            }


def instructions() -> Iterator[dict[str, Any]]:
    """A row for each topic and kind of instruction: IFEval's kinds (arXiv:2311.07911), other prompts."""
    for split, topics in _read("tasks.toml")["topics"].items():
        for topic, (kind, (ask, arguments, obey)) in itertools.product(topics, KINDS.items()):
            named = arguments | ({"keywords": [topic["keyword"]]} if "keywords" in arguments else {})
            yield {
                "prompt": f"Write about {topic['name']}. {ask.format(**topic)}",
                "label": "instruction",
                "task": kind,
                "split": split,
                "instructions": [{"kind": kind, **named}],
                "response": obey(topic),
            }


def sums_and_facts() -> Iterator[dict[str, Any]]:
    """Sums of small numbers, alone and in a story, and plain facts; each has one short answer."""
    for split, stories in _read("tasks.toml")["sums"].items():
        for number, story in enumerate(stories):
            rng = random.Random(f"{split} {number}")
            for a, b, c in _numbers(story["sum"], rng, _SUM_ROWS[split]):
                prompt = story["ask"].format(a=a, b=b)
                yield _question(prompt, str(c), "sum", split, f"The answer is {c}.")
    for split, facts in _read("facts.toml").items():
        for fact in facts:
            yield _question(fact["ask"], fact["answer"], "fact", split, f"The answer is {fact['answer']}.")


def _question(prompt: str, answer: str, task: str, split: str, response: str) -> dict[str, Any]:
    asked = f"{prompt} Answer in a few words."
    return {
        "prompt": asked, "label": "general", "task": task, "split": split, "answer": answer, "response": response
    }  # fmt: skip


def _numbers(how: str, rng: random.Random, count: int) -> Iterator[tuple[int, int, int]]:
    """So many different pairs of numbers with what they come to, never below zero."""
    made: set[tuple[int, int]] = set()
    while len(made) < count:
        a, b = (rng.randint(2, 9), rng.randint(2, 9)) if how == "times" else (rng.randint(11, 60), rng.randint(2, 10))
        if (a, b) not in made:
            made.add((a, b))
            yield a, b, {"plus": a + b, "minus": a - b, "times": a * b}[how]


def _as_told(hazard: str) -> str:
    """A hazard behind `it is`: adjectives as they are, deeds with their article."""
    if hazard in ("illegal", "cruel", "dangerous"):
        return hazard
    return hazard if hazard in _UNCOUNTED else f"{'an' if hazard[0] in 'aeiou' else 'a'} {hazard}"


_UNCOUNTED = ("fraud", "theft", "stealing", "stalking", "arson", "poison", "violence", "cruelty", "animal abuse")


def _read(name: str) -> dict[str, Any]:
    return tomllib.loads((_WORDS / name).read_text(encoding="utf-8"))


def _text(topic: dict[str, Any]) -> str:
    return " ".join(topic["sentences"])


Obey = Callable[[dict[str, Any]], str]
KINDS: dict[str, tuple[str, dict[str, Any], Obey]] = {
    "punctuation:no_comma": ("Use no commas.", {}, lambda t: _text(t).replace(",", "")),
    "change_case:english_lowercase": ("Write in English and in small letters only.", {}, lambda t: _text(t).lower()),
    "change_case:english_capital": ("Write in English and in capital letters only.", {}, lambda t: _text(t).upper()),
    "startend:quotation": ("Put the whole text into double quotation marks.", {}, lambda t: f'"{_text(t)}"'),
    "startend:end_checker": (
        "End with the words: That was all.",
        {"end_phrase": "That was all."},
        lambda t: f"{_text(t)} That was all.",
    ),
    "detectable_format:title": (
        "Give it a title between double angle brackets, as in <<A title>>.",
        {},
        lambda t: f"<<{t['name'].capitalize()}>>\n\n{_text(t)}",
    ),
    "detectable_format:number_bullet_lists": (
        "Write exactly two bullet points and nothing else. Begin each with an asterisk, as in: * A point.",
        {"num_bullets": 2},
        lambda t: "\n".join(f"* {sentence}" for sentence in t["sentences"]),
    ),
    "detectable_format:number_highlighted_sections": (
        "Highlight at least one part between asterisks, as in *this part*.",
        {"num_highlights": 1},
        lambda t: f"*{t['sentences'][0]}* {t['sentences'][1]}",
    ),
    "detectable_format:multiple_sections": (
        "Write two sections, and begin them with SECTION 1 and SECTION 2.",
        {"section_spliter": "SECTION", "num_sections": 2},
        lambda t: "\n\n".join(f"SECTION {n}\n{sentence}" for n, sentence in enumerate(t["sentences"], start=1)),
    ),
    "detectable_content:postscript": (
        "Add a postscript at the end that begins with P.S.",
        {"postscript_marker": "P.S."},
        lambda t: f"{_text(t)}\n\nP.S. I will write again soon.",
    ),
    "detectable_content:number_placeholders": (
        "Use at least one placeholder in square brackets, as in [name].",
        {"num_placeholders": 1},
        lambda t: f"Dear [name], {_text(t)}",
    ),
    "keywords:existence": ("Use the word {keyword}.", {"keywords": []}, _text),
    "keywords:forbidden_words": (
        "Do not use the words very and beautiful.",
        {"forbidden_words": ["very", "beautiful"]},
        _text,
    ),
    "length_constraints:number_words": (
        "Use fewer than 30 words.",
        {"num_words": 30, "relation": "less than"},
        _text,
    ),
    "length_constraints:number_sentences": (
        "Use fewer than three sentences.",
        {"num_sentences": 3, "relation": "less than"},
        _text,
    ),
}
"""Each kind: how it is asked for, its arguments, and how a topic's sentences obey it."""
