"""`report_to` and [train.track]: which trackers follow a training run, and what it is called there."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec

from stages.core.config import option
from stages.core.errors import UsageError, did_you_mean

TRACKERS = ("tensorboard", "wandb", "trackio", "mlflow")
"""Names as transformers' `report_to` has them; each is a package, too."""


@dataclass(frozen=True)
class TrackConfig:
    """What trackers are told besides a step's numbers. None of it can change a row."""

    project: str = option("cosmo", "Project (wandb, trackio) or experiment (mlflow) that the run belongs to")
    run_name: str = option(
        "", "Name of the run there; not given: a recipe's name, else --name, else the run folder's name"
    )
    logging_dir: str = option(
        "", "Where TensorBoard's and wandb's files go; not given: `trackers` beside the run folders"
    )
    log_completions: int = option(
        0, "RL: so many completions of each rollout are sent, too, with prompt, images and reward", low=0
    )


def check_trackers(report_to: list[str]) -> None:
    """UsageError for a tracker that nobody knows, or whose package is not here."""
    for name in report_to:
        if name not in TRACKERS:
            hint = did_you_mean(name, TRACKERS) or f"trackers: {', '.join(TRACKERS)}"
            raise UsageError(f"report_to: no tracker is called {name!r}", hint)
        if find_spec(name) is None:
            raise UsageError(f"report_to: {name} is not installed", f"pip install {name}")
