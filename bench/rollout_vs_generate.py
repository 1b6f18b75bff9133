"""Tokens a second of `--engine transformers` against `model.generate(num_return_sequences=G)`, one loaded model.

    python bench/rollout_vs_generate.py [POLICY]

Both sample G = 8 completions to the same prompts, each with an image, at temperature 1 and untruncated, from the same
model in the same process; prompts are encoded beforehand and go through the model together, left padded. The end of a
completion is banned on both sides, so that all completions are NEW_TOKENS long and both draw the same number of tokens.
Ours also gives log-probs of what was drawn, bans the placeholder ids, and draws each completion from a stream of its
own, so that batches can't change it. The peers are one `generate` over all prompts:

- `bare`: nothing but ids, the same ones banned (`suppress_tokens`): the headline's peer;
- `same`: with log-probs, as `output_scores` and `compute_transition_scores` give them.

Sides take turns; figures are medians. `generate` copies a prompt and its image G times before the prefill; ours
computes each once and copies its cache.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
PROMPTS, SAMPLES, NEW_TOKENS, ROUNDS = 8, 8, 64, 5
SIDE = 224


class Bench:
    """Both sides on one loaded model."""

    def __init__(self, spec: str) -> None:
        import torch

        from schemas.rollouts import Sampling
        from stages.engines.base import SampleRequest
        from stages.models.load import load_policy
        from stages.models.policy_ref import resolve_policy
        from tests.models.made import image, prompt

        policy = load_policy(resolve_policy(spec), device="cpu")
        self.model, self.processor = policy.model.eval(), policy.processor
        self.engine = _engine(policy)
        # No completion ends before the others.
        self.banned = sorted({*self.engine.banned_token_ids, *self.processor.eos_token_ids})
        self.engine._sampler._banned = torch.tensor(self.banned)
        self.sampling = Sampling(1.0, 1.0, 0, NEW_TOKENS, 0)
        self.requests = []
        for number in range(PROMPTS):
            messages, images = prompt(number, 1)[0], [image(SIDE, SIDE, number)]
            encoded = self.processor.encode(messages, images)
            self.requests.append(
                SampleRequest(f"p{number}", encoded.token_ids, encoded.image_inputs, SAMPLES, messages, images)
            )
        self.inputs = self.processor.batch(
            [r.token_ids for r in self.requests], [r.image_inputs for r in self.requests], side="left"
        )

    def ours(self) -> int:
        """Tokens of one round of ours."""
        return sum(len(s.token_ids) for _, samples in self.engine.sample(self.requests, self.sampling) for s in samples)

    def peer(self, logprobs: bool) -> Callable[[], int]:
        """One round of `generate`."""
        import torch

        def once() -> int:
            with torch.no_grad():
                out = self.model.generate(
                    **self.inputs,
                    do_sample=True,
                    temperature=1.0,
                    top_p=1.0,
                    top_k=0,
                    num_return_sequences=SAMPLES,
                    max_new_tokens=NEW_TOKENS,
                    suppress_tokens=self.banned,
                    pad_token_id=self.processor.pad_token_id,
                    return_dict_in_generate=True,
                    output_scores=logprobs,
                )
                if logprobs:
                    self.model.compute_transition_scores(out.sequences, out.scores, normalize_logits=True)
            return int(out.sequences[:, self.inputs["input_ids"].shape[1] :].numel())

        return once


def _engine(policy: Any) -> Any:
    from stages.engines.base import EngineSettings
    from stages.engines.transformers.engine import TransformersEngine

    return TransformersEngine(policy, "bench", EngineSettings().batch_tokens)


def _rate(once: Callable[[], int]) -> Callable[[], float]:
    """Tokens a second of one call."""

    def timed() -> float:
        begun = time.perf_counter()
        tokens = once()
        assert tokens == PROMPTS * SAMPLES * NEW_TOKENS, tokens
        return tokens / (time.perf_counter() - begun)

    return timed


def main(spec: str = "tiny:qwen2_5_vl") -> dict[str, Any]:
    """Medians of all sides and the ratios of ours to the peers; prints the table."""
    from bench.timing import in_turn, medians, ratio, table

    bench = Bench(spec)
    sides = {"ours": bench.ours, "bare": bench.peer(False), "same": bench.peer(True)}
    for once in sides.values():
        once()
    found = in_turn({name: _rate(once) for name, once in sides.items()}, ROUNDS)
    figures = {**medians(found, 1), "ratio": ratio(found, "ours", "bare"), "ratio_same": ratio(found, "ours", "same")}
    print("tokens a second:", table([figures.keys(), figures.values()]), sep="\n")
    longest = max(len(r.token_ids) for r in bench.requests)
    return {"policy": spec, "prompts": PROMPTS, "samples": SAMPLES, "new_tokens": NEW_TOKENS, "longest_prompt": longest,
            "unit": "tokens/s", **figures}  # fmt: skip


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:2])))
