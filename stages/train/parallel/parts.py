"""Tensors that lie in parts on the ranks, and on disk: torch's distributed checkpoints, as safetensors files.

A folder may hold whole tensors in one file, as a trained policy's does, or each rank's parts in a file of its own, as a
checkpoint of a sharded run does: both are read by whoever asks, each rank what it keeps.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.tensor import DTensor

from stages.train.parallel import ranks


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


def write_parts(tensors: dict[str, Tensor], folder: Path) -> None:
    """Each rank's parts in a file of its own. A meeting of all ranks, which all see the folder."""
    if not tensors:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        writer = HuggingFaceStorageWriter(str(folder), save_distributed=True)
        dcp.save(tensors, storage_writer=writer, no_dist=ranks.count() == 1)


def whole(value: Tensor) -> Tensor:
    """A tensor that lies in parts whole, where it is computed with; any other as it is. A meeting of all ranks."""
    value = value.detach()
    return value.full_tensor() if isinstance(value, DTensor) else value
