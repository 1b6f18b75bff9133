"""Made-up scored groups with a known truth, put on disk by the real runner."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schemas.identity import digest, prompt_id
from schemas.rollouts import Sampling
from schemas.scored import Grade, ScoredCompletion, ScoredGroup
from schemas.steps import LabelStat, StepRow
from schemas.tables import SCORED, STEPS, Table
from schemas.values import Image, text_message
from stages.core.config import option
from stages.core.runner import Options, run_stage
from stages.core.runs.folder import RunFolder
from stages.core.stage import Context, Plan, ShardWriter, Stage, Work


@dataclass(frozen=True)
class RowsConfig:
    """Which made-up rows; the digest stands for them."""

    policy: str = option("", "Recorded as a rollout's would be")
    content: str = option("", "Digest of the rows")


class RowsStage(Stage):
    """Writes rows that a test made, `per_shard` to a shard."""

    version, reads, config = 1, (), RowsConfig

    def __init__(self, name: str, table: Table, rows: list[Any], per_shard: int = 50) -> None:
        self.name, self.table = name, table
        self._parts = [rows[i : i + per_shard] for i in range(0, len(rows), per_shard)] or [[]]

    def plan(self, ctx: Context) -> Plan:
        return Plan([{"part": i} for i in range(len(self._parts))], {})

    def open(self, ctx: Context) -> Work:
        def work(shard: dict[str, Any], writer: ShardWriter) -> None:
            for row in self._parts[shard["part"]]:
                writer.row(row)
            if shard["part"] == 0:
                writer.reject("made", "row 0", "bad_image", "made up")

        return work


def run_of(runs: Path, name: str, table: Table, rows: list[Any], per_shard: int = 50, policy: str = "") -> RunFolder:
    """A complete run folder that holds these rows."""
    content = digest([repr(r) for r in rows])
    options = Options(runs=runs)
    result = run_stage(RowsStage(name, table, rows, per_shard), RowsConfig(policy, content), [], options=options)
    return RunFolder.open(result.path)


def scored_run(runs: Path, groups: list[ScoredGroup], per_shard: int = 50) -> RunFolder:
    """A complete scored run."""
    return run_of(runs, "score", SCORED, groups, per_shard)


def steps_run(runs: Path, rows: list[StepRow]) -> RunFolder:
    """A complete train run without its policy."""
    return run_of(runs, "train", STEPS, rows)


def grade(name: str, value: float | None, verdict: str | None = None, status: str = "ok") -> Grade:
    """A grade as a verifier gives it."""
    return Grade(name=name, version=1, value=value, status=status, verdict=verdict)


def completion(
    *grades: Grade,
    index: int = 0,
    policy: str = "policy-a",
    text: str = "<think> hm </think> two",
    tokens: int = 3,
    reward: float | None = None,
    finish: str = "stop",
) -> ScoredCompletion:
    """A completion with the grades given."""
    return ScoredCompletion(
        index=index,
        text=text,
        token_ids=list(range(tokens)),
        logprobs=[-0.5] * tokens,
        finish_reason=finish,
        sampling=Sampling(1.0, 1.0, 0, 64, 0),
        policy_id=policy,
        engine="made",
        error="engine gave up" if finish == "error" else None,
        grades=list(grades),
        reward=reward,
    )


def group(
    words: str,
    completions: list[ScoredCompletion],
    *,
    label: str = "general",
    images: list[Image] | None = None,
    answer: str | None = None,
    **fields: Any,
) -> ScoredGroup:
    """A scored group around the completions."""
    own_images = images or []
    messages = [text_message("user", words, len(own_images))]
    return ScoredGroup(
        id=prompt_id(label=label, messages=messages, images=own_images, answer=answer),
        label=label,
        source="made",
        task=fields.pop("task", label),
        messages=messages,
        images=own_images,
        answer=answer,
        completions=completions,
        reward_formula=fields.pop("reward_formula", "sum: format*1"),
        **fields,
    )


def answered(words: str, rights: list[bool], *, policy: str = "policy-a", **fields: Any) -> ScoredGroup:
    """A general row whose completions are right or wrong as told."""
    made = [
        completion(
            grade("format", 1.0, "well_formed"),
            grade("answer", float(r), "correct" if r else "incorrect"),
            index=i,
            policy=policy,
            reward=float(r),
        )
        for i, r in enumerate(rights)
    ]
    return group(words, made, answer="two", answer_kind="text", **fields)


def attacked(words: str, verdicts: list[str], *, policy: str = "policy-a", **fields: Any) -> ScoredGroup:
    """A harmful row (unless told otherwise) whose completions got these safety verdicts."""
    made = [
        completion(grade("safety", 0.0 if v == "unsafe" else 1.0, v), index=i, policy=policy)
        for i, v in enumerate(verdicts)
    ]
    fields = {"label": "safety", "harmful": True, **fields}
    return group(words, made, **fields)


def step(n: int, *, objective: str = "rl", **fields: Any) -> StepRow:
    """One step's metrics."""
    return StepRow(
        objective=objective,
        step=n,
        rollout=0,
        update=0,
        loss=1 / n,
        learning_rate=1e-6,
        tokens=10,
        groups=4,
        seconds=0.1,
        **fields,
    )


def label_stat(label: str, **fields: Any) -> LabelStat:
    """One label's part in a step."""
    return LabelStat(label=label, completions=fields.pop("completions", 8), **fields)
