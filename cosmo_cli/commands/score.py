"""cosmo score."""

from __future__ import annotations

from cosmo_cli.stage_command import stage_command
from stages.score.config import ScoreConfig

COMMAND = stage_command("score", ScoreConfig, argument="Run folders with rollout groups; else paths on stdin.")
