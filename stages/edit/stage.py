"""cosmo edit: completions that a person changed to rows that a rollout goes on from; pairs of both for preferences.

Planning reads the edited completions and finds each edit's place in them: one that is stale ends the command before
anything is written. The rows are made shard by shard, and need the policy's tokenizer alone.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from schemas.prompts import PromptRow
from schemas.tables import PROMPTS, ROLLOUTS, SCORED, Table
from stages.core.config import build
from stages.core.errors import BadSample, InputError
from stages.core.runs.lineage import earliest_first
from stages.core.stage import Context, Plan, ShardWriter, Stage, Work, chunks
from stages.edit.config import Change, EditConfig

if TYPE_CHECKING:
    from stages.core.runs.folder import RunFolder
    from stages.edit.rows import Groups
    from stages.models.policy_ref import PolicyRef

TEST = "test"


class EditStage(Stage):
    """Edited completions as rows: one an edit, with the ids that its completions begin with."""

    name = "edit"
    version = 1
    table = PROMPTS
    reads = (ROLLOUTS,)
    config = EditConfig

    def writes(self, config: EditConfig) -> Table:
        """Scored groups for pairs, else prompts."""
        return SCORED if config.write == "pairs" else PROMPTS

    def plan(self, ctx: Context) -> Plan:
        """Find every edit in its completion, or every pair of completions. InputError for a stale one."""
        from stages.edit import pairs
        from stages.edit.changes import changes_of
        from stages.edit.rows import Groups

        if ctx.config.write == "pairs":
            return pairs.plan(ctx)
        changes, _ = checked(Groups(ctx.inputs, ROLLOUTS, ctx.resources), changes_of(ctx.config))
        ref = _tokenizer(ctx)
        shards = [
            {"changes": [dataclasses.asdict(change) for change in part]}
            for part in chunks(changes, ctx.config.shard_rows)
        ]
        return Plan(shards, {"tokenizer": ref.id}, provenance={"edits": len(changes), "tokenizer": ref.spec})

    def open(self, ctx: Context) -> Work:
        """Make the rows of planned edits; one that the tokenizer has no ids for is rejected with its reason."""
        from stages.edit import pairs
        from stages.edit.rows import Groups
        from stages.models.processor import load_processor

        if ctx.config.write == "pairs":
            return pairs.work(ctx)
        words = load_processor(_tokenizer(ctx), trust_remote_code=ctx.config.trust_remote_code)
        groups = Groups(ctx.inputs, ROLLOUTS, ctx.resources)
        made: set[str] = set()

        def work(shard: dict[str, Any], writer: ShardWriter) -> None:
            changes = [build(Change, change, "edit") for change in shard["changes"]]
            found = groups.read([change.id for change in changes])
            for change in changes:
                try:
                    row = _row(found[change.id], change, words)
                    if row.id in made:
                        raise BadSample("duplicate", "the same edit once more")
                    made.add(row.id)
                    writer.row(row)
                except BadSample as bad:
                    writer.reject(change.by, f"{change.id}#{change.index}", bad.reason, bad.detail)

        return work


def checked(groups: Groups, changes: list[Change]) -> tuple[list[Change], dict[str, Any]]:
    """The edits with whole ids, each found in its completion, and their groups; InputError for the first stale one."""
    from stages.edit.changes import cut

    whole = []
    for change in changes:
        ident = groups.find(change.id)
        if ident is None:
            where = ", ".join(folder.where for folder in groups.folders)
            raise InputError(f"a stale edit: no row {change.id!r} in {where}", "cosmo show RUN lists ids")
        if groups.split(ident) == TEST:
            raise InputError(
                f"{ident} is a row of the test split, which edits never enter",
                "sample training rows: cosmo rollout --set select.split=train",
            )
        whole.append(dataclasses.replace(change, id=ident))
    found = groups.read([change.id for change in whole])
    for change in whole:
        cut(change, _completion(found[change.id], change).text)
    return whole, found


def _completion(group: Any, change: Change) -> Any:
    completion = next((c for c in group.completions if c.index == change.index), None)
    if completion is None or completion.error is not None or not completion.token_ids:
        raise InputError(
            f"a stale edit: {group.id} has no completion {change.index} with token ids",
            f"cosmo show RUN --id {group.id}",
        )
    return completion


def _row(group: Any, change: Change, words: Any) -> PromptRow:
    """The parent's row with the edit."""
    from stages.edit.changes import cut
    from stages.edit.ids import edit_id, edit_of

    completion = _completion(group, change)
    edit = edit_of(group, completion, change, cut(change, completion.text), words)
    fields = {f.name: getattr(group, f.name) for f in dataclasses.fields(PromptRow)}
    return PromptRow(**{**fields, "id": edit_id(group, edit), "parent_id": group.id, "edit": edit})


def _tokenizer(ctx: Context) -> PolicyRef:
    """The policy whose tokenizer made the completions: the one named, else the rollout's own."""
    from stages.models.policy_ref import resolve_policy

    if ctx.config.tokenizer:
        return resolve_policy(ctx.config.tokenizer)
    named = {spec for folder in ctx.inputs for spec in _policies(folder)}
    if len(named) != 1:
        raise InputError(
            f"{len(named)} policies made these completions" if named else "nobody says which policy made these",
            "name the one whose tokenizer it was: --tokenizer POLICY",
        )
    return resolve_policy(named.pop())


def _policies(folder: RunFolder) -> set[str]:
    """The policies of the rollouts that a run is made of, as they were named there."""
    nearest = [f for f in earliest_first([folder], lambda f: f.upstream()) if f.stage == "rollout"][-1:]
    return {str(spec) for f in nearest if (spec := f.manifest.provenance.get("policy")) not in (None, "none")}


STAGE = EditStage()
