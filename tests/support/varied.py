"""A reward that differs between completions of untrained models: runs too small to learn to answer still learn."""

from __future__ import annotations

from pathlib import Path

NAME = f"{Path(__file__).resolve()}:varied"


def varied(text: str, **row: object) -> float:
    """A share of 4, by the length of the completion: it has no meaning."""
    return len(text) % 5 / 4
