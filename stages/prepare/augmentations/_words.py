"""The word that a family hides, for rows of any dataset."""

from __future__ import annotations

import re

from schemas.prompts import PromptRow
from stages.prepare.augmentations.base import hints, words

# Letters of any script: no digits and no underscores, which code and identifiers have.
_CONTENT = re.compile(r"[^\W\d_]{4,24}")
_NAMING_NOTHING = """
about again also always another anyone because been before being best between both contain content could create
describe detail detailed details different does doing done each else ever every everyone explain find from generate
give good guide have help here instruct instruction instructions into just know like list made make making many
method methods more most much must need next only other ours over person picture please possible process provide
quickly really same shall should show some somebody someone something step steps such tell than that their them then
there these they thing things this those through tutorial under using very want ways well were what when where which
while will with within without would write your yourself
"""
_PLAIN = frozenset(_NAMING_NOTHING.split())
"""Never the word to hide."""


def key_word(row: PromptRow) -> str:
    """The row's keyword where its words hold it, else their longest word of content, or "".

    For public sets without hints this is a guess: the longest word is not always the one that names the risk.
    """
    keyword, text = hints(row).keyword, words(row)
    if keyword and _whole(keyword).search(text):
        return keyword
    # Words in -ly are mostly adverbs (`quickly`): long, and without the thing that is asked about.
    found = [w for w in _CONTENT.findall(text) if w.lower() not in _PLAIN and not w.endswith("ly")]
    return max(found, key=len, default="")


def without(text: str, word: str, instead: str) -> str:
    """The text with something else in every place of a word; `the ...` takes the place of its article too."""
    article = r"(?:\b(?:an?|the)\s+)?" if instead.startswith("the ") else ""
    # A function, for a string would be read as a template, and a backslash in a code word as a group.
    return _whole(word, article).sub(lambda _: instead, text)


def _whole(word: str, before: str = "") -> re.Pattern[str]:
    # Not `\b`, which matches nothing beside a keyword that begins or ends with a sign, such as `c++`.
    return re.compile(rf"{before}(?<!\w){re.escape(word)}(?!\w)", re.IGNORECASE)
