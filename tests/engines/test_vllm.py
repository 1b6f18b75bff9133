"""What of the engine vllm needs no vLLM; the rest is in tests/engines_real."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from stages.core.config import build, key_of
from stages.core.errors import UnavailableError
from stages.core.registry import load, names
from stages.engines.base import EngineSettings, VllmTable
from stages.engines.vllm.arguments import check_version, with_head
from stages.engines.vllm.probe import distance
from stages.models.families import collapsed
from stages.models.policy_ref import resolve_policy
from stages.models.probe import make_probes
from stages.rollout.config import RolloutConfig
from stages.rollout.stage import RolloutStage
from tests.models.made import policy, prompt
from tests.support.cli import complaint, cosmo, ok


@pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="vLLM is installed here")
def test_without_vllm_it_is_unavailable_and_says_what_to_install(tmp_path: Path) -> None:
    prompts = ok("prepare", "builtin", "--limit", "4", cwd=tmp_path)
    done = cosmo("rollout", prompts, "--engine", "vllm", "--policy", "tiny:llama", cwd=tmp_path)
    assert done.returncode == 4
    message, hint = complaint(done)
    assert "vLLM is not installed" in message
    assert hint == "pip install 'cosmo-rl[vllm]'"


@pytest.mark.parametrize("spec", ["tiny:qwen2_5_vl", "tiny:internvl"])
@pytest.mark.parametrize("images", [0, 1, 2])
def test_placeholders_collapse_to_what_the_template_writes(spec: str, images: int) -> None:
    """One image token an image, and all else as it was; for InternVL without the tokens around it."""
    processor = policy(spec).processor
    ids = processor.encode(*prompt(1, images)).token_ids
    cut = processor.renderer_ids(ids)
    assert cut.count(processor.image_token_id) == images
    assert collapsed(cut, processor.image_token_id) == cut
    around = 2 * images if spec == "tiny:internvl" else 0
    expanded = ids.count(processor.image_token_id)
    assert len(cut) == len(ids) - expanded + images - around


def test_a_tied_head_is_written_out_and_an_own_head_is_left_alone(tmp_path: Path) -> None:
    from safetensors import safe_open

    source = resolve_policy("tiny:qwen2_5_vl").path
    made = with_head(source)
    assert made is not None
    place = Path(made.name)
    assert (place / "preprocessor_config.json").read_bytes() == (source / "preprocessor_config.json").read_bytes()
    embedding = policy("tiny:qwen2_5_vl").model.get_input_embeddings().weight
    with safe_open(place / "tied-head.safetensors", "pt") as weights:
        assert torch.equal(weights.get_tensor("lm_head.weight"), embedding)
    own = {"model.embed_tokens.weight": torch.zeros(2, 2), "lm_head.weight": torch.ones(2, 2)}
    save_file(own, tmp_path / "model.safetensors")
    assert with_head(tmp_path) is None


@pytest.mark.parametrize(
    ("version", "runner", "refused"),
    [
        ("0.22.0", None, False), ("0.30.0", None, False), ("0.30.1+cu130", "1", False),
        ("0.31.0", None, True), ("0.31.0rc1", None, True), ("0.33.0+cu130", "1", True), ("1.0.0", None, True),
        ("0.31.0", "0", False),
    ],
)  # fmt: skip
def test_a_vllm_whose_runner_refuses_our_processor_is_refused_before_it_loads(
    version: str, runner: str | None, refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VLLM_USE_V2_MODEL_RUNNER", raising=False)
    if runner is not None:
        monkeypatch.setenv("VLLM_USE_V2_MODEL_RUNNER", runner)
    if not refused:
        check_version(version)
        return
    with pytest.raises(UnavailableError, match=f"vLLM {re.escape(version)} on a GPU .* V2 model runner") as caught:
        check_version(version)
    assert caught.value.hint == "pip install 'vllm>=0.22,<0.31', or export VLLM_USE_V2_MODEL_RUNNER=0"


def test_the_extra_installs_no_version_that_is_refused(root: Path) -> None:
    extras = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert extras["vllm"] == ["vllm>=0.22,<0.31"]


def test_the_version_is_looked_at_where_vllm_is_built_for_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    from stages.engines.vllm import arguments as module

    monkeypatch.delenv("VLLM_USE_V2_MODEL_RUNNER", raising=False)
    monkeypatch.setattr(module.metadata, "version", lambda name: "0.31.0")
    processor = policy("tiny:llama").processor
    monkeypatch.setattr(module, "_on_cpu", lambda: False)
    with pytest.raises(UnavailableError, match="on a GPU"):
        module.arguments(EngineSettings(), {}, processor, 64)


def test_the_probe_tells_policies_apart_and_counts_lost_numbers() -> None:
    probes = make_probes(policy("tiny:qwen2_5_vl"))
    assert {p.image for p in probes} == {False, True}
    said = [list(p.logprobs) for p in probes]
    assert distance(probes, said, "float32") == 0
    said[-1][3] += 0.002
    assert distance(probes, said, "float32") == pytest.approx(2, rel=1e-3)
    assert distance(probes, said, "bfloat16") < 0.01
    said[-1][3] = float("nan")
    assert distance(probes, said, "bfloat16") == float("inf")
    # A prompt that vLLM reads otherwise has no answer.
    assert distance(probes, [[], *said[1:]], "float32") == float("inf")


def test_how_vllm_uses_the_machine_changes_no_row_and_so_no_fingerprint() -> None:
    plain = build(RolloutConfig, {"engine": "vllm"}, "rollout")
    machine = {"tensor_parallel_size": 2, "kv_cache_gb": 4, "enforce_eager": True}
    assert key_of(build(RolloutConfig, {"engine": "vllm", "vllm": machine}, "rollout")) == key_of(plain)


@pytest.mark.parametrize("setting", [{"max_model_len": 64}, {"extra": {"quantization": "fp8"}}])
def test_what_can_change_a_completion_is_in_the_key(setting: dict[str, object]) -> None:
    limited = build(RolloutConfig, {"vllm": {**setting, "kv_cache_gb": 2}}, "rollout")
    assert key_of(limited) == {"vllm": setting}


def test_engines_say_how_many_gpus_they_take() -> None:
    table = VllmTable(tensor_parallel_size=4)
    taken = {name: load("engine", name).gpus(EngineSettings(vllm=table)) for name in names("engine")}
    assert taken == {"fake": 0, "openai": 0, "transformers": 1, "vllm": 4}
    assert load("engine", "vllm").gpus(EngineSettings(device="cpu", vllm=table)) == 0
    config = build(RolloutConfig, {"engine": "vllm", "vllm": {"tensor_parallel_size": 2}}, "rollout")
    assert RolloutStage().gpus(config) == 2


def test_a_shorter_limit_is_another_run(tmp_path: Path) -> None:
    prompts = ok("prepare", "builtin", "--limit", "4", cwd=tmp_path)
    asked = ["rollout", prompts, "--engine", "vllm", "--policy", "tiny:llama", "--dry-run"]
    said = {
        cosmo(*asked, *more, cwd=tmp_path).stderr
        for more in ([], ["--set", "vllm.max_model_len=64"], ["--set", "vllm.kv_cache_gb=2"])
    }
    assert all("runs/rollout-" in line for line in said)
    assert len(said) == 2
