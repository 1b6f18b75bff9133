"""How much disk a recipe will need, said before it starts."""

from __future__ import annotations

import shutil
from pathlib import Path

from cosmo_cli.output import Output
from cosmo_cli.recipe.schema import Phase, Recipe
from stages.core.errors import CosmoError

# A policy is its weights; a trainer state is two float32 moments; one more of both while the next is written.
STATES = 3
# Per completion token: an id, a log-prob, a few characters of text, grades. Measured at 14 bytes compressed.
TOKEN_BYTES = 20
# A prompt row with a small image; large images are counted when `prepare` has made them.
PROMPT_BYTES = 6_000


def estimate(recipe: Recipe, weights: int) -> int:
    """Bytes at the peak of the run, from the recipe and the size of one policy's weights."""
    ends = len(recipe.phases) if recipe.retention.phase_ends else 0
    policies = (recipe.retention.policies + 1 + ends) * weights * STATES + weights
    return int(policies + sum(_groups(recipe, p) for p in recipe.phases if p.needs_rollouts))


def _groups(recipe: Recipe, phase: Phase) -> int:
    """Bytes of a phase's rollout and scored shards, which both hold the groups."""
    rollout = {**recipe.table("rollout"), **phase.rollout}
    tokens = int(rollout.get("samples", 8)) * int(rollout.get("max_new_tokens", 256))
    return 2 * phase.iterations * (1 + phase.refill) * phase.prompts * (PROMPT_BYTES + tokens * TOKEN_BYTES)


def weights_bytes(recipe: Recipe) -> int | None:
    """Size of the starting policy's weights, when they are on disk already."""
    from stages.models.policy_ref import resolve_policy

    ref = resolve_policy(recipe.policy)
    if ref.path is None:
        return None
    return sum(p.stat().st_size for p in ref.path.glob("*.safetensors"))


def check_room(recipe: Recipe, runs: Path, output: Output) -> None:
    """Say what is needed; CosmoError when the disk has less."""
    weights = weights_bytes(recipe)
    if weights is None:
        return
    need = estimate(recipe, weights)
    # The runs folder may not be there yet; the disk is that of the nearest folder that is.
    place = runs.absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    output.say(f"disk: about {size(need)} at the peak for models and rollouts, {size(free)} free at {place}")
    if need > free:
        raise CosmoError(
            f"the run needs about {size(need)} and {place} has {size(free)} free",
            "lower [retention] policies, or choose another place with --runs FOLDER",
        )


def size(count: float) -> str:
    """A number of bytes as people say it: `1.5 GiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.1f} {unit}" if unit != "B" else f"{count:.0f} B"
        count /= 1024
    return f"{count:.1f} TiB"
