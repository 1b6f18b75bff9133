"""The four reward terms of COSMO-RL (arXiv:2510.04196), which of them a verifier's grade belongs to, and which is the
task's own.
"""

from __future__ import annotations

from collections.abc import Iterable

from schemas.scored import ScoredCompletion
from schemas.steps import TermStat

FORMAT, VISUAL_FOCUS, HELPFUL, TASK_AWARE = "format", "visual focus", "helpful", "task-aware"
COSMO_TERMS = (FORMAT, VISUAL_FOCUS, HELPFUL, TASK_AWARE)
"""In the paper's order."""

_TERM_OF = {
    "format": FORMAT,
    "visual_focus": VISUAL_FOCUS,
    "visual_contrast": VISUAL_FOCUS,
    "visual_keys": VISUAL_FOCUS,
    "helpful": HELPFUL,
}


SECONDARY = (
    *("format", "helpful", "visual_focus"),
    *("visual_keys", "text_keys", "consistency", "repetition", "overlong", "step_support"),
)
"""Terms that say how a completion does its task, and not whether: alone they are no reward."""
_PRINCIPAL = "; principal "


def principal_of(terms: Iterable[str]) -> str:
    """The first term that is none of SECONDARY, or the first where there is no other; the terms in their order."""
    names = list(terms)
    return next((name for name in names if name not in SECONDARY), names[0])


def principal_mark(name: str) -> str:
    """What a reward formula's text says where its principal term does not follow from the terms."""
    return f"{_PRINCIPAL}{name}"


def task_value(completion: ScoredCompletion, formula: str) -> float | None:
    """What a completion has of its task's own term, under the reward formula of this text; None where nothing judged
    it.
    """
    if not completion.terms:
        return None
    marked = formula.partition(_PRINCIPAL)[2].partition(";")[0]
    name = marked or principal_of(term.name for term in completion.terms)
    return next((term.value for term in completion.terms if term.name == name), None)


def cosmo_term(verifier: str) -> str:
    """The term a verifier's grade counts towards; whatever judges the task itself is task-aware."""
    return _TERM_OF.get(verifier, TASK_AWARE)


def by_cosmo_term(stats: Iterable[TermStat]) -> dict[str, tuple[float, int]]:
    """(sum of grades, how many) of each of the four terms that has any."""
    sums: dict[str, tuple[float, int]] = {}
    for stat in stats:
        # Sums rather than means: terms of several verifiers are pooled by how many completions each was given for.
        total, count = sums.get(cosmo_term(stat.name), (0.0, 0))
        sums[cosmo_term(stat.name)] = total + stat.mean * stat.completions, count + stat.completions
    return {term: sums[term] for term in COSMO_TERMS if term in sums}
