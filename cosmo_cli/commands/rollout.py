"""`cosmo rollout`: before it samples, a recipe's labels are looked at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cosmo_cli.stage_command import stage_command


def _say_labels(config: Any, inputs: list[Path], given: dict[str, Any]) -> bool:
    """With a recipe, the labels that it pays nothing for: now, and not when the rollout has been paid for."""
    from cosmo_cli.recipe.label_check import warn_where_known
    from cosmo_cli.terminal.output import Output

    warn_where_known(given, inputs, Output("rollout", given["json"], given["quiet"]))
    return False


COMMAND = stage_command("rollout", instead=_say_labels)
