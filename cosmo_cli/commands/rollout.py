"""cosmo rollout."""

from __future__ import annotations

from cosmo_cli.stage_command import stage_command
from stages.rollout.config import RolloutConfig

COMMAND = stage_command(
    "rollout", RolloutConfig, argument="Run folders or Parquet files with prompts; else paths on stdin."
)
