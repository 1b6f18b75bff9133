"""A tiny policy's completions to edit, and the stages on them in this process."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from schemas.identity import prompt_id
from schemas.prompts import PromptRow
from schemas.rollouts import Completion
from schemas.scored import Grade, GradeStatus, ScoredCompletion, ScoredGroup, Term
from schemas.tables import PROMPTS, ROLLOUTS, SCORED
from stages.core.config import build
from stages.core.runner import Options, run_stage
from stages.core.runs.folder import RunFolder
from stages.core.runs.shards import ShardFile
from stages.core.stage import Resources
from stages.edit import stage as edit_stage
from stages.edit.config import EditConfig
from stages.models.warm import POLICY
from stages.rollout.config import RolloutConfig
from stages.rollout.stage import STAGE as ROLLOUT
from tests.models.made import policy, prompt

TINY = "tiny:llama"
NEW = 12


def prompts(folder: Path, count: int = 4, **more: Any) -> Path:
    """Prompts of words alone."""
    rows = []
    for number in range(count):
        messages, _ = prompt(number)
        ident = prompt_id(label="general", messages=messages, images=[], answer=None)
        rows.append(PromptRow(id=ident, label="general", source="made", task="made", messages=messages, **more))
    return write(folder / "00000.parquet", PROMPTS, rows)


def write(path: Path, table: Any, rows: list[Any]) -> Path:
    """The rows as bare Parquet; its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = ShardFile(path, table)
    for row in rows:
        file.add(row)
    file.close()
    return path.parent


def rollout(inputs: Path, runs: Path, **values: Any) -> RunFolder:
    """A rollout of the tiny policy, which is loaded once."""
    defaults = {"policy": TINY, "samples": 3, "max_new_tokens": NEW, "device": "cpu", "seed": 5}
    warm = Resources()
    warm.put(POLICY, policy(TINY).ref.id, policy(TINY))
    config = build(RolloutConfig, {**defaults, **values}, "rollout")
    return RunFolder.open(run_stage(ROLLOUT, config, [inputs], options=Options(runs=runs), resources=warm).path)


def edit(inputs: list[Path], runs: Path, changes: list[dict[str, Any]], **values: Any) -> RunFolder:
    """`cosmo edit` with these changes."""
    config = build(EditConfig, {"changes": changes, "by": "ann", **values}, "edit")
    return RunFolder.open(run_stage(edit_stage.STAGE, config, inputs, options=Options(runs=runs)).path)


def groups(folder: RunFolder) -> dict[str, Any]:
    """A rollout's groups by id."""
    return {group.id: group for group in folder.rows(ROLLOUTS)}


def prefix_text(completion: Completion, tokens: int) -> str:
    """What its first tokens say."""
    return policy(TINY).processor.decode(list(completion.token_ids)[:tokens])


def scored(folder: RunFolder, path: Path, reward: Callable[[str], float]) -> Path:
    """The groups with a reward by text, as bare Parquet."""

    def of(completion: Completion) -> ScoredCompletion:
        value = reward(completion.text)
        grade = Grade(name="answer", version=1, value=value, status=GradeStatus.OK, verdict="made")
        fields = {f.name: getattr(completion, f.name) for f in dataclasses.fields(Completion)}
        return ScoredCompletion(**fields, grades=[grade], terms=[Term("answer", 1.0, value)], reward=value)

    rows = []
    for group in folder.rows(ROLLOUTS):
        fields = {f.name: getattr(group, f.name) for f in dataclasses.fields(group)}
        fields["completions"] = [of(c) for c in group.completions]
        rows.append(ScoredGroup(**fields, reward_formula="sum: answer*1"))
    return write(path / "00000.parquet", SCORED, rows)
