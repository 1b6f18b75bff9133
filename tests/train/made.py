"""Made-up rows for the training tests."""

from __future__ import annotations

import io
import os
import random
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from schemas.identity import prompt_id
from schemas.prompts import PromptRow
from schemas.rollouts import Sampling
from schemas.scored import Grade, ScoredCompletion, ScoredGroup, Term
from schemas.steps import StepRow
from schemas.tables import STEPS
from schemas.values import Image, text_message
from stages.core.runner import Options, run_stage
from stages.core.runs.folder import RunFolder
from stages.core.runs.shards import ShardFile
from stages.core.stage import Silent
from stages.models.policy_ref import resolve_policy
from stages.train.config import TrainConfig

WORDS = [
    "how",
    "many",
    "red",
    "circles",
    "are",
    "there",
    "picture",
    "two",
    "three",
    "one",
    "answer",
    "blue",
    "square",
]


def image(seed: int, side: int = 56) -> Image:
    """A small PNG of coloured blocks."""
    from PIL import Image as Pillow

    rng = random.Random(seed)
    canvas = Pillow.new("RGB", (side, side), (rng.randrange(256), rng.randrange(256), rng.randrange(256)))
    canvas.paste((rng.randrange(256), 0, 90), (4, 4, 4 + rng.randrange(8, 40), 30))
    buffer = io.BytesIO()
    canvas.save(buffer, "PNG")
    return Image(buffer.getvalue(), f"made-{seed}.png")


def prompt_row(i: int, *, images: bool = True, label: str = "general", **fields) -> PromptRow:
    """Prompt number i: some words, and an image unless told otherwise."""
    rng = random.Random(i)
    own_images = [image(i, rng.choice([56, 84]))] if images else []
    words = " ".join(rng.choices(WORDS, k=rng.randrange(4, 12))) + f" {i} ?"
    messages = [text_message("user", words, len(own_images))]
    fields.setdefault("reference_response", f"<think> {' '.join(rng.choices(WORDS, k=4))} </think> {rng.choice(WORDS)}")
    return PromptRow(
        id=prompt_id(label=label, messages=messages, images=own_images, answer=str(i)),
        label=label,
        source="made",
        task="made",
        messages=messages,
        images=own_images,
        answer=str(i),
        answer_kind="text",
        **fields,
    )


def scored_group(
    policy,
    i: int,
    *,
    g: int = 4,
    rewards: list[float | None] | None = None,
    images: bool = True,
    label: str = "general",
    temperature: float = 1.0,
    top_p: float = 1.0,
    **fields,
) -> ScoredGroup:
    """A scored group whose completions are random words of the policy's own vocabulary."""
    rng = random.Random(1000 + i)
    row = prompt_row(i, images=images, label=label, **fields)
    encoded = policy.processor.encode(row.messages, row.images)
    rewards = rewards if rewards is not None else [rng.choice([0.0, 0.1, 0.5, 1.0]) for _ in range(g)]
    completions = []
    for k, reward in enumerate(rewards):
        text = " ".join(rng.choices(WORDS, k=rng.randrange(1, 7)))
        ids = policy.processor.encode_completion(text)
        grade = Grade(name="made", version=1, value=reward, status="ok" if reward is not None else "timeout")
        completions.append(
            ScoredCompletion(
                index=k,
                text=text,
                token_ids=ids,
                logprobs=[-2.0 - 0.01 * k] * len(ids),
                finish_reason="stop",
                sampling=Sampling(temperature, top_p, 0, 16, 0),
                policy_id=policy.ref.id,
                engine="made",
                grades=[grade],
                terms=[Term("made", 1.0, reward)],
                reward=reward,
            )
        )
    values = {name: getattr(row, name) for name in PromptRow.__dataclass_fields__}
    return ScoredGroup(
        **values,
        prompt_token_ids=encoded.token_ids,
        banned_token_ids=policy.processor.banned_token_ids,
        completions=completions,
        reward_formula="made*1",
    )


def judged(group: ScoredGroup, verdicts: list[str]) -> ScoredGroup:
    """The group with a verdict of the safety verifier on each completion."""
    grades = [Grade(name="safety", version=1, value=0.0, status="ok", verdict=v) for v in verdicts]
    completions = [replace(c, grades=[*c.grades, g]) for c, g in zip(group.completions, grades, strict=True)]
    return replace(group, completions=completions)


class Stop(Exception):
    """What interrupts a run in its own process."""


class StopAfter(Silent):
    """Interrupts when step n is done, before its checkpoint."""

    def __init__(self, n: int) -> None:
        self.left = n

    def advance(self, n: int = 1, **numbers: float | str) -> None:
        self.left -= "loss" in numbers
        if self.left < 0:
            raise Stop


def write_shard(path, table, rows):
    """A bare shard, which any stage takes as a complete run."""
    file = ShardFile(path, table)
    for row in rows:
        file.add(row)
    file.close()
    return path


def train(inputs, runs, *, resources=None, progress=None, accept_failure=False, **settings) -> RunFolder:
    """Run the train stage as the command line would, on a CPU; a run that learned nothing too, where asked."""
    from stages.train.stage import STAGE

    config = TrainConfig(**{"device": "cpu", **settings})
    inputs = inputs if isinstance(inputs, list) else [inputs]
    result = run_stage(
        STAGE,
        config,
        inputs,
        options=Options(runs=runs, accept_failure=accept_failure),
        resources=resources,
        progress=progress,
    )
    assert result.state in ("done", "cached")
    return RunFolder.open(result.path)


class KillAt(Silent):
    """Ends its own process by SIGKILL at the n-th sign of progress."""

    def __init__(self, n: int) -> None:
        self.left = n

    def advance(self, n: int = 1, **numbers: float | str) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def train_until_killed(inputs, runs, n: int, settings: dict) -> None:
    """For a process of its own: train, and be killed in the middle of it."""
    torch.set_num_threads(1)
    train(inputs, runs, progress=KillAt(n), **settings)


def steps(run: RunFolder) -> list[StepRow]:
    """Its rows without the wall time."""
    return [replace(row, seconds=0.0) for row in run.rows(STEPS)]


def rejects(run: RunFolder) -> list[tuple[str, str]]:
    """(reason, ref) of what was left out."""
    return [(r.reason, r.ref) for r in run.rejected()]


def weights(run: RunFolder) -> dict[str, torch.Tensor]:
    """The saved policy's parameters."""
    return load_file(run.path / "policy" / "model.safetensors")


def tiny_weights(name: str = "qwen2_5_vl") -> dict[str, torch.Tensor]:
    """The parameters that a tiny backbone starts with."""
    return load_file(resolve_policy(f"tiny:{name}").path / "model.safetensors")


def contents(run: RunFolder) -> dict[str, bytes]:
    """Every byte of the policy and of the trainer's state."""
    return {
        f"{folder}/{p.name}": p.read_bytes()
        for folder in ("policy", "trainer")
        for p in sorted((run.path / folder).iterdir())
    }


def every_run(runs: Path) -> dict[str, Any]:
    """Every run by its name, so by all that went into it, with rows, weights and trainer's state; none is unfinished.

    An export lies where it was asked for: its run has nothing to compare.
    """
    found: dict[str, Any] = {}
    for folder in map(RunFolder.open, sorted(runs.glob("*-*"))):
        path = folder.path
        assert (folder.complete, list((path / "staging").iterdir())) == (True, []), path
        if folder.stage == "train":
            receipt = folder.receipt(0)
            assert receipt is not None
            # Older weights may be gone on purpose.
            found[path.name] = (steps(folder), None if "policy" in receipt.pruned else contents(folder))
        elif folder.stage != "export":
            found[path.name] = [shard.read_bytes() for shard in folder.shard_paths()]
    return found
