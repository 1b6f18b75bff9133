"""The four reward terms of COSMO-RL (arXiv:2510.04196), and which of them a verifier's grade belongs to."""

from __future__ import annotations

from collections.abc import Iterable

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
