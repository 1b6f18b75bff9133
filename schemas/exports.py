"""What `export` writes: one row an exported file."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportRow:
    """One file of an exported model folder."""

    target: str
    """The export target plugin."""
    file: str
    """Path inside the model folder."""
    sha256: str
    """Content digest."""
    bytes_count: int
    """Size in bytes."""
