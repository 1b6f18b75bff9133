"""Each tracker by its own client: how a run is begun or continued there, and how numbers and completions are sent."""

from __future__ import annotations

import html
import re
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.train.tracking.config import TrackConfig

_NO_METRIC = re.compile(r"[^\w./ -]")
COLUMNS = ("step", "label", "prompt", "completion", "reward", "advantage", "terms", "images")
"""Of the table of completions; `images` last."""
Sample = tuple[int, str, str, str, float | None, float, str, list[Any]]
"""A completion in that order; images as PIL has them."""


@dataclass(frozen=True, slots=True)
class Beginning:
    """What a tracker is told when a process begins or continues a tracked run."""

    name: str
    """The run's name."""
    id: str
    """What the tracker itself called it before; for a new one, 16 hex digits that it may take."""
    new: bool
    """Whether the tracker is told of it for the first time."""
    first: int
    """The step that comes next, from 1."""
    folder: Path
    """Where it may write."""
    config: TrackConfig


class Tracker(ABC):
    """One service, which has one run open. Its package is imported when it is made; whatever fails is raised."""

    id: str = ""
    """What it calls the run, where it goes by an id."""
    where: str = ""
    """How a person finds the run; empty where nobody knows."""

    @abstractmethod
    def __init__(self, begin: Beginning) -> None:
        """Begin the run, or go on with it."""

    @abstractmethod
    def log(self, numbers: dict[str, float], step: int) -> None:
        """Send a step's numbers."""

    @abstractmethod
    def show(self, samples: list[Sample], step: int) -> None:
        """Send completions, with the step that is about to learn from them."""

    @abstractmethod
    def finish(self) -> None:
        """Send what is under way."""


class TensorBoard(Tracker):
    """Event files, readable while they grow."""

    def __init__(self, begin: Beginning) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.where = f"tensorboard --logdir {begin.folder}"
        # What an earlier process wrote from this step on was cut short, and comes again.
        self.writer = SummaryWriter(str(begin.folder / begin.name), purge_step=begin.first)

    def log(self, numbers: dict[str, float], step: int) -> None:
        """As scalars, on disk at once."""
        for name, value in numbers.items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()

    def show(self, samples: list[Sample], step: int) -> None:
        """As texts, which TensorBoard takes for Markdown, and images."""
        import numpy as np

        for number, (*texts, images) in enumerate(samples):
            rows = (f"**{n}**\n\n<pre>{html.escape(str(t))}</pre>" for n, t in zip(COLUMNS, texts))
            self.writer.add_text(f"completions/{number}", "\n\n".join(rows), step)
            for at, image in enumerate(images):
                pixels = np.asarray(image.convert("RGB"))
                self.writer.add_image(f"completions/{number}/image_{at}", pixels, step, dataformats="HWC")
        self.writer.flush()

    def finish(self) -> None:
        """Close the event file."""
        self.writer.close()


class WandB(Tracker):
    """Weights & Biases; `WANDB_MODE=offline` and its other settings as everywhere."""

    def __init__(self, begin: Beginning) -> None:
        import wandb

        self.run = wandb.init(
            project=begin.config.project,
            name=begin.name,
            id=begin.id,
            resume="allow",
            dir=str(begin.folder),
            settings=wandb.Settings(silent=True),
        )
        self.id = self.run.id
        self.where = "" if self.run.offline else str(self.run.url)

    def log(self, numbers: dict[str, float], step: int) -> None:
        """A step that it has already is dropped there, and was the same."""
        self.run.log(numbers, step=step)

    def show(self, samples: list[Sample], step: int) -> None:
        """As a table with images."""
        import wandb

        data = [[*texts, [wandb.Image(image) for image in images]] for *texts, images in samples]
        self.run.log({"completions": wandb.Table(columns=list(COLUMNS), data=data)}, step=step)

    def finish(self) -> None:
        """Wait until all is sent."""
        self.run.finish()


class Trackio(Tracker):
    """Trackio: a local database, or a Space on the hub; its settings as everywhere."""

    def __init__(self, begin: Beginning) -> None:
        import trackio

        self.run = trackio.init(project=begin.config.project, name=begin.name, resume="allow", embed=False)

    def log(self, numbers: dict[str, float], step: int) -> None:
        """As metrics of that step."""
        self.run.log(numbers, step=step)

    def show(self, samples: list[Sample], step: int) -> None:
        """As a table with images."""
        import pandas as pd
        import trackio

        data = [[*texts, [trackio.Image(image) for image in images]] for *texts, images in samples]
        self.run.log({"completions": trackio.Table(dataframe=pd.DataFrame(data, columns=list(COLUMNS)))}, step=step)

    def finish(self) -> None:
        """Wait until all is sent."""
        self.run.finish()


class MLflow(Tracker):
    """MLflow; `MLFLOW_TRACKING_URI` says where."""

    def __init__(self, begin: Beginning) -> None:
        from mlflow import MlflowClient

        self.client = MlflowClient()
        if begin.new:
            found = self.client.get_experiment_by_name(begin.config.project)
            experiment = found.experiment_id if found else self.client.create_experiment(begin.config.project)
            self.id = self.client.create_run(experiment, run_name=begin.name).info.run_id
        else:
            self.id = begin.id
            self.client.update_run(self.id, status="RUNNING")

    def log(self, numbers: dict[str, float], step: int) -> None:
        """As metrics; it takes no other characters in their names."""
        from mlflow.entities import Metric

        at = time.time_ns() // 1_000_000
        self.client.log_batch(
            self.id, metrics=[Metric(_NO_METRIC.sub("_", n), v, at, step) for n, v in numbers.items()]
        )

    def show(self, samples: list[Sample], step: int) -> None:
        """As a table of texts, and images by step."""
        columns = zip(*(texts for *texts, _ in samples))
        self.client.log_table(self.id, {n: list(v) for n, v in zip(COLUMNS, columns)}, "completions.json")
        for number, (*_, images) in enumerate(samples):
            for at, image in enumerate(images):
                self.client.log_image(self.id, image, key=f"completion_{number}_image_{at}", step=step)

    def finish(self) -> None:
        """Say that it is over, for now."""
        self.client.set_terminated(self.id)


CLASSES: dict[str, type[Tracker]] = {
    "tensorboard": TensorBoard,
    "wandb": WandB,
    "trackio": Trackio,
    "mlflow": MLflow,
}
"""By the names of transformers' `report_to`."""
