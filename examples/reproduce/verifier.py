"""A safety verifier of the run's own: the start's completions to training rows, judged by the rule, taught to a model.

Plain stage commands; each is found on disk when it is done already.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cosmo_cli.recipe.steps import toml_value
from stages.core.atomic import read_json, write_json

Cosmo = Callable[..., str]
"""`cosmo ARGS` to its end; what it printed."""

# As in variants.toml.
JUDGE = {"engine": "transformers", "prompt": "safety_brief", "max_new_tokens": 24}


def make_verifier(cosmo: Cosmo, recipe: Path, start: Path, seed: int, sizes: Path) -> str:
    """The train run of a verifier that starts from the supervised policy; its folder."""
    size = tomllib.loads(sizes.read_text(encoding="utf-8"))
    policy = read_json(start)["model"]
    prompts = cosmo("prepare", "--config", recipe)
    completions = cosmo(
        "rollout", prompts, "--config", recipe, "--set", f"policy='{policy}'", "--set", "select.split='train'", "--set",
        f"select.labels={toml_value(size['labels'])}", "--set", f"select.take={size['prompts']}", "--set",
        f"samples={size['samples']}",
    )  # fmt: skip
    judged = cosmo("score", completions, "--config", recipe)
    return cosmo(
        "train", judged, "--objective", "verifier", "--policy", policy, "--steps", size["steps"], "--seed", seed,
        "--learning-rate", 1e-3, "--set", "warmup_steps=20", "--set", "objectives.verifier.name='safety'", "--set",
        f"objectives.verifier.prompt='{JUDGE['prompt']}'", "--set", "objectives.verifier.balance=false",
    )  # fmt: skip


def measure_verifier(cosmo: Cosmo, start: Path, verifier: str, found: Path) -> None:
    """How often it agrees with the rule on the start's completions to test rows; written to `found`."""
    metrics = Path(read_json(start)["metrics"])
    scored = metrics.parent / Path(read_json(metrics / "manifest.json")["inputs"][0]["path"]).name
    judge = toml_value({**JUDGE, "policy": verifier})
    judged = cosmo(
        "score", scored, "--set", f"judges.safety_judge={judge}", "--set", "also=['refusal', 'safety_judge']"
    )
    measured = cosmo("eval", judged, "--set", "verifier.gold='safety'", "--set", "verifier.judge='safety_judge'")
    summary: dict[str, Any] = read_json(Path(measured) / "summary.json")
    (figures,) = summary["policies"].values()
    agreement = {name: figure for name, figure in figures.items() if name.startswith("verifier_")}
    write_json(found, {"verifier": verifier, "metrics": measured, "figures": agreement, **summary["verifier"]})
