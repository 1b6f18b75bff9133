"""Made-up rollout groups, graded in memory or put on disk by the real runner."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from schemas.identity import digest, prompt_id
from schemas.rollouts import Completion, RolloutGroup, Sampling
from schemas.scored import Grade, ScoredCompletion, ScoredGroup, Term
from schemas.tables import Table, table_of
from schemas.values import text_message
from stages.core.registry import load
from stages.core.runner import Options, run_stage
from stages.core.runs.folder import RunFolder
from stages.core.stage import Context, Plan, ShardWriter, Stage, Work
from stages.judging.parsed import parse_completion
from stages.score.config import ScoreConfig
from stages.score.grading import Grader
from stages.score.stage import grader_for

SAMPLING = Sampling(1.0, 1.0, 0, 64, 0)


def completion(text: str, index: int = 0, **fields: Any) -> Completion:
    values: dict[str, Any] = {
        "index": index,
        "text": text,
        "token_ids": [5, 6, 7],
        "logprobs": [-0.5, -0.25, -0.125],
        "finish_reason": "stop",
        "sampling": SAMPLING,
        "policy_id": "p",
        "engine": "fake",
    }
    return Completion(**{**values, **fields})


def group(*texts: str, question: str = "what is it ?", **fields: Any) -> RolloutGroup:
    messages = [text_message("user", question)]
    values: dict[str, Any] = {
        "label": "general",
        "source": "made",
        "task": "made",
        "messages": messages,
        "completions": [completion(t, i) for i, t in enumerate(texts)],
    }
    values |= fields
    values["id"] = prompt_id(label=values["label"], messages=messages, images=[], answer=values.get("answer"))
    return RolloutGroup(**values)


def thought(answer: str) -> str:
    return f"<think> let me see . </think> {answer}"


def grade(verifier: str, said: str, /, *, raw: bool = False, **fields: Any) -> Grade:
    """One verifier's grade of one answer; `raw` takes it as the whole completion, without a think block."""
    text = said if raw else thought(said)
    row = group(text, **fields)
    return load("verifier", verifier).grade(row, row.completions[0], parse_completion(text))


def graded(name: str, value: float | None, status: Any = "ok", version: int = 1, **more: Any) -> Grade:
    """A grade as a verifier gives it."""
    return Grade(name=name, version=version, value=value, status=status, **more)


def graded_row(*grades: Grade, reward: float | None = None, **fields: Any) -> ScoredGroup:
    """A scored group of one completion with these grades, whose reward is the sum of format and answer."""
    values = {g.name: g.value for g in grades}
    terms = [Term(name=name, weight=1.0, value=values.get(name)) for name in ("format", "answer")]
    sample = completion("seven")
    own = {name: getattr(sample, name) for name in sample.__dataclass_fields__}
    made = ScoredCompletion(**own, grades=list(grades), terms=terms, reward=reward)
    row = group(**{"question": "how many ?", **fields})
    own = {name: getattr(row, name) for name in row.__dataclass_fields__ if name != "completions"}
    return ScoredGroup(**own, completions=[made], reward_formula="sum: format*1 + answer*1")


def grader(**config: Any) -> Grader:
    return grader_for(ScoreConfig(**config))


class RowsStage(Stage):
    """Writes groups that a test made, `per_shard` to a shard."""

    name, version, config = "made", 1, ScoreConfig
    reads: tuple[Table, ...] = ()

    def __init__(self, rows: list[Any], per_shard: int) -> None:
        self.table: Table = table_of(type(rows[0]))
        self._rows, self._parts = rows, [rows[i : i + per_shard] for i in range(0, len(rows), per_shard)]

    def plan(self, ctx: Context) -> Plan:
        return Plan([{"part": i} for i in range(len(self._parts))], {"rows": digest([repr(r) for r in self._rows])})

    def open(self, ctx: Context) -> Work:
        def work(shard: dict[str, Any], writer: ShardWriter) -> None:
            for row in self._parts[shard["part"]]:
                writer.row(row)

        return work


def on_disk(runs: Path, rows: list[Any], per_shard: int = 50) -> Path:
    """A complete run folder that holds these rows."""
    return run_stage(RowsStage(rows, per_shard), ScoreConfig(), [], options=Options(runs=runs)).path


def score(runs: Path, *inputs: Path, **config: Any) -> RunFolder:
    """`cosmo score` over run folders; one in which nothing has a reward is looked at like any other."""
    from stages.score.stage import STAGE

    options = Options(runs=runs, accept_failure=True)
    result = run_stage(STAGE, ScoreConfig(**config), list(inputs), options=options)
    return RunFolder.open(result.path)


def scored(folder: RunFolder) -> list[ScoredGroup]:
    from schemas.tables import SCORED

    return list(folder.rows(SCORED))
