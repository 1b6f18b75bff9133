"""Completions to imitate that earned enough: each is an example of its own, whole, whoever began it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import islice
from pathlib import Path
from typing import Any

from schemas.prompts import PromptRow
from schemas.rollouts import FinishReason, whole_by_speakers
from schemas.scored import ScoredGroup
from schemas.tables import SCORED
from stages.core.errors import InputError
from stages.core.runner import accepts
from stages.core.runs.folder import RunFolder
from stages.core.runs.select import Entry
from stages.core.runs.shards import read_columns
from stages.train.config import TrainConfig
from stages.train.rl.batches import Reject
from stages.train.supervised.examples import completions_by_shard, permutations, rows_to_take, trainable_entries
from stages.train.supervised.imitation import Spans, in_tags


@dataclass(frozen=True, slots=True)
class Rewarded(Entry):
    """Where one completion to imitate lies."""

    completion: int
    """Its place in the group."""

    @property
    def ref(self) -> str:
        """A name for it, as rejected samples have it."""
        return f"{self.id}#{self.completion}"


def rewarded_entries(inputs: list[RunFolder], config: TrainConfig, least: float, reject: Reject) -> list[Rewarded]:
    """The completions with at least this reward, in order; the others are rejected with their reason.

    An environment's words in them are read and not learned (`given_in`).

    Those that a person edited count whole: the kept beginning, the new words and what came after them. InputError for
    inputs without rewards, and where no completion is left.
    """
    unscored = next((folder for folder in inputs if accepts((SCORED,), folder) is None), None)
    if unscored is not None:
        raise InputError(
            f"{unscored.where} holds {unscored.table}, and min_reward asks for scored groups", "cosmo score it first"
        )
    columns = _columns(inputs)
    kept: list[Rewarded] = []
    for entry in trainable_entries(inputs, config, reject):
        source = inputs[entry.folder].path.name
        edit, completions = columns[entry.folder, entry.shard][entry.row]
        values: dict[str, Any] = {f.name: getattr(entry, f.name) for f in fields(Entry)}
        for place, completion in enumerate(completions):
            found = Rewarded(**values, completion=place)
            if (why := _refused(completion, edit, least)) is not None:
                reject(source, found.ref, *why)
            else:
                kept.append(found)
    if not kept:
        raise InputError(f"no completion earned {least:g} and can be imitated", "lower --set objectives.sft.min_reward")
    return kept


def _refused(completion: dict[str, Any], edit: dict[str, Any] | None, least: float) -> tuple[str, str] | None:
    """(reason, detail) for a completion that is not imitated, else None."""
    if completion["error"] is not None or not completion["text"].strip():
        return "no_completion", completion["error"] or "it is empty"
    if completion["finish_reason"] == FinishReason.LENGTH:
        return "truncated", "it has no end, and one that is imitated would teach to stop there"
    begun, written = (edit["generated"], edit["written"]) if edit is not None else ([], [])
    # Where an environment has spoken the completion says so, but for what an edit has kept of it.
    known = edit is None and completion["observed"]
    if not known and not whole_by_speakers(completion["generated"], begun, written):
        return "not_generated", "it holds tokens that neither the policy nor a person wrote, and nothing says which"
    reward = completion["reward"]
    if reward is None or reward < least:
        return "low_reward", "no reward" if reward is None else f"reward {reward:g}"
    return None


def _columns(
    inputs: list[RunFolder],
) -> dict[tuple[int, int], list[tuple[dict[str, Any] | None, list[dict[str, Any]]]]]:
    """(edit, completions) of every row by (folder, shard): what decides, and neither ids nor images."""
    names = ["text", "reward", "finish_reason", "error", "generated", "observed"]
    found = {}
    for at, rows in completions_by_shard(inputs, names).items():
        path = inputs[at[0]].shard_paths()[at[1]]
        found[at] = list(zip(_edits(path, len(rows)), rows, strict=True))
    return found


def _edits(path: Path, count: int) -> list[dict[str, Any] | None]:
    # Shards of before have no such column.
    table = read_columns(path, ["edit.generated", "edit.written"])
    return table.column("edit").to_pylist() if table.num_columns else [None] * count


def rewarded_order(entries: list[Rewarded], config: TrainConfig) -> list[Rewarded]:
    """Every example of the run in order: one permutation an epoch, as `supervised.examples.example_order`."""
    return list(islice(permutations(entries, config.seed, lambda e: e.ref), rows_to_take(config, len(entries))))


def as_example(entry: Rewarded, row: ScoredGroup) -> PromptRow:
    """The prompt with this completion as the one to imitate, and no other."""
    chosen = row.completions[entry.completion]
    return replace(row, reference_response=chosen.text, completions=[chosen])


def given_in(row: ScoredGroup, tags: Sequence[str]) -> Spans:
    """What an environment wrote in the example's completion; where none is known, what stands in one of the tags."""
    observed = [(span.start, span.stop) for completion in row.completions for span in completion.observed]
    return observed or in_tags(row, tags)
