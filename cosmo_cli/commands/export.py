"""cosmo export."""

from __future__ import annotations

from cosmo_cli.stage_command import stage_command
from stages.export.config import ExportConfig

COMMAND = stage_command("export", ExportConfig, argument="A train run folder; else a path on stdin.")
