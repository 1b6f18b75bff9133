"""Planning: cheap, by content, and able to find the policy that sampled the groups."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest

from schemas.tables import PROMPTS, SCORED
from stages.core.config import build
from stages.core.errors import UsageError
from stages.core.runs.folder import RunFolder
from stages.core.stage import Context, Resources, Silent
from stages.models.policy_ref import resolve_policy
from stages.train.config import TrainConfig
from stages.train.stage import STAGE, objective_of
from tests.train.made import prompt_row, scored_group, steps, train, write_shard


def plan(inputs, **settings):
    return STAGE.plan(Context(TrainConfig(**settings), inputs, Silent(), Resources()))


@pytest.fixture
def shard(tmp_path, policies):
    policy = policies("qwen2_5_vl")
    return write_shard(tmp_path / "scored.parquet", SCORED, [scored_group(policy, i) for i in range(2)])


def run_folder(path, stage, inputs, provenance, shard):
    """A run as another stage leaves it."""
    (path / "shards").mkdir(parents=True)
    shutil.copy(shard, path / "shards" / "00000.parquet")
    manifest = {
        "stage": stage,
        "fingerprint": "f" * 64,
        "table": "scored",
        "shards": [{}],
        "inputs": [{"path": f"../{name}", "fingerprint": "e" * 64, "stage": "rollout"} for name in inputs],
        "provenance": provenance,
    }
    (path / "manifest.json").write_text(json.dumps(manifest))
    return RunFolder.open(path)


def test_rl_starts_from_the_policy_that_sampled(tmp_path, shard):
    for name, spec in (("rollout-a", "tiny:qwen2_5_vl"), ("rollout-b", "tiny:llama")):
        run_folder(tmp_path / name, "rollout", [], {"policy": spec}, shard)
    a, again, b = (
        run_folder(tmp_path / f"score-{i}", "score", [name], {}, shard)
        for i, name in enumerate(["rollout-a", "rollout-a", "rollout-b"])
    )
    config = TrainConfig()
    found = objective_of(config).start_policy(Context(config, [a, again], Silent(), Resources()))
    assert found.id == resolve_policy("tiny:qwen2_5_vl").id
    with pytest.raises(UsageError, match="tiny:llama, tiny:qwen2_5_vl"):
        objective_of(config).start_policy(Context(config, [a, b], Silent(), Resources()))


def test_the_key_is_content_not_place(tmp_path, shard):
    """A policy reached by two paths is one policy; another loss version or policy is another run."""
    copy = tmp_path / "copy"
    shutil.copytree(resolve_policy("tiny:qwen2_5_vl").path, copy)
    folder = RunFolder.open(shard)
    one, other = plan([folder], policy="tiny:qwen2_5_vl"), plan([folder], policy=str(copy))
    assert one.key == other.key
    assert one.shards == other.shards
    assert plan([folder], policy="tiny:qwen2_5_vl@1").key != one.key
    assert one.key["loss"][:2] == ["cpgd", 1]
    with_reference = plan([folder], policy="tiny:qwen2_5_vl", ref_kl=0.1, ref_policy=str(copy))
    assert with_reference.key["ref_policy"] == one.key["policy"]
    keys = [
        plan([folder], policy="tiny:qwen2_5_vl", ref_kl=0.1, ref_policy=str(copy), ref_dtype=dtype).key
        for dtype in ("float32", "bfloat16")
    ]
    assert keys[0] == with_reference.key
    assert keys[1] != with_reference.key


def test_planning_loads_no_torch(tmp_path, shard):
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from stages.core.runs.folder import RunFolder\n"
        "from stages.core.stage import Context, Resources, Silent\n"
        "from stages.train.config import TrainConfig\n"
        "from stages.train.stage import STAGE\n"
        f"folder = RunFolder.open(Path({str(shard)!r}))\n"
        "STAGE.plan(Context(TrainConfig(policy='tiny:qwen2_5_vl'), [folder], Silent(), Resources()))\n"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_config_module_loads_nothing_heavy():
    code = (
        "import sys, stages.train.config, stages.train.stage\n"
        "heavy = {'torch', 'transformers', 'trl', 'pyarrow', 'numpy', 'PIL'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_same_command_is_cached(tmp_path, shard):
    settings = {"policy": "tiny:qwen2_5_vl", "learning_rate": 1e-4}
    first = train(shard, tmp_path, **settings)
    stamp = (first.path / "policy" / "model.safetensors").stat().st_mtime_ns
    again = train(shard, tmp_path, **settings, checkpoint_steps=1, micro_batch_tokens=64)
    assert again.path == first.path
    assert (again.path / "policy" / "model.safetensors").stat().st_mtime_ns == stamp
    assert steps(again) == steps(first)


@pytest.mark.parametrize(
    ("values", "words"),
    [({"objective": "ppo"}, "rl, sft"), ({"learning_rat": 1.0}, "learning_rate"), ({"batch_size": 0}, "smallest is 1")],
)
def test_settings_are_checked(values, words):
    with pytest.raises(UsageError) as caught:
        build(TrainConfig, values, "train")
    assert words in caught.value.hint


def test_a_prompt_folder_is_input_for_sft_only(tmp_path):
    folder = RunFolder.open(write_shard(tmp_path / "p.parquet", PROMPTS, [prompt_row(0)]))
    assert plan([folder], objective="sft", policy="tiny:qwen2_5_vl").key["policy"]
