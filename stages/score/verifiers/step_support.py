"""Step support: is what each step says in the document that was read, or in the scene? The share of steps that are.

SafeWork-R1 (arXiv:2507.18576) verifies steps of its deliberative search; the rule is our own design, for the built-in
worlds, whose facts and documents are known (`stages.score.rules.step_evidence`). A step counts against the row's facts
until an environment has said something, and against what that said from there on. What claims nothing, and what is
said where there is neither, counts for nothing. On real data a judge of this name stands in for it.
"""

from __future__ import annotations

from collections.abc import Sequence

from schemas.prompts import PromptRow
from stages.engines.steps import TextStep
from stages.score.rules.step_evidence import DocumentEvidence, SceneEvidence, question_of
from stages.score.verifiers.base import Judgement, does_not_apply, judged
from stages.score.verifiers.by_steps import SUPPORTED, UNSUPPORTED, by_steps


def judge(row: PromptRow, steps: Sequence[TextStep]) -> list[Judgement]:
    """supported 1.0, unsupported 0.0, of each step."""
    known = bool(row.facts or row.key_facts or row.visual_keys or row.text_keys)
    # `name exactly 2 shapes`: what is written to order is no claim of what is seen.
    to_order = bool(row.instructions) and row.answer is None
    scene = SceneEvidence(row) if known and not to_order else None
    question = question_of(row)
    found = []
    for step in steps:
        evidence = DocumentEvidence(question, step.read) if step.read else scene
        if evidence is None:
            found.append(does_not_apply("nothing was seen or read before it"))
            continue
        held, why = evidence.verdict(step)
        if held is None:
            found.append(does_not_apply(why))
        else:
            found.append(judged(float(held), SUPPORTED if held else UNSUPPORTED, None if held else why))
    return found


PLUGIN = by_steps(1, judge)
