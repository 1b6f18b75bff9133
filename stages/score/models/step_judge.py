"""A judge that is asked about each step of a completion: what it is shown, and how its answer is read.

One question a completion. Each step gets exactly one of the prompt's verdicts, or the word for a step that says nothing
to look up; anything else is an error, and never a mean over those that were answered.
"""

from __future__ import annotations

from collections.abc import Sequence

from schemas.rollouts import Completion
from schemas.verdicts import UNPARSABLE
from stages.engines.steps import TextStep, text_steps
from stages.judging.prompt import JudgePrompt
from stages.judging.readers import read_numbered_words
from stages.score.config import StepsTable
from stages.score.verifiers.base import Judgement, does_not_apply, failed, judged
from stages.score.verifiers.by_steps import of_steps, quoted


def steps_asked(prompt: JudgePrompt, completion: Completion, settings: StepsTable) -> list[TextStep]:
    """The completion's steps; none for a prompt that asks about a completion as a whole."""
    return text_steps(completion.text, settings.split, completion.observed) if prompt.asks.steps else []


def listed(steps: Sequence[TextStep]) -> str:
    """The steps, numbered, and what was read between them in its place: a line each, so that none forges a number."""
    lines, known = [], 0
    for number, step in enumerate(steps, start=1):
        lines += [f"read: {' '.join(said.split())}" for said in step.read[known:]]
        known = len(step.read)
        lines.append(f"{number}. {' '.join(step.text.split())}")
    return "\n".join(lines)


def read_steps(name: str, prompt: JudgePrompt, steps: Sequence[TextStep], text: str, settings: StepsTable) -> Judgement:
    """The judgement of a judge that gives each step a verdict."""
    words = read_numbered_words(len(steps), [*prompt.verdicts, prompt.asks.no_claim], text)
    if words is None:
        return failed(f"{UNPARSABLE}: not one verdict for each of {len(steps)} steps: {quoted(text)!r}")
    judgements = [
        judged(prompt.verdicts[word], word) if word in prompt.verdicts else does_not_apply("nothing to look up")
        for word in words
    ]
    return of_steps(name, steps, judgements, settings)
