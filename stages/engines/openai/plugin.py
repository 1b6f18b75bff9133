"""Any OpenAI-compatible server: a judge's model, or vLLM's server as a sampler for training.

For training the server must be vLLM's (>= 0.10), which returns token ids, and must keep log-probs as sampled:
`vllm serve FOLDER --logprobs-mode processed_logprobs`. `--policy` names the same model here: its tokenizer and chat
template give the prompt's ids, which the server's have to equal. With `server.reload` a running server is given each
policy's weights, so that a loop of turns needs no restart.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from stages.core.errors import UnavailableError, UsageError
from stages.core.resources import Kind, Resources
from stages.engines.base import Engine, EnginePlugin, EngineSettings, ServerTable
from stages.models.warm import POLICY

if TYPE_CHECKING:
    from stages.engines.openai.reload import ServedPolicy
    from stages.models.policy_ref import PolicyRef

SERVED: Kind[ServedPolicy] = Kind("served")
"""What a server that takes policies was given last, by its URL."""


class OpenAIPlugin(EnginePlugin):
    """Opens the engine on one server; each call is a completion."""

    version = 1
    needs_policy = False

    def open(self, ref: PolicyRef | None, settings: EngineSettings, resources: Resources) -> Engine:
        """Check the settings, load the policy's tokenizer where ids are needed, hand the policy over where asked to."""
        server = settings.server
        if not server.url:
            raise UsageError("engine openai was given no url", "url = 'http://HOST:8000/v1'")
        model = server.model or (ref.spec if ref else "")
        if not model:
            raise UsageError("engine openai was not told which model to ask for", "set server.model, or add --policy")
        if settings.need == "ids" and ref is None:
            raise UsageError(
                "engine openai samples without token ids when it is given no policy, and training needs them",
                "add --policy with the model that the server runs: its tokenizer is used",
            )
        key = _key(server)
        if server.reload:
            if ref is None:
                raise UsageError("server.reload was given no policy to hand over", "add --policy")
            from stages.engines.openai.reload import ServedPolicy

            served = resources.get(SERVED, server.url, ServedPolicy)
            served.hand_over(ref, settings, model, key, resources.peek(POLICY, ref.id))
        from stages.engines.openai.engine import OpenAIEngine
        from stages.models.processor import load_processor

        remote = settings.trust_remote_code
        processor = load_processor(ref, trust_remote_code=remote) if ref and settings.need == "ids" else None
        return OpenAIEngine(server, model, key, settings.need, processor, f"openai/{self.version}")


def _key(server: ServerTable) -> str | None:
    if not server.api_key_env:
        return None
    if not (key := os.environ.get(server.api_key_env)):
        raise UnavailableError(
            f"the environment variable {server.api_key_env}, which api_key_env names, is not set",
            f"export {server.api_key_env}=...",
        )
    return key


PLUGIN = OpenAIPlugin()
