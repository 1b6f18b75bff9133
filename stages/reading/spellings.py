"""Values that every file spells in its own way: parts of a dataset, and yes or no."""

from __future__ import annotations

from typing import Any

_FLAGS = {"true": True, "yes": True, "1": True, "1.0": True, "false": False, "no": False, "0": False, "0.0": False}


def split_in(value: Any) -> Any:
    """`train` or `test` of a dataset's own part: what is not trained on is tested on; what is no text as it is."""
    if not isinstance(value, str):
        return value
    return "train" if value.lower().startswith("train") else "test"


def flag_in(value: Any) -> Any:
    """True or False, which tables hold as text or as a number; anything else as it is."""
    return _FLAGS.get(str(value).strip().lower(), value) if isinstance(value, str | int | float) else value
