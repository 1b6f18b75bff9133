"""Tokens a second of `--engine vllm` against bare vLLM on the same prompts, in one process and one loaded model.

    python bench/rollout_vs_vllm.py [POLICY]

Both sides sample G completions to the same prompts (a third each with no image, one and two) with log-probs of what was
drawn, at temperature 1, from the same `vllm.LLM`. Ours is `Engine.sample`: a request and a seed a sample, banned ids
out, the prompt's ids compared. The peers are one `LLM.generate`:

- `same`: what ours asks for, as plain vLLM would be asked: n = G with a seed a prompt, log-probs, no text, the banned
  ids by `logit_bias`;
- `bare`: n = G, log-probs, no text; no seeds, so no completion can be had again. (Ids stay banned: the engine of both
  sides bans them for all requests at once, which costs next to nothing.)

`encode` is ours with the rendering of prompts by the policy's own processor, which `cosmo rollout` does besides. Sides
take turns; figures are medians. Prefix and image caches are emptied before each.
"""

from __future__ import annotations

import json
import math
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
PROMPTS, SAMPLES, NEW_TOKENS, ROUNDS = 48, 8, 64, 5


class Bench:
    """Both sides on one loaded model."""

    def __init__(self, spec: str) -> None:
        from schemas.rollouts import Sampling
        from stages.core.registry import load
        from stages.core.stage import Resources
        from stages.engines.base import EngineSettings
        from stages.engines.vllm.engine import vllm_prompt
        from stages.engines.vllm.plugin import SESSION
        from stages.models.policy_ref import resolve_policy

        resources = Resources()
        self.engine = load("engine", "vllm").open(resolve_policy(spec), EngineSettings(), resources)
        self.llm = resources.peek(SESSION, "")._llm
        self.sampling = Sampling(1.0, 1.0, 0, NEW_TOKENS, 0)
        self.conversations = [self._conversation(i) for i in range(PROMPTS)]
        self.requests = self.encode()
        self.prompts = [vllm_prompt(self.engine._processor, r) for r in self.requests]
        for prompt in self.prompts:
            prompt.pop("multi_modal_uuids", None)

    def _conversation(self, number: int) -> tuple[Any, Any]:
        from schemas.values import text_message
        from tests.models.made import image, prompt

        image_count = (number % 3) if self.engine._processor.image_token_id is not None else 0
        words = str(prompt(number)[0][0].content[-1].text)
        images = [image(84 + 56 * i, 84, number + i) for i in range(image_count)]
        return [text_message("user", words, image_count)], images

    def encode(self) -> list[Any]:
        """Requests of the conversations."""
        from stages.engines.base import SampleRequest

        made = []
        for number, (messages, images) in enumerate(self.conversations):
            encoded = self.engine.encode(messages, images)
            made.append(SampleRequest(f"p{number}", encoded.token_ids, {}, SAMPLES, messages, images))
        return made

    def ours(self) -> int:
        """Tokens of one round of ours."""
        return sum(len(s.token_ids) for _, samples in self.engine.sample(self.requests, self.sampling) for s in samples)

    def ours_with_encode(self) -> int:
        """The same, prompts rendered as well."""
        self.requests = self.encode()
        return self.ours()

    def peer(self, same: bool) -> Callable[[], int]:
        """One round of plain vLLM."""
        from vllm import SamplingParams

        bias = dict.fromkeys(self.engine.banned_token_ids, -math.inf) if same else None
        common: dict[str, Any] = {"n": SAMPLES, "temperature": 1.0, "max_tokens": NEW_TOKENS, "logprobs": 0}
        common |= {"detokenize": False, "stop_token_ids": self.engine._processor.eos_token_ids, "logit_bias": bias}

        def once() -> int:
            params = [SamplingParams(**common, seed=i if same else None) for i in range(PROMPTS)]
            outputs = self.llm.generate(self.prompts, params, use_tqdm=False)
            return sum(len(c.token_ids) for o in outputs for c in o.outputs)

        return once

    def timed(self, once: Callable[[], int]) -> float:
        """Tokens a second of one round from empty caches."""
        self.llm.reset_prefix_cache()
        self.llm.reset_mm_cache()
        self.llm.llm_engine.reset_encoder_cache()
        begun = time.perf_counter()
        tokens = once()
        return tokens / (time.perf_counter() - begun)


def main(spec: str = "tiny:qwen2_5_vl") -> dict[str, Any]:
    """Medians of all sides and the ratios of ours to the peers, taken round by round."""
    bench = Bench(spec)
    sides = {
        "ours": bench.ours,
        "same": bench.peer(True),
        "bare": bench.peer(False),
        "encode": bench.ours_with_encode,
    }
    for once in sides.values():
        once()
    rounds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(ROUNDS):
        for name, once in sides.items():
            rounds[name].append(bench.timed(once))
    figures: dict[str, Any] = {name: round(statistics.median(values)) for name, values in rounds.items()}
    for name, top, peer in (
        ("ratio", "ours", "same"),
        ("ratio_bare", "ours", "bare"),
        ("ratio_encode", "encode", "same"),
    ):
        ratios = [a / b for a, b in zip(rounds[top], rounds[peer], strict=True)]
        figures[name] = round(statistics.median(ratios), 3)
    return {"policy": spec, "prompts": PROMPTS, "samples": SAMPLES, "unit": "tokens/s", **figures}


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:2])))
