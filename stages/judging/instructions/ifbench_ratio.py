"""IFBench's ratios: stop words, kinds of sentences, overlap with a text (arXiv:2507.02833)."""

from __future__ import annotations

from stages.judging.instructions.base import Checks
from stages.judging.instructions.sentences import sentences
from stages.judging.instructions.text import plain_words
from stages.judging.instructions.word_lists import listed

_STOP_WORDS = frozenset(
    listed(
        """
    i me my myself we our ours ourselves you your yours yourself yourselves he him his himself she her hers herself
    it its itself they them their theirs themselves what which who whom this that these those am is are was were be
    been being have has had having do does did doing a an the and but if or because as until while of at by for with
    about against between into through during before after above below to from up down in out on off over under
    again further then once here there when where why how all any both each few more most other some such no nor not
    only own same so than too very s t can will just don should now d ll m o re ve y ain aren couldn didn doesn hadn
    hasn haven isn ma mightn mustn needn shan shouldn wasn weren won wouldn
    """
    )
)
"""NLTK's English stop words, and the parts of short forms: `don't` is counted as `don` and `t`."""


def stop_words(completion: str, percentage: float) -> bool:
    """At most so many percent of the words are stop words."""
    words = plain_words(completion)
    return bool(words) and 100 * sum(w.lower() in _STOP_WORDS for w in words) / len(words) <= percentage


def _endings(completion: str) -> dict[str, int]:
    """How many sentences end in each mark; closing quotes and brackets behind it hide it, as upstream."""
    found = sentences(completion)
    return {mark: sum(s.endswith(mark) for s in found) for mark in ".?!"}


def sentence_type(completion: str) -> bool:
    """Twice as many sentences end in a full stop as in a question mark. Trap: a text of neither obeys."""
    ends = _endings(completion)
    return ends["."] == 2 * ends["?"]


def sentence_balance(completion: str) -> bool:
    """As many sentences end in a full stop as in a question mark and in an exclamation mark."""
    return len(set(_endings(completion).values())) == 1


def sentence_words(completion: str) -> bool:
    """Three sentences of the same number of characters. Trap: that all words differ is asked for, and not checked."""
    found = sentences(completion)
    return len(found) == 3 and len({len(s.strip()) for s in found}) == 1


def overlap(completion: str, reference_text: str, percentage: float) -> bool:
    """So many percent of the distinct trigrams are in a text, give or take 2. Trap: trigrams of characters."""
    ours, theirs = _trigrams(completion), _trigrams(reference_text)
    return bool(ours) and abs(100 * len(ours & theirs) / len(ours) - percentage) <= 2


def _trigrams(text: str) -> set[str]:
    return {text[at : at + 3] for at in range(len(text) - 2)}


PLUGIN = Checks(
    version=1,
    checks={
        "ratio:stop_words": stop_words,
        "ratio:sentence_type": sentence_type,
        "ratio:sentence_balance": sentence_balance,
        "ratio:sentence_words": sentence_words,
        "ratio:overlap": overlap,
    },
)
