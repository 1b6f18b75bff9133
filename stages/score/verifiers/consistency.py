"""Consistency: what share of what the completion reasons with it has described or been told; 0 where they conflict.

The consistency reward of VTPerception-R1 (arXiv:2509.24776). F are the numbers, colours and other values, and the words
of the row's visual and text keys, in think block and answer; E are those in description and question:

    value = |F & E| / max(1, |F|),   0 where a claim of the think block contradicts one of the description

A correction of ours: a number in F that is a sum, difference, product or quotient of two numbers in E counts as
supported, and a claim that says how it follows (`3 stars cost 12`, of `a star costs 4`) contradicts nothing, nor does
one that is a text key of the row (`3 stars`). Without it the paper's rule punishes every right calculation, whose
result nothing shows and nobody tells. Ours, too, is which nouns count: the words of the row's keys, for a rule can't
tell other nouns from verbs, and what is known (`mirel eats honey`) stands in no description.
"""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from itertools import combinations

from schemas.rollouts import Completion, RolloutGroup
from schemas.values import plain_text
from stages.judging.parsed import ParsedCompletion
from stages.score.rules.scene_claims import Claim, Scene, all_words, claims
from stages.score.verifiers.base import Judgement, Verifier, does_not_apply, judged

_MOST = 40
"""Numbers of a description whose pairs are looked at: a longer list of them tells nothing."""


def judge(group: RolloutGroup, completion: Completion, parsed: ParsedCompletion) -> Judgement:
    """supported 1.0, partly or unsupported with less, conflict 0.0. `seen` counts F."""
    if parsed.seen_by_reader is None:
        return does_not_apply("the layout think has no description: layout = 'describe'")
    described = parsed.description or ""
    thought = all_words(f"{parsed.think or ''}\n{parsed.answer}")
    evidence = all_words(f"{plain_text(group.messages)}\n{described}")
    nouns = frozenset().union(*(all_words(key).rest for key in (*group.visual_keys, *group.text_keys)))
    used = _values(thought) | (thought.content & nouns)
    given = evidence.content | {"1"} if evidence.pronoun else evidence.content
    derived = _derived(_numbers(evidence.words))
    supported = {word for word in used if word in given or _number(word) in derived}
    seen = f"{len(supported)} of {len(used)} supported"
    told = {all_words(key).content for key in group.text_keys}
    thought_claims = [one for one in claims(parsed.think or "") if one.content not in told]
    conflict = _conflict(Scene(group), thought_claims, claims(described), derived)
    if conflict:
        return judged(0.0, "conflict", f"at odds with the description: {' '.join(conflict.words)}", seen)
    loose = " ".join(sorted(used - supported))
    verdict = "unsupported" if not supported else "partly" if loose else "supported"
    return judged(len(supported) / max(1, len(used)), verdict, f"nothing shows {loose}" if loose else None, seen)


def _values(made: Claim) -> frozenset[str]:
    return frozenset().union(*made.values.values())


def _number(word: str) -> Fraction | None:
    try:
        return Fraction(word)
    except (ValueError, ZeroDivisionError):
        return None


def _numbers(words: Iterable[str]) -> list[Fraction]:
    """The numbers among words, each as often as it is there."""
    return [number for word in words if word[0].isdigit() and (number := _number(word)) is not None]


def _derived(numbers: list[Fraction]) -> set[Fraction | None]:
    """Sums, differences, products and quotients of two of the numbers."""
    found: set[Fraction | None] = set()
    for a, b in combinations(numbers[:_MOST], 2):
        found |= {a + b, a - b, b - a, a * b}
        found |= {x / y for x, y in ((a, b), (b, a)) if y}
    return found


def _conflict(
    scene: Scene, thought: list[Claim], described: list[Claim], derived: set[Fraction | None]
) -> Claim | None:
    """The first claim of the think block that contradicts the description, and that none of its claims supports."""
    for one in thought:
        if any(
            one.content == fact.content and one.first == fact.first for fact in described if one.denies == fact.denies
        ):
            continue
        if any(scene.denied(one, fact) and not _follows(one, fact, derived) for fact in described):
            return one
    return None


def _follows(one: Claim, fact: Claim, derived: set[Fraction | None]) -> bool:
    """Whether a claim repeats a fact's numbers and says more, or names a calculated number with one that it is of."""
    if one.denies != fact.denies:
        return False
    # As often as they are there: what costs 1 costs 5 in fives.
    said, shown = _numbers(one.words), _numbers(fact.words)
    return set(said) > set(shown) or (len(said) > 1 and not derived.isdisjoint(said))


PLUGIN = Verifier(version=1, judge=judge)
