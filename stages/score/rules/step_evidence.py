"""Whether what a step says is in what was seen or read: by rule, on words, for the built-in worlds (our own design).

A step's claims are compared with the row's facts (`scene_claims`), or, once an environment has said something, with
the sentences of that: in the document, every content word of a claim stands in one sentence. A step that claims nothing
(`i look it up .`), or nothing that could be compared, is neither supported nor unsupported.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

from schemas.prompts import PromptRow
from schemas.values import plain_text
from stages.engines.steps import TextStep
from stages.score.rules.scene_claims import Claim, Scene, all_words, claims

_ACTION = re.compile(r"<(search|read|confidence)>[^<]*(?:</\1>|\Z)")
_ANSWER = re.compile(r"<answer>([^<]*)")
_TAG = re.compile(r"</?\w+>")
_NUMBER = r"(?:\d+|one|two|three|four|five|six|seven|eight|nine|ten)"
_ORDINAL = re.compile(rf"\bstep {_NUMBER}[ \t]*[:.)]|^\s*\d+[.)]\s", re.IGNORECASE | re.MULTILINE)
"""Which step of a list it is: no number of anything that is seen."""
_TO_DO = re.compile(rf"\bstep {_NUMBER}\b[^.;!?\n]*", re.IGNORECASE)
"""`step two heat it`: what somebody is to do, and no claim."""
_SENTENCE = re.compile(r"[.](?=\s|$)|[;!?\n]")
_ATTITUDES = all_words("know think find found read see guess document page entry").content
"""Words that say whence a claim is, and are none of it: `i know that ..`."""
_SHARED = 2
"""Words that a claim has in common with a sentence before it is taken to speak of the same thing."""

Verdict = tuple[bool | None, str]
"""(whether the step is supported; None: it says nothing to look up), and why in a few words."""


def spoken(step: TextStep) -> str:
    """A step's words: its actions and its number are left out, and a tag ends a sentence."""
    words = _TAG.sub("\n", _ACTION.sub("\n", step.text))
    return _TO_DO.sub(" ", _ORDINAL.sub(" ", words))


class SceneEvidence:
    """The facts of a row: what its image shows, what its words tell, and what is known of it."""

    def __init__(self, row: PromptRow) -> None:
        facts = [*row.facts, *row.key_facts, *row.visual_keys, *row.text_keys]
        self._scene = Scene(row, facts)

    def verdict(self, step: TextStep) -> Verdict:
        """False for a claim at odds with a fact, or with a number or other value that no fact has."""
        statements = claims(spoken(step))
        scene = self._scene
        told = [one for one in statements if one.content - scene.asked]
        wrong = next((one for one in told if self._contradicts(one)), None)
        if wrong is not None:
            return False, f"at odds with the scene: {' '.join(wrong.words)}"
        # Of a sentence of several clauses each clause counts by itself.
        single = [one for one in told if not any(other.content < one.content for other in told)]
        loose = next((one for one in single if one.values and not scene.true(one)), None)
        if loose is not None:
            return False, f"nothing shows it: {' '.join(loose.words)}"
        return (True, "in the scene") if any(map(scene.true, told)) else (None, "no claim about the scene")

    def _contradicts(self, one: Claim) -> bool:
        if self._scene.true(one):
            return False
        return self._scene.false(one) or any(self._scene.rivals([one], fact) for fact in self._scene.key)


class DocumentEvidence:
    """What an environment has said, sentence by sentence."""

    def __init__(self, question: str, said: Sequence[str]) -> None:
        self._sentences = _sentences(tuple(said))
        asked = all_words(question).content
        # An answer alone names no subject: it is looked for where most of the question stands.
        shared = [len(asked & sentence.content) for sentence in self._sentences]
        self._about = [s for s, n in zip(self._sentences, shared, strict=True) if n and n == max(shared)]

    def verdict(self, step: TextStep) -> Verdict:
        """False for a claim of which a sentence has a part and no sentence all."""
        answer = _ANSWER.search(step.text)
        if answer is not None and (bare := all_words(answer[1])).words:
            held = any(bare.content <= sentence.content for sentence in self._about)
            return held, "in the document" if held else f"not in the document: {' '.join(bare.words)}"
        supported = False
        for one in claims(spoken(step)):
            content = one.content - _ATTITUDES
            holding = [s for s in self._sentences if content and content <= s.content]
            if holding and all(s.denies != one.denies for s in holding):
                return False, f"the document says otherwise: {' '.join(one.words)}"
            supported = supported or bool(holding)
            if not holding and any(len(content & s.content) >= _SHARED for s in self._sentences):
                return False, f"not in the document: {' '.join(one.words)}"
        return (True, "in the document") if supported else (None, "no claim about the document")


@lru_cache(maxsize=1024)
def _sentences(said: tuple[str, ...]) -> list[Claim]:
    parts: Iterable[str] = (part for text in said for part in _SENTENCE.split(_TAG.sub("\n", text)))
    return [made for part in parts if (made := all_words(part)).words]


def question_of(row: PromptRow) -> str:
    """The words of a row's conversation."""
    return plain_text(row.messages)
