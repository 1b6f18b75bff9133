"""`python -m examples.edit.run`: what edits come to, and whether a policy learns from them.

Stage commands in this process, each found on disk when it is done already: the supervised start of ../guided, training
questions answered three times, a rule in a person's place that edits each wrong completion at its first false step,
and the policy going on from there. Then 200 of the edited completions that are right now, and as many of those that
were right to begin with, drawn at random, each imitated once; test questions say which of the two policies is better.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from examples import in_process
from examples.edit.person import edits
from schemas.tables import SCORED
from schemas.terms import task_value
from stages.core.atomic import read_json, write_json
from stages.core.runs.folder import RunFolder

RECIPE = Path(__file__).parent.parent / "guided/base.toml"
BATCH = 8


def main() -> int:
    """0 when every seed is measured and the tables written."""
    parser = argparse.ArgumentParser(prog="python -m examples.edit.run", description=__doc__)
    parser.add_argument("--runs", type=Path, default=Path("runs/edit"), help="where run folders go")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--start-steps", type=int, default=360, help="steps of the supervised start")
    parser.add_argument("--prompts", type=int, default=300, help="training questions that are answered")
    parser.add_argument("--examples", type=int, default=200, help="completions to imitate, once each")
    parser.add_argument("--learning-rate", type=float, default=5e-5, help="of imitating them")
    parser.add_argument("--test", type=int, default=600, help="test questions")
    options = parser.parse_args()
    options.runs.mkdir(parents=True, exist_ok=True)
    found: dict[int, dict[str, Any]] = {}
    for seed in options.seeds:
        found[seed] = one_seed(seed, options)
        write_json(options.runs / "edit.json", found)
        print(f"seed {seed}\n{table(found[seed])}", flush=True)
    return 0


def one_seed(seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Everything of one seed: completions before and after editing, and the three policies' metrics."""

    def cosmo(*args: object) -> str:
        return in_process.cosmo(options.runs, *args)

    prompts = cosmo("prepare", "--config", RECIPE, "--seed", seed)
    start = in_process.supervised_start(options.runs, RECIPE, prompts, seed, options.start_steps)

    def answered(given: str, policy: str, samples: int, *more: object) -> str:
        run = cosmo(
            "rollout", given, "--config", RECIPE, "--policy", policy, "--seed", seed, "--samples", samples, *more
        )
        return cosmo("score", run)

    general = ("--set", "select.labels={general=1.0}", "--set")
    old = answered(prompts, start, 3, *general, "select.split=train", "--set", f"select.take={options.prompts}")
    # By what they hold: another list is another file, and the run of this one stays.
    listed = options.runs / f"edits-{Path(old).name}.jsonl"
    listed.write_text("".join(json.dumps(line) + "\n" for line in edits(Path(old))))
    new = answered(cosmo("edit", old, "--from", listed), start, 1)
    policies: dict[str, str] = {}
    for name, source in {"random": old, "edited": new}.items():
        policies[name] = cosmo(
            "train", source, "--objective", "sft", "--policy", start, "--seed", seed, "--batch-size", BATCH, "--steps",
            options.examples // BATCH, "--learning-rate", options.learning_rate, "--set", "warmup_steps=5", "--set",
            # A right answer earns 1, its form something on top, and a wrong one its form alone.
            "objectives.sft.min_reward=1",
        )  # fmt: skip
    # The first one is what the others are held against.
    policies["start"] = start
    test = (*general, "select.split=test", "--set", f"select.take={options.test}")
    named = [part for name in policies for part in ("--policy-name", name)]
    metrics = cosmo("eval", *(answered(prompts, policy, 4, *test) for policy in policies.values()), *named)
    summary = read_json(Path(metrics) / "summary.json")
    return {
        "before": _right(Path(old)),
        "after": _right(Path(new)),
        "policies": policies,
        "metrics": metrics,
        "right": {name: figures["capability"] for name, figures in summary["policies"].items()},
        "than_random": {name: one["metrics"]["capability"] for name, one in summary["differences"].items()},
    }


def _right(run: Path) -> dict[str, int]:
    """How many completions a scored run has, and how many of them are right."""
    values = [
        task_value(completion, row.reward_formula)
        for row in RunFolder.open(run).rows(SCORED)
        for completion in row.completions
    ]
    return {"completions": len(values), "right": sum(value is not None and value >= 1 for value in values)}


def table(found: dict[str, Any]) -> str:
    """What one seed came to, in lines."""
    lines = [
        f"  {name:7} {found[name]['right']} of {found[name]['completions']} training completions right"
        for name in ("before", "after")
    ]
    for name, one in found["right"].items():
        value, low, high = one["value"], one["low"], one["high"]
        lines.append(f"  {name:7} {value:.3f} [{low:.3f}, {high:.3f}] right answers, {one['n']} test questions")
    for name, one in found["than_random"].items():
        value, low, high = one["value"], one["low"], one["high"]
        lines.append(f"  {name} less random {value:+.3f} [{low:+.3f}, {high:+.3f}], paired by question")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
