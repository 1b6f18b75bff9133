"""Where this machine keeps what it can make or fetch again."""

from __future__ import annotations

import os
from pathlib import Path


def cache_root() -> Path:
    """`$COSMO_CACHE`, else `$XDG_CACHE_HOME/cosmo`, else `~/.cache/cosmo`; it need not exist yet."""
    if given := os.environ.get("COSMO_CACHE"):
        return Path(given).expanduser()
    # The specification of XDG has relative paths ignored.
    shared = Path(os.environ.get("XDG_CACHE_HOME") or "-")
    return (shared if shared.is_absolute() else Path.home() / ".cache") / "cosmo"
