"""Safetensors files written tensor by tensor: what lies in parts is saved, and no rank ever has all of it.

Of a policy all ranks gather each tensor at the same time, and rank 0 writes it. Its folder is the one that
`save_policy` would have written, to the byte; weights that transformers converts on reading go back a layer at a time.
Of checkpoints and trainer states each rank writes its own parts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

from stages.models.load import LARGEST_FILE, Policy, save_policy
from stages.train.parallel import ranks
from stages.train.parallel.parts import whole

# As safetensors sorts tensors, the widest first, and what it calls them.
_NAMES = {
    torch.int64: "I64",
    torch.float64: "F64",
    torch.float32: "F32",
    torch.int32: "I32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


class TensorFile:
    """A safetensors file of tensors that are known by shape and dtype, and are put in their places as they come."""

    def __init__(self, path: Path, about: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
        """Write the header. `about` has a tensor of each one's shape and dtype, without memory perhaps."""
        order = list(_NAMES)
        header: dict[str, object] = {"__metadata__": metadata} if metadata else {}
        self._begins: dict[str, int] = {}
        end = 0
        for name in sorted(about, key=lambda n: (order.index(about[n].dtype), n)):
            begin, end = end, end + about[name].numel() * about[name].element_size()
            self._begins[name] = begin
            shape = list(about[name].shape)
            header[name] = {"dtype": _NAMES[about[name].dtype], "shape": shape, "data_offsets": [begin, end]}
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        # Tensors begin at a multiple of 8.
        text += b" " * (-len(text) % 8)
        self._data = 8 + len(text)
        self._missing = set(about)
        self._file = path.open("wb")
        self._file.write(len(text).to_bytes(8, "little") + text)
        self._file.truncate(self._data + end)

    def put(self, name: str, value: Tensor) -> None:
        """Write a whole tensor in its place. KeyError for a name that is not to be in the file."""
        self._file.seek(self._data + self._begins[name])
        if value.numel():
            self._file.write(value.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        self._missing.discard(name)

    def __enter__(self) -> TensorFile:
        """The open file, which is closed on leaving."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close it; ValueError where a tensor was never put."""
        self._file.close()
        if kind is None and self._missing:
            raise ValueError(f"{len(self._missing)} tensors were not written, {min(self._missing)} among them")


def write_parts(tensors: Mapping[str, Tensor], folder: Path) -> None:
    """Each rank's parts in a file of its own. A meeting of all ranks, which all see the folder.

    As torch's HuggingFaceStorageWriter lays them out, for its reader; that one would copy all of a rank's parts first,
    and its files begin with the same facts in another order each time.
    """
    parts: dict[str, Tensor] = {}
    begins: dict[str, list[int]] = {}
    for tensor, value in tensors.items():
        if isinstance(value, DTensor) and any(p.is_shard() for p in value.placements):
            _, begin = compute_local_shape_and_global_offset(value.shape, value.device_mesh, value.placements)
            part = value.to_local()
            # Of fewer rows than ranks the last ones have none.
            held = part.numel() > 0 or (value.numel() == 0 and ranks.rank() == 0)
        else:
            part, begin = value.to_local() if isinstance(value, DTensor) else value, (0,) * value.dim()
            held = ranks.rank() == 0
        if held:
            parts[tensor], begins[tensor] = part.detach(), list(begin)
    facts = {tensor: {"saved_offsets": begin} for tensor, begin in begins.items()}
    metadata = {"DCP_SHARDING_INFO": json.dumps(facts), "DCP_VERSION": "1.0", "format": "pt"}
    if parts:
        path = folder / f"part-{ranks.rank() + 1:05d}-of-{ranks.count():05d}.safetensors"
        with TensorFile(path, parts, metadata) as file:
            for tensor, part in parts.items():
                file.put(tensor, part)
    ranks.barrier()


def write_policy(
    policy: Policy, tensors: Mapping[str, Tensor], folder: Path, largest: int | str = LARGEST_FILE
) -> None:
    """A Hugging Face folder of a policy in parts, files of at most so many bytes. A meeting of all ranks."""
    from huggingface_hub import split_torch_state_dict_into_shards

    groups = _whole_groups(policy.model, tensors)
    if ranks.rank() != 0:
        for _ in groups:
            pass
        return
    # Config, generation config, code, processor; the weights follow.
    save_policy(policy.model, policy.processor, folder, weights={})
    (folder / "model.safetensors").unlink(missing_ok=True)
    # Converted tensors are views of one: each would count for all of it when they are split among files.
    about = _without_memory(_as_stored(policy.model, _without_memory(tensors)))
    split = split_torch_state_dict_into_shards(
        about, filename_pattern="model{suffix}.safetensors", max_shard_size=largest
    )
    files = {
        name: TensorFile(folder / name, {n: about[n] for n in own}, {"format": "pt"})
        for name, own in split.filename_to_tensors.items()
    }
    owner = {n: files[name] for name, own in split.filename_to_tensors.items() for n in own}
    for group in groups:
        for name, value in _as_stored(policy.model, group).items():
            owner[name].put(name, value)
    for file in files.values():
        file.__exit__(None, None, None)
    if split.is_sharded:
        count = {"total_parameters": policy.model.num_parameters(), **split.metadata}
        index = {"metadata": count, "weight_map": split.tensor_to_filename}
        text = json.dumps(index, indent=2, sort_keys=True) + "\n"
        (folder / "model.safetensors.index.json").write_text(text, encoding="utf-8")


def _without_memory(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {n: torch.empty(v.shape, dtype=v.dtype, device="meta") for n, v in tensors.items()}


def _as_stored(model: object, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Under the names and in the shapes that the family's files have."""
    from transformers.core_model_loading import revert_weight_conversion

    found: dict[str, Tensor] = revert_weight_conversion(model, tensors)  # type: ignore[arg-type]
    return found


def _whole_groups(model: torch.nn.Module, tensors: Mapping[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """What has to be whole at the same time: a tensor; where any is converted, a layer, and then the rest."""
    from transformers.core_model_loading import WeightConverter

    names = [[n] for n in tensors]
    if any(isinstance(step, WeightConverter) for step in getattr(model, "_weight_conversions", None) or ()):
        kinds = set(model._no_split_modules or ())  # type: ignore[arg-type]
        layers = [f"{path}." for path, module in model.named_modules() if type(module).__name__[4:] in kinds]
        names = [[n for n in tensors if n.startswith(layer)] for layer in layers]
        layered = {n for own in names for n in own}
        names.append([n for n in tensors if n not in layered])
    for own in names:
        yield {n: whole(tensors[n]) for n in own}
