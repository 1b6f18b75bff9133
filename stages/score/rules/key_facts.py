"""The share of a row's seen or told facts that a completion states, and what that share is worth.

The formula of the key-fact rewards of VTPerception-R1 (arXiv:2509.24776), with facts found by `scene_claims` in place
of a judge. The thresholds and their values are ours; `graded` gives the share itself, as Perception-R1 (arXiv:
2506.07218) has it.
"""

from __future__ import annotations

import math

from stages.score.config import KeyFactsTable
from stages.score.rules.scene_claims import Scene, claims
from stages.score.verifiers.base import Judgement, judged


def worth(share: float, settings: KeyFactsTable) -> float:
    """The value of a share of facts: 1 from `high` on, 0.5 from `low` on, else 0; or the share itself."""
    if settings.graded:
        return share
    return 1.0 if share >= settings.high else 0.5 if share >= settings.low else 0.0


def judged_by_share(scene: Scene, text: str, settings: KeyFactsTable) -> Judgement:
    """all, some or none of the scene's facts, by what the text states. `seen` counts them."""
    statements = claims(text)
    credits = [scene.credit(statements, fact) for fact in scene.key]
    stated, total = sum(credit > 0 for credit in credits), len(credits)
    verdict = "all" if stated == total else "some" if stated else "none"
    # A fact among guesses is stated and earns a part of its share only.
    missing = [f"not plainly stated: {' '.join(f.words)}" for f, c in zip(scene.key, credits, strict=True) if c < 1]
    return judged(
        worth(math.fsum(credits) / total, settings), verdict, "; ".join(missing[:1]) or None, f"{stated}/{total} facts"
    )
