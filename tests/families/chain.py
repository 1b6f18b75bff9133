"""One model through the stages, as commands run them: prepare, rollout, score, RL, RL with LoRA, SFT, export.

In this process, with prompts of words, of one image in two sizes, and of two images at once. A stage that fails leaves
its line; what a family refuses is a rejected row.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from schemas.tables import ROLLOUTS, STEPS
from stages.core.config import build
from stages.core.errors import CosmoError
from stages.core.runner import Options, run_stage
from stages.core.runs.folder import RunFolder, artifact
from stages.core.stage import Silent
from stages.core.stage_list import load_stage
from stages.export.verify import verify
from stages.train.check.questions import drawn

COMPLETIONS = 3
STAGES = ("prepare", "rollout", "score", "RL", "LoRA", "SFT", "export")
_REWARD = f"{Path(__file__).with_name('rewards.py')}:even"


class Said(Silent):
    """A Progress that keeps what it is told."""

    def __init__(self, lines: list[str]) -> None:
        self._lines = lines

    def log(self, message: str) -> None:
        """Keep the line."""
        self._lines.append(message)


@dataclass
class Chain:
    """What became of one model; a stage that did not come to its end has its line in `failed`."""

    model: Path
    place: Path
    system: Sequence[int] = ()
    """Which of the four prompts begin with a system turn."""
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    """More settings by stage."""
    done: dict[str, RunFolder] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)
    """What the stages told the person."""

    def go(self, *names: str) -> Chain:
        """These stages in turn, or all of them; one whose input failed is left out."""
        rl = {"updates_per_rollout": 2, "learning_rate": 1e-3}
        named = {"policy": str(self.model)}
        formula = {"terms": {_REWARD: 1.0}, "combine": "replace"}
        stages: dict[str, tuple[str, list[str], dict[str, Any]]] = {
            "prepare": ("prepare", [], {"sources": [{"name": "jsonl", "path": str(self._prompts())}]}),
            "rollout": ("rollout", ["prepare"], {**named, "samples": COMPLETIONS, "max_new_tokens": 6}),
            "score": ("score", ["rollout"], {"rewards": {"general": formula}}),
            "RL": ("train", ["score"], rl),
            "LoRA": ("train", ["score"], {**rl, "lora": {"rank": 2}}),
            "SFT": ("train", ["prepare"], {**named, "objective": "sft", "batch_size": 4, "learning_rate": 1e-3}),
            "export": ("export", ["LoRA"], {}),
        }
        for name in names or STAGES:
            verb, before, values = stages[name]
            self._run(name, verb, before, values | self.settings.get(verb, {}))
        return self

    def _run(self, name: str, verb: str, before: list[str], values: dict[str, Any]) -> None:
        if any(one not in self.done for one in before):
            return
        stage = load_stage(verb)
        config = build(stage.config, values, verb)
        try:
            inputs = [self.done[one].path for one in before]
            made = run_stage(stage, config, inputs, options=Options(runs=self.place), progress=Said(self.said))
        except CosmoError as error:
            self.failed[name] = str(error)
            return
        self.done[name] = RunFolder.open(made.path)

    def rejected(self, name: str) -> dict[str, int]:
        """How many rows a stage rejected, by reason."""
        counts: dict[str, int] = {}
        for row in self.done[name].rejected():
            counts[row.reason] = counts.get(row.reason, 0) + 1
        return counts

    def report(self, name: str) -> dict[str, Any]:
        """What a stage says of its rows in its closing line, as numbers."""
        return dict(load_stage(self.done[name].stage).quality(self.done[name]).numbers)

    def gap(self) -> float:
        """The largest difference between what was sampled and what RL computes before its first update, nats."""
        return max(step.sampler_gap for name in ("RL", "LoRA") for step in self.steps(name))

    def groups(self) -> list[Any]:
        """The rollout's groups."""
        return list(self.done["rollout"].rows(ROLLOUTS))

    def steps(self, name: str) -> list[Any]:
        """The step rows of a train run."""
        return list(self.done[name].rows(STEPS))

    def exported(self) -> Path:
        """The exported model's folder."""
        return artifact(self.done["export"].path, "model")

    def _prompts(self) -> Path:
        """Four lines with references to imitate: words, an image, one of another size, both."""
        self.place.mkdir(parents=True, exist_ok=True)
        for name, size in (("wide", (112, 84)), ("tall", (84, 140))):
            (self.place / f"{name}.png").write_bytes(drawn(*size).bytes)
        asked = [
            ("how many red circles ?", []),
            ("what is red ?", ["wide.png"]),
            ("how many circles are there ?", ["tall.png"]),
            ("are they alike ?", ["wide.png", "tall.png"]),
        ]
        lines = []
        for number, (text, images) in enumerate(asked):
            parts = [*({"type": "image"} for _ in images), {"type": "text", "text": text}]
            turns = [{"role": "user", "content": parts}]
            if number in self.system:
                turns.insert(0, {"role": "system", "content": [{"type": "text", "text": "be brief ."}]})
            lines.append({"messages": turns, "images": images, "response": "it is a red circle .", "answer": "red"})
        path = self.place / "prompts.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        return path


def checked_here(module: str, folder: Path, tolerance: float) -> dict[str, object]:
    """`stages.export.verify` on the folder; CosmoError for what it finds."""
    report = verify(folder, tolerance)
    if report["problems"]:
        raise CosmoError("; ".join(report["problems"]), "")
    return report
