"""The tables, by name and version. Raise a version when its row changes; golden files insist."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from schemas.evals import EvalRow, ExportRow
from schemas.prompts import DocumentRow, PromptRow
from schemas.rejected import RejectedRow
from schemas.rollouts import GuidedStep, RolloutGroup
from schemas.scored import ScoredGroup
from schemas.steps import StepRow


@dataclass(frozen=True, slots=True)
class Table:
    """A row type with its name on disk."""

    name: str
    version: int
    row: type[Any]
    added: frozenset[str] = frozenset()
    """Columns that shards of an older version lack and are read without; each then has its default."""


# What scored shards lack that were written before any verifier graded steps.
_STEPS = frozenset({"completions.grades.steps"})
# What choices of version 1 lack: there was one beam, and nobody looked ahead.
_BEAMS = frozenset({"beam", "candidates.ahead", "candidates.cumulative", "candidates.beam"})
# What shards of prompts 2, rollouts 2 and scored 4 lack: nobody said which facts are whose, no text ended a completion,
# and every token was the policy's own.
_KEYS = frozenset({"visual_keys", "text_keys"})
_CONTINUED = frozenset({"completions.sampling.stop", "completions.stopped_by", "completions.generated"})
# What prompts 3, rollouts 3 and scored 5 lack besides: nobody had edited or guided a completion, and there was no
# environment.
_EDITED, _GUIDED = frozenset({"edit"}), frozenset({"completions.guided"})
_OBSERVED = frozenset({"completions.observed"})

PROMPTS = Table("prompts", 4, PromptRow, _KEYS | _EDITED)
ROLLOUTS = Table("rollouts", 4, RolloutGroup, _KEYS | _CONTINUED | _EDITED | _GUIDED | _OBSERVED)
SCORED = Table("scored", 6, ScoredGroup, _KEYS | _CONTINUED | _EDITED | _GUIDED | _OBSERVED | _STEPS)
STEPS = Table("steps", 3, StepRow)
EVALS = Table("evals", 2, EvalRow)
EXPORTS = Table("exports", 1, ExportRow)
REJECTED = Table("rejected", 1, RejectedRow)
STEPS_GUIDED = Table("steps_guided", 2, GuidedStep, _BEAMS)
CORPUS = Table("corpus", 1, DocumentRow)

TABLES = {t.name: t for t in (PROMPTS, ROLLOUTS, SCORED, STEPS, EVALS, EXPORTS, REJECTED, STEPS_GUIDED, CORPUS)}


def table_of(row: type[Any]) -> Table:
    """The table a row class belongs to; KeyError names the class."""
    for table in TABLES.values():
        if table.row is row:
            return table
    raise KeyError(f"{row.__name__} is no table's row")
