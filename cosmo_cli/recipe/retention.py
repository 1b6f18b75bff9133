"""What may go: weights and trainer state of policies that no later step needs. Rows and receipts stay."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from cosmo_cli.recipe.schema import Retention
from cosmo_cli.recipe.steps import Step
from stages.core.runs.folder import RunFolder
from stages.core.runs.upkeep import prune_artifacts

HEAVY = ("policy", "trainer")


def prune(retention: Retention, trained: list[tuple[Step, Path]], needed: Iterable[Path] = ()) -> list[Path]:
    """Drop what the recipe does not keep and no later step needs (as the reference of a KL); the folders pruned now.

    Safe to repeat and to be killed in.
    """
    # The latest ones are what an interrupted run goes on from.
    kept = {path for _, path in trained[-retention.policies :]} | set(needed)
    if retention.phase_ends:
        # With its trainer state, so that another recipe can go on from the end of a phase.
        kept |= {path for step, path in trained if step.ends_phase}
    pruned = []
    for _, path in trained:
        if path not in kept and any((path / name).exists() for name in HEAVY):
            prune_artifacts(RunFolder.open(path), HEAVY)
            pruned.append(path)
    return pruned
