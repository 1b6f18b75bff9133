"""The comparison: its recipes say what they claim, its table is right, and it runs, stops and goes on."""

from __future__ import annotations

import json
import shutil
import sys
import tomllib
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from cosmo_cli.recipe.schema import Recipe, parse
from cosmo_cli.recipe.steps import steps_of
from examples import own_process
from examples.reproduce.__main__ import main
from examples.reproduce.columns import PROMPTS, columns
from examples.reproduce.table import write_table
from examples.reproduce.variants import Variant, recipe_text, start, variants
from tests.support import preloaded
from tests.support.cli import ROOT
from tests.support.varied import NAME

ALL = {v.name: v for v in variants()}
METRICS = columns().columns


def recipe(variant: Variant) -> Recipe:
    return parse(tomllib.loads(recipe_text(variant, 1)))


def rl_labels(name: str) -> set[str]:
    phases = [p for p in recipe(ALL[name]).phases if p.objective == "rl"]
    return {label for p in phases for label in p.labels}


@pytest.mark.parametrize("name", ALL)
def test_every_variant_is_a_recipe_of_as_many_turns(name: str) -> None:
    made = recipe(ALL[name])
    assert sum(p.iterations for p in made.phases if p.objective == "rl") == 40
    assert steps_of(made)[-1].verb == "export"
    assert ALL[name].against in {"", *ALL}


def test_variants_leave_out_what_they_say() -> None:
    joint = rl_labels("joint")
    assert {"safety", "jailbreak", "general", "knowledge", "value", "instruction"} == joint
    assert rl_labels("safety_only") == {"safety", "jailbreak"}
    assert rl_labels("capability_only") == joint - {"safety", "jailbreak"}
    assert rl_labels("no_augmentation") == joint - {"jailbreak"}
    assert rl_labels("single_stage") == joint
    assert "helpful" not in json.dumps(ALL["no_helpful"].recipe["score"])
    for name, setting, value in [
        ("no_drift_8", "losses", {"cpgd": {"drift_alpha": 0}}),
        ("no_clip_8", "clip", False),
        ("grpo_8", "loss", "grpo"),
    ]:
        assert [p.train[setting] for p in recipe(ALL[name]).phases if p.objective == "rl"] == [value, value]


def test_variants_of_one_model_share_their_start() -> None:
    # `judged` says how the policies are measured: by the rule, as without it.
    starts = {recipe_text(start(v), 1) for v in ALL.values() if v.name not in ("internvl", "llama", "judged")}
    assert len(starts) == 1


def summary(capability: float) -> dict[str, Any]:
    figures = dict.fromkeys(METRICS, 0.5) | {"capability": capability}
    counts = {m: {"n": 300} for m in METRICS}
    before = dict.fromkeys(METRICS, 0.25)
    return {"start": before, "final": figures, "policies": {"start": counts, "final": counts}, "seconds": 1.0}


def test_the_table_has_paired_differences_with_t_intervals(tmp_path: Path) -> None:
    values = {"joint": [0.6, 0.7, 0.8], "safety_only": [0.5, 0.65, 0.65]}
    for name, by_seed in values.items():
        for seed, value in enumerate(by_seed, 1):
            (tmp_path / f"seed-{seed}").mkdir(exist_ok=True)
            # No train folders: the plots over training are left out, the table is not.
            document = summary(value) | {"metrics": None}
            (tmp_path / f"seed-{seed}" / f"{name}.json").write_text(json.dumps(document), encoding="utf-8")
    chosen = [ALL["joint"], ALL["safety_only"], ALL["internvl"]]
    document = write_table(chosen, [1, 2, 3], tmp_path)
    difference = document["variants"]["safety_only"]["difference"]["capability"]
    paired = [b - a for a, b in zip(values["joint"], values["safety_only"], strict=True)]
    low, high = stats.t.interval(0.95, 2, loc=sum(paired) / 3, scale=stats.sem(paired))
    assert difference["mean"] == pytest.approx(sum(paired) / 3)
    assert (difference["low"], difference["high"]) == (pytest.approx(low), pytest.approx(high))
    assert len(document["missing"]) == 3
    assert json.loads((tmp_path / "table.json").read_text("utf-8"))["missing"] == document["missing"]
    assert "safety_only - joint" in (tmp_path / "table.md").read_text("utf-8")


BASE = f"""
score = {{ rewards = {{ general = {{ terms = {{ "{NAME}" = 1.0 }} }}, safety = {{ terms = {{ "{NAME}" = 1.0 }} }} }} }}
policy = "tiny:qwen2_5_vl"
rollout = {{ samples = 2, max_new_tokens = 8 }}
evaluate = {{ after = {{ start = "sft", final = "stage1" }}, rollout = {{ samples = 1 }} }}
[[prepare.sources]]
name = "builtin"
train = 48
test = 24
[[phases]]
name = "sft"
objective = "sft"
train = {{ steps = 2, batch_size = 4 }}
[[phases]]
name = "stage1"
iterations = 1
prompts = 4
labels = {{ general = 1.0, safety = 1.0 }}
"""
VARIANTS = """
[joint]
about = "all"
expected = "more"
[safety_only]
about = "safety"
against = "joint"
expected = "less"
phases.stage1.labels = { safety = 1.0 }
[judged]
about = "judged"
against = "joint"
expected = "as much"
score.judges.safety = { engine = "transformers", policy = "@verifier", prompt = "safety_brief", max_new_tokens = 8 }
evaluate.score.judges = {}
"""
VERIFIER = """
prompts = 12
samples = 1
steps = 2
labels = { safety = 1.0 }
"""


def _over_prompts_the_figures_are_the_same(place: Path, document: dict[str, Any]) -> None:
    """Of one seed, which has no interval over seeds."""
    shares = {"needless_refusal": "needless refusals", "capability": "right answers"}
    plotted = replace(columns().tradeoff, x="capability", y="needless_refusal")
    shown = replace(columns(), intervals=PROMPTS, columns=shares, numbers=[], tradeoff=plotted)
    pooled = write_table(variants(place), [1], place / "runs", shown)
    for name, entry in pooled["variants"].items():
        for policy, metric in product(("start", "final"), shares):
            cell, same = entry[policy][metric], document["variants"][name][policy][metric]
            assert cell["mean"] == pytest.approx(same["mean"])
            assert (same["low"], cell["seeds"].keys()) == (None, {1})
            assert cell["low"] <= cell["mean"] <= cell["high"]
    assert "[" in (place / "runs" / "table.md").read_text("utf-8")


def test_it_runs_shares_the_start_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some twenty commands, each a process of its own: they start with torch imported."""
    (tmp_path / "base.toml").write_text(BASE, encoding="utf-8")
    (tmp_path / "variants.toml").write_text(VARIANTS, encoding="utf-8")
    (tmp_path / "verifier.toml").write_text(VERIFIER, encoding="utf-8")
    shutil.copy(ROOT / "examples" / "reproduce" / "table.toml", tmp_path)
    runs = tmp_path / "runs"
    command = ["reproduce", "--seeds", "1", "--jobs", "2", "--recipes", str(tmp_path), "--runs", str(runs)]
    monkeypatch.setattr(sys, "argv", command)
    monkeypatch.setattr(own_process, "COSMO", [str(preloaded.folder() / "cosmo")])
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    assert main() == 0, [p.read_text("utf-8") for p in runs.glob("*/*.log")]
    document = json.loads((runs / "table.json").read_text("utf-8"))
    assert list(document["variants"]) == ["joint", "safety_only", "judged"]
    assert document["missing"] == []
    assert {p.name for p in runs.glob("*.svg")} == {"tradeoff.svg", "refusal.svg", "length.svg"}
    assert "safety_only" in (runs / "report.html").read_text("utf-8")
    # One start for both: one prepare run, one supervised run, one measured start.
    made = [json.loads(p.read_text("utf-8")) for p in (runs / "seed-1").glob("*/manifest.json")]
    assert sum(m["stage"] == "prepare" for m in made) == 1
    assert sum(m["stage"] == "train" for m in made) == 5
    measured = json.loads((runs / "seed-1" / "start_qwen2_5_vl.verifier.json").read_text("utf-8"))
    assert 0 <= measured["figures"]["verifier_accuracy"]["value"] <= 1
    assert measured["verifier"] in (runs / "seed-1" / "judged.toml").read_text("utf-8")
    _over_prompts_the_figures_are_the_same(tmp_path, document)
    before = {p: p.stat().st_mtime_ns for p in (runs / "seed-1").glob("*/receipts/*.json")}
    assert main() == 0
    assert {p: p.stat().st_mtime_ns for p in (runs / "seed-1").glob("*/receipts/*.json")} == before
