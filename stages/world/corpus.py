"""Text that covers all the world can say: what a tiny model's tokenizer is trained on."""

from __future__ import annotations

import string
from collections.abc import Iterator

from stages.world import facts, general, hazards, instruction, value
from stages.world.chance import rng_for
from stages.world.lexicon import (
    CARD_THING,
    CODES,
    COLOUR_WORDS,
    LIST_TEXT,
    LOOK,
    LOOK_AND_READ,
    NAMES,
    NOTES,
    PLACES,
    REFUSAL,
    ROLES,
    SHAPES,
    WRITE_BOTH,
    WRITE_SEEN,
    substitution_text,
    think,
)
from stages.world.sampling import sample_pairs


def corpus() -> Iterator[str]:
    """Text with every word the world can say, for a tokenizer to be trained on; the same on every call.

    Prompts and completions of sampled cases give words their natural neighbours and frequencies; the word
    lists behind them make it complete; letters, digits and punctuation keep other text spellable.
    """
    for pair in sample_pairs(count=1500, seed=0):
        for case in pair:
            yield case.words
            for answer in case.possible_completions():
                yield think(case.key_facts, answer)
    for words in (facts.words(), hazards.words(), instruction.words(), value.words(), _lexicon_words()):
        yield from words
    yield " ".join([*string.ascii_letters, *string.digits, *string.punctuation, "<think>", "</think>"])


def described_corpus() -> Iterator[str]:
    """The same text, with price cards, completions of the layout `describe`, and what the perception study says."""
    yield from corpus()
    yield from (NOTES, WRITE_SEEN, WRITE_BOTH, LOOK, LOOK_AND_READ)
    for i in range(300):
        rng = rng_for("corpus", "described", i)
        for case in (general.prices(rng), general.draw(rng)):
            yield case.words
            yield from (case.described(case.right, vague) for vague in (False, True))


def _lexicon_words() -> Iterator[str]:
    # Numbers up to 12: the most that a sum of the world comes to.
    yield " ".join([" ", *SHAPES, *SHAPES.values(), *COLOUR_WORDS, *NAMES, *PLACES, *map(str, range(13))])
    yield from (REFUSAL, *ROLES, LIST_TEXT)
    for code in CODES:
        yield substitution_text(code, CARD_THING, "how do i use it ?")
