"""Why a completion got its reward: what each verifier saw and gave, in lines for a person or as one document.

`cosmo score RUN --explain ID` finds the prompt's group, grades it where it is not graded yet, and shows it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

from schemas.scored import FAILED, NOT_APPLICABLE, OK, UNDECIDED, Grade, ScoredCompletion, ScoredGroup, Term, counting
from schemas.tables import ROLLOUTS, SCORED
from schemas.values import plain_text
from stages.core.errors import InputError, did_you_mean
from stages.core.runs.folder import RunFolder
from stages.core.stage import Context
from stages.score.answers.algebra.math_pool import set_limit
from stages.score.grading import Grader
from stages.score.models.batching import graded, open_models

# A rule's version is counted by hand; a model verifier's is the beginning of a digest.
_COUNTED = 1 << 16


class Line(NamedTuple):
    """One line; `style` is for a terminal, `hang` is where its continuation starts if it has to be broken."""

    text: str
    style: str = ""
    hang: int = 2


def explain_lines(group: ScoredGroup) -> list[Line]:
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
    for grade in completion.grades:
        lines += [_grade(grade, widths), *_steps(grade, completion.text)]
    return lines


def _sum(completion: ScoredCompletion) -> str:
    """The reward's terms, and what became of those without a value."""
    shown = " + ".join(f"{t.name} {_value(t.value)} * {t.weight:g}" for t in completion.terms)
    by_name = {g.name: g for g in completion.grades}
    status = {name: grade.status for name in by_name if (grade := counting(by_name, name)) is not None}
    lost = [t.name for t in completion.terms if status.get(t.name) in FAILED]
    if completion.reward is None:
        return f"{shown}  -> none, because {_because(lost, completion.terms, status)}"
    return shown


def _because(lost: list[str], terms: list[Term], status: Mapping[str, str]) -> str:
    if lost:
        return f"{', '.join(lost)} failed"
    missing = [t.name for t in terms if t.value is None]
    undecided = [name for name in missing if status.get(name) == UNDECIDED]
    if undecided:
        return f"{', '.join(undecided)} is undecided"
    return (
        "no term applies" if len(missing) == len(terms) else f"the task's own term does not apply: {', '.join(missing)}"
    )


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
    style = {OK: "", NOT_APPLICABLE: "dim", UNDECIDED: "yellow"}.get(grade.status, "red")
    return Line(text, style, hang=sum(widths) + 8)


def _steps(grade: Grade, text: str) -> list[Line]:
    """A line a step of a grade that has any: its value, its words, why."""
    lines = []
    for number, step in enumerate(grade.steps or [], start=1):
        words = _printable(" ".join(text[step.start : step.stop].split()))
        why = f"  ({_printable(step.reason)})" if step.reason else ""
        style = "dim" if step.value is None else "" if step.value >= 1 else "yellow"
        lines.append(Line(f"    step {number}  {_value(step.value)}  {words}{why}", style, hang=8))
    return lines


def _name(grade: Grade) -> str:
    version = f"v{grade.version}" if grade.version < _COUNTED else f"#{grade.version:07x}"
    return f"{grade.name} {version}"


def _value(value: float | None) -> str:
    return "none" if value is None else f"{value:g}"


def _state(grade: Grade) -> str:
    if grade.status == OK:
        return grade.verdict or ""
    return f"{grade.status}, left to {grade.left_to}" if grade.left_to else grade.status


def find_groups(folders: list[RunFolder], prefix: str, grader: Grader, ctx: Context) -> list[ScoredGroup]:
    """The prompt's group in each folder that holds it; rollouts are graded now, and nothing is written.

    InputError for an id that is not there, and for a beginning that more than one id has.
    """
    places = [(f, s, i) for f in folders for s, ids in _ids_by_shard(f) for i in ids]
    ident = _one_id([i for _, _, i in places], prefix, ", ".join(f.where for f in folders))
    return [_scored_group(f, s, ident, grader, ctx) for f, s, i in places if i == ident]


def _ids_by_shard(folder: RunFolder) -> list[tuple[int, list[str]]]:
    """The ids of each shard that is there."""
    from stages.core.runs.shards import read_columns

    missing = set(folder.missing())
    shards = [s for s in range(folder.total) if s not in missing]
    return [
        (shard, read_columns(path, ["id"]).column("id").to_pylist())
        for shard, path in zip(shards, folder.shard_paths(), strict=True)
    ]


def _one_id(known: list[str], prefix: str, where: str) -> str:
    # A whole id wins over ids that merely begin with it.
    found = sorted({i for i in known if i == prefix} or {i for i in known if prefix and i.startswith(prefix)})
    if len(found) == 1:
        return found[0]
    if found:
        shown = ", ".join(found[:5]) + (", ..." if len(found) > 5 else "")
        raise InputError(f"{len(found)} prompts in {where} begin with {prefix!r}", f"type more of it: {shown}")
    hint = did_you_mean(prefix, sorted(set(known)), most=3, cutoff=0.5) or "cosmo show FOLDER lists some ids"
    raise InputError(f"no prompt {prefix!r} in {where}", hint)


def _scored_group(folder: RunFolder, shard: int, ident: str, grader: Grader, ctx: Context) -> ScoredGroup:
    scored = folder.table == SCORED.name
    row = next(r for r in folder.shard_rows(SCORED if scored else ROLLOUTS, shard) if r.id == ident)
    if scored and not grader.regrade:
        assert isinstance(row, ScoredGroup)
        return row
    set_limit(ctx.config.timeout_s)
    (group,) = graded(grader, open_models(grader, ctx), [row], 1, 1)
    return group
