"""Visual focus: the share of the scene facts a question needs that think block and answer state.

COSMO-RL (arXiv:2510.04196, figure 1) names a visual-focus reward term and does not define it; this rule is ours,
for rows whose key facts are known. With n key facts that the question's own words don't give away, c of them
stated (`Scene.credit`) and f false statements about the scene:

    value = c / (n + f) * min(1, B / w)

Not to be earned by listing everything: a key fact that is also contradicted counts 0 (`there are 4 . there are
5 .`), one stated among m other guesses counts 1 / (1 + m), wrong counts and colours of things nobody asked about
are false statements too, and w, the number of different words that neither the question nor the row's facts and
answer account for, costs above B = 60 + 20 n. Stating a needed fact never lowers the value.
"""

from __future__ import annotations

import math

from schemas.rollouts import Completion, RolloutGroup
from stages.judging.parsed import ParsedCompletion
from stages.score.rules.scene_claims import Scene, claims
from stages.score.verifiers.base import Judgement, Verifier, does_not_apply, judged

_WORDS, _WORDS_A_FACT = 60, 20


def judge(group: RolloutGroup, completion: Completion, parsed: ParsedCompletion) -> Judgement:
    """all, some or none of the key facts; contradicted where a false statement was made. `seen` counts them."""
    if not group.images:
        return does_not_apply("the row has no image")
    if not group.key_facts:
        return does_not_apply("the row has no key facts")
    scene = Scene(group)
    if not scene.key:
        return does_not_apply("the words alone give every key fact")
    statements = claims(f"{parsed.think or ''}\n{parsed.answer}")
    credits = [scene.credit(statements, fact) for fact in scene.key]
    false = [one for one in statements if scene.false(one)]
    total = len(scene.key)
    unaccounted = len(frozenset().union(*(one.content for one in statements)) - scene.vocabulary)
    budget = _WORDS + _WORDS_A_FACT * total
    focus = min(1.0, budget / max(1, unaccounted))
    value = math.fsum(credits) / (total + len(false)) * focus
    stated = sum(credit > 0 for credit in credits)
    verdict = "contradicted" if false else "all" if stated == total else "some" if stated else "none"
    reasons = [f"at odds with the scene: {' '.join(sorted(one.words))}" for one in false[:1]]
    reasons += [f"{unaccounted} words beside the facts" for _ in (1,) if focus < 1]
    return judged(value, verdict, "; ".join(reasons) or None, f"{stated}/{total} facts, {len(false)} false")


PLUGIN = Verifier(version=2, judge=judge)
