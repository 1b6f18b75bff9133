"""The pipeline's stages, each declared once and in the order in which data flows.

The command line, recipes, the generated docs and `cosmo status` read this list, so a new stage is a folder with its
`config.py` and `stage.py`, and one entry here. Naming a stage loads nothing of it: `load_stage` and `load_config` do.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stages.core.stage import Stage


@dataclass(frozen=True, slots=True)
class StageInfo:
    """What others may know of a stage without loading it."""

    verb: str
    """The command, the recipe's table and the first half of its run folders' names."""
    summary: str
    """One line for `cosmo --help`."""
    config: str
    """MODULE:CLASS of its config dataclass, which has to import quickly: `--help` loads it."""
    stage: str
    """MODULE:OBJECT of the stage itself."""
    argument: str
    """Help of its positional arguments."""
    detail: str = ""
    """More for `cosmo VERB --help`."""
    positional: str = ""
    """The config field that the positional arguments fill; empty: they are upstream runs, else read from stdin."""
    upstream: str = ""
    """The config field that names upstream runs, where positional arguments fill another and it may have some."""
    in_recipes: bool = True
    """Whether a recipe has a table of its options; else its command takes no recipe."""
    spread: bool = False
    """Whether many machines may do its shards: it then has `--executor`, and takes its part of a Slurm array."""
    processes: str = ""
    """The module by which it works in several processes, where it can (see `stages/train/processes.py`)."""


STAGES: dict[str, StageInfo] = {
    info.verb: info
    for info in (
        StageInfo(
            "prepare",
            "Datasets to prompts: load, check, mix, de-duplicate, augment.",
            config="stages.prepare.config:PrepareConfig",
            stage="stages.prepare.stage:STAGE",
            argument="Sources: a file, folder or hub id, or NAME or NAME:PATH (cosmo list dataset).",
            detail="A source is data in any common format (docs/data.md), or a dataset plugin, with a path where it "
            "needs one: questions.csv, builtin, gsm8k:FOLDER.",
            positional="sources",
            spread=True,
        ),
        StageInfo(
            "rollout",
            "Prompts to groups: G sampled completions a prompt.",
            config="stages.rollout.config:RolloutConfig",
            stage="stages.rollout.stage:STAGE",
            argument="Run folders or Parquet files with prompts; else paths on stdin.",
            spread=True,
        ),
        StageInfo(
            "import",
            "Completions made elsewhere to groups, with people's verdicts to scored groups.",
            config="stages.imports.config:ImportConfig",
            stage="stages.imports.stage:STAGE",
            argument="Files of completions, or folders of them.",
            detail="JSONL, JSON, CSV, TSV and Parquet, with a prompt (or its id), a completion and a model's name; the "
            "logs of lmms-eval, lm-eval and inspect, VLMEvalKit's result files, preference pairs. docs/import.md",
            positional="files",
            upstream="prompts",
            in_recipes=False,
        ),
        StageInfo(
            "edit",
            "Completions that a person changed to rows to go on from, and to pairs.",
            config="stages.edit.config:EditConfig",
            stage="stages.edit.stage:STAGE",
            argument="Run folders with rollout or scored groups; else paths on stdin.",
            detail="`cosmo edit RUN --id ID` opens $EDITOR, `--from edits.jsonl` takes many; cosmo rollout goes on "
            "from what it writes. With both scored runs: `--as pairs`, `--table`. docs/edit.md",
            in_recipes=False,
        ),
        StageInfo(
            "score",
            "Groups to scored groups: every verifier's grade and the reward.",
            config="stages.score.config:ScoreConfig",
            stage="stages.score.stage:STAGE",
            argument="Run folders with rollout groups; else paths on stdin.",
            spread=True,
        ),
        StageInfo(
            "train",
            "Prompts or scored groups to a policy: SFT, CPGD, GRPO, verifiers.",
            config="stages.train.config:TrainConfig",
            stage="stages.train.stage:STAGE",
            argument="Run folders: prompts for sft, scored groups for rl, verifier and reward; else paths on stdin.",
            detail="On several GPUs: `--nproc N`, or the same command under torchrun, accelerate launch or srun.",
            processes="stages.train.processes",
        ),
        StageInfo(
            "eval",
            "Scored groups to metrics with intervals, and a report.",
            config="stages.eval.config:EvalConfig",
            stage="stages.eval.stage:STAGE",
            argument="Run folders with scored groups; else paths on stdin.",
            detail="Several scored folders of different policies are put side by side.",
        ),
        StageInfo(
            "export",
            "A policy to a model folder with a card, verified by reloading.",
            config="stages.export.config:ExportConfig",
            stage="stages.export.stage:STAGE",
            argument="A train run folder; else a path on stdin.",
        ),
    )
}


def recipe_verbs() -> list[str]:
    """The stages that a recipe has a table for, in order."""
    return [verb for verb, info in STAGES.items() if info.in_recipes]


def load_stage(verb: str) -> Stage:
    """The stage object of a verb; KeyError for a verb that is no stage."""
    stage: Stage = _object(STAGES[verb].stage)
    return stage


def load_config(verb: str) -> type[Any]:
    """The config class of a verb, without loading its stage; KeyError for a verb that is no stage."""
    config: type[Any] = _object(STAGES[verb].config)
    return config


def _object(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)
