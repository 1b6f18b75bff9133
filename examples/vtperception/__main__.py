"""`python -m examples.vtperception study` and `... rewards`: the evidence, seed by seed, as a table.

Everything is `cosmo run` on recipes that this writes beside their results, made of study.toml and rl.toml. What is done
is found on disk: interrupted, the same command goes on.
"""

from __future__ import annotations

import argparse
import copy
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

from cosmo_cli.recipe.steps import toml_value
from examples import own_process
from stages.core.atomic import read_json
from stages.core.runs.folder import artifact
from stages.eval.intervals import mcnemar, mean_interval

HERE = Path(__file__).parent
REWARDS: dict[str, tuple[str, ...]] = {
    "all": (),
    "answer_and_format": ("visual_keys", "text_keys", "consistency", "repetition"),
    "no_visual_keys": ("visual_keys",),
    "no_text_keys": ("text_keys",),
    "no_consistency": ("consistency",),
}
"""Variants of the reward by the terms that they drop; each is compared with the second."""
AGAINST = "answer_and_format"


def main() -> int:
    """0 when every run is complete and the table printed; cosmo's exit code where a run failed."""
    options = _options()
    runs = {"study": ["study"], "rewards": [v for v in REWARDS if not options.only or v in options.only]}
    for seed in options.seeds:
        for name in runs[options.what]:
            if code := _run(name, seed, options):
                return code
    write = study_table if options.what == "study" else rewards_table
    print("\n".join(write(options.runs, options.seeds)))
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m examples.vtperception", description=__doc__)
    parser.add_argument("what", choices=("study", "rewards"))
    parser.add_argument("--runs", type=Path, default=Path("runs/vtperception"), help="where run folders go")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--only", nargs="*", default=[], help="these variants of the reward alone")
    parser.add_argument("--sft-steps", type=int, default=0, help="a shorter supervised start")
    parser.add_argument("--turns", type=int, default=0, help="turns of each phase of reinforcement")
    return parser.parse_args()


def _run(name: str, seed: int, options: argparse.Namespace) -> int:
    place = options.runs / f"seed-{seed}"
    place.mkdir(parents=True, exist_ok=True)
    values = recipe(name, seed, options.sft_steps, options.turns)
    path = place / f"{name}.toml"
    path.write_text("".join(f"{key} = {toml_value(value)}\n" for key, value in values.items()), encoding="utf-8")
    # One thread: sums of several come out in another order.
    try:
        own_process.cosmo(place, "run", path, threads=os.environ.get("OMP_NUM_THREADS", 1))
    except subprocess.CalledProcessError as error:
        return error.returncode
    return 0


def recipe(name: str, seed: int, sft_steps: int = 0, turns: int = 0) -> dict[str, Any]:
    """The recipe of the study, or of a variant of the reward, with its figures in a file of its own."""
    file = HERE / ("study.toml" if name == "study" else "rl.toml")
    values = copy.deepcopy(tomllib.loads(file.read_text(encoding="utf-8")))
    values |= {"seed": seed, "summary": f"{name}.json"}
    metrics = [m.replace("figures.py", str(HERE / "figures.py")) for m in values["eval"]["metrics"]]
    values["eval"]["metrics"] = metrics
    for phase in values["phases"]:
        if phase["name"] == "sft" and sft_steps:
            phase["train"]["steps"] = sft_steps
        elif phase["name"] != "sft" and turns:
            phase["iterations"] = turns
    for table in (values, *values["phases"]):
        rewards = table.get("score", {}).get("rewards", {})
        for label, formula in list(rewards.items()):
            formula["terms"] = {t: w for t, w in formula["terms"].items() if t not in REWARDS.get(name, ())}
            if not formula["terms"]:
                # A phase that changes none of the terms that are left.
                del rewards[label]
    return values


def rewards_table(runs: Path, seeds: list[int]) -> list[str]:
    """A line a variant, and its differences from answers and format alone, paired by seed."""
    found = {v: {s: read_json(p) for s in seeds if (p := runs / f"seed-{s}" / f"{v}.json").is_file()} for v in REWARDS}
    found = {variant: by_seed for variant, by_seed in found.items() if by_seed}
    first = next(iter(next(iter(found.values())).values()))
    metrics = list(first["rl"])
    lines = [f"| | {' | '.join(metrics)} |", "|---|" + "---|" * len(metrics)]
    for variant, by_seed in found.items():
        for policy in ("sft", "rl") if variant == AGAINST else ("rl",):
            cells = [_spread([run[policy][m] for run in by_seed.values()]) for m in metrics]
            lines.append(f"| {variant if policy == 'rl' else '*supervised start*'} | {' | '.join(cells)} |")
    base = found.get(AGAINST, {})
    for variant, by_seed in found.items():
        both = [s for s in by_seed if s in base]
        if variant != AGAINST and both:
            cells = [_spread([by_seed[s]["rl"][m] - base[s]["rl"][m] for s in both], "+") for m in metrics]
            lines.append(f"| {variant} - {AGAINST} | {' | '.join(cells)} |")
    return lines


def study_table(runs: Path, seeds: list[int]) -> list[str]:
    """A line a task and setting: with one seed the paired interval, else means over seeds; McNemar's p of all pairs."""
    lines = [
        "| task | setting | prompts | baseline | with it | difference | better, worse | p |",
        "|---|---|---|---|---|---|---|---|",
    ]
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for seed in seeds:
        metrics = read_json(runs / f"seed-{seed}" / "study.json")["metrics"]
        for one in read_json(artifact(Path(metrics), "summary.json"))["paired"]:
            found.setdefault((one["task"], one["family"]), []).append(one)
    for (task, family), ones in sorted(found.items(), key=lambda item: (item[0][0] != "all", item[0])):
        cells = [_spread([one[key] for one in ones]) for key in ("before", "after")]
        difference = _spread([one["difference"] for one in ones], "+")
        if len(ones) == 1:
            difference += f" [{100 * ones[0]['low']:+.1f}, {100 * ones[0]['high']:+.1f}]"
        prompts, up, down = (sum(one[key] for one in ones) for key in ("n", "up", "down"))
        moved = f"{up}, {down} | {mcnemar(up, down):.1g}"
        lines.append(f"| {task} | {family} | {prompts} | {cells[0]} | {cells[1]} | {difference} | {moved} |")
    return lines


def _spread(values: list[float], sign: str = "") -> str:
    """`58.2 [54.2, 62.0]` in percent: the mean with Student's t over seeds, where there are several."""
    interval = mean_interval(values)
    text = f"{100 * float(interval.value or 0.0):{sign}.1f}"
    if interval.low is None or interval.high is None:
        return text
    return f"{text} [{100 * interval.low:{sign}.1f}, {100 * interval.high:{sign}.1f}]"


if __name__ == "__main__":
    sys.exit(main())
