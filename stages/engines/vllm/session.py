"""A vLLM that stays in memory while policies change: started once, given new weights, checked after each change."""

from __future__ import annotations

import gc
import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.core.errors import CosmoError, UnavailableError
from stages.engines.base import EngineSettings, error_line
from stages.engines.vllm.arguments import (
    ENVIRONMENT,
    arguments,
    dtype_of,
    hint_for,
    offline,
    shape_of,
    with_head,
)
from stages.engines.vllm.probe import ask, distance, expected

if TYPE_CHECKING:
    from stages.models.load import Policy
    from stages.models.policy_ref import PolicyRef
    from stages.models.probe import Probe
    from stages.models.processor import PromptProcessor


class VllmSession:
    """The one vLLM of a process; nothing is started until a policy is to be used."""

    def __init__(self) -> None:
        self.max_positions = 0
        """The longest prompt and completion together."""
        self.starts = 0
        """How often vLLM was started from nothing."""
        self._llm: Any = None
        self._shape = self._policy_id = ""
        self._overlay: tempfile.TemporaryDirectory[str] | None = None

    def use(self, ref: PolicyRef, processor: PromptProcessor, settings: EngineSettings, warm: Policy | None) -> None:
        """Sample from this policy from now on. `warm` is the same policy as transformers has it loaded, if it has."""
        if not (ref.path / "config.json").is_file():
            raise UnavailableError(f"the policy of {ref.spec} is not there any more: {ref.path}", "train it again")
        config = json.loads((ref.path / "config.json").read_text(encoding="utf-8"))
        shape = shape_of(config, processor, settings)
        if self._llm is not None and (self._shape, self._policy_id) == (shape, ref.id):
            return
        # Whatever goes wrong from here on, it is in no known state.
        self._policy_id = ""
        if self._llm is not None and self._shape == shape:
            self._reload(ref, processor, settings, config, warm)
        else:
            self._start(ref, processor, settings, config)
        self._shape, self._policy_id = shape, ref.id

    def generate(self, prompts: list[dict[str, Any]], params: list[Any]) -> list[Any]:
        """vLLM's outputs, in the prompts' order."""
        try:
            outputs: list[Any] = self._llm.generate(prompts, params, use_tqdm=False)
        except Exception as error:
            if self._llm.llm_engine.has_unfinished_requests():
                # It broke under way: what it still holds would come out among the next answers.
                self.close()
                raise CosmoError(
                    f"vLLM broke down: {error_line(error)}", "run it again: finished shards are kept"
                ) from None
            raise
        return outputs

    def close(self) -> None:
        """Give the memory back: an LLM outlives its last reference, so it is released by name."""
        if self._llm is None:
            return
        from vllm.distributed import cleanup_dist_env_and_memory

        self._llm, self._policy_id, self._overlay = None, "", None
        gc.collect()
        cleanup_dist_env_and_memory()

    def _start(
        self, ref: PolicyRef, processor: PromptProcessor, settings: EngineSettings, config: dict[str, Any]
    ) -> None:
        self.close()
        self.max_positions = min(settings.vllm.max_model_len or processor.max_positions, processor.max_positions)
        # Before the import: vLLM reads them then, and never again.
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        try:
            with offline():
                import vllm

                self._llm = vllm.LLM(model=str(ref.path), **arguments(settings, config, processor, self.max_positions))
        except CosmoError:
            raise
        except Exception as error:
            raise UnavailableError(f"vLLM can't start with {ref.spec}: {error_line(error)}", hint_for(error)) from None
        self.starts += 1

    def _reload(
        self,
        ref: PolicyRef,
        processor: PromptProcessor,
        settings: EngineSettings,
        config: dict[str, Any],
        warm: Policy | None,
    ) -> None:
        """New weights into the running vLLM, or a start from nothing where it then says other than the policy."""
        probes = expected(ref, dtype_of(settings), settings.trust_remote_code, warm)
        try:
            before = self._ask(probes, processor)
            self._load_weights(ref.path)
            after = self._ask(probes, processor)
            # Other weights that say the very same were not taken.
            apart = float("inf") if before == after else distance(probes, after, dtype_of(settings))
        except Exception:
            # Whatever vLLM has against these weights, a fresh start says it better.
            apart = float("inf")
        if apart <= 1:
            return
        self._start(ref, processor, settings, config)
        apart = distance(probes, self._ask(probes, processor), dtype_of(settings))
        if apart > 1:
            self.close()
            raise UnavailableError(
                f"vLLM's log-probs of {ref.spec} differ from the policy's by {apart:.2g} times what is allowed",
                "use --engine transformers for this model family",
            )

    def _ask(self, probes: list[Probe], processor: PromptProcessor) -> list[list[float]]:
        return ask(self._llm, probes, processor)

    def _load_weights(self, folder: Path) -> None:
        """Weights in place, and nothing left of what the old ones computed."""
        overlay = with_head(folder)
        self._llm.collective_rpc("reload_weights", kwargs={"weights_path": overlay.name if overlay else str(folder)})
        # vLLM goes on reading the processor's files from there.
        self._overlay = overlay
        self._llm.reset_prefix_cache()
        self._llm.reset_mm_cache()
        self._llm.llm_engine.reset_encoder_cache()
