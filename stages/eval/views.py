"""Scored groups as metrics see them: words and grades, read row group by row group, without images.

Token ids are looked at only where something asks how many a completion has, and then of one row group at a time.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schemas.rollouts import without
from schemas.scored import Grade
from stages.core.errors import InputError, first_line

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

GROUP_COLUMNS = (
    "id", "label", "task", "source", "family", "harmful", "answer", "answer_kind", "risk", "category",
    "flags", "extra", "parent_id", "reward_formula",
)  # fmt: skip
COMPLETION_COLUMNS = ("index", "policy_id", "text", "finish_reason", "error", "reward", "grades", "observed")
_BATCH_ROWS = 512


class TokenCounts:
    """How many ids of each completion of a row group the policy generated, read when it is first asked for."""

    def __init__(self, shard: Path, row_group: int) -> None:
        self._shard, self._row_group = shard, row_group
        self._counts_N: list[int] | None = None

    def __getitem__(self, position: int) -> int:
        """Of the completion at that position among all of the row group's."""
        if self._counts_N is None:
            self._counts_N = _token_counts(self._shard, self._row_group)
        return self._counts_N[position]


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionView:
    """One completion without its ids and log-probs."""

    index: int
    policy_id: str
    text: str
    """Its own words, without what an environment wrote."""
    finish_reason: str
    error: str | None
    reward: float | None
    grades: dict[str, Grade]
    """By verifier name."""
    counts: TokenCounts
    """Of its row group."""
    position: int
    """Which of the row group's completions it is."""
    whole: str | None = None
    """The text with what an environment wrote, which step grades count in; None where that is `text`."""

    @property
    def tokens(self) -> int:
        """How many ids the policy generated, the end-of-sequence token included."""
        return self.counts[self.position]


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
    reward_formula: str | None = None
    completions: list[CompletionView] = field(default_factory=list)


def read_views(shard: Path, wanted: Collection[str] | None = None) -> Iterator[GroupView]:
    """The groups of one scored shard, or the wanted ones by id; only the leaves that metrics need leave the file."""
    import pyarrow as pa

    from schemas.arrow import RowError
    from schemas.tables import SCORED
    from stages.core.runs.shards import leaves, open_shard

    with open_shard(shard, SCORED) as file:
        read = leaves(file, _is_read)
        try:
            # Row group by row group: their writer has bounded what each of them weighs.
            for number in range(file.num_row_groups):
                if wanted is not None and not rows_of(file, number, wanted):
                    continue
                counts, position = TokenCounts(shard, number), 0
                for batch in file.iter_batches(batch_size=_BATCH_ROWS, row_groups=[number], columns=read):
                    for view in _views(batch, counts, position):
                        _check_finite(view, shard)
                        position += len(view.completions)
                        if wanted is None or view.id in wanted:
                            yield view
        except RowError as error:
            raise InputError(f"shard {shard}: {error}", "grade it anew: cosmo score FOLDER --regrade") from None
        except (pa.ArrowInvalid, OSError) as error:
            line = first_line(error)
            raise InputError(f"shard {shard} is corrupt: {line}", "rerun the score command") from None


def rows_of(file: pq.ParquetFile, row_group: int, wanted: Collection[str]) -> list[int]:
    """Which rows of a row group hold the wanted prompts: ids first, so that of others nothing else is read."""
    ids = file.read_row_group(row_group, columns=["id"]).column("id").to_pylist()
    return [i for i, prompt in enumerate(ids) if prompt in wanted]


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


def _is_read(path: list[str]) -> bool:
    if path[0] == "completions":
        return len(path) > 1 and path[1] in COMPLETION_COLUMNS
    return path[0] in GROUP_COLUMNS


def _token_counts(shard: Path, row_group: int) -> list[int]:
    """How many token ids of each completion of a row group the policy generated."""
    from schemas.columns import generated_counts
    from stages.core.runs.shards import leaves, open_shard

    with open_shard(shard, None) as file:
        wanted = (["completions", "token_ids"], ["completions", "generated"])
        groups = file.read_row_group(row_group, columns=leaves(file, lambda fields: fields[:2] in wanted))
        return [n for chunk in groups.column("completions").chunks for n in generated_counts(chunk.flatten()).tolist()]


def _views(batch: pa.RecordBatch, counts: TokenCounts, first: int) -> Iterator[GroupView]:
    import pyarrow.compute as pc

    columns = {name: batch.column(name).to_pylist() for name in GROUP_COLUMNS}
    # An absent list is null in Parquet.
    columns["flags"] = [flags or [] for flags in columns["flags"]]
    groups = batch.column("completions")
    sizes = [size or 0 for size in pc.list_value_length(groups).to_pylist()]
    # `flatten` drops empty and null lists, so sizes tell which completions are whose.
    flat = iter(_completions(groups.flatten(), counts, first))
    for row, size in enumerate(sizes):
        values: dict[str, Any] = {name: column[row] for name, column in columns.items()}
        yield GroupView(**values, completions=[next(flat) for _ in range(size)])


def _completions(flat: pa.StructArray, counts: TokenCounts, first: int) -> Iterator[CompletionView]:
    from schemas.arrow import from_record

    plain = ("index", "policy_id", "text", "finish_reason", "error", "reward")
    # Older shards know of no environment.
    spans = flat.field("observed").to_pylist() if flat.type.get_field_index("observed") >= 0 else [None] * len(flat)
    columns = {name: flat.field(name).to_pylist() for name in plain}
    grades = flat.field("grades").to_pylist()
    for i in range(len(flat)):
        values: dict[str, Any] = {name: column[i] for name, column in columns.items()}
        values["whole"] = values["text"] or "" if spans[i] else None
        values["text"] = without(values["text"] or "", [(s["start"], s["stop"]) for s in spans[i] or []])
        by_name = {g["name"]: from_record(Grade, g, "completions.grades.") for g in grades[i] or []}
        yield CompletionView(**values, grades=by_name, counts=counts, position=first + i)
