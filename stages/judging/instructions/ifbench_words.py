"""IFBench's words: letters, lengths, places, repeats, syllables (arXiv:2507.02833)."""

from __future__ import annotations

import string
from collections import Counter
from functools import cache
from itertools import pairwise
from typing import Any

from stages.core.errors import UnavailableError
from stages.judging.instructions.base import Checks, Count
from stages.judging.instructions.sentences import sentences
from stages.judging.instructions.text import BLANK_OR_MARK, bare, tokens

_CONSONANTS = frozenset(string.ascii_lowercase) - frozenset("aeiou")
_PRIMES = frozenset(n for n in range(2, 98) if all(n % d for d in range(2, n)))
"""Up to 97, as upstream: no word is longer."""
_INSTALL = "pip install 'cosmo-rl[ifbench]'"


def alphabet(completion: str) -> bool:
    """Each word begins with the next letter of the alphabet, `a` after `z`."""
    initials = [word[0].lower() for word in bare(completion).split()]
    letters = string.ascii_lowercase
    if not initials or initials[0] not in letters:
        return False
    first = letters.index(initials[0])
    return all(initial == letters[(first + n) % 26] for n, initial in enumerate(initials))


def vowel(completion: str) -> bool:
    """One paragraph with at most three different vowels. Trap: in all of it together, not in each word."""
    text = completion.strip().lower()
    return "\n" not in text and len(set(text) & set("aeiou")) <= 3


def consonants(completion: str) -> bool:
    """Each word has two consonants next to each other; `y` is one. Trap: so a number or a lone dash breaks it."""
    return all(_has_cluster(word) for word in completion.lower().split())


def _has_cluster(word: str) -> bool:
    return any(a in _CONSONANTS and b in _CONSONANTS for a, b in pairwise(word))


def palindrome(completion: str) -> bool:
    """At least ten palindromes of five letters or more. Trap: ten times the same one are ten."""
    words = bare(completion).lower().split()
    return sum(len(word) >= 5 and word == word[::-1] for word in words) >= 10


def prime_lengths(completion: str) -> bool:
    """Each word's length is a prime number."""
    return all(len(word) in _PRIMES for word in bare(completion).split())


def repeats(completion: str, small_n: Count) -> bool:
    """No word comes more than so many times."""
    return max(Counter(bare(completion.lower()).split()).values(), default=0) <= small_n


def last_first(completion: str) -> bool:
    """The last word of each sentence is the first of the next one. Trap: a text of one sentence obeys."""
    for before, after in pairwise(sentences(completion)):
        ends, begins = before.rstrip(BLANK_OR_MARK).split(), after.lstrip(BLANK_OR_MARK).split()
        # As upstream: the mark behind a word at the start, `Then,`, is part of it.
        if not ends or not begins or ends[-1].lower() != begins[0].lower():
            return False
    return True


def paragraph_last_first(completion: str) -> bool:
    """Each line ends in the word it began with. Trap: a line of one word does so."""
    lines = (line.strip().lower().strip(BLANK_OR_MARK).split() for line in completion.split("\n"))
    return all(words[0] == words[-1] for words in lines if words)


def no_consecutive(completion: str) -> bool:
    """No two words in a row begin with the same letter."""
    return all(a[0] != b[0] for a, b in pairwise(bare(completion.lower()).split()))


def keywords_specific_position(completion: str, keyword: str, n: Count, m: Count) -> bool:
    """A keyword as the mth word of the nth sentence. `don't` is two words there."""
    found = sentences(completion)
    if len(found) < n:
        return False
    words = [token for token in tokens(found[n - 1]) if any(letter.isalnum() for letter in token)]
    return len(words) >= m and words[m - 1].lower() == keyword.strip().lower()


def words_position(completion: str, keyword: str) -> bool:
    """A keyword as the second word and as the last but one. A mark counts as a word, but for one that ends it all."""
    words = [token.lower() for token in tokens(completion)]
    if words and words[-1] in string.punctuation and len(words) > 2:
        words.pop()
    return len(words) > 1 and words[1] == words[-2] == keyword.strip().lower()


def odd_even_syllables(completion: str) -> bool:
    """Words with odd and with even numbers of syllables take turns, as syllapy counts them."""
    try:
        from syllapy import count
    except ImportError:
        raise UnavailableError("syllapy is not installed", _INSTALL) from None
    odd = [count(word) % 2 for word in bare(completion).lower().split()]
    return all(a != b for a, b in pairwise(odd))


def start_verb(completion: str) -> bool:
    """The first word is a verb, as NLTK's tagger sees it."""
    words = tokens(completion)
    return bool(words) and "VB" in _tagger()(words)[0][1]


@cache
def _tagger() -> Any:
    try:
        from nltk.tag.perceptron import PerceptronTagger

        return PerceptronTagger().tag
    except ImportError:
        raise UnavailableError("nltk is not installed", _INSTALL) from None
    # NLTK's word for data that was not downloaded.
    except LookupError:
        hint = "python -m nltk.downloader averaged_perceptron_tagger_eng"
        raise UnavailableError("NLTK's English tagger is not there", hint) from None


PLUGIN = Checks(
    version=1,
    checks={
        "words:alphabet": alphabet,
        "words:vowel": vowel,
        "words:consonants": consonants,
        "words:palindrome": palindrome,
        "words:prime_lengths": prime_lengths,
        "words:repeats": repeats,
        "words:last_first": last_first,
        "words:paragraph_last_first": paragraph_last_first,
        "words:no_consecutive": no_consecutive,
        "words:keywords_specific_position": keywords_specific_position,
        "words:words_position": words_position,
        "words:odd_even_syllables": odd_even_syllables,
        "words:start_verb": start_verb,
    },
)
