"""Scored groups as metrics see them: words and grades, read shard by shard without images or token ids."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schemas.scored import Grade
from stages.core.errors import InputError, first_line

if TYPE_CHECKING:
    import pyarrow as pa

GROUP_COLUMNS = (
    "id", "label", "task", "source", "family", "harmful", "answer", "answer_kind", "risk", "category",
    "flags", "extra", "parent_id",
)  # fmt: skip
COMPLETION_COLUMNS = ("index", "policy_id", "text", "token_ids", "generated", "finish_reason", "reward", "grades")
_BATCH_ROWS = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionView:
    """One completion without its ids and log-probs."""

    index: int
    policy_id: str
    text: str
    tokens: int
    """How many ids the policy generated, the end-of-sequence token included."""
    finish_reason: str
    reward: float | None
    grades: dict[str, Grade]
    """By verifier name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupView:
    """One scored group without its images; fields as in `schemas.prompts.PromptRow`."""

    id: str
    label: str
    task: str = ""
    source: str = ""
    family: str | None = None
    harmful: bool | None = None
    answer: str | None = None
    answer_kind: str | None = None
    risk: str | None = None
    category: str | None = None
    flags: list[str] = field(default_factory=list)
    extra: str | None = None
    parent_id: str | None = None
    completions: list[CompletionView] = field(default_factory=list)


def read_views(shard: Path) -> Iterator[GroupView]:
    """The groups of one scored shard; only the leaves that metrics need leave the file."""
    import pyarrow as pa

    from schemas.arrow import RowError
    from schemas.tables import SCORED
    from stages.core.runs.shards import open_shard

    with open_shard(shard, SCORED) as file:
        leaves = [file.schema.column(i).path for i in range(len(file.schema))]
        read = [leaf for leaf in leaves if _is_read(leaf)]
        try:
            for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=read):
                for view in _views(batch):
                    _check_finite(view, shard)
                    yield view
        except RowError as error:
            raise InputError(f"shard {shard}: {error}", "grade it anew: cosmo score FOLDER --regrade") from None
        except (pa.ArrowInvalid, OSError) as error:
            line = first_line(error)
            raise InputError(f"shard {shard} is corrupt: {line}", "rerun the score command") from None


def _check_finite(group: GroupView, shard: Path) -> None:
    """InputError for a grade or a reward that is NaN or infinite: `cosmo score` writes none, and a mean dies of one."""
    for completion in group.completions:
        values = {f"the grade {name}": grade.value for name, grade in completion.grades.items()}
        values["the reward"] = completion.reward
        for what, value in values.items():
            if value is not None and not math.isfinite(value):
                raise InputError(
                    f"{shard}: prompt {group.id}, completion {completion.index}: {what} is {value}",
                    "grade it anew: cosmo score FOLDER --regrade",
                )


def _is_read(leaf: str) -> bool:
    # Parquet writers call a list's level `list.element` or `list.item`; the field names are what counts.
    path = [p for p in leaf.split(".") if p not in ("list", "element", "item", "array")]
    if path[0] == "completions":
        return len(path) > 1 and path[1] in COMPLETION_COLUMNS
    return path[0] in GROUP_COLUMNS


def _views(batch: pa.RecordBatch) -> Iterator[GroupView]:
    import pyarrow.compute as pc

    columns = {name: batch.column(name).to_pylist() for name in GROUP_COLUMNS}
    # An absent list is null in Parquet.
    columns["flags"] = [flags or [] for flags in columns["flags"]]
    groups = batch.column("completions")
    sizes = [size or 0 for size in pc.list_value_length(groups).to_pylist()]
    # `flatten` drops empty and null lists, so sizes tell which completions are whose.
    flat = iter(_completions(groups.flatten()))
    for row, size in enumerate(sizes):
        values: dict[str, Any] = {name: column[row] for name, column in columns.items()}
        yield GroupView(**values, completions=[next(flat) for _ in range(size)])


def _completions(flat: pa.StructArray) -> Iterator[CompletionView]:
    from schemas.arrow import from_record
    from schemas.columns import generated_counts

    plain = ("index", "policy_id", "text", "finish_reason", "reward")
    columns = {name: flat.field(name).to_pylist() for name in plain}
    tokens = generated_counts(flat).tolist()
    grades = flat.field("grades").to_pylist()
    for i in range(len(flat)):
        values: dict[str, Any] = {name: column[i] for name, column in columns.items()}
        values["text"] = values["text"] or ""
        by_name = {g["name"]: from_record(Grade, g, "completions.grades.") for g in grades[i] or []}
        yield CompletionView(**values, tokens=tokens[i], grades=by_name)
