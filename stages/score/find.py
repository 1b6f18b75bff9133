"""One prompt's scored group out of run folders, by id or the beginning of it."""

from __future__ import annotations

import difflib

from schemas.scored import ScoredGroup
from schemas.tables import ROLLOUTS, SCORED
from stages.core.errors import InputError
from stages.core.runs.folder import RunFolder
from stages.core.stage import Context
from stages.score.answers.math_pool import set_limit
from stages.score.grading import Grader
from stages.score.models.batching import open_models, with_model_grades


def find(folders: list[RunFolder], wanted: str, grader: Grader, ctx: Context) -> list[ScoredGroup]:
    """The prompt's group in each folder that holds it; rollouts are graded now, and nothing is written.

    InputError for an id that is not there, and for a beginning that more than one id has.
    """
    places = [(f, s, i) for f in folders for s, ids in _ids(f) for i in ids]
    ident = _one([i for _, _, i in places], wanted, ", ".join(f.where for f in folders))
    return [_group(f, s, ident, grader, ctx) for f, s, i in places if i == ident]


def _ids(folder: RunFolder) -> list[tuple[int, list[str]]]:
    """The ids of each shard that is there."""
    from stages.core.runs.shards import read_columns

    missing = set(folder.missing())
    shards = [s for s in range(folder.total) if s not in missing]
    return [
        (shard, read_columns(path, ["id"]).column("id").to_pylist())
        for shard, path in zip(shards, folder.shard_paths(), strict=True)
    ]


def _one(known: list[str], wanted: str, where: str) -> str:
    found = sorted({i for i in known if i == wanted} or {i for i in known if wanted and i.startswith(wanted)})
    if len(found) == 1:
        return found[0]
    if found:
        shown = ", ".join(found[:5]) + (", ..." if len(found) > 5 else "")
        raise InputError(f"{len(found)} prompts in {where} begin with {wanted!r}", f"type more of it: {shown}")
    close = difflib.get_close_matches(wanted, sorted(set(known)), n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(map(repr, close))}?" if close else "cosmo show FOLDER lists some ids"
    raise InputError(f"no prompt {wanted!r} in {where}", hint)


def _group(folder: RunFolder, shard: int, ident: str, grader: Grader, ctx: Context) -> ScoredGroup:
    scored = folder.table == SCORED.name
    row = next(r for r in folder.shard_rows(SCORED if scored else ROLLOUTS, shard) if r.id == ident)
    if scored and not grader.regrade:
        assert isinstance(row, ScoredGroup)
        return row
    set_limit(ctx.config.timeout_s)
    ((group, by_models),) = with_model_grades(grader, open_models(grader, ctx), [row], 1)
    return grader.group(group, by_models)
