"""What a policy's training leaves beside its weights: where it stands, and the optimizer's moments."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.core.errors import InputError
from stages.core.resources import Kind
from stages.core.runs.folder import artifact

if TYPE_CHECKING:
    from torch import Tensor

    from stages.models.policy_ref import PolicyRef

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Position:
    """How far a lineage of runs with one objective has come."""

    objective: str
    """sft, rl, verifier or reward."""
    step: int = 0
    """Optimizer steps taken since the lineage began."""
    rollouts: int = 0
    """Rollout folders learned from since then."""
    carried: dict[str, float] = field(default_factory=dict)
    """What advantage estimators keep from one rollout to the next: lambda of a constrained run."""


@dataclass(frozen=True, slots=True)
class TrainerState:
    """A position and the optimizer tensors that belong to it, by parameter name."""

    position: Position
    tensors: dict[str, Tensor]


TRAINER_STATE: Kind[TrainerState] = Kind("trainer_state", on_device=True)
"""What the policy that was trained last goes on from, by its id."""


def write_state(state: TrainerState, folder: Path) -> tuple[Path, Path]:
    """`optimizer.safetensors` and `state.json` in a folder; where they are."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    tensors, facts = folder / "optimizer.safetensors", folder / "state.json"
    save_file(state.tensors, tensors)
    record = {"format": FORMAT, **asdict(state.position)}
    facts.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return tensors, facts


def read_state(folder: Path) -> TrainerState | None:
    """The state in a folder, or None where there is none; InputError for one that can't be read."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not (folder / "state.json").is_file():
        return None
    try:
        record = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        if record.pop("format") != FORMAT:
            raise InputError(f"{folder} was written by another version of cosmo", "use --set optimizer=fresh")
        return TrainerState(Position(**record), load_file(folder / "optimizer.safetensors"))
    except (ValueError, TypeError, KeyError, OSError, SafetensorError) as error:
        raise InputError(f"trainer state {folder} can't be read: {error}", "use --set optimizer=fresh") from None


def state_folder(ref: PolicyRef) -> Path | None:
    """Where the trainer state of a policy would lie: beside the policy of a train run."""
    return artifact(ref.run, "trainer") if ref.run is not None else None


@dataclass(frozen=True, slots=True)
class Moment:
    """A checkpoint as it was found."""

    folder: Path
    record: dict[str, Any]


class Checkpoints:
    """Resumable moments of one run in its scratch folder. Written aside and renamed: whole or not there."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def save(self, step: int, tensors: dict[str, dict[str, Tensor]], record: dict[str, Any]) -> None:
        """Keep files `<name>.safetensors` and `record.json` as the moment after `step`; older moments go.

        A moment that is there already is the same one: a run that goes on may stop where it stood.
        """
        from safetensors.torch import save_file

        if self.folder is None:
            return
        final = self.folder / f"checkpoint-{step:08d}"
        if final.exists():
            return
        aside = self.folder / f".checkpoint-{step:08d}-{os.getpid()}"
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        for name, values in tensors.items():
            save_file({k: v.contiguous() for k, v in values.items()}, aside / f"{name}.safetensors")
        (aside / "record.json").write_text(json.dumps(record), encoding="utf-8")
        for path in (*aside.iterdir(), aside):
            _sync(path)
        os.rename(aside, final)
        _sync(self.folder)
        for old in self._found():
            if old != final:
                shutil.rmtree(old, ignore_errors=True)

    def last(self) -> Moment | None:
        """The newest moment, if there is one."""
        if not (found := self._found()):
            return None
        return Moment(found[-1], json.loads((found[-1] / "record.json").read_text(encoding="utf-8")))

    def tensors(self, moment: Moment, name: str) -> dict[str, Tensor]:
        """One of the moment's tensor files; {} where it has none of that name."""
        from safetensors.torch import load_file

        path = moment.folder / f"{name}.safetensors"
        return load_file(path) if path.is_file() else {}

    def _found(self) -> list[Path]:
        return sorted(self.folder.glob("checkpoint-*")) if self.folder is not None else []


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
