"""What a value model learns from: groups whose completions are graded, each cut into its steps.

Every end of a step is an example. Its target in a dimension is the mean grade of the group's completions that begin
with the same tokens, which is most often the completion's own (our own design: a tree of prefixes out of stored scored
groups, with no rollout made for it). A completion counts once, however many steps it has: each weighs 1 / steps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from schemas.scored import OK, ScoredCompletion, ScoredGroup, grade_of
from stages.core.errors import InputError
from stages.core.runs.folder import RunFolder
from stages.core.runs.select import Entry
from stages.core.seeded import seeded_digest
from stages.engines.steps import step_ends
from stages.models.attention.shared_inputs import TokenGroup
from stages.models.value_record import ValueRecord
from stages.train.config import TrainConfig
from stages.train.rl.batches import Reject
from stages.train.rl.vision_cache import ImageInputs
from stages.train.supervised.examples import completions_by_shard, trainable_entries

if TYPE_CHECKING:
    from stages.models.processor import PromptProcessor


@dataclass(frozen=True, slots=True)
class ValueGroup:
    """One prompt with its completions and what their steps are to be given. M ends of steps, D dimensions."""

    label: str
    tokens: TokenGroup
    ends: list[list[int]]
    """Tokens up to the end of each step, one list a completion."""
    targets_MD: Tensor
    """Expected grades, NaN where a grade does not apply."""
    completion_M: Tensor
    """Which completion of the group."""
    step_M: Tensor
    """Which step of it, from 0."""

    @property
    def weight_M(self) -> Tensor:
        """1 / steps of its completion."""
        steps_N = torch.tensor([len(own) for own in self.ends], dtype=torch.float32)
        return 1.0 / steps_N[self.completion_M]


def value_entries(inputs: list[RunFolder], config: TrainConfig, reject: Reject) -> tuple[list[Entry], ValueRecord]:
    """The trainable groups in which some completion has one of these grades, and what the model's numbers are.

    By label the record has the weight of each dimension's term in the reward that the groups were given. InputError
    where there is no such group, or grades of two versions of one verifier.
    """
    options = config.objective_settings()
    dimensions: list[str] = options.dimensions
    completions = completions_by_shard(inputs, ["grades", "terms"])
    kept, versions, there = list[Entry](), dict[str, int](), set[str]()
    routes: dict[str, dict[str, float]] = {}
    for entry in trainable_entries(inputs, config, reject):
        group = completions[entry.folder, entry.shard][entry.row]
        grades = [g for c in group for g in c["grades"] or []]
        found = [g for g in grades if g["name"] in dimensions and g["status"] == OK]
        there |= {g["name"] for g in grades if g["status"] == OK}
        if not found:
            reject(inputs[entry.folder].path.name, entry.id, "no_grade", f"no grade by {', '.join(dimensions)}")
            continue
        for grade in found:
            if versions.setdefault(grade["name"], grade["version"]) != grade["version"]:
                raise InputError(
                    f"grades of {grade['name']!r} by its versions {versions[grade['name']]} and {grade['version']}",
                    "cosmo score all of these groups again, with one version",
                )
        kept.append(entry)
        terms = {t["name"]: t["weight"] for c in group for t in c["terms"] or [] if t["name"] in dimensions}
        routes.setdefault(entry.label, {}).update(terms)
    if missing := [name for name in dimensions if name not in versions]:
        raise InputError(
            f"no trainable completion has a grade by {', '.join(map(repr, missing))}",
            f"grades there: {', '.join(sorted(there)) or 'none'}; --set 'objectives.value.dimensions=[\"NAME\"]'",
        )
    return kept, ValueRecord(dimensions, options.step, versions, routes)


def is_held_out(entry: Entry, config: TrainConfig) -> bool:
    """Whether the prompt is measured and not learned from: by a digest of its id, in whatever folder it comes."""
    drawn = int.from_bytes(seeded_digest(config.seed, "value", entry.id)[:7], "big") / 2**56
    return bool(drawn < config.objective_settings().held_out)


def as_group(row: ScoredGroup, processor: PromptProcessor, images: ImageInputs, record: ValueRecord) -> ValueGroup:
    """The row as an example. BadSample for a prompt that this processor renders otherwise than the sampler did."""
    completions = [c for c in row.completions if c.error is None and len(c.token_ids)]
    ids = [list(c.token_ids) for c in completions]
    tokens = TokenGroup(list(row.prompt_token_ids), images.of(row), ids)
    ends = [step_ends(own, processor.decode, record.step) for own in ids]
    grades_ND = torch.tensor([_grades(c, row.id, record.dimensions) for c in completions])
    return ValueGroup(
        row.label,
        tokens,
        ends,
        prefix_targets(ids, ends, grades_ND.reshape(len(ids), len(record.dimensions))),
        torch.tensor([n for n, own in enumerate(ends) for _ in own], dtype=torch.long),
        torch.tensor([step for own in ends for step in range(len(own))], dtype=torch.long),
    )


def _grades(completion: ScoredCompletion, prompt: str, dimensions: list[str]) -> list[float]:
    """A grade a dimension, NaN where it does not apply or failed. InputError for one that is no share of 1."""
    found = [grade_of(completion, name) for name in dimensions]
    values = [math.nan if g is None or g.value is None else g.value for g in found]
    for name, value in zip(dimensions, values, strict=True):
        if not math.isnan(value) and not 0.0 <= value <= 1.0:
            raise InputError(
                f"prompt {prompt}, completion {completion.index}: {name} gave {value}, and a value lies in 0 to 1",
                "leave that verifier out of objectives.value.dimensions",
            )
    return values


def prefix_targets(ids: list[list[int]], ends: list[list[int]], grades_ND: Tensor) -> Tensor:
    """(M, D): at the end of each step the mean grade of the completions that begin with the same tokens."""
    members: dict[tuple[int, ...], list[int]] = {}
    prefixes = [tuple(own[:end]) for own, at in zip(ids, ends, strict=True) for end in at]
    for prefix in set(prefixes):
        members[prefix] = [n for n, own in enumerate(ids) if tuple(own[: len(prefix)]) == prefix]
    rows = [grades_ND[members[prefix]].nanmean(0) for prefix in prefixes]
    return torch.stack(rows) if rows else grades_ND.new_zeros(0, grades_ND.shape[1])
