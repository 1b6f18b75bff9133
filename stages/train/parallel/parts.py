"""Tensors that lie in parts on the ranks, and on disk: torch's distributed checkpoints, as safetensors files.

Each is a `DTensor`, of whose first dimension a rank has a share. A folder may hold whole tensors in one file, as a
trained policy does, or each rank's parts in a file of its own, as a checkpoint of a sharded run does: both are read by
whoever asks, each rank what it keeps.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint import HuggingFaceStorageReader
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard

from stages.core.errors import UnavailableError
from stages.train.config import TrainConfig
from stages.train.optim import STATE, empty_state, make_optimizer, trainable
from stages.train.parallel import ranks

_HOOK = "maybe_distribute_model"


class StoredTensors(Mapping[str, Tensor]):
    """What the safetensors files of a folder hold, by name, read when it is asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._about: dict[str, Any] = HuggingFaceStorageReader(str(folder)).read_metadata().state_dict_metadata

    def __getitem__(self, name: str) -> Tensor:
        """A whole tensor, on the CPU. KeyError for a name that no file has."""
        return self.whole([name])[name]

    def __iter__(self) -> Iterator[str]:
        """The names, in the order of files."""
        return iter(self._about)

    def __len__(self) -> int:
        """How many tensors there are."""
        return len(self._about)

    def __contains__(self, name: object) -> bool:
        """Whether some file has it; `Mapping` would read it."""
        return name in self._about

    def shape(self, name: str) -> torch.Size:
        """The size of a whole tensor. KeyError for a name that no file has."""
        size: torch.Size = self._about[name].size
        return size

    def whole(self, names: list[str] | None = None) -> dict[str, Tensor]:
        """These tensors or all, whole, on the CPU, read by this rank alone."""
        names = list(self) if names is None else names
        found = {n: torch.empty(self.shape(n), dtype=self._about[n].properties.dtype) for n in names}
        self._read(found, alone=True)
        return found

    def read_into(self, tensors: dict[str, Tensor]) -> None:
        """Fill these, each rank its parts. A meeting of all ranks. KeyError for a name that no file has."""
        if missing := tensors.keys() - self._about.keys():
            raise KeyError(min(missing))
        self._read(tensors, alone=ranks.count() == 1)

    def _read(self, tensors: dict[str, Tensor], alone: bool) -> None:
        with warnings.catch_warnings():
            # Of one process that reads alone, which is what is meant.
            warnings.simplefilter("ignore")
            dcp.load(dict(tensors), storage_reader=HuggingFaceStorageReader(str(self.folder)), no_dist=alone)


def part_of(value: Tensor, mesh: DeviceMesh) -> DTensor:
    """Of a tensor that every rank has, or that has no memory, this rank's part: a copy in the host's memory."""
    chunks = value.chunk(ranks.count()) if value.dim() else (value,) * ranks.count()
    # Fewer rows than ranks: the last ones have none.
    own = chunks[ranks.rank()] if ranks.rank() < len(chunks) else value[:0]
    placement = Shard(0) if value.dim() else Replicate()
    own = own if own.is_meta else own.to("cpu", copy=True)
    # Of views as of others: what is whole lies in one piece.
    stride = torch.empty(value.shape, device="meta").stride()
    return DTensor.from_local(own, mesh, [placement], run_check=False, shape=value.shape, stride=stride)


def whole(value: Tensor) -> Tensor:
    """A tensor that lies in parts whole, where ranks can meet over it; any other as it is. A meeting of all ranks."""
    value = value.detach()
    if not isinstance(value, DTensor):
        return value
    if value.device.type == "cpu" and torch.distributed.get_backend() == "nccl":
        # NCCL sends nothing that lies on a CPU.
        own, shape, stride = value.to_local().cuda(), value.shape, value.stride()
        value = DTensor.from_local(
            own, _gpus(ranks.count()), value.placements, run_check=False, shape=shape, stride=stride
        )
    return value.full_tensor()


@cache
def _gpus(count: int) -> DeviceMesh:
    return init_device_mesh("cuda", (count,))


@contextmanager
def read_in_parts(lay_out: Callable[[Any], None], parallel: str) -> Iterator[None]:
    """Models that are loaded within have no memory until `lay_out` has made parameters DTensors: then they are read.

    UnavailableError where transformers can't read weights by parts.
    """
    from transformers import PreTrainedModel

    try:
        from transformers.distributed.sharding_utils import DtensorShardOperation  # noqa: F401
    except ImportError:
        raise UnavailableError(
            f"--parallel {parallel} needs transformers 5.17", "pip install -U transformers"
        ) from None

    def hook(cls: Any, model: Any, *_: Any) -> Any:
        # transformers ties weights when it has read them: until then the head would be a parameter of its own.
        model.tie_weights()
        lay_out(model)
        return model

    # transformers calls this hook between making a model on `meta` and reading its weights, and of a DTensor it
    # reads this rank's part alone. Its own hook has a plan for few families and knows one precision.
    own = vars(PreTrainedModel).get(_HOOK)
    setattr(PreTrainedModel, _HOOK, classmethod(hook))
    try:
        yield
    finally:
        delattr(PreTrainedModel, _HOOK)
        if own is not None:
            setattr(PreTrainedModel, _HOOK, own)


def weights_in_parts(model: Any) -> dict[str, Tensor]:
    """Parameters of a model in parts, and the buffers that are saved with it."""
    saved = model.state_dict().keys()
    return {n: p.detach() for n, p in model.named_parameters()} | {n: b for n, b in model.named_buffers() if n in saved}


def moments_in_parts(model: Any, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The state of an optimizer over parts, as `optimizer_state` names it."""
    return {
        f"{name}.{kind}": optimizer.state[p][kind]
        for name, p in trainable(model).items()
        if p in optimizer.state
        for kind in STATE
        if kind in optimizer.state[p]
    }


def optimizer_in_parts(model: Any, config: TrainConfig, moments: Mapping[str, Tensor]) -> torch.optim.AdamW:
    """The optimizer of a model in parts, each rank with its own part of the moments.

    Where they are stored, a meeting of all ranks; where this rank has its parts already, they are copied.
    """
    if not isinstance(moments, StoredTensors):
        return make_optimizer(model, config, moments)
    optimizer = make_optimizer(model, config, {})
    into: dict[str, Tensor] = {}
    for name, parameter in trainable(model).items():
        # Adapters of another rank have moments of another shape.
        if f"{name}.step" in moments and moments.shape(f"{name}.exp_avg") == parameter.shape:
            state = empty_state(optimizer, parameter, [k for k in STATE if f"{name}.{k}" in moments])
            optimizer.state[parameter] = state
            into |= {f"{name}.{kind}": value for kind, value in state.items()}
    if into:
        moments.read_into(into)
    return optimizer
