"""LoRA (arXiv:2106.09685) through peft: low-rank adapters are trained, and whole weights are what is saved.

A policy folder holds W + s B A, so that every sampler, judge and export loads it like any other. A and B go to the
trainer state; the run that goes on from there takes s B A away again and moves the same adapters further. Beside the
policy they stand as peft keeps them, for whoever loads adapters onto the model that they began with.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stages.core.atomic import read_json
from stages.core.errors import UnavailableError, UsageError
from stages.core.runs.folder import artifact
from stages.core.stage import ShardWriter
from stages.models.policy_ref import PolicyRef
from stages.train.config import LoraOptions

ADAPTER = "adapter"
_VALUE = "value"
# Their kernels read the weights of these layers and would pass an adapter by; peft refuses to put one there.
_STATE_SPACES = ("mamba", "mamba2", "falcon_mamba", "falcon_h1", "nemotron_h")
_READ_BY_KERNELS = ("out_proj", "conv1d")


class Adapters:
    """The adapters in a model while it is trained."""

    def __init__(self, model: Any, options: LoraOptions, seed: int, state: Mapping[str, Tensor]) -> None:
        """Put adapters into every linear layer that may be trained, with the values that the state has for them.

        Everything else is frozen. The model may lie in parts; its adapters are whole until a layout takes them.
        UnavailableError without peft, UsageError where there is nothing to adapt.
        """
        try:
            from peft import LoraConfig, LoraModel
        except ImportError:
            raise UnavailableError("LoRA needs peft", "pip install 'cosmo-rl[lora]'") from None
        names = targets(model)
        if not names:
            raise UsageError("lora.rank is set, and the model has no linear layer to train", "--set lora.rank=0")
        settings = LoraConfig(
            r=options.rank, lora_alpha=options.alpha or 2 * options.rank, lora_dropout=0.0, target_modules=names
        )
        # peft draws A from the global generator: by seed every rank has the same one, forked nothing else draws
        # otherwise.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            # Not `get_peft_model`, which wraps the model in a class of its own: here its layers change in place, and
            # trainer, attention kernels and saving go on with the model they know.
            self._tuner = LoraModel(model, settings, "default")
        self._model, self._settings = model, settings
        values = {n: state[f"{n}.{_VALUE}"] for n in self._names() if f"{n}.{_VALUE}" in state}
        # Of another rank they stay merged into the weights, and the new ones begin at nothing: peft makes B zero.
        self.continued = bool(values) and all(values[n].shape == p.shape for n, p in self._names().items())
        """Whether they are those of the run before, and not new ones."""
        if self.continued:
            self._go_on(values)

    def state(self) -> dict[str, Tensor]:
        """The adapters, whole, for the trainer state. Where they lie in parts a meeting of all ranks."""
        return {f"{name}.{_VALUE}": _whole(p).cpu() for name, p in self._names().items()}

    def write(self, writer: ShardWriter, state: Mapping[str, Tensor], ref: PolicyRef) -> None:
        """The artifact `adapter`, as peft keeps them, out of a state that has them; none where their base is unknown.

        `ref` is the policy that this run began with: their base, or where they are those of its run, that one's base.
        """
        from safetensors.torch import save_file

        base = _base_before(ref) if self.continued else _name_of(ref)
        if base is None:
            return
        folder = writer.artifact(ADAPTER)
        folder.mkdir(parents=True, exist_ok=True)
        settings = copy.copy(self._settings)
        settings.base_model_name_or_path, settings.inference_mode = base, True
        settings.save_pretrained(str(folder))
        tensors = {
            f"base_model.model.{name.removesuffix(f'.{_VALUE}').replace('.default.', '.')}": value.contiguous()
            for name, value in state.items()
            if name.endswith(f".{_VALUE}")
        }
        save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})

    def merge(self) -> None:
        """Put them into the weights, and the model's own layers back in place."""
        if not any(_in_parts(p) for p in self._names().values()):
            self._tuner.merge_and_unload()
            return
        for layer in self._layers():
            for part in (layer.lora_A, layer.lora_B):
                part["default"].weight = torch.nn.Parameter(_whole(part["default"].weight), requires_grad=False)
            _add(layer.get_base_layer().weight, layer.get_delta_weight("default"), alpha=1)
        self._tuner.unload()

    def _names(self) -> dict[str, torch.nn.Parameter]:
        return {name: p for name, p in self._model.named_parameters() if p.requires_grad}

    def _go_on(self, values: dict[str, Tensor]) -> None:
        """Take over adapters that are already in the weights."""
        with torch.no_grad():
            for name, parameter in self._names().items():
                parameter.copy_(values[name])
            for layer in self._layers():
                # The folder's weights hold s B A already: with the adapters on top it would count twice.
                _add(layer.get_base_layer().weight, layer.get_delta_weight("default"), alpha=-1)

    def _layers(self) -> list[Any]:
        return [layer for layer in self._model.modules() if hasattr(layer, "get_delta_weight")]


def _name_of(ref: PolicyRef) -> str:
    """How others find a model: its name on the hub, or its folder."""
    on_hub = ref.run is None and not ref.spec.startswith("tiny:") and not Path(ref.spec).expanduser().exists()
    return ref.spec if on_hub else str(ref.folder.resolve())


def _base_before(ref: PolicyRef) -> str | None:
    """What the adapters of the run before were begun on; None where it kept no folder of them."""
    path = artifact(ref.run, f"{ADAPTER}/adapter_config.json") if ref.run is not None else None
    if path is None or not path.is_file():
        return None
    base = read_json(path).get("base_model_name_or_path")
    return str(base) if base else None


def _in_parts(value: Tensor) -> bool:
    # No DTensor can be where its module was never imported.
    return hasattr(value, "full_tensor")


def _whole(value: Tensor) -> Tensor:
    from stages.train.parallel.parts import whole

    return whole(value) if _in_parts(value) else value.detach()


@torch.no_grad()
def _add(weight: Any, change: Tensor, alpha: int) -> None:
    """Add a whole matrix, shape (out, in), or take it away; each rank to its part where the weight lies in parts."""
    change = change.to(weight.dtype)
    if _in_parts(weight):
        from torch.distributed.tensor import distribute_tensor

        # Every rank has the same matrix: nothing has to be sent.
        change = distribute_tensor(change, weight.device_mesh, weight.placements, src_data_rank=None)
    weight.add_(change, alpha=alpha)


def targets(model: Any) -> list[str]:
    """Linear layers that get gradients and are called as layers, the output head left out.

    A family's own layer that is more than linear is none of them: an adapter would add to all that it returns (the
    router of Llama 4 returns its scores and its logits).
    """
    # A head is often the embedding itself: an adapter that is merged into one would change the other, too.
    head = model.get_output_embeddings()
    unused = _READ_BY_KERNELS if model.config.model_type in _STATE_SPACES else ()
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear)
        and type(module).forward is torch.nn.Linear.forward
        and module is not head
        and module.weight.requires_grad
        and name.rpartition(".")[2] not in unused
    ]
