"""What a training run saves and finds again: policy, trainer state, and the checkpoints of a run in hand."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.core.errors import InputError
from stages.core.registry import load
from stages.core.resources import Kind
from stages.core.runs.folder import artifact
from stages.core.storage.room import room_for
from stages.models.policy_ref import PolicyRef, folder_id
from stages.models.warm import HAND_OVER, POLICY, TRAINED
from stages.train.parallel import ranks

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from stages.core.stage import Context, ShardWriter
    from stages.models.load import Policy
    from stages.train.config import TrainConfig
    from stages.train.lora import Adapters
    from stages.train.parallel.layout import Layout, Tensors
    from stages.train.parallel.parts import StoredTensors

FORMAT = 1
_WHOLE = "optimizer.safetensors"


@dataclass(frozen=True, slots=True)
class Position:
    """How far a lineage of runs with one objective has come."""

    objective: str
    """The plugin's name: steps of another objective are no steps of this lineage."""
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
    tensors: Mapping[str, Tensor]
    """In memory, or where they can be read from (`parts.StoredTensors`)."""


TRAINER_STATE: Kind[TrainerState] = Kind("trainer_state", on_device=True)
"""What the policy that was trained last goes on from, by its id."""


def write_state(state: TrainerState, folder: Path) -> tuple[Path, Path]:
    """`optimizer.safetensors` and `state.json` in a folder; where they are."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    tensors = folder / _WHOLE
    save_file(dict(state.tensors), tensors)
    return tensors, write_position(state.position, folder)


def write_position(position: Position, folder: Path) -> Path:
    """`state.json` in a folder; where it is."""
    facts = folder / "state.json"
    record = {"format": FORMAT, **asdict(position)}
    facts.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return facts


def read_state(folder: Path, in_parts: bool = False) -> TrainerState | None:
    """The state in a folder, or None where there is none; InputError for one that can't be read.

    `in_parts`: its tensors are read later, each rank its own parts.
    """
    from safetensors import SafetensorError

    if not (folder / "state.json").is_file():
        return None
    try:
        record = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        if record.pop("format") != FORMAT:
            raise InputError(f"{folder} was written by another version of cosmo", "use --set optimizer=fresh")
        return TrainerState(Position(**record), _moments_in(folder, in_parts))
    # TypeError is a position with a field that this version does not know.
    except (ValueError, TypeError, KeyError, OSError, SafetensorError) as error:
        raise InputError(f"trainer state {folder} can't be read: {error}", "use --set optimizer=fresh") from None


def _moments_in(folder: Path, in_parts: bool) -> Mapping[str, Tensor]:
    from safetensors.torch import load_file

    # What one process has written is one file; of what lay on ranks there is a file of each one's parts.
    if (folder / _WHOLE).is_file() and not in_parts:
        return load_file(folder / _WHOLE)
    stored = _stored(folder)
    return stored if in_parts else stored.whole()


def _stored(folder: Path) -> StoredTensors:
    from stages.train.parallel.parts import StoredTensors

    return StoredTensors(folder)


def state_folder(ref: PolicyRef) -> Path | None:
    """Where the trainer state of a policy would lie: beside the policy of a train run."""
    return artifact(ref.run, "trainer") if ref.run is not None else None


@dataclass(frozen=True, slots=True)
class Moment:
    """A checkpoint as it was found."""

    folder: Path
    record: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Trained:
    """What there is when a run's last step is taken."""

    ctx: Context
    writer: ShardWriter
    config: TrainConfig
    policy: Policy
    optimizer: torch.optim.Optimizer
    layout: Layout
    adapters: Adapters | None
    """What was trained in place of whole weights, where LoRA was asked for."""
    position: Position


class Checkpoints:
    """Resumable moments of one run in its scratch folder. Written aside and renamed: whole or not there."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def save(
        self,
        step: int,
        tensors: dict[str, dict[str, Tensor]],
        record: dict[str, Any],
        parts: dict[str, dict[str, Tensor]] | None = None,
    ) -> None:
        """Keep files `<name>.safetensors` and `record.json` as the moment after `step`; older moments go.

        A moment that is there already is the same one: a run that goes on may stop where it stood. A meeting of all
        ranks: rank 0 writes, but for `parts`, of which each writes its own to the folders `<name>`.
        """
        if self.folder is None:
            return
        # Padded, so that names sort as numbers do (`last`); one that is being written has a dot in front and is not
        # found.
        final = self.folder / f"checkpoint-{step:08d}"
        aside = self.folder / f".checkpoint-{step:08d}-{os.getpid()}"
        if ranks.rank() == 0 and not final.exists():
            # Of this process, and of those before it, which were killed or found the disk full.
            for left in self.folder.glob(".checkpoint-*"):
                shutil.rmtree(left, ignore_errors=True)
            for folder in (aside, *(aside / name for name in parts or ())):
                folder.mkdir(parents=True)
        if (shared := ranks.broadcast(aside if aside.exists() else None)) is None:
            return
        with room_for(self.folder, *tensors.values(), *(parts or {}).values()):
            for name, values in (parts or {}).items():
                _write_parts(values, shared / name)
            if ranks.rank() == 0:
                self._finish(aside, final, tensors, record)
        # Nobody may end the run while it is written.
        ranks.barrier()

    def _finish(self, aside: Path, final: Path, tensors: dict[str, dict[str, Tensor]], record: dict[str, Any]) -> None:
        from safetensors.torch import save_file

        for name, values in tensors.items():
            # safetensors refuses views of other tensors that are not contiguous.
            save_file({k: v.contiguous() for k, v in values.items()}, aside / f"{name}.safetensors")
        (aside / "record.json").write_text(json.dumps(record), encoding="utf-8")
        # Content and folder before the rename, the rename itself after it: no power loss leaves half a moment under its
        # name.
        for path in (*aside.rglob("*"), aside):
            _sync(path)
        os.rename(aside, final)
        _sync(final.parent)
        for old in self._found():
            if old != final:
                shutil.rmtree(old, ignore_errors=True)

    def last(self) -> Moment | None:
        """The newest moment, if there is one."""
        if not (found := self._found()):
            return None
        return Moment(found[-1], json.loads((found[-1] / "record.json").read_text(encoding="utf-8")))

    def tensors(self, moment: Moment, name: str) -> dict[str, Tensor]:
        """Some of the moment's tensors, whole; {} where it has none of that name."""
        from safetensors.torch import load_file

        if (moment.folder / name).is_dir():
            return _stored(moment.folder / name).whole()
        path = moment.folder / f"{name}.safetensors"
        return load_file(path) if path.is_file() else {}

    def stored(self, moment: Moment, name: str) -> StoredTensors:
        """The same, read by ranks that keep parts: perhaps among others, whose names are no parameter's."""
        return _stored(moment.folder / name if (moment.folder / name).is_dir() else moment.folder)

    def _found(self) -> list[Path]:
        return sorted(self.folder.glob("checkpoint-*")) if self.folder is not None else []


def _write_parts(tensors: dict[str, Tensor], folder: Path) -> None:
    from stages.train.parallel.stream import write_parts

    write_parts(tensors, folder)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def save_run(trained: Trained) -> None:
    """Write policy and trainer state as artifacts of the shard, and leave both warm for the next stage.

    The state is written in another thread, which whoever commits the shard waits for: the next rollout needs the policy
    alone. NoRoomError where the disk is full: nothing of the shard is committed then.
    """
    import torch

    from stages.models.load import save_policy
    from stages.train.optim import optimizer_state

    policy, writer, position, adapters = trained.policy, trained.writer, trained.position, trained.adapters
    tensors = optimizer_state(policy.model, trained.optimizer)
    if adapters:
        # Taken out before they go into the weights: the next run takes them away from there again.
        added = adapters.state()
        adapters.write(writer, added, policy.ref)
        tensors |= added
        adapters.merge()
    folder, trainer = writer.artifact("policy"), writer.artifact("trainer")
    state = TrainerState(position, tensors)

    # Of both, whichever of them meets the end of the disk. By size alone: whoever commits may outlive the model.
    sizes = {name: torch.empty_like(p, device="meta") for name, p in policy.model.named_parameters()}
    room = partial(room_for, folder.parent, sizes, tensors)

    def write() -> None:
        with room():
            for path in write_state(state, trainer):
                writer.sha256(path)

    # Writing and hashing happen outside of Python: the larger file goes beside the others.
    pool = ThreadPoolExecutor(1)
    writer.before_commit(pool.submit(write).result)
    pool.shutdown(wait=False)
    with room():
        save_policy(policy.model, policy.processor, folder)
    objective = load("objective", position.objective)
    # Nobody samples from a reward model, and ranks end with the run.
    if not objective.reward_model and not ranks.launched():
        _keep_warm(trained.ctx, writer, policy, folder, state)


def save_policy_in_parts(trained: Trained) -> Tensors:
    """The same artifact of a policy that lies on the ranks; what `save_state_in_parts` has to add to the moments.

    A meeting of all ranks; rank 0 writes. NoRoomError where the disk is full: nothing of the shard is committed then.
    """
    from stages.train.parallel.stream import write_policy

    policy, writer, adapters = trained.policy, trained.writer, trained.adapters
    added = {}
    if adapters:
        added = adapters.state()
        if ranks.rank() == 0:
            adapters.write(writer, added, policy.ref)
        adapters.merge()
    weights, folder = trained.layout.weights(policy.model), writer.artifact("policy")
    with room_for(folder.parent, weights):
        write_policy(policy, weights, folder)
    return added


def save_state_in_parts(trained: Trained, moments: Tensors) -> None:
    """The trainer state of a policy that lies on the ranks: each of them writes its own parts. A meeting of all.

    NoRoomError where the disk is full: nothing of the shard is committed then.
    """
    trainer = trained.writer.artifact("trainer")
    with room_for(trainer.parent, moments):
        if ranks.rank() == 0:
            trainer.mkdir(parents=True, exist_ok=True)
            write_position(trained.position, trainer)
        # Rank 0's folder: the others' own is thrown away.
        _write_parts(moments, Path(ranks.broadcast(str(trainer.absolute()))))


def hand_over(ctx: Context, writer: ShardWriter, policy_id: str) -> bool:
    """Give the staged policy to whoever is to sample from it, and have the commit wait for that; False: nobody is."""
    way = ctx.resources.peek(HAND_OVER, "")
    if way is None:
        return False
    # By its folder: as a part of its run it is not there yet.
    way.offer(replace(_called(writer, policy_id), folder=writer.artifact("policy"), run=None))
    writer.before_commit(way.until_read)
    return True


def _called(writer: ShardWriter, policy_id: str) -> PolicyRef:
    """What a policy will be called that is not committed yet."""
    run = writer.run
    return PolicyRef(str(run), policy_id, run / "policy", run, run.resolve().name)


def leave_as_loaded(model: Any) -> None:
    """Take from a trained model what training has added, and leave the weights."""
    model.zero_grad(set_to_none=True)
    # The tower may have been frozen for this run alone; the next one decides for itself (`set_frozen`).
    model.requires_grad_(True)
    model.eval()


def _keep_warm(ctx: Context, writer: ShardWriter, policy: Policy, folder: Path, state: TrainerState) -> None:
    """Leave the model as `load_policy` would give it, and its trainer state, under the id of what was saved."""
    import torch

    model = policy.model
    leave_as_loaded(model)
    new_id = folder_id(folder, writer.sha256)
    # By content alone: the run has no receipt yet. Whoever takes the policy up gives it its own ref
    # (`setup._warm_or_load`).
    ref = replace(policy.ref, spec="", id=new_id, run=None, name=new_id)
    ctx.resources.put(TRAINER_STATE, new_id, state)
    if not hand_over(ctx, writer, new_id):
        ctx.resources.put(TRAINED, str(writer.run), _called(writer, new_id))
    # A GPU's sampler wants bfloat16 where training keeps float32: it must not find these weights instead.
    if policy.device.type == "cpu" and model.dtype == torch.float32:
        ctx.resources.put(POLICY, new_id, replace(policy, ref=ref))
