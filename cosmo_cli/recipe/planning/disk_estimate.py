"""How much disk a recipe will need, said before it starts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from cosmo_cli.recipe.schema import Phase, Recipe
from cosmo_cli.terminal.output import Output
from stages.capacity.machine import existing
from stages.capacity.units import BYTES, MOMENTS, STATES, size
from stages.core.errors import UnavailableError

# Per completion token: an id, a log-prob, a few characters of text, grades. Measured at 14 bytes compressed.
TOKEN_BYTES = 20
# A prompt row with a small image; large images are counted when `prepare` has made them.
PROMPT_BYTES = 6_000
MORE_ROOM = "lower [retention] policies, or choose another place with --runs FOLDER"
"""What to do where a disk is too small."""


def estimate(recipe: Recipe, weights: int) -> int:
    """Bytes at the peak of the run, from the recipe and the size of one policy's weights as training writes them."""
    ends = len(recipe.phases) if recipe.retention.phase_ends else 0
    state = weights * max(map(_state_weight, _train_tables(recipe)), default=STATES)
    # One more while the next is written, beside the checkpoint of its run, which holds as much; and weights alone as
    # what is exported.
    kept = max(recipe.retention.policies, *(1 + phase.policy_lag for phase in recipe.phases), 1)
    policies = (kept + 2 + ends) * state + weights
    return int(policies + sum(_groups(recipe, p) for p in recipe.phases if p.needs_rollouts))


def _train_tables(recipe: Recipe) -> list[dict[str, Any]]:
    """What each phase says of its training."""
    return [{**recipe.table("train"), **phase.train} for phase in recipe.phases]


def _state_weight(train: dict[str, Any]) -> int:
    """How many times its weights all that a training run saves is."""
    if dict(train.get("lora") or {}).get("rank"):
        # Adapters and their moments weigh next to nothing.
        return 1
    coarse = BYTES[train.get("dtype", "float32")] < BYTES["float32"]
    # A master and moments in float32, twice as large a number as the weight's.
    return 1 + 2 * (MOMENTS + 1) if coarse and train.get("masters", True) else STATES


def _groups(recipe: Recipe, phase: Phase) -> int:
    """Bytes of a phase's rollout and scored shards, which both hold the groups."""
    rollout = {**recipe.table("rollout"), **phase.rollout}
    tokens = int(rollout.get("samples", 8)) * int(rollout.get("max_new_tokens", 256))
    return 2 * phase.iterations * (1 + phase.refill) * phase.prompts * (PROMPT_BYTES + tokens * TOKEN_BYTES)


def weights_bytes(recipe: Recipe) -> int | None:
    """Size of a policy's weights as training writes them, when those of the starting policy are on disk already."""
    from stages.models.policy_ref import resolve_policy

    ref = resolve_policy(recipe.policy)
    if ref.path is None:
        return None
    stored = sum(p.stat().st_size for p in ref.path.glob("*.safetensors"))
    config = json.loads((ref.path / "config.json").read_text(encoding="utf-8"))
    # Older versions of transformers call it torch_dtype. Trained in float32, bfloat16 weights are twice as large.
    before = BYTES.get(str(config.get("dtype") or config.get("torch_dtype")), 4)
    return stored * max((BYTES[t.get("dtype", "float32")] for t in _train_tables(recipe)), default=before) // before


def check_room(recipe: Recipe, runs: Path, output: Output) -> int | None:
    """Say what is needed; UnavailableError when there is less. Bytes of a policy's weights, None where nobody knows."""
    weights = weights_bytes(recipe)
    if weights is None:
        return None
    need = estimate(recipe, weights)
    place = existing(runs)
    free = shutil.disk_usage(place).free
    output.say(f"disk: about {size(need)} at the peak for models and rollouts, {size(free)} free at {place}")
    if need > free:
        raise UnavailableError(
            f"the run needs about {size(need)} and {place} has {size(free)} free",
            MORE_ROOM,
        )
    return weights
