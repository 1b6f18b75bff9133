"""What a value model's numbers are, as its config says. Loads no torch, so planning stays cheap."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from stages.core.atomic import read_json

RECORD = "value_model"
"""The record's name in the config."""


@dataclass(frozen=True, slots=True)
class ValueRecord:
    """What a value model's numbers are."""

    dimensions: list[str]
    """The verifier whose grade each number predicts, in the order of the head's rows."""
    step: str
    """How completions were split where it learned: a name of `stages.engines.steps.STEP_ENDS`."""
    verifiers: dict[str, int] = field(default_factory=dict)
    """The version of each verifier that graded what it learned from."""
    routes: dict[str, dict[str, float]] = field(default_factory=dict)
    """By label, the weight of each dimension in the reward of the groups that it learned from."""
    router: bool = False
    """Whether it has a second head, which says from the prompt how much each dimension counts."""


def record_of(config: Any) -> ValueRecord | None:
    """The record in a model's config; None where it is no value model's."""
    found = getattr(config, RECORD, None)
    return ValueRecord(**found) if found else None


def read_record(folder: Path) -> ValueRecord | None:
    """The record in a model folder's config.json; None where it is no value model's."""
    found = read_json(folder / "config.json").get(RECORD)
    return ValueRecord(**found) if found else None


def set_record(model: Any, record: ValueRecord) -> None:
    """Write down in the model's config what its numbers are; it is saved with the model."""
    found = asdict(record)
    if not record.router:
        del found["router"]
    setattr(model.config, RECORD, found)
