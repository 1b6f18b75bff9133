"""What a comparison's table and plots show: `table.toml` beside its variants."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
SEEDS, PROMPTS = "seeds", "prompts"


@dataclass(frozen=True, slots=True)
class Tradeoff:
    """The plot of two metrics against each other."""

    x: str
    y: str
    x_name: str
    y_name: str
    y_turned: bool = False
    """Whether 1 - y is drawn, so that better is up."""


@dataclass(frozen=True, slots=True)
class Columns:
    """The table's columns, and what its intervals are over."""

    columns: dict[str, str]
    """Metric -> head."""
    intervals: str
    """`seeds`: Student's t over seeds. `prompts`: over prompts, each the mean of its seeds."""
    before: dict[str, str]
    """Policies that stand above the variants' ends: name -> title, in which {variant} is a name."""
    tradeoff: Tradeoff
    also: dict[str, list[str]] = field(default_factory=dict)
    """Further names in [evaluate.after] of one policy, measured on other prompts."""
    numbers: list[str] = field(default_factory=list)
    """Metrics that are no shares."""


def columns(folder: Path = HERE) -> Columns:
    """The `table.toml` of a folder of variants; TypeError names a key that it has and nobody reads."""
    values = tomllib.loads((folder / "table.toml").read_text(encoding="utf-8"))
    return Columns(**values | {"tradeoff": Tradeoff(**values["tradeoff"])})
