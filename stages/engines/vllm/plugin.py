"""vLLM in this process: the sampler for GPUs; `[rollout.vllm]` has its options.

It is left as fast as it comes, so floats depend on what a request is batched with: by about 1e-6 in float32, where a
completion then differs between two batchings once in about a million tokens, and by about 1e-2 in half precision, where
it often does. `VLLM_BATCH_INVARIANT=1` in the environment removes that on the GPUs that vLLM supports it on, at a
price. The same shards in the same process layout give the same completions.
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from stages.core.errors import UnavailableError, UsageError
from stages.core.resources import Kind, Resources
from stages.engines.base import Engine, EnginePlugin, EngineSettings
from stages.models.warm import POLICY

if TYPE_CHECKING:
    from stages.engines.vllm.session import VllmSession
    from stages.models.policy_ref import PolicyRef

SESSION: Kind[VllmSession] = Kind("vllm", on_device=True)
"""The one vLLM of this process: it is given another policy, never started twice. Kept under the key ""."""


class VllmPlugin(EnginePlugin):
    """Opens the engine on the one vLLM of this process."""

    version = 1

    def gpus(self, settings: EngineSettings) -> int:
        """As many as share one copy of the model."""
        return 0 if settings.device == "cpu" else settings.vllm.tensor_parallel_size

    def open(self, ref: PolicyRef | None, settings: EngineSettings, resources: Resources) -> Engine:
        """Start vLLM with the policy, or put the policy into the one that an earlier stage left running."""
        if importlib.util.find_spec("vllm") is None:
            raise UnavailableError("engine vllm: vLLM is not installed", "pip install 'cosmo-rl[vllm]'")
        if ref is None:
            raise UsageError("engine vllm samples from a model", "add --policy")
        from stages.engines.vllm.engine import VllmEngine
        from stages.engines.vllm.session import VllmSession
        from stages.models.processor import load_processor

        processor = load_processor(ref, trust_remote_code=settings.trust_remote_code)
        session = resources.get(SESSION, "", VllmSession)
        session.use(ref, processor, settings, resources.peek(POLICY, ref.id))
        return VllmEngine(session, processor, f"vllm/{self.version}")


PLUGIN = VllmPlugin()
