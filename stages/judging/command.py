"""What to type so that a judge decides what rules have left undecided, and only that."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from schemas.verdicts import UNSAFE
from stages.core.config import build, settings_of
from stages.core.errors import CosmoError
from stages.core.stage_list import load_config
from stages.judging.prompt import load_prompt, prompt_names

if TYPE_CHECKING:
    from stages.core.runs.folder import RunFolder

MODEL = "MODEL"
"""What a command has in place of a judge's model, where no judge is known."""
_PROMPTS = {"answer": "general", "knowledge_confidence": "knowledge"}
"""The prompts that ask what these verifiers ask; of others it has their name."""


def judge_command(
    scored: RunFolder, verifiers: Iterable[str], prompts: Mapping[str, str] | None = None, instead: bool = False
) -> str:
    """`cosmo score RUN --set ...` for a scored run: its own settings, and a judge for what these verifiers left open.

    The judge is one that the run's recipe has for that question, or one yet to be named: MODEL. `prompts` says what a
    verifier's judge is asked where that is not the usual, as benchmarks have it; with `instead` it stands in for the
    rule, which doesn't say where it can't tell. Empty where none has a prompt.
    """
    config = _config_of(scored)
    settings = settings_of(config)
    asked = False
    for name in verifiers:
        prompt = (prompts or {}).get(name) or _PROMPTS.get(name, name)
        if prompt not in prompt_names():
            continue
        asked = True
        if instead:
            settings += new_judge(name, prompt, instead)
            continue
        # A judge called like the rule stands in for it, and leaves nothing undecided.
        judges = {n: table for n, table in config.judges.items() if n != name and (table.prompt or n) == prompt}
        judge = config.undecided.get(name, "")
        if not judge or (name == "safety" and not _speaks_of_harm(config, judge)):
            judge = next(iter(judges), "")
        settings += [f"undecided.{name}={judge}"] if judge else new_judge(name, prompt)
    return f"cosmo score {shlex.quote(str(scored.where))} {flags_of(settings)}" if asked else ""


def new_judge(verifier: str, prompt: str, instead: bool = False) -> list[str]:
    """The settings of a judge whose model is yet to be named: for what the verifier leaves open, or in its place."""
    usual = prompt in (verifier, _PROMPTS.get(verifier))
    judge = verifier if instead else f"{verifier if usual else prompt}_judge"
    made = [f"judges.{judge}.prompt={prompt}", f"judges.{judge}.policy={MODEL}"]
    return made if instead else [*made, f"undecided.{verifier}={judge}"]


def flags_of(settings: Iterable[str]) -> str:
    """Settings as a person types them, each once."""
    return " ".join(f"--set {shlex.quote(text)}" for text in dict.fromkeys(settings))


def judge_hint(command: str) -> str:
    """The command, with what MODEL stands for where it is in it."""
    if f".policy={MODEL}" not in command:
        return command
    return (
        f"{command}   ({MODEL}: a model's folder or hub name; a server: .engine=openai, .url and .model in its place)"
    )


def _speaks_of_harm(config: Any, judge: str) -> bool:
    """Whether that judge's prompt has `unsafe` among its verdicts; other verifiers are taken to."""
    table = config.judges.get(judge)
    return table is None or UNSAFE in load_prompt(table.prompt or judge).verdicts


def _config_of(scored: RunFolder) -> Any:
    """The settings that the run was scored with; the defaults where it was imported, or made by another version."""
    config = load_config("score")
    if scored.stage == "score":
        try:
            # Grades that are settled stay: only what is undecided is asked about.
            return replace(build(config, scored.config, "score"), regrade=False)
        except CosmoError:
            pass
    return config()
