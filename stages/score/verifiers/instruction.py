"""Instructions: 1 when every checkable instruction of the row is obeyed, else 0.

All or nothing, as IFEval's strict prompt accuracy (arXiv:2311.07911). Kinds live in `stages/score/checks`.
"""

from __future__ import annotations

from schemas.rollouts import Completion, RolloutGroup
from stages.score.checks import check_all
from stages.score.reply import Reply
from stages.score.verifiers.base import Judgement, Verifier, does_not_apply, judged


def judge(group: RolloutGroup, completion: Completion, reply: Reply) -> Judgement:
    """followed 1.0, broken 0.0; `seen` counts the obeyed. Not applicable if a kind has no rule."""
    if not group.instructions:
        return does_not_apply("the row has no instructions")
    if not reply.answer:
        return judged(0.0, "broken", "nothing follows the think block")
    obeyed, broken, unknown = check_all(group.instructions, reply.answer)
    seen = f"{len(obeyed)}/{len(group.instructions)}"
    if broken:
        return judged(0.0, "broken", f"broken: {', '.join(broken)}", seen)
    if unknown:
        return does_not_apply(f"no rule for {', '.join(unknown)}")
    return judged(1.0, "followed", None, seen)


PLUGIN = Verifier(version=1, judge=judge)
