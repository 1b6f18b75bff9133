"""Which of a scene's facts a completion states, and what it states that is not so: by rule, on words.

A text falls into *claims*: its clauses, and its whole sentences for facts that a clause would cut. A claim is its
content words (grammar dropped, endings cut, numbers as digits), its values by class (numbers, colours, shapes, ...)
and whether it denies. Two claims speak of the same thing when everything but the values is the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from schemas.prompts import PromptRow
from schemas.values import plain_text
from stages.score.answers.markers import GRAMMAR, NUMBER_WORDS, RIVALS
from stages.score.answers.normalize import plain, spaced
from stages.score.rules.refusal_phrases import DANGER

# A dot inside a number ends no sentence.
_SENTENCE = re.compile(r"[.](?=\s|$)|[;!?\n]")
_CLAUSE = re.compile(r",(?=\s|$)|\b(?:and|but|or|so|because|while|then|therefore|which)\b", re.IGNORECASE)
_SIGNS = {"+": " plus ", "=": " is ", "\u00d7": " times ", "*": " "}
# A minus sign stands between digits or alone; the hyphen of `dark-red` is none.
_MINUS = re.compile(r"(?<=\d) ?- ?(?=\d)|(?<= )-(?= )")
_DENY_WORDS = "no not never isn't aren't don't doesn't can't cannot without none nor nothing"
_DENIES = frozenset(_DENY_WORDS.split())
_FILLERS = (
    " can want wants say says said also clearly exactly total number colour color about together just only"
    " sorry warning yes okay ok well note hmm let me us if he she both each either one's"
)
_EMPTY = (GRAMMAR | frozenset(_FILLERS.split()) | _DENIES) - {"from", "with"}
_NUMBER, _COLOUR = "number", "colour"
_SHORT_LIST = 3
"""Words beside a fact that a clause may hold before it counts as a list of guesses."""


def _stem(word: str) -> str:
    """A word without its ending, so that `stars`, `stands` and `standing` meet `star` and `stand`."""
    # `cross`, `focus` and `this` end in an s that is no plural.
    if word.endswith("s") and not word.endswith(("ss", "us", "is")) and len(word) > 2:
        word = word[:-1]
    if word.endswith("ing") and len(word) > 5:
        word = word[:-3]
    elif word.endswith("ed") and len(word) > 4:
        word = word[:-2]
    if word.endswith("e") and len(word) > 2:
        word = word[:-1]
    # `stopped` without its ending is `stopp`.
    return word[:-1] if len(word) > 3 and word[-1] == word[-2] else word


def _class_name(rivals: frozenset[str]) -> str:
    return _COLOUR if "red" in rivals else min(rivals)


_CLASS_OF = {_stem(word): _class_name(rivals) for rivals in RIVALS for word in rivals}
_SAME = {"gray": "grey", "over": "above", "under": "below", "underneath": "below"}
_WAYS = {"left": "left", "right": "left", "above": "above", "below": "above"}
_RELATIONS = {_stem(word): _stem(way) for word, way in _WAYS.items()}
"""Relations read one way round: right of is left of with the sides exchanged."""
Values = dict[str, frozenset[str]]


@dataclass(frozen=True, slots=True)
class Claim:
    """One clause or sentence, as it is compared."""

    words: tuple[str, ...]
    """Its content words in order."""
    grammars: frozenset[frozenset[str]]
    """The grammar words between them, of each way in which a text puts it."""
    values: Values
    """Its members of the small classes: `{"number": {"5"}, "circle": {"star"}}`."""
    denies: bool
    """It says that something is not so."""
    first: frozenset[str] = frozenset()
    """What stands left of or above the rest (`the star is left of the heart`); empty for other claims."""

    @property
    def content(self) -> frozenset[str]:
        """Its content words as a set."""
        return frozenset(self.words)

    @property
    def pronoun(self) -> bool:
        """`one` is in it, which may be a 1."""
        return any("one" in grammar for grammar in self.grammars)

    @property
    def rest(self) -> frozenset[str]:
        """Content words that are in no small class."""
        return self.content.difference(*self.values.values())


def _value_class(word: str) -> str | None:
    return _NUMBER if word[0].isdigit() else _CLASS_OF.get(word)


@lru_cache(maxsize=16384)
def claim(text: str) -> Claim:
    """A clause or a fact as a claim."""
    words: list[str] = []
    grammar: set[str] = set()
    values: dict[str, set[str]] = {}
    denies = False
    for word in spaced(text).split():
        denies = denies or word in _DENIES
        if word in NUMBER_WORDS and word != "one":
            word = str(NUMBER_WORDS[word])
        if word == "one" or word in _EMPTY:
            # `one` is mostly a pronoun: it may be a needed 1, and is never a wrong number.
            grammar.add(word)
            continue
        word = _stem(_SAME.get(word, word))
        words.append(word)
        if name := _value_class(word):
            values.setdefault(name, set()).add(word)
    found = {k: frozenset(v) for k, v in values.items()}
    return _one_way_round(Claim(tuple(words), frozenset([frozenset(grammar)]), found, denies))


def _one_way_round(made: Claim) -> Claim:
    """The claim with its relation, if it relates two things, as left of or above."""
    at = [i for i, word in enumerate(made.words) if word in _RELATIONS]
    # Relations of one thing, or of three, are compared as they stand.
    if len(at) != 1 or not 0 < at[0] < len(made.words) - 1:
        return made
    relation = made.words[at[0]]
    before, after = made.words[: at[0]], made.words[at[0] + 1 :]
    if _RELATIONS[relation] != relation:
        before, after = after, before
    words = (*before, _RELATIONS[relation], *after)
    values = {n: frozenset(_RELATIONS.get(w, w) for w in ws) for n, ws in made.values.items()}
    return replace(made, words=words, values=values, first=frozenset(before) - frozenset(after))


def _signs_spelled(text: str) -> str:
    text = _MINUS.sub(" minus ", plain(text))
    for sign, word in _SIGNS.items():
        text = text.replace(sign, word)
    return text


def claims(text: str) -> list[Claim]:
    """A text's distinct claims with content: the clauses, and the sentences that have several."""
    found: dict[tuple[tuple[str, ...], bool], Claim] = {}
    for sentence in _SENTENCE.split(_signs_spelled(text)):
        clauses = _CLAUSE.split(sentence)
        for part in clauses if len(clauses) == 1 else [*clauses, sentence]:
            made = claim(part.strip())
            if made.words:
                key = made.words, made.denies
                found[key] = _also(found.get(key, made), made)
    return list(found.values())


def _each_once(facts: Iterable[str]) -> list[Claim]:
    """Facts as claims, those that say the same as one."""
    found: dict[tuple[str, ...], Claim] = {}
    for fact in facts:
        made = claim(_signs_spelled(fact))
        found[made.words] = _also(found.get(made.words, made), made)
    return list(found.values())


def all_words(text: str) -> Claim:
    """A whole text as one claim: all its content words in order, each as often as it is there."""
    return claim(_signs_spelled(text))


def _also(known: Claim, again: Claim) -> Claim:
    """A claim that is put in another way, too."""
    return known if again.grammars <= known.grammars else replace(known, grammars=known.grammars | again.grammars)


class Scene:
    """A row's facts, ready to be looked for in completions: its key facts, or others that are named as `keys`."""

    def __init__(self, row: PromptRow, keys: Sequence[str] | None = None) -> None:
        asked = claim(_signs_spelled(plain_text(row.messages)))
        # Numbers and colours of a question are never given away by it, nor are options it offers.
        offered = {w for name, ws in asked.values.items() if name in (_NUMBER, _COLOUR) or len(ws) > 1 for w in ws}
        self.asked = asked.content - offered
        """Content words that the question itself gives."""
        key = _each_once(row.key_facts if keys is None else keys)
        self.key = [k for k in key if k.content - self.asked]
        """The key facts that the question's words don't already give, each once."""
        self._drawn = [claim(_signs_spelled(fact)) for fact in row.facts]
        # Key facts stay true where others are looked for: `3 plus 5 is 8` denies no `3 plus 5`.
        self._known = [*self._drawn, *key, *([] if keys is None else _each_once(row.key_facts))]
        answer = claim(_signs_spelled(" ".join([row.answer or "", *row.choices])))
        self.vocabulary = self.asked.union(answer.content, *(k.content for k in self._known))
        """Content words that the row itself accounts for."""

    def states(self, statement: Claim, fact: Claim) -> bool:
        """Whether a claim states a fact: every word that the question does not give, and no other value."""
        return (
            statement.denies == fact.denies
            and fact.content - self.asked <= (statement.content | {"1"} if statement.pronoun else statement.content)
            and all(statement.values.get(n, v) == v for n, v in fact.values.items())
            and fact.first & statement.content == fact.first & statement.first
        )

    def true(self, statement: Claim) -> bool:
        """Whether some fact accounts for a claim, or the count it gives is that of the scene's things."""
        return self._count(statement) is True or any(self._part_of(statement, fact) for fact in self._known)

    def _part_of(self, statement: Claim, fact: Claim) -> bool:
        """Whether a fact holds all that a claim says; words that the question gives need not be in the fact."""
        return (
            statement.denies == fact.denies
            and statement.content - self.asked <= fact.content
            and all(v <= fact.values.get(n, v) for n, v in statement.values.items())
            and statement.first & fact.content <= fact.first
        )

    def _count(self, statement: Claim) -> bool | None:
        """Whether `3 red stars` is the number of such things; None when it is not that sort of claim."""
        numbers, things = statement.values.get(_NUMBER, frozenset()), statement.content
        things = things - numbers
        if statement.denies or len(numbers) != 1 or not things or statement.words[0] not in numbers:
            return None
        found = sum(things <= f.content and _NUMBER not in f.values for f in self._drawn)
        return found == int(n) if found and (n := next(iter(numbers))).isdigit() and n != "1" else None

    def denied(self, statement: Claim, fact: Claim) -> bool:
        """Whether a claim contradicts a fact: the same thing with another value, or denied outright."""
        if statement.denies != fact.denies:
            return bool(statement.content - self.asked or not self.asked) and statement.content <= fact.content
        if statement.rest - self.asked != fact.rest - self.asked:
            return False
        if statement.content == fact.content:
            return statement.first != fact.first
        differ = [n for n in fact.values if n in statement.values and statement.values[n] != fact.values[n]]
        # `4 hearts` says nothing about 5 circles: only one class may differ.
        return (
            len(differ) == 1 and set(statement.values) <= set(fact.values) and self._whole(statement, fact, differ[0])
        )

    def _whole(self, statement: Claim, fact: Claim, name: str) -> bool:
        """A difference in thing, not in value, is another statement: the square's colour, not the star's."""
        return name in (_NUMBER, _COLOUR) or not (set(fact.values) - {name})

    def false(self, statement: Claim) -> bool:
        """Whether a claim is at odds with some fact, and no fact accounts for it."""
        if self.true(statement):
            return False
        return self._count(statement) is False or any(self.denied(statement, f) for f in self._known)

    def rivals(self, statements: list[Claim], fact: Claim) -> int:
        """How many other words were tried in a fact's place: `it is soap . it is tea .` for `it is twill`."""
        needed = fact.content - self.asked
        tried = set()
        for one in statements:
            odd = [w for w in one.words if w not in self.vocabulary and not _value_class(w)]
            if len(odd) != 1 or one.denies or DANGER.search(f" {odd[0]} "):
                continue
            alone = len(one.words) == 1 and len(needed) == 1 and _worded_as(one, fact)
            same = len(one.words) == len(fact.words) > 1
            framed = same and sum(a != b for a, b in zip(one.words, fact.words)) == 1
            if alone or framed:
                tried.add(odd[0])
        return len(tried)

    def credit(self, statements: list[Claim], fact: Claim) -> float:
        """0..1: 1 when a fact is stated once and plainly, less among guesses, 0 when it is also contradicted."""
        stating = [one for one in statements if self.states(one, fact)]
        if not stating or any(self.denied(one, fact) and not self.true(one) for one in statements):
            return 0.0
        # The plainest of the statements counts, so that saying more elsewhere takes nothing away.
        beside = min(len(one.content - self.vocabulary) for one in stating)
        return min(1.0, _SHORT_LIST / max(1, beside)) / (1 + self.rivals(statements, fact))


class ToldScene(Scene):
    """What a row's words tell (`text_keys`), ready to be looked for in a think block.

    The question gives these facts by definition, so that nothing of them is subtracted: a fact is stated where its
    numbers and values are, with at least one other word of it, and with no number or value that the row has nowhere.
    """

    def __init__(self, row: PromptRow) -> None:
        super().__init__(row, row.text_keys)
        question = _one_or_more(all_words(plain_text(row.messages)))
        self.vocabulary |= question
        self.asked = frozenset()
        self.key = _each_once(row.text_keys)

    def states(self, statement: Claim, fact: Claim) -> bool:
        """Whether a claim tells the fact again; one that tries many numbers or values tells none."""
        said = _one_or_more(statement)
        return (
            statement.denies == fact.denies
            and all(v <= said for v in fact.values.values())
            and all(statement.values.get(n, frozenset()) <= self.vocabulary for n in fact.values)
            and (not fact.rest or bool(fact.rest & statement.content))
        )


def _one_or_more(made: Claim) -> frozenset[str]:
    """The content words, with a 1 where `one` may be meant for it."""
    return made.content | {"1"} if made.pronoun else made.content


def _worded_as(statement: Claim, fact: Claim) -> bool:
    """Whether a claim has, put in one of its ways, no grammar but the fact's and articles."""
    return any(a <= b | {"a", "an", "the"} for a in statement.grammars for b in fact.grammars)
