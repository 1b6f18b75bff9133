"""A vLLM that stays in memory while policies change: started once, given new weights, checked after each change."""

from __future__ import annotations

import json
import tempfile
from typing import TYPE_CHECKING, Any

from stages.core.errors import CosmoError, UnavailableError, what_failed
from stages.engines.base import EngineSettings
from stages.engines.vllm.arguments import dtype_of, on_cpu, shape_of
from stages.engines.vllm.memory import collect_engine, load_weights, put_to_sleep, start, wake_up
from stages.engines.vllm.probe import ask, distance, expected

if TYPE_CHECKING:
    from stages.models.load import Policy
    from stages.models.policy_ref import PolicyRef
    from stages.models.processor import PromptProcessor


class VllmSession:
    """The one vLLM of a process; nothing is started until a policy is to be used."""

    def __init__(self) -> None:
        self.max_positions = 0
        """The longest prompt and completion together."""
        self.starts = 0
        """How often vLLM was started from nothing."""
        self._llm: Any = None
        self._asleep = False
        self._shape = self._policy_id = ""
        self._overlay: tempfile.TemporaryDirectory[str] | None = None

    def use(self, ref: PolicyRef, processor: PromptProcessor, settings: EngineSettings, warm: Policy | None) -> None:
        """Sample from this policy from now on. `warm` is the same policy as transformers has it loaded, if it has."""
        if not (ref.path / "config.json").is_file():
            raise UnavailableError(f"the policy of {ref.spec} is not there any more: {ref.path}", "train it again")
        config = json.loads((ref.path / "config.json").read_text(encoding="utf-8"))
        shape = shape_of(config, processor, settings)
        self.wake()
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
        self.wake()
        try:
            outputs: list[Any] = self._llm.generate(prompts, params, use_tqdm=False)
        except Exception as error:
            if self._llm.llm_engine.has_unfinished_requests():
                # It broke under way: what it still holds would come out among the next answers.
                self.close()
                raise CosmoError(
                    f"vLLM broke down: {what_failed(error)}", "run it again: finished shards are kept"
                ) from None
            raise
        return outputs

    def sleep(self) -> None:
        """Give a GPU's memory back until it is used again; on a CPU there is none to give back, and it stays."""
        if self._llm is None or self._asleep or on_cpu():
            return
        self._asleep = put_to_sleep(self._llm)
        if not self._asleep:
            self.close()

    def wake(self) -> None:
        """Take the memory again; nothing where it is awake."""
        if not self._asleep:
            return
        try:
            wake_up(self._llm)
        except UnavailableError:
            self.close()
            raise
        self._asleep = False

    def close(self) -> None:
        """Give the memory back: an LLM outlives its last reference, so it is released by name."""
        if self._llm is None:
            return
        # Its workers, where several GPUs share the model, are gone when this returns.
        self._llm.llm_engine.engine_core.shutdown()
        self._llm, self._asleep, self._policy_id, self._overlay = None, False, "", None
        collect_engine()

    def _start(
        self, ref: PolicyRef, processor: PromptProcessor, settings: EngineSettings, config: dict[str, Any]
    ) -> None:
        self.close()
        self.max_positions = min(settings.vllm.max_model_len or processor.max_positions, processor.max_positions)
        self._llm = start(ref, settings, config, processor, self.max_positions)
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
            before = ask(self._llm, probes, processor)
            # vLLM goes on reading the processor's files from there.
            self._overlay = load_weights(self._llm, ref.path)
            after = ask(self._llm, probes, processor)
            # Other weights that say the very same were not taken.
            apart = float("inf") if before == after else distance(probes, after, dtype_of(settings))
        except Exception:
            # Whatever vLLM has against these weights, a fresh start says it better.
            apart = float("inf")
        if apart <= 1:
            return
        self._start(ref, processor, settings, config)
        apart = distance(probes, ask(self._llm, probes, processor), dtype_of(settings))
        if apart > 1:
            self.close()
            raise UnavailableError(
                f"vLLM's log-probs of {ref.spec} differ from the policy's by {apart:.2g} times what is allowed",
                "use --engine transformers for this model family",
            )
