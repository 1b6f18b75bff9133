"""cosmo train.

On several GPUs: `--nproc N`, or the same command under torchrun, accelerate launch or srun.
"""

from __future__ import annotations

from cosmo_cli.rank_output import on_ranks
from cosmo_cli.stage_command import stage_command
from stages.train.config import TrainConfig

COMMAND = stage_command(
    "train",
    TrainConfig,
    argument="Run folders: prompts for sft, scored groups for rl, verifier and reward; else paths on stdin.",
    instead=on_ranks,
)
