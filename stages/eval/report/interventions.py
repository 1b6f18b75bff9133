"""Interventions: where a completion was not left to the policy alone, and what came of it.

Two kinds leave a record: choices of guided sampling (table `steps_guided`, beside a rollout) and edits (a row's
`edit`). A completion counts as changed where it is not what it would have been without: not the candidates that were
sampled first, one after the other; not the words that stood there before the edit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from schemas.tables import SCORED, STEPS_GUIDED
from stages.eval.report.lineage import ancestors
from stages.eval.views import read_views

if TYPE_CHECKING:
    import pyarrow.parquet as pq

    from schemas.rollouts import GuidedStep
    from stages.core.runs.folder import RunFolder

EVALUATED, LEARNED = "In the completions measured here", "In the completions that training was given"
_TOUCHED = (["completions", "guided"], ["edit", "by"])
_COLUMNS = (
    ["id"], ["label"], ["parent_id"], ["edit", "by"], ["edit", "index"], ["edit", "before"], ["edit", "after"],
    ["completions", "index"], ["completions", "guided"], ["completions", "error"], ["completions", "reward"],
    ["completions", "token_ids"],
)  # fmt: skip


@dataclass(slots=True)
class Tally:
    """So many, of which so many changed something."""

    all: int = 0
    changed: int = 0

    def count(self, changed: bool) -> None:
        """Count one more, and whether it changed something."""
        self.all += 1
        self.changed += changed


@dataclass(slots=True)
class Kind:
    """All interventions of one kind."""

    name: str
    unit: str
    """What one of them is: a choice or an edit."""
    about: str
    """What it means that one changed something."""
    made: Tally = field(default_factory=Tally)
    """The interventions themselves."""
    labels: dict[str, Tally] = field(default_factory=dict)
    """The completions that they reached, by label."""
    rewards: list[tuple[float, float]] = field(default_factory=list)
    """Of edits whose completion was graded before: its reward, and the mean of those after."""


@dataclass(slots=True)
class Part:
    """The interventions in some runs."""

    title: str
    kinds: dict[str, Kind] = field(default_factory=dict)
    untold: int = 0
    """Guided completions whose choices are not here any more: nobody knows what else they would have been."""

    def kind(self, name: str, unit: str, about: str) -> Kind:
        """The kind of that name, made when it is first met."""
        return self.kinds.setdefault(name, Kind(name, unit, about))


@dataclass(frozen=True, slots=True)
class _Choice:
    """Of one choice what is asked here: its candidates are many, and a run has a choice a step."""

    of: str
    at: int
    first: list[int]
    """What would have been taken, had nobody chosen."""
    beam: int
    """Where that went on."""
    changed: bool | None
    """Whether another one was kept; None for a beam that was given up."""


Choices = dict[tuple[str, int], dict[tuple[int, int], _Choice]]
"""By (prompt id, index) of a completion, its choices by (step, beam)."""


def interventions(inputs: list[RunFolder], training: list[RunFolder]) -> list[Part]:
    """The interventions in what is measured, and in what the training runs were given; parts without any left out."""
    own = {folder.fingerprint for folder in inputs}
    # A run of hundreds of turns has as many scored runs: of those only what may hold any is opened.
    given = [f for f in ancestors(training) if f.table == SCORED.name and f.fingerprint not in own and _may_have(f)]
    parts = []
    for title, folders in ((EVALUATED, inputs), (LEARNED, given)):
        part = Part(title)
        for folder in folders:
            _add(part, folder)
        if part.kinds or part.untold:
            parts.append(part)
    return parts


def _may_have(folder: RunFolder) -> bool:
    """Whether it was made from an edit or a rollout that was guided, by what their folders say."""
    return any(f.stage == "edit" or (f.config.get("guide") or {}).get("k", 1) > 1 for f in ancestors([folder]))


def _add(part: Part, folder: RunFolder) -> None:
    rows = list(_rows(folder))
    edited = [row for row in rows if row["edit"] is not None]
    # What goes on from an edit of a guided completion is called guided, and chose nothing.
    guided = [row for row in rows if row["edit"] is None]
    before = _rewards_before(edited, folder) if edited else {}
    for row in edited:
        _add_edit(part, row, before.get((row["parent_id"], row["edit"]["index"])))
    choices = _choices(folder) if guided else {}
    for row in guided:
        _add_guided(part, row, choices)


def _rows(folder: RunFolder) -> Iterator[dict[str, Any]]:
    """What is asked of the groups that somebody or something intervened in."""
    from stages.core.runs.shards import leaves, open_shard

    for shard in folder.shard_paths():
        with open_shard(shard, SCORED) as file:
            touched, columns = (leaves(file, wanted.__contains__) for wanted in (_TOUCHED, _COLUMNS))
            for number in range(file.num_row_groups):
                if not _is_touched(file, number, touched):
                    continue
                for row in file.read_row_group(number, columns=columns).to_pylist():
                    # A shard of an older version lacks either.
                    row = {"edit": None, **row, "completions": row["completions"] or []}
                    if row["edit"] is not None or any(c.get("guided") for c in row["completions"]):
                        yield row


def _is_touched(file: pq.ParquetFile, number: int, columns: list[str]) -> bool:
    """Whether a row group holds an edit or a guided completion."""
    import pyarrow.compute as pc

    read = file.read_row_group(number, columns=columns)
    if "edit" in read.column_names and pc.any(pc.is_valid(pc.struct_field(read.column("edit"), "by"))).as_py():
        return True
    if "completions" not in read.column_names:
        return False
    return bool(pc.any(pc.struct_field(pc.list_flatten(read.column("completions")), "guided")).as_py())


def _reached(row: dict[str, Any]) -> list[dict[str, Any]]:
    return [c for c in row["completions"] if c["error"] is None]


def _add_edit(part: Part, row: dict[str, Any], reward_before: float | None) -> None:
    edit = row["edit"]
    kind = part.kind(f"Edited by {edit['by']}", "edit", "put other words there")
    changed = edit["before"] != edit["after"]
    kind.made.count(changed)
    reached = _reached(row)
    for _ in reached:
        kind.labels.setdefault(row["label"], Tally()).count(changed)
    after = [c["reward"] for c in reached if c["reward"] is not None]
    if reward_before is not None and after:
        kind.rewards.append((reward_before, sum(after) / len(after)))


def _rewards_before(rows: list[dict[str, Any]], folder: RunFolder) -> dict[tuple[str, int], float]:
    """Rewards by (id, index) of what was edited, as far as the scored runs that it was made from are still there."""
    parents = {row["parent_id"] for row in rows}
    above = [run for run in ancestors([folder]) if run.table == SCORED.name and run.fingerprint != folder.fingerprint]
    return {
        (group.id, completion.index): completion.reward
        for run in above
        for shard in run.shard_paths()
        for group in read_views(shard, parents)
        for completion in group.completions
        if completion.reward is not None
    }


def _add_guided(
    part: Part, row: dict[str, Any], choices: dict[tuple[str, int], dict[tuple[int, int], _Choice]]
) -> None:
    for completion in _reached(row):
        if not completion.get("guided"):
            continue
        own = choices.get((row["id"], completion["index"]))
        if not own:
            part.untold += 1
            continue
        of = next(iter(own.values())).of
        name = f"Guided by {of}" if of else "Picked at random"
        kind = part.kind(name, "choice", "kept another candidate than the first")
        for choice in own.values():
            if choice.changed is not None:
                kind.made.count(choice.changed)
        kind.labels.setdefault(row["label"], Tally()).count(not _of_firsts(completion["token_ids"], own))


def _choices(folder: RunFolder) -> Choices:
    """The choices of the rollouts that a scored run was made from."""
    from stages.core.runs.folder import further_rows

    found: Choices = {}
    for run in folder.upstream():
        for step in further_rows(run, STEPS_GUIDED):
            found.setdefault((step.id, step.index), {})[step.step, step.beam] = _choice(step)
    return found


def _choice(step: GuidedStep) -> _Choice:
    ids = [list(candidate.token_ids) for candidate in step.candidates]
    # What could not be sampled has no ids, and nobody would have taken it.
    first = next((at for at, own in enumerate(ids) if own), 0)
    changed = None if step.chosen < 0 else ids[step.chosen] != ids[first]
    return _Choice(", ".join(step.dimensions), step.from_token, ids[first], step.candidates[first].beam or 0, changed)


def _of_firsts(token_ids: list[int], choices: dict[tuple[int, int], _Choice]) -> bool:
    """Whether a completion is its first candidates one after the other, of several beams along the one they became."""
    at, step, beam = 0, 0, 0
    while (choice := choices.get((step, beam))) is not None and choice.at == at:
        if token_ids[at : at + len(choice.first)] != choice.first:
            return False
        at, step, beam = at + len(choice.first), step + 1, choice.beam
    return at == len(token_ids)
