"""`python -m examples.verifiers.run value` (or `knowledge`): a verifier for each seed, measured on unseen scenes.

Stage commands, one after the other in this process, each found on disk when it is done already: questions, a good and
a bad completion for each, the rule's grades, a verifier that learns the verdicts of training rows, and its own verdicts
on test rows, worth what the verdict is worth, or (P(true) + 1 - P(false)) / 2.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import Any

from cosmo_cli.recipe.steps import toml_value
from examples.in_process import cosmo
from examples.verifiers.pairs import write_pairs
from schemas.tables import EVALS
from stages.core.atomic import read_json, write_json
from stages.core.runs.folder import RunFolder
from stages.eval.intervals import mean_interval
from stages.world.case import UNSEEN

HERE = Path(__file__).parent
POLICY = "tiny:llama_bilingual"
SIZES = {
    "value": {"prompt": "value_brief", "steps": 3000, "batch_size": 16, "learning_rate": "2e-3"},
    "knowledge": {"prompt": "knowledge_brief", "steps": 400, "batch_size": 32, "learning_rate": "1e-3"},
}
"""How each verifier is asked, and how long it learns from two completions to every training question."""
SCORES = ("verdict", "probability")
OVERALL = ("accuracy", "macro_f1", "score_calibration_error", "unparsable")


def main() -> int:
    """0 when every seed is measured and the table written."""
    parser = argparse.ArgumentParser(prog="python -m examples.verifiers.run", description=__doc__)
    parser.add_argument("verifier", choices=("value", "knowledge"))
    parser.add_argument("--runs", type=Path, default=Path("runs/verifiers"), help="where run folders go")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    options = parser.parse_args()
    options.runs.mkdir(parents=True, exist_ok=True)
    found: dict[int, dict[str, Any]] = {}
    for seed in options.seeds:
        found[seed] = one_seed(options.verifier, seed, options.runs)
        write_json(options.runs / f"{options.verifier}.json", found)
        print(table(options.verifier, found), flush=True)
    return 0


def one_seed(name: str, seed: int, runs: Path) -> dict[str, Any]:
    """Everything of one seed: the verifier's run folder, and its figures by kind of score."""
    size = SIZES[name]
    prompts = cosmo(runs, "prepare", "--config", HERE / "base.toml", "--seed", seed)
    train, test = (_graded(runs, prompts, name, split, None, seed) for split in ("train", "test"))
    verifier = cosmo(
        runs, "train", train, "--objective", "verifier", "--policy", POLICY, "--seed", seed, "--steps",
        size["steps"], "--batch-size", size["batch_size"], "--learning-rate", size["learning_rate"], "--set",
        "warmup_steps=20", "--set", f"objectives.verifier.name='{name}'", "--set",
        f"objectives.verifier.prompt='{size['prompt']}'",
    )  # fmt: skip
    measured = partial(_measured, runs, name, verifier, size["prompt"])
    found = {score: measured(test, score) for score in SCORES}
    if name == "value":
        found[UNSEEN] = measured(_graded(runs, prompts, name, "test", UNSEEN, seed), "probability")
    return {"verifier": verifier, **found}


def _graded(runs: Path, prompts: str, name: str, split: str, family: str | None, seed: int) -> str:
    pairs = runs / f"{name}-{family or split}-{seed}.jsonl"
    write_pairs(Path(prompts), name, split, family, pairs)
    return cosmo(runs, "score", cosmo(runs, "import", pairs, "--prompts", prompts, "--model", "pairs"))


def _measured(runs: Path, name: str, verifier: str, prompt: str, graded: str, score: str) -> dict[str, Any]:
    """The figures of a verifier against the rule, by metric and slice: value, interval, completions."""
    judge = {
        "engine": "transformers", "policy": verifier, "prompt": prompt, "score": score, "temperature": 0.0,
        "max_new_tokens": 16,
    }  # fmt: skip
    judged = cosmo(runs, "score", graded, "--set", f"judges.trained={toml_value(judge)}", "--set", "also=['trained']")
    run = cosmo(runs, "eval", judged, "--set", f"verifier.gold='{name}'", "--set", "verifier.judge='trained'")
    rows = [r for r in RunFolder.open(Path(run)).rows(EVALS) if r.metric.startswith("verifier_")]
    figures = {f"{r.metric.removeprefix('verifier_')} {r.slice}": [r.value, r.low, r.high, r.completions] for r in rows}
    return {"metrics": run, "counts": read_json(Path(run) / "summary.json")["verifier"], "figures": figures}


def table(name: str, found: dict[int, dict[str, Any]]) -> str:
    """What was measured, by kind of score, and accuracy by slice; each with the mean over seeds."""
    first = next(iter(found.values()))
    lines = [f"{name}: on unseen scenes, a seed a column, [95 % interval over prompts]"]
    for part in (p for p in (*SCORES, UNSEEN) if p in first):
        metrics = [f"{metric} all" for metric in OVERALL]
        if part != "probability":
            metrics += sorted(k for k in first[part]["figures"] if k.startswith("accuracy task="))
        lines += [f"  {part:16} {m:28} {_cells([one[part]['figures'][m] for one in found.values()])}" for m in metrics]
    return "\n".join(lines)


def _cells(figures: list[list[float]]) -> str:
    shown = "  ".join(f"{value:.3f} [{low:.3f}, {high:.3f}]" for value, low, high, _ in figures)
    if len(figures) < 2:
        return shown
    mean = mean_interval([value for value, *_ in figures])
    return f"{shown}  over seeds {mean.value:.3f} [{mean.low:.3f}, {mean.high:.3f}]"


if __name__ == "__main__":
    sys.exit(main())
