"""What search and guidance cost beside a plain rollout, and training with masks of own tokens beside training without.

    python bench/search_and_guidance.py

One tiny policy with random weights and the same prompts, in words: what it says means nothing, and the lengths of
turns and steps are set by a text that ends them (END). Sides take turns; figures are medians over rounds.

- `plain`: `cosmo rollout`'s stage, as it is;
- `search`: the same with an environment that answers each turn with the hits of a BM25 index of 2,000 documents, up to
  TURNS turns and HITS of them each; own tokens are bounded as those of `plain` are;
- `guided`: K candidates a step by a value model, at most STEPS choices.

Seconds are those of the whole stage (sampling, environment, value model, rows on disk) for 1,000 tokens that the policy
wrote and that were kept. `sampled` is how many tokens were sampled for one that is kept, `observed` how many the
environment wrote for one.

Training is one optimizer step of `train --objective rl` on the groups of `train_vs_trl.py`, with a third of the tokens
of each completion not the policy's own, and with all of them its own: the very same ids go through the model.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
POLICY = "tiny:llama"
PROMPTS, SAMPLES, NEW_TOKENS, ROUNDS = 8, 2, 48, 3
K, STEPS, TURNS, HITS = 4, 12, 4, 3
END = "ar"
ENVIRONMENT = f"""
from stages.corpus.index import Index
from stages.prepare.corpus import almanac_documents
from stages.rollout.environments.base import Environment, EnvironmentPlugin, Observation


class Hits(Environment):
    stop = [{END!r}]

    def __init__(self):
        self.index = Index.of(almanac_documents())

    def step(self, row, action):
        hits = self.index.search(f"{{action.text}} people", {HITS})
        return Observation(" | ".join(self.index.documents[hit].title for hit in hits), tag="results")


class Plugin(EnvironmentPlugin):
    def open(self, settings, resources):
        return Hits()


hits = Plugin()
"""


class Rollouts:
    """The three sides on the same prompts, each round's rows in a folder of its own."""

    def __init__(self, place: Path) -> None:
        from stages.core.stage import Resources
        from stages.models.load import load_policy
        from stages.models.policy_ref import resolve_policy
        from stages.models.warm import POLICY as WARM
        from stages.rollout.methods import guided
        from tests.edit.made import prompts

        self._place, self._runs = place, 0
        self.inputs = prompts(place / "prompts", PROMPTS)
        self._warm = Resources()
        policy = load_policy(resolve_policy(POLICY), device="cpu")
        self._warm.put(WARM, policy.ref.id, policy)
        guided.STEP_ENDS = {"sentence": [END]}
        (place / "hits.py").write_text(ENVIRONMENT, encoding="utf-8")
        environment = {"name": f"{place / 'hits.py'}:hits", "max_turns": TURNS}
        guide = {"values": str(_value_model(place / "values")), "k": K, "max_steps": STEPS}
        self.tables: dict[str, dict[str, Any]] = {
            "plain": {},
            "search": {"environment": environment},
            "guided": {"guide": guide},
        }
        self.numbers: dict[str, dict[str, float]] = {}

    def once(self, name: str) -> float:
        """Seconds of one side for 1,000 own tokens."""
        from schemas.tables import ROLLOUTS
        from stages.core.config import build
        from stages.core.runner import Options, run_stage
        from stages.core.runs.folder import RunFolder
        from stages.rollout.config import RolloutConfig
        from stages.rollout.stage import STAGE

        self._runs += 1
        sizes = {"policy": POLICY, "samples": SAMPLES, "max_new_tokens": NEW_TOKENS, "device": "cpu"}
        config = build(RolloutConfig, {**sizes, **self.tables[name]}, "rollout")
        runs = Options(runs=self._place / f"runs-{self._runs}")
        begun = time.perf_counter()
        result = run_stage(STAGE, config, [self.inputs], options=runs, resources=self._warm)
        took = time.perf_counter() - begun
        made = [c for g in RunFolder.open(result.path).rows(ROLLOUTS) for c in g.completions]
        assert not any(c.error for c in made), next(c.error for c in made if c.error)
        whole = sum(len(c.token_ids) for c in made)
        own = sum(len(c.token_ids) if c.generated is None else sum(c.generated) for c in made)
        guide = result.quality.numbers.get("guided")
        sampled = guide["sampled_tokens"] / guide["kept_tokens"] if guide else 1.0
        self.numbers[name] = {
            "own_tokens": own,
            "observed": round((whole - own) / own, 3),
            "sampled": round(sampled, 3),
        }
        return 1000 * took / own


def _value_model(folder: Path) -> Path:
    """The policy with a head of random numbers: any choice costs the same."""
    import torch

    from stages.models.load import load_value_model, save_policy
    from stages.models.policy_ref import resolve_policy
    from stages.models.value_record import ValueRecord

    record = ValueRecord(["answer"], "sentence", {"answer": 1}, {"general": {"answer": 1.0}})
    policy = load_value_model(resolve_policy(POLICY), record, device="cpu")
    torch.manual_seed(0)
    torch.nn.init.normal_(policy.model.value_head.weight)
    save_policy(policy.model, policy.processor, folder)
    return folder


def training(place: Path) -> dict[str, Callable[[], float]]:
    """Seconds of a step with masks and without, by side."""
    from bench.train_vs_trl import Ours, Setup, Shape

    sides = {name: Ours(Shape(4, 128, 48), place / name, Setup(laps=2)) for name in ("masked", "whole")}
    masked = sides["masked"]
    masked.rows = [replace(r, completions=[_masked(c) for c in r.completions]) for r in masked.rows]
    return {name: side.step for name, side in sides.items()}


def _masked(completion: Any) -> Any:
    """The completion with the middle third of its tokens an environment's."""
    third = len(completion.token_ids) // 3
    own = [not third <= at < 2 * third for at in range(len(completion.token_ids))]
    logprobs = [value if mine else 0.0 for value, mine in zip(completion.logprobs, own, strict=True)]
    return replace(completion, generated=own, logprobs=logprobs)


def main() -> dict[str, Any]:
    """Medians of all sides and their ratios to the plain ones; prints the table."""
    from bench.timing import in_turn, medians, ratio, table

    with tempfile.TemporaryDirectory() as folder:
        rollouts = Rollouts(Path(folder))
        sides = {name: partial(rollouts.once, name) for name in rollouts.tables}
        for once in sides.values():
            once()
        found = in_turn(sides, ROUNDS)
        steps = training(Path(folder))
        for step in steps.values():
            step()
        laps = in_turn(steps, ROUNDS)
    figures = {**medians(found, 4), **medians(laps, 4)}
    ratios = {name: ratio(found, name, "plain") for name in ("search", "guided")}
    ratios["masked"] = ratio(laps, "masked", "whole")
    print("s for 1,000 own tokens, s a step:", table([figures.keys(), figures.values()]), sep="\n")
    print("to plain, to whole:", table([ratios.keys(), ratios.values()]), rollouts.numbers, sep="\n")
    sizes = {"policy": POLICY, "prompts": PROMPTS, "samples": SAMPLES, "new_tokens": NEW_TOKENS, "k": K}
    return {**sizes, **figures, "ratios": ratios, "tokens": rollouts.numbers}


if __name__ == "__main__":
    print(json.dumps(main()))
