"""Label weights that adapt to the reward: more of what the policy does not do well yet (our own rule).

The weights are computed from scored groups when a rollout is planned, so a rollout that adapts is a function of its
inputs, like any other: the scored folders are part of its identity, and the weights are kept in its manifest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from stages.core.config import option
from stages.core.errors import InputError, UsageError
from stages.core.runs.folder import RunFolder
from stages.core.runs.select import Selection
from stages.core.stage import Plan

T = TypeVar("T")

# A label that is done keeps this part of a hopeless one's pull: what is never seen is never measured again.
LEAST_NEED = 0.1


@dataclass(frozen=True)
class AdaptiveSelection(Selection):
    """A selection whose label weights may adapt to the reward of earlier turns."""

    # Where the folders lie changes nothing: what is in them is in the plan's key.
    adapt_to: list[str] = option([], "Scored runs: labels that earned little there get more weight", affects=False)
    adapt_strength: float = option(0.5, "0 keeps the label weights, 1 adapts them altogether", high=1.0, low=0.0)


def adapted(selection: AdaptiveSelection, before: Plan | None = None) -> tuple[AdaptiveSelection, dict[str, Any]]:
    """The selection with the weights to draw with, and what the plan's key says of it.

    `before`: the same plan made earlier (`Context.before`), whose weights hold where the folders do.
    """
    if not selection.adapt_to:
        return selection, {}
    if not selection.labels:
        raise UsageError(
            "select.adapt_to changes label weights, and select.labels gives none",
            "--set 'select.labels={general = 1.0, safety = 1.0}'",
        )
    folders = [scored_folder(path, "adapt_to") for path in selection.adapt_to]
    key: dict[str, Any] = {"adapt_to": [folder.fingerprint for folder in folders]}
    weights = known_before(before, key, "adapted_labels", dict)
    if weights is None:
        weights = adapted_weights(selection.labels, reward_shares(folders), selection.adapt_strength)
    return replace(selection, labels=weights), {**key, "adapted_labels": weights}


def known_before(before: Plan | None, key: dict[str, Any], name: str, kind: type[T]) -> T | None:
    """What an earlier plan's key has under `name`, where the rest of `key` is as it was; None where nothing fits."""
    if before is None or any(before.key.get(k) != value for k, value in key.items()):
        return None
    found = before.key.get(name)
    return found if isinstance(found, kind) else None


def adapted_weights(labels: Mapping[str, float], shares: Mapping[str, float], strength: float) -> dict[str, float]:
    """Label weights, summing to 1, moved by `strength` towards weight x (1 - share of the reward earned).

    A label of which nothing is known is taken to need as much as the known ones do on average.
    """
    total = sum(labels.values())
    own = {label: weight / total for label, weight in labels.items() if weight > 0}
    needs = {label: max(LEAST_NEED, 1.0 - shares[label]) for label in own if label in shares}
    if not needs:
        return {label: round(weight, 6) for label, weight in own.items()}
    usual = sum(own[label] * need for label, need in needs.items()) / sum(own[label] for label in needs)
    pulled = {label: weight * needs.get(label, usual) for label, weight in own.items()}
    pull = sum(pulled.values())
    # Rounded, for the weights stand in the plan's key: another last bit would be another run.
    return {label: round((1 - strength) * own[label] + strength * pulled[label] / pull, 6) for label in own}


def reward_shares(folders: list[RunFolder]) -> dict[str, float]:
    """By label, the reward earned as a share of what its terms could have paid, 0 to 1.

    Grades lie in 0 to 1, so a completion's terms could have paid the sum of their weights; a term that did not
    apply could have paid nothing.
    """
    earned: dict[str, float] = {}
    possible: dict[str, float] = {}
    for folder in folders:
        for path in folder.shard_paths():
            for label, terms in _terms(path):
                applied = [t for t in terms if t["value"] is not None and t["weight"] > 0]
                earned[label] = earned.get(label, 0.0) + sum(t["weight"] * t["value"] for t in applied)
                possible[label] = possible.get(label, 0.0) + sum(t["weight"] for t in applied)
    return {label: min(1.0, max(0.0, earned[label] / most)) for label, most in possible.items() if most > 0}


def _terms(path: Path) -> list[tuple[str, list[dict[str, Any]]]]:
    """(label, reward terms) of each completion of a scored shard; nothing else is read."""
    from schemas.tables import SCORED
    from stages.core.runs.shards import open_shard

    with open_shard(path, SCORED) as file:
        leaves = [file.schema.column(i).path for i in range(len(file.schema))]
        # Writers call the inside of a list `element` or `item`: the ends of the path are what is sure.
        terms = [n for n in leaves if ".terms." in n and n.endswith((".weight", ".value"))]
        table = file.read(columns=["label", *terms]).to_pydict()
    return [
        (label, completion["terms"] or [])
        for label, completions in zip(table["label"], table["completions"], strict=True)
        for completion in completions or []
    ]


def scored_folder(path: str, key: str) -> RunFolder:
    """The complete scored run at a path that a selection names under `key`; InputError where there is none."""
    from schemas.tables import SCORED

    folder = RunFolder.open(Path(path))
    if folder.table != SCORED.name:
        raise InputError(f"select.{key}: {path} holds {folder.table}, not scored groups", "name a cosmo score run")
    if folder.missing():
        raise InputError(f"select.{key}: {path} is incomplete", "finish it with the same cosmo score command")
    return folder
