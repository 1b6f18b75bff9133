"""Plain transformers, on a CPU or one GPU: each prompt is prefilled once for all its samples."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stages.core.errors import UsageError
from stages.core.stage import Resources
from stages.engines.base import Engine, EnginePlugin, EngineSettings
from stages.models.warm import POLICY

if TYPE_CHECKING:
    from stages.models.policy_ref import PolicyRef


class TransformersPlugin(EnginePlugin):
    """Opens the engine on a policy that is loaded, or warm from an earlier stage of this process."""

    version = 1

    def gpus(self, settings: EngineSettings) -> int:
        """One, unless a CPU was asked for."""
        return int(settings.device != "cpu")

    def open(self, ref: PolicyRef | None, settings: EngineSettings, resources: Resources) -> Engine:
        """Load the policy, or take the one that an earlier stage of this process left warm."""
        from stages.engines.transformers.engine import TransformersEngine
        from stages.models.load import load_policy

        if ref is None:
            raise UsageError("engine transformers samples from a model", "add --policy")
        policy = resources.get(
            POLICY,
            ref.id,
            lambda: load_policy(
                ref, device=settings.device, dtype=settings.dtype, trust_remote_code=settings.trust_remote_code
            ),
        )
        return TransformersEngine(policy, f"transformers/{self.version}", settings.batch_tokens)


PLUGIN = TransformersPlugin()
