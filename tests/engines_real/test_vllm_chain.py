"""The engine vllm among the other stages: real commands, folders between them, and vLLM's own server."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from schemas.tables import ROLLOUTS, STEPS
from stages.core.config import build
from stages.core.errors import UnavailableError
from stages.core.registry import load
from stages.core.runner import Options, run_stage
from stages.core.runs.folder import RunFolder
from stages.core.stage import Resources
from stages.engines.base import EngineSettings, ServerTable
from stages.engines.vllm.plugin import SESSION
from stages.models.load import load_policy, save_policy
from stages.models.policy_ref import resolve_policy
from stages.rollout.config import RolloutConfig
from stages.rollout.stage import STAGE
from tests.engines_real.made import SETTINGS, largest_gap, requests, sampling
from tests.models.made import policy
from tests.support.cli import PATIENCE, ROOT, cosmo, environment, ok

SPEC = "tiny:qwen2_5_vl"
# Another environment, with pins of its own and no vLLM, where there is one.
OTHER = ROOT / ".venv" / "bin" / "python"


def in_the_other_environment(*args: object, cwd: Path) -> Path:
    python = OTHER if OTHER.is_file() else Path(sys.executable)
    command = [str(python), "-m", "cosmo_cli", *map(str, args)]
    done = subprocess.run(command, cwd=cwd, env=environment(), capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    return cwd / done.stdout.strip()


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Prompts and scores and training there, sampling here: they meet in folders alone."""
    place = tmp_path_factory.mktemp("chain")
    made = {"place": place, "prompts": in_the_other_environment("prepare", "builtin", "--limit", "72", cwd=place)}
    sample = ["--engine", "vllm", "--policy", SPEC, "--samples", "4", "--max-new-tokens", "12"]
    made["groups"] = ok("rollout", made["prompts"], *sample, "--set", "shard_groups=24", cwd=place)
    made["scored"] = in_the_other_environment("score", made["groups"], cwd=place)
    train = ["--objective", "rl", "--set", "learning_rate=1e-3", "--set", "updates_per_rollout=4"]
    made["policy"] = in_the_other_environment("train", made["scored"], *train, cwd=place)
    return made


def test_environments_meet_in_folders(chain: dict[str, Path]) -> None:
    groups = list(RunFolder.open(chain["groups"]).rows(ROLLOUTS))
    assert len(groups) == 72
    assert any(g.images for g in groups)
    completions = [c for g in groups for c in g.completions]
    assert {c.engine for c in completions} == {"vllm/1"}
    assert all(c.finish_reason in ("stop", "length") and c.token_ids for c in completions)
    steps = list(RunFolder.open(chain["policy"]).rows(STEPS))
    gaps = [s.sampler_gap for s in steps if s.sampler_gap is not None]
    assert gaps
    assert max(gaps) < 1e-5


@pytest.fixture(scope="module")
def inside() -> Iterator[Resources]:
    """This process's own vLLM, for the tests that need one and are not about its start: they begin with SPEC in it."""
    resources = Resources()
    yield resources
    resources.peek(SESSION, "").close()


def test_completions_do_not_depend_on_shards_nor_the_fingerprint_on_the_machine(
    chain: dict[str, Path], inside: Resources
) -> None:
    # Other shards have another fingerprint and the same completions; how the machine is used has the same.
    config = RolloutConfig(engine="vllm", policy=SPEC, samples=4, max_new_tokens=12, shard_groups=10, device="cpu")
    options = Options(runs=chain["place"] / "runs")
    again = run_stage(STAGE, config, [chain["prompts"]], options=options, resources=inside).path
    assert again.name != chain["groups"].name
    completions = {g.id: [c.token_ids for c in g.completions] for g in RunFolder.open(chain["groups"]).rows(ROLLOUTS)}
    assert completions == {g.id: [c.token_ids for c in g.completions] for g in RunFolder.open(again).rows(ROLLOUTS)}
    sample = ["--engine", "vllm", "--policy", SPEC, "--samples", "4", "--max-new-tokens", "12"]
    machine = ["--set", "shard_groups=24", "--set", "vllm.kv_cache_gb=0.5"]
    assert ok("rollout", chain["prompts"], *sample, *machine, cwd=chain["place"]).name == chain["groups"].name
    # What else vLLM is told may be a quantisation: another run, whatever it is.
    more = ["--dry-run", "--json", "--set", "shard_groups=24", "--set", "vllm.extra.max_num_seqs=8"]
    planned = cosmo("rollout", chain["prompts"], *sample, *more, cwd=chain["place"])
    assert planned.returncode == 0, planned.stderr
    assert Path(json.loads(planned.stdout)["path"]).name != chain["groups"].name


def test_a_real_training_step_goes_into_the_running_engine(chain: dict[str, Path], inside: Resources) -> None:
    plugin = load("engine", "vllm")
    before = plugin.open(resolve_policy(SPEC), SETTINGS, inside)
    asked = requests(before, 6, 4)
    old = dict(before.sample(asked, sampling()))
    after = plugin.open(resolve_policy(str(chain["policy"])), SETTINGS, inside)
    new = dict(after.sample(asked, sampling()))
    trained = load_policy(resolve_policy(str(chain["policy"])), device="cpu")
    assert largest_gap(trained, asked, new, 1.0) < 1e-4
    assert largest_gap(policy(SPEC), asked, new, 1.0) > 1e-3
    assert largest_gap(policy(SPEC), asked, old, 1.0) < 1e-4
    assert inside.peek(SESSION, "").starts == 1
    # And back: nothing of what the trained weights computed is left.
    again = dict(plugin.open(resolve_policy(SPEC), SETTINGS, inside).sample(asked, sampling()))
    assert {k: [s.token_ids for s in v] for k, v in again.items()} == {
        k: [s.token_ids for s in v] for k, v in old.items()
    }


RECIPE = """
name = "small"
seed = 3
policy = "tiny:qwen2_5_vl"
[[prepare.sources]]
name = "builtin"
train = 200
test = 12
[rollout]
engine = "vllm"
samples = 8
max_new_tokens = 12
[rollout.vllm]
kv_cache_gb = 0.5
[rollout.vllm.extra]
max_num_seqs = 64
[train]
updates_per_rollout = 2
batch_size = 8
learning_rate = 1e-3
[[phases]]
name = "sft"
objective = "sft"
[phases.train]
steps = 40
[[phases]]
name = "general"
iterations = 2
prompts = 32
labels = { general = 0.3, knowledge = 0.3, jailbreak = 0.4 }
[evaluate]
after = { start = "sft", final = "general" }
[evaluate.rollout]
samples = 1
"""


# `cosmo run`, which says at each rollout how many trainings have no receipt yet.
COMMAND = """
import sys
from pathlib import Path
import cosmo_cli.recipe.run as loop
from cosmo_cli.app import main
from stages.core.runs.folder import RunFolder
start = loop.start_stage
def begin(stage, *given, **named):
    if stage.name == "rollout":
        found = [RunFolder.open(path) for path in Path("out").glob("train-*")]
        print("missing", sum(not f.complete for f in found), file=sys.stderr)
    return start(stage, *given, **named)
loop.start_stage = begin
sys.argv = ["cosmo", "run", "recipe.toml", "--runs", "out"]
main()
"""


def test_a_recipe_of_two_turns(tmp_path: Path) -> None:
    """One engine for four rollouts and three policies; each turn's completions are those of its own policy.

    The second turn's is read where it is staged; what a phase ends with is measured when it has its receipt.
    """
    (tmp_path / "recipe.toml").write_text(RECIPE)
    command = [sys.executable, "-c", COMMAND]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "out\n"
    assert [line for line in done.stderr.splitlines() if line.startswith("missing")] == [
        f"missing {count}" for count in (0, 0, 1, 0)
    ]
    runs = [RunFolder.open(p.parent) for p in sorted((tmp_path / "out").glob("*/manifest.json"))]
    groups = [list(r.rows(ROLLOUTS)) for r in runs if r.stage == "rollout"]
    # Sampled before and after training, and in two turns; the first turn's policy is the start's.
    assert len(groups) == 4
    assert len({c.policy_id for rows in groups for g in rows for c in g.completions}) == 3
    gaps = [s.sampler_gap for r in runs if r.stage == "train" for s in r.rows(STEPS) if s.sampler_gap is not None]
    assert len(gaps) >= 2
    assert max(gaps) < 1e-5


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """vLLM's own OpenAI-compatible server on the tiny model; who changes its weights puts these back."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = resolve_policy(SPEC).path
    options = {
        "--model": folder,
        "--served-model-name": "tiny",
        "--port": port,
        "--dtype": "float32",
        "--max-model-len": 512,
        "--max-num-batched-tokens": 4096,
        "--kv-cache-memory-bytes": 1 << 28,
        "--logprobs-mode": "processed_logprobs",
        "--limit-mm-per-prompt": json.dumps({"video": 0}),
        "--mm-processor-kwargs": json.dumps({"use_fast": False}),
    }
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
    command += [str(word) for pair in options.items() for word in pair]
    command += ["--enforce-eager", "--no-enable-chunked-prefill"]
    env = environment(VLLM_ENABLE_V1_MULTIPROCESSING="1", VLLM_LOGGING_LEVEL="ERROR", VLLM_SERVER_DEV_MODE="1")
    process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        _wait(process, port)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.communicate(timeout=PATIENCE)


def _wait(process: subprocess.Popen[str], port: int) -> None:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        if process.poll() is not None:
            raise AssertionError(process.communicate()[1][-3000:])
        with socket.socket() as probe:
            probe.settimeout(1)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.5)
    raise AssertionError("the server did not come up")


def test_the_engine_openai_samples_from_vllms_server(server: str, inside: Resources) -> None:
    """Token ids and log-probs over the wire are the policy's, and those of the engine vllm."""
    table = build(ServerTable, {"url": server, "model": "tiny", "concurrency": 4}, "server")
    settings = EngineSettings(server=table, need="ids")
    engine = load("engine", "openai").open(resolve_policy(SPEC), settings, Resources())
    asked = requests(engine, 6, 2)
    given = dict(engine.sample(asked, sampling()))
    assert [s.error for samples in given.values() for s in samples] == [None] * 12
    assert largest_gap(policy(SPEC), asked, given, 1.0) < 1e-4
    own = load("engine", "vllm").open(resolve_policy(SPEC), SETTINGS, inside)
    for ident, samples in own.sample(requests(own, 6, 2), sampling()):
        assert [s.token_ids for s in samples] == [s.token_ids for s in given[ident]]


def test_a_running_server_takes_a_trained_policy_and_proves_it(server: str, tmp_path: Path) -> None:
    """Other weights in the same process; what it then samples has the new policy's log-probs."""
    before = resolve_policy(SPEC)
    moved = load_policy(before, device="cpu")
    with torch.no_grad():
        for parameter in moved.model.parameters():
            parameter.mul_(1.02)
    save_policy(moved.model, moved.processor, tmp_path / "moved")
    after = resolve_policy(str(tmp_path / "moved"))
    table = build(ServerTable, {"url": server, "model": "tiny", "concurrency": 4, "reload": True}, "server")
    settings = EngineSettings(server=table, need="ids", dtype="float32")
    resources = Resources()
    for ref in (after, before):
        engine = load("engine", "openai").open(ref, settings, resources)
        asked = requests(engine, 4, 2)
        given = dict(engine.sample(asked, sampling()))
        assert [s.error for samples in given.values() for s in samples] == [None] * 8
        assert largest_gap(load_policy(ref, device="cpu"), asked, given, 1.0) < 1e-4
    with pytest.raises(UnavailableError, match="the server at"):
        load("engine", "openai").open(resolve_policy("tiny:llama"), settings, resources)
