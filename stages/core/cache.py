"""Where this machine keeps what it can make or fetch again."""

from __future__ import annotations

import os
from pathlib import Path


def cache_root() -> Path:
    """`$COSMO_CACHE`, or `~/.cache/cosmo`; it need not exist yet."""
    given = os.environ.get("COSMO_CACHE")
    return Path(given).expanduser() if given else Path.home() / ".cache" / "cosmo"
