"""What vLLM is started with, and what of it must not change while it runs."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schemas.identity import digest
from stages.core.errors import UnavailableError, UsageError
from stages.engines.base import EngineSettings

if TYPE_CHECKING:
    import torch

    from stages.models.processor import PromptProcessor

# Read by vLLM when it is imported. In process requests are scheduled in one order, and a start takes 2 s, not 18.
ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",
    "VLLM_NO_USAGE_STATS": "1",
}
# Parts of config.json in which folders of one architecture differ.
_IGNORED = ("_name_or_path", "transformers_version", "dtype", "torch_dtype")
_GIB = 1 << 30
# Tokens of one step: enough for 256 sequences and some prompts.
_STEP_TOKENS = 8192


def dtype_of(settings: EngineSettings) -> str:
    """The dtype that `auto` stands for: as `load_policy` decides it."""
    if settings.dtype != "auto":
        return settings.dtype
    return "float32" if on_cpu() else "bfloat16"


def on_cpu() -> bool:
    """Whether this vLLM was built for a CPU."""
    from vllm.platforms import current_platform

    return bool(current_platform.is_cpu())


def _can_sleep() -> bool:
    from vllm.platforms import current_platform

    return not on_cpu() and bool(current_platform.is_sleep_mode_available())


def shape_of(config: dict[str, Any], processor: PromptProcessor, settings: EngineSettings) -> str:
    """A digest of all but the weights: policies that share it can follow each other in one running vLLM."""
    files = sorted((name, digest(content.hex())) for name, content in processor.files.items())
    lasting = {k: v for k, v in config.items() if k not in _IGNORED}
    how = [settings.device, settings.dtype, settings.trust_remote_code, dataclasses.asdict(settings.vllm)]
    return digest([lasting, files, processor.eos_token_ids, how])


def arguments(
    settings: EngineSettings, config: dict[str, Any], processor: PromptProcessor, max_positions: int
) -> dict[str, Any]:
    """The arguments of `vllm.LLM`, the model's folder apart; UnavailableError for a device it was not built for."""
    table, cpu = settings.vllm, on_cpu()
    _check_device(settings.device, cpu)
    from stages.engines.vllm.banned_tokens import BANNED, BannedTokens

    fixed: dict[str, Any] = {
        "dtype": dtype_of(settings),
        "trust_remote_code": settings.trust_remote_code,
        # Of the tokens as they were drawn: temperature applied, banned ids out.
        "logprobs_mode": "processed_logprobs",
        # Nothing that the model's folder recommends may change how it samples.
        "generation_config": "vllm",
        # By name: with several GPUs each has a process of its own.
        "logits_processors": [f"{BannedTokens.__module__}:{BannedTokens.__name__}"],
        "additional_config": {BANNED: processor.banned_token_ids},
        "seed": 0,
    }
    free: dict[str, Any] = {
        "max_model_len": max_positions,
        "tensor_parallel_size": table.tensor_parallel_size,
        "gpu_memory_utilization": table.gpu_memory_utilization,
        "enforce_eager": table.enforce_eager or cpu,
        # So that its memory can be lent to training (`VllmSession.sleep`).
        "enable_sleep_mode": _can_sleep(),
        "disable_log_stats": True,
        "use_tqdm_on_load": False,
    }
    if cpu:
        # A seed of its own for each request and prompts in pieces do not go together on a CPU.
        free |= {"enable_chunked_prefill": False, "max_num_batched_tokens": max(max_positions, _STEP_TOKENS)}
    if table.kv_cache_gb or cpu:
        free["kv_cache_memory_bytes"] = int((table.kv_cache_gb or 1.0) * _GIB)
    if "video_token_id" in config:
        free["limit_mm_per_prompt"] = {"video": 0}
    if getattr(processor.image_processor, "backend", "") == "pil":
        # vLLM would resize images with torchvision: other pixels than those that are trained on.
        free["mm_processor_kwargs"] = {"use_fast": False}
    if clash := sorted(set(table.extra) & {*fixed, "model"}):
        raise UsageError(f"vllm.extra sets {clash[0]!r}, which is not free", "leave it out")
    return {**free, **table.extra, **fixed}


def _check_device(device: str, on_cpu: bool) -> None:
    if device.startswith("cuda:"):
        raise UsageError(f"device {device!r}: vLLM takes the first GPUs it sees", f"CUDA_VISIBLE_DEVICES={device[5:]}")
    if device != "auto" and (device == "cpu") != on_cpu:
        raise UnavailableError(
            f"device {device!r}: this vLLM was built for {'a CPU' if on_cpu else 'a GPU'}", "use --set device=auto"
        )


@contextlib.contextmanager
def offline() -> Iterator[None]:
    """The model is a folder here: whatever vLLM would look up elsewhere it does without."""
    name, before = "HF_HUB_OFFLINE", os.environ.get("HF_HUB_OFFLINE")
    os.environ.setdefault(name, "1")
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]


def with_head(folder: Path) -> tempfile.TemporaryDirectory[str] | None:
    """The folder with the output head written out, for a model whose head is its embedding; None for another.

    vLLM reloads what it finds and keeps the old head where the files have none: log-probs would be wrong in silence.
    """
    from safetensors.torch import save_file

    head = _embedding_as_head(folder)
    if head is None:
        return None
    overlay = tempfile.TemporaryDirectory(prefix="cosmo-head-")
    for file in folder.iterdir():
        # The index lists the weights of the folder as it was.
        if file.is_file() and not file.name.endswith(".index.json"):
            (Path(overlay.name) / file.name).symlink_to(file.resolve())
    save_file({"lm_head.weight": head}, Path(overlay.name) / "tied-head.safetensors")
    return overlay


def _embedding_as_head(folder: Path) -> torch.Tensor | None:
    """The embedding of a folder without a head of its own."""
    from safetensors import safe_open

    found = None
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "pt") as weights:
            for name in weights.keys():  # noqa: SIM118
                if name.endswith("lm_head.weight"):
                    return None
                if name.endswith("embed_tokens.weight"):
                    found = weights.get_tensor(name)
    return found


def hint_for(error: BaseException) -> str:
    """What may help against it."""
    text = str(error)
    if "torchvision" in text:
        return "install the torchvision build that fits this torch (on a CPU: from download.pytorch.org/whl/cpu)"
    if "KV cache" in text or "kv_cache" in text or "memory" in text:
        return "--set vllm.max_model_len=4096, or another vllm.gpu_memory_utilization or vllm.kv_cache_gb"
    return "use --engine transformers, or another vllm.extra"
