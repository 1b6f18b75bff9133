"""Why a completion got its reward, in plain lines for a person."""

from __future__ import annotations

from schemas.scored import OK, Grade, ScoredCompletion, ScoredGroup
from schemas.values import plain_text


def explain(group: ScoredGroup) -> list[str]:
    """One group's prompt, reference and recipe, and each completion's terms and grades with their reasons."""
    lines = [
        f"prompt {group.id}  label {group.label}  task {group.task}  source {group.source}",
        *(f"  | {line}" for line in plain_text(group.messages).splitlines()),
        f"  reference: {group.answer!r} ({group.answer_kind or 'no kind given'})",
        f"  recipe: {group.recipe}",
    ]
    for completion in group.completions:
        lines += _completion(completion)
    return lines


def _completion(completion: ScoredCompletion) -> list[str]:
    reward = "none" if completion.reward is None else f"{completion.reward:g}"
    lines = [f"completion {completion.index}  reward {reward}  ({completion.finish_reason})"]
    lines += [f"  | {line}" for line in completion.text.splitlines()]
    lines += [f"  {t.name:<12} x {t.weight:<5g} = {_value(t.value)}" for t in completion.terms]
    return lines + [f"  {_grade(g)}" for g in completion.grades]


def _value(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"


def _grade(grade: Grade) -> str:
    state = grade.verdict if grade.status == OK else grade.status
    seen = f"  saw {grade.seen!r}" if grade.seen else ""
    reason = f"  ({grade.reason})" if grade.reason else ""
    return f"[{grade.name} v{grade.version}] {_value(grade.value)} {state}{seen}{reason}"
