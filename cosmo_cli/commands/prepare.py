"""cosmo prepare.

A source is a dataset plugin, with a path where it needs one: builtin, gsm8k:FOLDER, jsonl:FILE.jsonl.
"""

from __future__ import annotations

from cosmo_cli.stage_command import stage_command
from stages.prepare.config import PrepareConfig

COMMAND = stage_command(
    "prepare",
    PrepareConfig,
    argument="Sources: NAME or NAME:PATH (cosmo list dataset).",
    positional="sources",
)
