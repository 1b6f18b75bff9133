"""examples/cluster as its README says: three machines, ssh and Slurm stood in for, and a bucket between them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from stages.models.policy_ref import resolve_policy
from tests.integration.test_examples import script_path
from tests.support import preloaded
from tests.support.cli import PATIENCE, ROOT, cosmo, environment
from tests.support.s3 import SECRET, Server, serving
from tests.support.varied import NAME

RUNS = "s3://bucket/lab/runs"
TINY = {
    "POLICY": "tiny:llama",
    "ENGINE": "fake",
    "SOURCE": "jsonl:prompts.jsonl",
    "PROMPTS": "6",
    "SAMPLES": "3",
    "TOKENS": "6",
    "SHARD": "3",
    "UPDATES": "2",
    "RATE": "1e-3",
}
# A machine is a home of its own, with a cache of its own; the tiny model stands for one from the hub, and is there.
SSH = """#!/bin/bash
echo "$1 $2" >> {place}/calls
mkdir -p {place}/$1/cache && ln -sfn {tiny} {place}/$1/cache/tiny
cd {place}/$1 && COSMO_CACHE={place}/$1/cache exec bash -c "$2"
"""
# Every task of an array is a machine; `--array` is read from the script's head, cut to two tasks.
SBATCH = """#!/bin/bash
[ "$1" = --wait ] && shift
script=$1 && shift
name=$(basename $script .sh)
echo "$name $(grep -c '^#SBATCH' $script)" >> {place}/calls
tasks=1 && grep -q '^#SBATCH --array=0-7$' $script && tasks=2
for ((i = 0; i < tasks; i++)); do
  if [ $tasks = 2 ]; then export SLURM_ARRAY_TASK_ID=$i SLURM_ARRAY_TASK_COUNT=2; fi
  mkdir -p {place}/$name-$i/cache && ln -sfn {tiny} {place}/$name-$i/cache/tiny
  (cd {place}/$name-$i && COSMO_CACHE={place}/$name-$i/cache bash $script "$@") || exit 1
done
"""


def loop(place: Path, server: Server, **more: str) -> subprocess.CompletedProcess[str]:
    env = environment(
        PATH=f"{place / 'bin'}:{preloaded.path()}",
        COSMO_CACHE=str(place / "login" / "cache"),
        COSMO_RUNS=RUNS,
        **server.env,
        RECIPE=str(place / "recipe.toml"),
        **{**TINY, **more},
    )
    script = ROOT / "examples" / "cluster" / "loop.sh"
    return subprocess.run(["bash", script], cwd=place, env=env, capture_output=True, text=True, timeout=PATIENCE)


def test_turns_on_three_machines(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    lines = [{"prompt": f"what is {n} plus {n} ?", "answer": str(2 * n), "label": "general"} for n in range(12)]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "login" / "cache").mkdir(parents=True)
    tiny = resolve_policy(TINY["POLICY"]).path.parent
    (tmp_path / "login" / "cache" / "tiny").symlink_to(tiny)
    for name, text in (("ssh", SSH), ("sbatch", SBATCH)):
        (tmp_path / "bin" / name).write_text(text.replace("{place}", str(tmp_path)).replace("{tiny}", str(tiny)))
        (tmp_path / "bin" / name).chmod(0o755)
    (tmp_path / "recipe.toml").write_text(f'[score.rewards.general]\nterms = {{ "{NAME}" = 1.0 }}\n')
    with serving() as server:
        first = loop(tmp_path, server, LAUNCH="ssh", A="gpu1", B="cpu1", C="gpu2", TURNS="1")
        assert first.returncode == 0, first.stderr
        policy = first.stdout.strip()
        assert re.fullmatch(rf"{RUNS}/train-[0-9a-f]{{8}}", policy)
        calls = (tmp_path / "calls").read_text().splitlines()
        assert [c.split()[0] for c in calls] == ["gpu1", "cpu1", "gpu2"]
        # The sampler never saw a score, the scorer never a policy.
        assert not list((tmp_path / "gpu1" / "cache").rglob("score-*"))
        assert not list((tmp_path / "cpu1" / "cache" / "remote").rglob("*.safetensors"))

        second = loop(tmp_path, server, LAUNCH="slurm", POLICY=policy, FIRST="1", TURNS="2")
        assert second.returncode == 0, second.stderr
        last = second.stdout.strip()
        assert last != policy
        # Turn 1 is sampled by two tasks with the policy of turn 0, and goes on with its optimizer.
        assert re.search(r"rollout-\w+: \d of \d shards are left to other workers", second.stderr)
        for name in ("policy/model.safetensors", "trainer/optimizer.safetensors"):
            assert list((tmp_path / "train-0" / "cache").rglob(f"{Path(policy).name}/{name}"))
        states = cosmo(
            "status",
            RUNS,
            "--json",
            "--run-code",
            cwd=tmp_path,
            COSMO_CACHE=str(tmp_path / "cpu1" / "cache"),
            **server.env,
        )
        runs = json.loads(states.stdout)
        assert sorted(r["path"].rsplit("/", 1)[1].split("-")[0] for r in runs) == [
            "prepare", "rollout", "rollout", "score", "score", "train", "train",
        ]  # fmt: skip
        assert {r["state"] for r in runs} == {"complete"}, runs
        steps = json.loads(
            cosmo("show", last, "--json", "-n", "9", cwd=tmp_path, COSMO_CACHE=str(tmp_path / "x"), **server.env).stdout
        )
        assert steps[0]["step"] > 1
        assert not server.names("/staging/")
        assert not any(SECRET.encode() in o.data for o in server.objects.values())
        assert not any(SECRET.encode() in p.read_bytes() for p in tmp_path.rglob("*.json"))


@pytest.mark.parametrize("name", ["rollout.sh", "score.sh", "train.sh", "loop.sh"])
def test_a_script_without_a_bucket_says_what_to_export(name: str) -> None:
    script = ROOT / "examples" / "cluster" / name
    done = subprocess.run(["bash", script], capture_output=True, text=True, env={"PATH": script_path()}, check=False)
    assert done.returncode != 0
    assert "export COSMO_RUNS=s3://BUCKET/PREFIX" in done.stderr
    assert sys.executable not in done.stdout
