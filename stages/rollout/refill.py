"""Further draws of a turn, as many prompts as live groups are missing: DAPO's dynamic sampling (arXiv:2503.14476).

A group whose completions are all right or all wrong teaches nothing, so DAPO samples on until a batch is full of
others. Here a try is a rollout of its own, planned from the scored groups of the turn's draws before it: a function of
its inputs like any other, and every draw stays on disk. Ours is how many are drawn: the missing groups over the share
of live ones so far, at most a whole draw and at least one prompt, so that a turn has the same steps whatever comes out.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schemas.scored import counting_value, is_live
from stages.core.config import option
from stages.core.errors import UsageError
from stages.core.runs.folder import RunFolder
from stages.core.stage import Plan
from stages.rollout.adaptive_weights import AdaptiveSelection, known_before, scored_folder


@dataclass(frozen=True)
class RefillSelection(AdaptiveSelection):
    """A selection that may be cut to what other draws of the same turn lack."""

    # Where the folders lie changes nothing: what is in them is in the plan's key.
    refill_of: list[str] = option([], "Scored runs whose live groups count: what they lack is drawn", affects=False)
    refill_to: int = option(0, "Live groups that all the draws together are to have", low=0)
    refill_by: str = option("", "Verifier by whose values a group is live, as in [train] flat_by; else by its rewards")


def refilled(selection: RefillSelection, before: Plan | None = None) -> tuple[int | None, dict[str, Any]]:
    """How many prompts of the draw are wanted, None for all of them, and what the plan's key says of it.

    `before`: the same plan made earlier (`Context.before`), whose number holds where the folders do.
    """
    if not selection.refill_of:
        return None, {}
    if not selection.take or not selection.refill_to:
        missing = "take" if not selection.take else "refill_to"
        raise UsageError(f"select.refill_of is set and select.{missing} is not", f"--set select.{missing}=32")
    folders = [scored_folder(path, "refill_of") for path in selection.refill_of]
    key: dict[str, Any] = {"refill_of": [folder.fingerprint for folder in folders]}
    wanted = known_before(before, key, "wanted", int)
    if wanted is None:
        found = Counter(live for folder in folders for live in _live(folder, selection.refill_by))
        wanted = prompts_wanted(found[True], found.total(), selection.refill_to, selection.take)
    return wanted, {**key, "wanted": wanted}


def prompts_wanted(live: int, groups: int, goal: int, most: int) -> int:
    """How many further prompts make `goal` live groups likely, from 1 to `most`."""
    missing = goal - live
    if missing <= 0:
        return 1
    return min(most, math.ceil(missing * groups / live)) if live else most


def _live(folder: RunFolder, by: str) -> Iterator[bool]:
    """Whether each scored group of a run is live; nothing but rewards and grades is read."""
    for path in folder.shard_paths():
        for completions in _completions(path):
            values = [counting_value(c["grades"] or [], by) for c in completions] if by else []
            yield is_live([c["reward"] for c in completions], values)


def _completions(path: Path) -> Iterator[list[dict[str, Any]]]:
    from schemas.tables import SCORED
    from stages.core.runs.shards import open_shard

    with open_shard(path, SCORED) as file:
        leaves = [file.schema.column(i).path for i in range(len(file.schema))]
        ends = (".reward", ".grades", ".name", ".value", ".left_to")
        # Writers call the inside of a list `element` or `item`: the ends of the path are what is sure.
        read = [n for n in leaves if n.startswith("completions.") and n.endswith(ends) and ".terms." not in n]
        yield from file.read(columns=read).column("completions").to_pylist()
