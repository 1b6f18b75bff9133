"""`python -m examples.guided.run`: a value model out of stored groups, and what sampling guided by it comes to.

Stage commands in this process, each found on disk when it is done already: the supervised start, groups of eight on
training prompts with their grades, a value model, and on test prompts plain sampling, four candidates picked at random
(the control), and four picked by value. `cosmo eval` compares them prompt by prompt; held-out attack families are a
metric of their own.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from examples import in_process
from schemas.tables import EVALS
from stages.core.atomic import read_json, write_json
from stages.core.runs.folder import RunFolder

RECIPE = Path(__file__).parent / "base.toml"
METRICS = ("capability", "unsafe_compliance", "unsafe_compliance_heldout", "needless_refusal")
LABELS = "select.labels={general=0.5, safety=0.25, jailbreak=0.25}"


def main() -> int:
    """0 when every seed is measured and the tables written."""
    parser = argparse.ArgumentParser(prog="python -m examples.guided.run", description=__doc__)
    parser.add_argument("--runs", type=Path, default=Path("runs/guided"), help="where run folders go")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--start", default="", help="a policy to begin with, in place of a supervised start")
    parser.add_argument("--start-steps", type=int, default=360, help="steps of the supervised start")
    parser.add_argument("--prompts", type=int, default=1500, help="training prompts whose groups the values learn from")
    parser.add_argument("--epochs", type=int, default=3, help="passes over these groups")
    parser.add_argument("--test", type=int, default=1200, help="test prompts")
    parser.add_argument("--k", type=int, default=4, help="candidates a step")
    options = parser.parse_args()
    options.runs.mkdir(parents=True, exist_ok=True)
    found: dict[int, dict[str, Any]] = {}
    for seed in options.seeds:
        found[seed] = one_seed(seed, options)
        write_json(options.runs / "guided.json", found)
        print(table(seed, found[seed]), flush=True)
    return 0


def one_seed(seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Everything of one seed: the value model's figures on held-out groups, and the metrics of each way of sampling."""

    def cosmo(*args: object) -> str:
        return in_process.cosmo(options.runs, *args)

    prompts = cosmo("prepare", "--config", RECIPE, "--seed", seed)
    start = options.start or in_process.supervised_start(options.runs, RECIPE, prompts, seed, options.start_steps)
    sampled = ("--config", RECIPE, "--policy", start, "--seed", seed)
    train = ("--set", "select.split=train", "--set", LABELS, "--set", f"select.take={options.prompts}")
    groups = cosmo("score", cosmo("rollout", prompts, *sampled, *train))
    values = cosmo(
        "train", groups, "--objective", "value", "--policy", start, "--seed", seed, "--epochs", options.epochs,
        "--batch-size", 8, "--learning-rate", 3e-4, "--set", "warmup_steps=20", "--set",
        "objectives.value.dimensions=['answer', 'safety']",
    )  # fmt: skip
    test = (
        "--samples", 1, "--set", "select.split=test", "--set", LABELS, "--set", f"select.take={options.test}",
    )  # fmt: skip
    four = ("--set", f"guide.k={options.k}")
    ways = {
        "plain": (),
        "random": (*four, "--set", "guide.pick=random"),
        "guided": (*four, "--set", f"guide.values={values}"),
    }
    rolled = {name: cosmo("rollout", prompts, *sampled, *test, *more) for name, more in ways.items()}
    named = [part for name in ways for part in ("--policy-name", name)]
    metrics = cosmo("eval", *(cosmo("score", run) for run in rolled.values()), *named)
    rows = [r for r in RunFolder.open(Path(metrics)).rows(EVALS) if r.metric in METRICS and r.slice == "all"]
    return {
        "values": values,
        "held_out": read_json(Path(values) / "summary.json")["held_out"],
        "metrics": metrics,
        "figures": {f"{r.metric} {r.policy}": [r.value, r.low, r.high, r.n] for r in rows},
        "cost": {name: read_json(Path(run) / "report.json")["quality"]["numbers"] for name, run in rolled.items()},
    }


def table(seed: int, found: dict[str, Any]) -> str:
    """What one seed came to, in lines."""
    lines = [f"seed {seed}: picked / mean / best of held-out groups, gain [95 % interval over groups]"]
    for name, places in found["held_out"].items():
        for place, one in places.items():
            if one["groups"] > 1:
                low, high = one["gain_interval"]
                lines.append(
                    f"  {name:10} {place:6} {one['picked']:.3f} / {one['mean']:.3f} / {one['best']:.3f}"
                    f"  {one['gain']:+.3f} [{low:+.3f}, {high:+.3f}], {one['groups']} groups"
                )
    lines.append("on test prompts, [95 % interval over prompts]")
    for name, (value, low, high, n) in found["figures"].items():
        shown = "-" if value is None else f"{value:.3f} [{low:.3f}, {high:.3f}]"
        lines.append(f"  {name:40} {shown}, {n} prompts")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
