"""The examples run as their README says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from cosmo_cli.recipe.schema import parse, read
from schemas.tables import PROMPTS, SCORED
from stages.core.atomic import read_json
from stages.core.runs.folder import RunFolder
from tests.support import preloaded
from tests.support.cli import COSMO, ROOT, SHARED, cosmo, environment
from tests.support.varied import NAME

# Variants are recipes once they are laid over their base: test_reproduce.py and test_real_model.py have them.
RECIPES = sorted(
    p.relative_to(ROOT) for p in (ROOT / "examples").glob("*/*.toml") if not (p.parent / "variants.toml").exists()
)


@pytest.mark.parametrize("recipe", RECIPES, ids=str)
def test_every_recipe_is_checked(recipe: Path) -> None:
    done = cosmo("config", recipe, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "[rollout]" in done.stdout


@pytest.mark.parametrize("name", ["mini_cosmo", "cosmo_r1", "safework_m3"])
def test_a_papers_recipe_says_every_command_and_whose_each_number_is(name: str) -> None:
    done = cosmo("run", f"examples/{name}/recipe.toml", "--dry-run", cwd=ROOT)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    recipe = parse(read(ROOT / "examples" / name / "recipe.toml"))
    turns = sum(p.iterations for p in recipe.phases if p.objective == "rl")
    trained = turns + sum(p.objective == "sft" for p in recipe.phases)
    assert sum("=$(cosmo train " in line for line in lines) == trained
    assert lines[-1].startswith("model=$(cosmo export ")
    readme = (ROOT / "examples" / name / "README.md").read_text(encoding="utf-8")
    assert readme.count("ours") >= 3
    assert "arXiv:2" in readme


def script_path() -> str:
    """The PATH on which `cosmo` is this environment's."""
    return f"{Path(sys.executable).parent}:{os.environ['PATH']}"


@pytest.mark.skipif(not SHARED.exists(), reason="the public benchmark files are not beside the repository")
def test_real_data_goes_through_every_stage_and_every_row_is_accounted_for(tmp_path: Path) -> None:
    script = ROOT / "examples" / "real_data" / "run.sh"
    done = subprocess.run(
        ["bash", script, str(tmp_path)],
        cwd=ROOT,
        env=environment(PATH=preloaded.path()),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    report, model = done.stdout.splitlines()
    assert Path(report).is_file()
    assert (Path(model) / "model.safetensors").is_file()
    runs = {(f := RunFolder.open(p.parent)).path: f for p in tmp_path.glob("*/manifest.json")}
    by_stage = {stage: [f for f in runs.values() if f.stage == stage] for stage in ("prepare", "rollout", "score")}
    prepared = by_stage["prepare"][0]
    rows = list(prepared.rows(PROMPTS))
    rejected = list(prepared.rejected())
    counts = prepared.manifest.provenance
    assert len(rows) + len(rejected) + sum(_numbers(counts["not_drawn"])) == sum(_numbers(counts["records"]))
    sources = Counter(r.source.split(":")[0] for r in rows)
    assert set(sources) == {"gsm8k", "math_v", "figstep", "xstest"}
    assert all(r.images for r in rows if r.source.startswith(("math_v", "figstep")))
    assert {r.harmful for r in rows if r.source.startswith("xstest")} == {True, False}
    assert all("no_training" in r.flags for r in rows if r.source.startswith(("figstep", "xstest", "math_v")))
    for groups in by_stage["rollout"]:
        kept = {g.id for s in by_stage["score"] for g in s.rows(SCORED) if g.completions[0].policy_id}
        left_out = {r.ref for r in groups.rejected()}
        assert {r.id for r in rows} == kept | left_out
    train = next(f for f in runs.values() if f.stage == "train")
    reasons = Counter(r.reason for r in train.rejected())
    assert reasons["test_split"] + reasons["no_training"] == sum(r.split == "test" for r in rows)


def _numbers(value: object) -> list[int]:
    if isinstance(value, dict):
        return [n for v in value.values() for n in _numbers(v)]
    return [int(str(value))]


def test_a_recipe_runs_is_found_done_and_equals_its_typed_commands(tmp_path: Path) -> None:
    """`cosmo run`, killed once on the way; then `--dry-run`'s lines typed into bash find every folder done."""
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        "score = { rewards = { "
        + ", ".join(f'{label} = {{ terms = {{ "{NAME}" = 1.0 }} }}' for label in ("general", "safety", "jailbreak"))
        + """ } }
name = "small"
seed = 3
policy = "tiny:qwen2_5_vl"
[[prepare.sources]]
name = "builtin"
train = 120
test = 40
[rollout]
samples = 2
max_new_tokens = 12
[train]
updates_per_rollout = 2
batch_size = 8
[[phases]]
name = "sft"
objective = "sft"
[phases.train]
steps = 3
learning_rate = 1e-3
[[phases]]
name = "general"
iterations = 2
prompts = 6
labels = { general = 1.0 }
[[phases]]
name = "joint"
iterations = 2
prompts = 6
labels = { safety = 0.5, jailbreak = 0.5 }
replay = 0.3
[evaluate]
after = { start = "sft", final = "joint" }
[evaluate.rollout]
samples = 1
"""
    )
    words = ["run", "recipe.toml", "--runs", "out"]
    killed = subprocess.Popen([*COSMO, *words], cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, text=True)
    for line in killed.stderr:
        if "general 1/2" in line:
            break
    killed.kill()
    killed.wait()
    done = preloaded.cosmo(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "out\n"
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    names = {"capability", "unsafe_compliance", "unsafe_compliance_heldout", "needless_refusal", "instruction"}
    assert names <= summary["start"].keys()
    assert names <= summary["final"].keys()
    assert summary["seconds"] > 0

    folders = {p.parent.name for p in (tmp_path / "out").glob("*/manifest.json")}
    trained = {n for n in folders if n.startswith("train-")}
    assert len(trained) == 5
    with_weights = {n for n in trained if (tmp_path / "out" / n / "policy").exists()}
    assert len(with_weights) == 4  # the last two, the end of sft, the end of general
    again = preloaded.cosmo(*words, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert json.loads((tmp_path / "out" / "summary.json").read_text()) == summary

    lines = cosmo("run", "recipe.toml", "--runs", "out", "--dry-run", cwd=tmp_path).stdout
    typed = subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", lines],
        cwd=tmp_path,
        env=environment(PATH=preloaded.path()),
        capture_output=True,
        text=True,
    )
    assert typed.returncode == 0, typed.stderr
    assert typed.stderr.count("cached") == len(lines.splitlines())
    assert {p.parent.name for p in (tmp_path / "out").glob("*/manifest.json")} == folders

    cold = lines.replace("--runs out", "--runs cold")
    typed = subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", cold],
        cwd=tmp_path,
        env=environment(PATH=preloaded.path()),
        capture_output=True,
        text=True,
    )
    assert typed.returncode == 0, typed.stderr
    assert {p.parent.name for p in (tmp_path / "cold").glob("*/manifest.json")} == folders
    last = read_json(next((tmp_path / "out").glob("export-*/receipts/00000.json")))
    same = read_json(next((tmp_path / "cold").glob("export-*/receipts/00000.json")))
    digests = [{f["path"]: f["sha256"] for f in r["files"] if f["path"].endswith(".safetensors")} for r in (last, same)]
    assert digests[0] == digests[1]
