"""A policy's weights into a running vLLM server, by the server's own endpoints, and the proof that they are in.

The endpoints are there where the server was started with `VLLM_SERVER_DEV_MODE=1`; it reads the folder itself, so the
path has to mean the same on its machine. The proof: log-probs of fixed prompts, asked of the server and computed here.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from stages.core.errors import UnavailableError, first_line
from stages.engines.vllm.arguments import with_head
from stages.engines.vllm.probe import distance, expected

if TYPE_CHECKING:
    from stages.engines.base import EngineSettings
    from stages.models.load import Policy
    from stages.models.policy_ref import PolicyRef
    from stages.models.probe import Probe

_CACHES = ("reset_prefix_cache", "reset_mm_cache", "reset_encoder_cache")


@dataclasses.dataclass(slots=True)
class ServedPolicy:
    """The policy that a server was given last by this process."""

    policy_id: str = ""
    folder: Any = None
    """The temporary folder that it was given, where that was not the policy's own."""

    def hand_over(
        self, ref: PolicyRef, settings: EngineSettings, model: str, key: str | None, warm: Policy | None
    ) -> None:
        """See to it that the server samples from this policy; UnavailableError where it can't be made to."""
        if self.policy_id == ref.id:
            return
        # From here until the proof the server may hold anything.
        self.policy_id = ""
        endpoints = _Endpoints(settings, model, key)
        overlay = with_head(ref.path)
        folder = overlay.name if overlay else str(Path(ref.path).resolve())
        endpoints.post("collective_rpc", {"method": "reload_weights", "kwargs": {"weights_path": folder}})
        # vLLM keeps what it computed with the old weights, and would go on from it where a prompt begins alike.
        for name in _CACHES:
            endpoints.post(name, None)
        # Images go by another endpoint; a server that has taken the weights has taken the tower's, too.
        probes = [p for p in expected(ref, "float32", settings.trust_remote_code, warm) if not p.image]
        apart = distance(probes, [endpoints.logprobs(probe) for probe in probes], _dtype(settings))
        if apart > 1:
            raise UnavailableError(
                f"the server at {settings.server.url} was given {ref.spec}, and its log-probs differ from the policy's"
                f" by {apart:.2g} times what is allowed",
                "is it the same family, and of the dtype that --set dtype=... says?",
            )
        self.policy_id, self.folder = ref.id, overlay


class _Endpoints:
    """The server's endpoints beside those of OpenAI."""

    def __init__(self, settings: EngineSettings, model: str, key: str | None) -> None:
        self._table, self._model = settings.server, model
        self._base = settings.server.url.rstrip("/").removesuffix("/v1")
        self._headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})

    def post(self, path: str, body: dict[str, Any] | None) -> Any:
        """The answer's JSON, None where it has none."""
        content = b"" if body is None else json.dumps(body).encode()
        # Weights of a large model take their time to be read.
        timeout = max(600.0, self._table.timeout_s)
        try:
            # A redirect is no success either: the key and the policy's folder are for this server alone.
            answer = httpx.post(
                f"{self._base}/{path}", content=content, headers=self._headers, timeout=timeout, follow_redirects=False
            )
            answer.raise_for_status()
        except httpx.HTTPStatusError as error:
            code = error.response.status_code
            hint = "start it with VLLM_SERVER_DEV_MODE=1" if code == 404 else "its log says why"
            if 300 <= code < 400:
                hint = "it points elsewhere: give the address itself, redirects are not followed"
            raise UnavailableError(f"the server at {self._table.url} answers {code} to /{path}", hint) from None
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            raise UnavailableError(
                f"the server at {self._table.url} can't be reached: {first_line(error)}", "is it up?"
            ) from None
        try:
            return answer.json() if answer.content else None
        except ValueError as error:
            raise UnavailableError(
                f"the server at {self._table.url} answers /{path} with what is no JSON: {first_line(error)}",
                "is it vLLM's server?",
            ) from None

    def logprobs(self, probe: Probe) -> list[float]:
        """The server's log-probs of a probe's completion; nothing where it answers otherwise than asked."""
        ids = probe.token_ids + probe.completion_ids
        body = {"model": self._model, "prompt": ids, "max_tokens": 1, "temperature": 0.0, "prompt_logprobs": 0}
        answer = self.post("v1/completions", body)
        try:
            given = answer["choices"][0]["prompt_logprobs"][len(probe.token_ids) :]
            return [float(at[str(token)]["logprob"]) for token, at in zip(probe.completion_ids, given, strict=True)]
        except (KeyError, IndexError, TypeError, ValueError):
            return []


def _dtype(settings: EngineSettings) -> str:
    """What the server runs in: bfloat16, as vLLM does by itself, unless the settings say otherwise."""
    return "bfloat16" if settings.dtype == "auto" else settings.dtype
