"""A bad sample is a row: what was left out, and why."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectedRow:
    """One sample that a stage did not pass on."""

    stage: str
    """The stage that left it out."""
    source: str
    """Dataset, file or upstream folder it came from."""
    ref: str
    """Where in the source: `line 17`, `row 3 of shards/00002.parquet`, or a prompt id."""
    reason: str
    """One of a small set of slugs: duplicate, near_duplicate, contaminated, bad_image, too_large, ..."""
    detail: str
    """One line for a person, naming the value."""
