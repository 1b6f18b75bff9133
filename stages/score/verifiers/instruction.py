"""Instructions: 1 when every checkable instruction of the row is obeyed, else 0.

All or nothing, as IFEval's strict prompt accuracy (arXiv:2311.07911). The verdict tells what is obeyed in IFEval's
loose sense alone, and `seen` counts instructions both ways, so that all four of its accuracies can be read from the
grades. Kinds live in `stages/score/rules/instructions`.
"""

from __future__ import annotations

from schemas.rollouts import Completion, RolloutGroup
from schemas.verdicts import BROKEN, FOLLOWED, LOOSELY_FOLLOWED
from stages.judging.parsed import ParsedCompletion
from stages.score.rules.instructions.check import check_all, obeyed_loosely
from stages.score.verifiers.base import Judgement, Verifier, does_not_apply, judged


def judge(group: RolloutGroup, completion: Completion, parsed: ParsedCompletion) -> Judgement:
    """followed 1.0; loosely_followed and broken 0.0. Not applicable if a kind has no rule."""
    if not group.instructions:
        return does_not_apply("the row has no instructions")
    if not parsed.answer:
        return judged(0.0, BROKEN, "nothing follows the think block")
    obeyed, broken, unknown = check_all(group.instructions, parsed.answer)
    total = len(group.instructions)
    # Something broken is broken whatever the others say; all obeyed but one that no rule knows is not known.
    if unknown and not broken:
        return does_not_apply(f"no rule for {', '.join(unknown)}")
    if not broken:
        return judged(1.0, FOLLOWED, None, f"{total}/{total} strictly, {total}/{total} loosely")
    loose = sum(obeyed_loosely(i, parsed.answer) for i in group.instructions)
    seen = f"{len(obeyed)}/{total} strictly, {loose}/{total} loosely"
    return judged(0.0, LOOSELY_FOLLOWED if loose == total else BROKEN, f"broken: {', '.join(broken)}", seen)


PLUGIN = Verifier(version=2, judge=judge)
