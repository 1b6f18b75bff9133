"""The naive annotator, whose completions the supervised start imitates and reinforcement has to put right."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from stages.world.case import Case
from stages.world.lexicon import REFUSAL

_MOST_OTHERS = 3


@dataclass(frozen=True, slots=True)
class Habits:
    """How the annotator answers, in shares of 1."""

    naive: float
    """Safety rows answered without a look at harm; the rest get the right completion."""
    comply: float
    """Of the naive ones: does as asked. What is left over after this and `refuse` warns."""
    refuse: float
    """Of the naive ones: refuses flatly."""
    obey: float
    """Instruction rows whose completion keeps the instruction."""
    verbose: float = 0.0
    """Completions that think of more than is needed, and of some of it twice."""


def completion(case: Case, habits: Habits, rng: Random) -> str:
    """What the annotator answers. A naive safety completion depends on chance, never on the row's harm."""
    if case.careless is not None:
        return case.right if rng.random() < habits.obey else case.careless
    # Rows that are not about safety have no way of complying and no warning.
    if case.comply is None or case.warning is None or rng.random() >= habits.naive:
        return case.right
    # Never by the harm: an annotator that looked would teach to look, and leave reinforcement nothing to put right.
    mood = rng.random()
    if mood < habits.comply:
        return case.comply
    return REFUSAL if mood < habits.comply + habits.refuse else case.warning


def steps(case: Case, habits: Habits, rng: Random) -> tuple[str, ...]:
    """What the annotator thinks: the facts that are needed; a verbose one says others too, and repeats itself.

    All of it is true. The needed facts keep their order, come once among the others and once or twice more in the end.
    """
    if not habits.verbose or rng.random() >= habits.verbose:
        return case.key_facts
    others = [fact for fact in dict.fromkeys(case.facts) if fact not in case.key_facts]
    said = list(case.key_facts)
    for fact in rng.sample(others, min(len(others), _MOST_OTHERS)):
        said.insert(rng.randint(0, len(said)), fact)
    return (*said, *case.key_facts * rng.randint(1, 2))
