"""Why a completion got its reward: what each verifier saw and said, in lines for a person or as one document."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

from schemas.scored import ERROR, NOT_APPLICABLE, OK, TIMEOUT, Grade, ScoredCompletion, ScoredGroup, Term
from schemas.values import plain_text

# A rule's version is counted by hand; a model verifier's is the beginning of a digest.
_COUNTED = 1 << 16


class Line(NamedTuple):
    """One line; `style` is for a terminal, `hang` is where its continuation starts if it has to be broken."""

    text: str
    style: str = ""
    hang: int = 2


def explain(group: ScoredGroup) -> list[Line]:
    """The prompt with what is known of it, then each completion with its reward, terms and grades."""
    lines = [
        Line(f"prompt {group.id}  label {group.label}  task {group.task}  source {group.source}", "bold"),
        *_quoted(plain_text(group.messages)),
        *([Line(f"  images: {len(group.images)}")] if group.images else []),
        Line(f"  reference: {_known(group)}", hang=13),
        *_danger(group),
        Line(f"  reward formula: {group.reward_formula}", hang=18),
    ]
    widths = [max((len(cell) for row in _cells(group) for cell in row[at : at + 1]), default=0) for at in range(3)]
    for completion in group.completions:
        lines += [Line(""), *_completion(completion, widths)]
    return lines


def document(group: ScoredGroup) -> dict[str, Any]:
    """The same as plain values."""
    return {
        "id": group.id,
        "label": group.label,
        "task": group.task,
        "source": group.source,
        "prompt": plain_text(group.messages),
        "images": len(group.images),
        "reference": group.answer,
        "answer_kind": group.answer_kind,
        "harmful": group.harmful,
        "hazards": group.hazards,
        "unsafe_markers": group.unsafe_markers,
        "reward_formula": group.reward_formula,
        "completions": [
            {
                "index": c.index,
                "text": c.text,
                "finish_reason": c.finish_reason,
                "error": c.error,
                "reward": c.reward,
                "terms": [dataclasses.asdict(t) for t in c.terms],
                "grades": [dataclasses.asdict(g) for g in c.grades],
            }
            for c in group.completions
        ],
    }


def _known(group: ScoredGroup) -> str:
    return "none" if group.answer is None else f"{group.answer!r} ({group.answer_kind or 'no kind given'})"


def _danger(group: ScoredGroup) -> list[Line]:
    """What a safety verifier goes by."""
    if group.harmful is None:
        return []
    parts = ["harmful" if group.harmful else "known to be harmless"]
    parts += [f"hazards: {', '.join(group.hazards)}"] if group.hazards else []
    parts += [f"means compliance: {', '.join(map(repr, group.unsafe_markers))}"] if group.unsafe_markers else []
    return [Line(f"  request: {'; '.join(parts)}", hang=11)]


def _completion(completion: ScoredCompletion, widths: list[int]) -> list[Line]:
    head = f"completion {completion.index}  reward {_value(completion.reward)}  ({completion.finish_reason})"
    lines = [Line(head, "bold" if completion.reward is not None else "bold red")]
    lines += [Line(f"  no completion: {completion.error}", "red")] if completion.error else _quoted(completion.text)
    lines += [Line(f"  = {_sum(completion)}", hang=4)] if completion.terms else []
    return lines + [_grade(grade, widths) for grade in completion.grades]


def _sum(completion: ScoredCompletion) -> str:
    """The reward's terms, and what became of those without a value."""
    shown = " + ".join(f"{t.name} {_value(t.value)} * {t.weight:g}" for t in completion.terms)
    status = {g.name: g.status for g in completion.grades}
    lost = [t.name for t in completion.terms if status.get(t.name) in (TIMEOUT, ERROR)]
    if completion.reward is None:
        return f"{shown}  -> none, because {_because(lost, completion.terms)}"
    return shown


def _because(lost: list[str], terms: list[Term]) -> str:
    if lost:
        return f"{', '.join(lost)} failed"
    return "no term applies" if all(t.value is None for t in terms) else "no term of the task applies"


def _quoted(text: str) -> list[Line]:
    return [Line(f"  | {_printable(line)}", "dim", hang=4) for line in text.splitlines()]


def _printable(text: str) -> str:
    """Control characters spelled out: a completion must not be able to talk to the terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _cells(group: ScoredGroup) -> list[list[str]]:
    return [[_name(g), _value(g.value), _state(g)] for c in group.completions for g in c.grades]


def _grade(grade: Grade, widths: list[int]) -> Line:
    name, value, state = _name(grade), _value(grade.value), _state(grade)
    seen = f"saw {grade.seen!r}" if grade.seen else ""
    why = _printable(": ".join(p for p in (seen, grade.reason or "") if p))
    text = f"  {name:<{widths[0]}}  {value:>{widths[1]}}  {state:<{widths[2]}}  {why}".rstrip()
    style = {OK: "", NOT_APPLICABLE: "dim"}.get(grade.status, "red")
    return Line(text, style, hang=sum(widths) + 8)


def _name(grade: Grade) -> str:
    version = f"v{grade.version}" if grade.version < _COUNTED else f"#{grade.version:07x}"
    return f"{grade.name} {version}"


def _value(value: float | None) -> str:
    return "none" if value is None else f"{value:g}"


def _state(grade: Grade) -> str:
    return (grade.verdict or "") if grade.status == OK else grade.status
