"""TOML as strangers may have written it."""

from __future__ import annotations

import tomllib
from typing import Any


def parse_toml(data: bytes | str) -> dict[str, Any]:
    """Parsed TOML; ValueError that says what is wrong: wrong TOML, wrong UTF-8, or tables nested too deeply."""
    try:
        return tomllib.loads(data.decode("utf-8") if isinstance(data, bytes) else data)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
