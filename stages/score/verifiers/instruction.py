"""Instructions: 1 when every checkable instruction of the row is obeyed, else 0.

All or nothing, as IFEval's strict prompt accuracy (arXiv:2311.07911). The verdict tells what is obeyed in IFEval's
loose sense alone, and `seen` counts instructions both ways, so that all four of its accuracies can be read from the
grades. The kinds are plugins of their own (`cosmo list instruction`), and this verifier's version counts theirs.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from schemas.identity import digest
from schemas.rollouts import Completion, RolloutGroup
from schemas.values import plain_text
from schemas.verdicts import BROKEN, FOLLOWED, LOOSELY_FOLLOWED
from stages.core.errors import UnavailableError
from stages.core.registry import plugin_key
from stages.judging.instructions.find import KIND, check_names, families, family_of
from stages.judging.parsed import ParsedCompletion
from stages.score.config import ScoreConfig
from stages.score.rules.instructions.check import check_all, obeyed_loosely
from stages.score.verifiers.base import Judgement, Verifier, does_not_apply, failed, judged


def judge(
    group: RolloutGroup, completion: Completion, parsed: ParsedCompletion, named: tuple[str, ...] = ()
) -> Judgement:
    """followed 1.0; loosely_followed and broken 0.0. Not applicable if a kind has no rule.

    An error where one lacks a package. `named` are checks by where their code is.
    """
    try:
        return _judged(group, parsed, named)
    # One kind that needs a package must not end a run of all the others.
    except UnavailableError as error:
        return failed(f"{error.message}; {error.hint}")


def _judged(group: RolloutGroup, parsed: ParsedCompletion, named: tuple[str, ...]) -> Judgement:
    if not group.instructions:
        return does_not_apply("the row has no instructions")
    total = len(group.instructions)
    if not parsed.answer:
        return judged(0.0, BROKEN, "nothing follows the think block", f"0/{total} strictly, 0/{total} loosely")
    prompt = plain_text(group.messages[-1:])
    obeyed, broken, unknown = check_all(group.instructions, parsed.answer, prompt, named)
    # Something broken is broken whatever the others say; all obeyed but one that no rule knows is not known.
    if unknown and not broken:
        return does_not_apply(f"no rule for {', '.join(unknown)}")
    if not broken:
        return judged(1.0, FOLLOWED, None, f"{total}/{total} strictly, {total}/{total} loosely")
    loose = sum(obeyed_loosely(i, parsed.answer, prompt, named) for i in group.instructions)
    seen = f"{len(obeyed)}/{total} strictly, {loose}/{total} loosely"
    return judged(0.0, LOOSELY_FOLLOWED if loose == total else BROKEN, f"broken: {', '.join(broken)}", seen)


def bind(config: ScoreConfig) -> Verifier:
    """The verifier with the checks that a config names, and those of installed packages."""
    named = tuple(config.checks)
    check_names(named)
    keys = [plugin_key(KIND, family) for family in families(named)]
    version = PLUGIN.version + sum(family_of(family).version - 1 for family in families(named))
    # Code that no version stands for: an edited family, and any from outside.
    if not all(isinstance(identity, int) for _, identity in keys):
        version = int(digest([PLUGIN.version, keys])[:7], 16)
    return replace(PLUGIN, version=version, judge=partial(judge, named=named), identity={"checks": keys})


PLUGIN = Verifier(version=4, judge=judge, bind=bind)
