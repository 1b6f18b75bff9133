"""Each edited completion beside the one that it was made of: groups for preferences, and what each edit changed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from schemas.prompts import Edit
from schemas.scored import ScoredCompletion, ScoredGroup
from schemas.tables import SCORED
from schemas.terms import task_value
from stages.core.errors import BadSample, InputError
from stages.core.runs.folder import RunFolder
from stages.core.runs.shards import read_columns
from stages.core.stage import Context, Plan, ShardWriter, Work, chunks
from stages.edit.rows import Groups

_HINT = "name both scored runs: the one that was edited and the one that went on: cosmo edit OLD NEW"


@dataclass(frozen=True, slots=True)
class Changed:
    """One edit with the completions before and after it."""

    old_row: ScoredGroup
    old: ScoredCompletion
    new_row: ScoredGroup

    @property
    def edit(self) -> Edit:
        """What was changed, by whom."""
        assert self.new_row.edit is not None, "only edited rows are paired"
        return self.new_row.edit


def plan(ctx: Context) -> Plan:
    """The edited rows of scored runs, in order; InputError where there are none, or one has no parent there."""
    idents = _edited(Groups(ctx.inputs, SCORED, ctx.resources))
    shards = [{"rows": part} for part in chunks(idents, ctx.config.shard_rows)]
    return Plan(shards, {}, provenance={"edits": len(idents)})


def work(ctx: Context) -> Work:
    """Make the groups of planned rows; a pair that nobody should learn from is rejected with its reason."""
    groups = Groups(ctx.inputs, SCORED, ctx.resources)

    def do(shard: dict[str, Any], writer: ShardWriter) -> None:
        for changed in _changed(groups, shard["rows"]):
            try:
                writer.row(pair(changed))
            except BadSample as bad:
                writer.reject(changed.edit.by, changed.new_row.id, bad.reason, bad.detail)

    return do


def changes(folders: list[RunFolder]) -> Iterator[Changed]:
    """Every edit of the scored runs with what came before and after it, in order."""
    groups = Groups(folders, SCORED)
    for part in chunks(_edited(groups), 256):
        yield from _changed(groups, part)


def pair(changed: Changed) -> ScoredGroup:
    """A group of the old completion and the new ones, texts alone, as imported preference pairs are.

    RL, which needs token ids, passes over them: what a person wrote is no draw of the policy. BadSample for what holds
    an environment's words: a text does not say which they are.
    """
    kept = [(changed.old_row.edit, changed.old), *((changed.edit, new) for new in changed.new_row.completions)]
    if any(not one.whole_by_speakers(edit) for edit, one in kept):
        raise BadSample("not_generated", "the pair holds tokens that neither the policy nor a person wrote")
    texts = [
        dataclasses.replace(one, index=place, token_ids=[], logprobs=[], generated=None)
        for place, (_, one) in enumerate(kept)
        if one.error is None
    ]
    return dataclasses.replace(changed.new_row, completions=texts)


def _edited(groups: Groups) -> list[str]:
    """Ids of the edited rows, in order, each once."""
    makers: list[bool] = []
    for path in (path for folder in groups.folders for path in folder.shard_paths()):
        table = read_columns(path, ["edit.by"], SCORED)
        # A shard of a time when nobody could edit has no such column.
        edited = table.column("edit").combine_chunks().is_valid().to_pylist() if "edit" in table.schema.names else []
        makers += edited or [False] * table.num_rows
    found = [entry.id for entry, edited in zip(groups.entries, makers, strict=True) if edited]
    if not found:
        raise InputError("no row of these runs was edited", _HINT)
    return list(dict.fromkeys(found))


def _changed(groups: Groups, idents: list[str]) -> Iterator[Changed]:
    rows = groups.read(idents)
    parents = [row.parent_id for row in rows.values()]
    missing = next((ident for ident in parents if groups.find(ident) is None), None)
    if missing is not None:
        raise InputError(f"{missing}, which was edited, is in none of these runs", _HINT)
    olds = groups.read(parents)
    for ident in idents:
        row, old_row = rows[ident], olds[rows[ident].parent_id]
        old = next((c for c in old_row.completions if c.index == row.edit.index), None)
        if old is None or not row.edit.fits(old.text):
            raise InputError(f"{ident} was made of another completion {row.edit.index} of {old_row.id}", _HINT)
        yield Changed(old_row, old, row)


def record(changed: Changed) -> dict[str, Any]:
    """One edit as plain values: what was changed, and the reward and the task's own value before and after."""
    edit, formula = changed.edit, changed.new_row.reward_formula
    news = [c for c in changed.new_row.completions if c.error is None]
    return {
        "id": changed.new_row.id,
        "parent_id": changed.old_row.id,
        "index": edit.index,
        "by": edit.by,
        "why": edit.why,
        "at_token": edit.at_token,
        "before": edit.before,
        "after": edit.after,
        "reward": [changed.old.reward, _mean([c.reward for c in news])],
        "task": [
            task_value(changed.old, changed.old_row.reward_formula),
            _mean([task_value(c, formula) for c in news]),
        ],
        "verdicts": [_verdicts(changed.old), _verdicts(news[0]) if news else {}],
        "completions": [changed.old.text, *(c.text for c in news)],
    }


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _verdicts(completion: ScoredCompletion) -> dict[str, str]:
    return {grade.name: grade.verdict for grade in completion.grades if grade.verdict is not None}
