"""What an export target is: a way to write a loaded policy as a folder that others read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stages.models.load import Policy


@dataclass(frozen=True, slots=True)
class Target:
    """One export target plugin."""

    version: int
    """Raised when the same policy would give other files."""
    write: Callable[[Policy, Path, str], None]
    """(policy, folder, largest weights file): writes the model's files. Card and checks are shared."""
