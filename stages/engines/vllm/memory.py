"""vLLM started, weights put in, its memory lent to training and taken again, all of it given back."""

from __future__ import annotations

import gc
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.core.errors import CosmoError, UnavailableError, what_failed
from stages.core.resources import thaw_objects
from stages.engines.base import EngineSettings
from stages.engines.vllm.arguments import ENVIRONMENT, arguments, hint_for, offline, with_head

if TYPE_CHECKING:
    import tempfile

    from stages.models.policy_ref import PolicyRef
    from stages.models.processor import PromptProcessor


def start(
    ref: PolicyRef,
    settings: EngineSettings,
    config: dict[str, Any],
    processor: PromptProcessor,
    max_positions: int,
) -> Any:
    """A `vllm.LLM` of this policy; UnavailableError where it can't be had."""
    free_cached()
    # Before the import: vLLM reads them then, and never again.
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        with offline():
            import vllm

            return vllm.LLM(model=str(ref.path), **arguments(settings, config, processor, max_positions))
    except CosmoError:
        raise
    except Exception as error:
        raise UnavailableError(f"vLLM can't start with {ref.spec}: {what_failed(error)}", hint_for(error)) from None


def put_to_sleep(llm: Any) -> bool:
    """Weights to the host's memory, keys and values let go; False, and nothing done, where it can't sleep."""
    if not llm.llm_engine.vllm_config.model_config.enable_sleep_mode:
        return False
    # Level 1 keeps the weights. What level 2 leaves would have to be loaded again for the same policy, too, and a
    # reload is proved by what the old weights said.
    llm.sleep(level=1)
    return True


def wake_up(llm: Any) -> None:
    """Ready again; UnavailableError where the memory is not to be had."""
    free_cached()
    try:
        llm.wake_up()
    except Exception as error:
        raise UnavailableError(f"vLLM can't take its memory again: {what_failed(error)}", hint_for(error)) from None


def free_cached() -> None:
    """What training freed, torch keeps for itself: vLLM takes its memory from the driver, and would find none."""
    import torch

    gc.collect()
    torch.cuda.empty_cache()


def collect_engine() -> None:
    """Have an engine that nobody refers to any more collected, and what vLLM keeps for its kind let go."""
    from vllm.distributed import cleanup_dist_env_and_memory

    # Frozen objects are never collected, and both vLLM and a recipe's turn freeze all there is. Twice: the engine
    # refers to itself, and what vLLM keeps of it elsewhere it lets go in between.
    thaw_objects()
    gc.collect()
    cleanup_dist_env_and_memory()
    gc.collect()


def load_weights(llm: Any, folder: Path) -> tempfile.TemporaryDirectory[str] | None:
    """Weights in place, and nothing left of what the old ones computed; the folder that was made for them, if any."""
    overlay = with_head(folder)
    llm.collective_rpc("reload_weights", kwargs={"weights_path": overlay.name if overlay else str(folder)})
    llm.reset_prefix_cache()
    llm.reset_mm_cache()
    llm.llm_engine.reset_encoder_cache()
    return overlay
