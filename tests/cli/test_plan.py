"""Recipes against machines: what fits, what does not, and that what is then said to be typed does fit."""

from __future__ import annotations

import json
import shlex
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cosmo_cli.app import main
from cosmo_cli.recipe.planning import machine_check
from cosmo_cli.recipe.planning import plan as planning
from cosmo_cli.recipe.planning.demands import Question
from cosmo_cli.recipe.planning.disk_estimate import weights_bytes
from cosmo_cli.recipe.planning.plan import RecipePlan, plan_recipe
from cosmo_cli.recipe.schema import parse
from cosmo_cli.terminal.output import Output
from stages.capacity import shape as shapes
from stages.capacity.activations import Pass, boundary_bytes, layer_bytes
from stages.capacity.machine import Machine, machine_named
from stages.capacity.shape import Shape
from stages.capacity.units import GIB
from stages.core.config import assign, parse_assignment
from stages.core.errors import UnavailableError

ROOT = Path(__file__).resolve().parents[2]
MODELS = {n: Shape(**s) for n, s in json.loads((ROOT / "tests/capacity/shapes.json").read_text()).items()}
NODE = machine_named("8xh100")
RECIPES = ["cosmo_r1", "safework_m3"]


def recipe(name: str) -> dict[str, Any]:
    return tomllib.loads((ROOT / "examples" / name / "recipe.toml").read_text(encoding="utf-8"))


def plan(values: dict[str, Any], model: str, machine: Machine = NODE, executor: str = "ray") -> RecipePlan:
    return plan_recipe(Question(parse(values), machine, MODELS[model], executor=executor))


def typed(values: dict[str, Any], hint: str) -> dict[str, Any]:
    """The recipe with the settings of a hint."""
    for word in shlex.split(hint.replace("--set ", "")):
        assign(values, *parse_assignment(word))
    return values


@pytest.mark.parametrize("executor", ["local", "ray"])
@pytest.mark.parametrize("name", RECIPES)
def test_the_papers_recipes_fit_a_node_as_they_are_written(name, executor):
    found = plan(recipe(name), "qwen2_5_vl_7b", executor=executor)
    assert found.problems == []
    # All eight GPUs have work with Ray; alone, one vLLM samples on one of them, and that is said.
    assert [note[:24] for note in found.notes] == ([] if executor == "ray" else ["it samples on 1 of 8 GPU"])


def test_who_waits_while_others_work_is_counted():
    """vLLM sleeps beside the ranks, in the host's memory but for its graphs; the ranks wait beside vLLM."""
    values = recipe("cosmo_r1")
    values["train"]["parallel"] = "zero3"
    steps = {s.name: s for s in plan(values, "qwen2_5_vl_7b", executor="local").steps}
    rollout, train = steps["stage1 rollout"], steps["stage1 train"]
    assert {parts["vLLM, asleep"] for parts in train.gpu.values()} == {2 * GIB}
    assert train.host["weights of vLLM, asleep"] == 2 * MODELS["qwen2_5_vl_7b"].parameters
    assert rollout.host["weights and moments that they keep"] == train.host["weights and moments in parts"]
    # Ray's vLLM is another process, and gone by then.
    assert "vLLM, asleep" not in plan(values, "qwen2_5_vl_7b").steps[1].fullest
    small = replace(NODE, host_bytes=rollout.host_bytes - 1)
    short = [p for p in plan(values, "qwen2_5_vl_7b", small, "local").problems if "ranks that wait" in p.text]
    assert short
    assert not any(p.certain for p in short)


@pytest.mark.parametrize("name", RECIPES)
def test_the_settings_that_are_named_make_it_fit(name):
    values = recipe(name)
    # As these recipes once were: one process, and no layout.
    for key in ("nproc", "parallel"):
        del values["train"][key]
    found = plan(values, "qwen2_5_vl_7b")
    assert "one process, 8 GPUs: training uses one" in [p.text for p in found.problems]
    hint = found.problems[0].hint
    assert hint == "--set train.nproc=8 --set train.parallel=fsdp2"
    assert plan(typed(values, hint), "qwen2_5_vl_7b").problems == []


def test_the_forward_that_was_once_measured():
    """8,188 packed tokens of the 7B under autocast kept 74 GB on FakeTensor, 3.6 GB with checkpointing."""
    model = MODELS["qwen2_5_vl_7b"]
    cast = Pass(8188, 0, half=True, autocast=True, checkpointing=False, trains_vision=False)
    kept = 28 * 8188 * layer_bytes(model, cast)
    assert kept + 2 * model.linear == pytest.approx(74e9, rel=0.01)
    assert 28 * boundary_bytes(model, cast) == pytest.approx(3.6e9, rel=0.1)


def test_a_long_forward_without_checkpointing_holds_more_than_a_gpu():
    values = recipe("cosmo_r1")
    values["train"]["gradient_checkpointing"] = False
    found = plan(values, "qwen2_5_vl_7b")
    step = next(s for s in found.steps if s.name == "stage1 train")
    # 8,192 tokens of 28 layers, 7.3 MB a token under autocast; FSDP2's residual stream is narrower.
    assert 45 * GIB < step.gpu["step"]["activations"] < 60 * GIB
    short = [p for p in found.problems if "of each GPU" in p.text]
    assert short
    assert not any(p.certain for p in short)
    assert short[0].hint == "--set train.gradient_checkpointing=true"
    assert plan(typed(values, short[0].hint), "qwen2_5_vl_7b").problems == []


@pytest.mark.parametrize("model", ["qwen2_5_vl_72b", "internvl3_78b", "llama_3_1_70b"])
def test_a_model_of_70_billion_needs_more_than_a_node_or_adapters(model):
    found = plan(recipe("cosmo_r1"), model)
    train = next(s for s in found.steps if s.name == "stage1 train")
    # float32 weights, gradients and moments, an eighth of them on each GPU: never the whole model.
    assert sum(train.gpu["start and end, a tensor whole"].values()) < 16 * MODELS[model].parameters / 8 + 6 * GIB
    short = next(p for p in found.problems if p.text.startswith("stage1 train needs"))
    assert short.certain
    # In the memory of the node there is room for the parts.
    assert train.host_bytes < 400 * GIB
    assert short.hint.startswith("--set train.")
    assert "lora.rank=16" in short.hint
    assert "parallel=" not in short.hint
    adapted = plan(typed(recipe("cosmo_r1"), short.hint), model)
    assert [p.text for s in adapted.steps if s.name.endswith("train") for p in s.problems] == []
    # All weights on eight nodes, in either layout that has no whole model anywhere; zero2 has it on each GPU.
    many = recipe("cosmo_r1")
    many["train"] |= {"nnodes": 8, "rdzv": "node0:29500"}
    for parallel in ("fsdp2", "zero3"):
        many["train"]["parallel"] = parallel
        fits = plan(many, model)
        assert [p.text for s in fits.steps if s.name.endswith("train") for p in s.problems] == [], parallel
    many["train"]["parallel"] = "zero2"
    whole = next(p for p in plan(many, model).problems if p.text.startswith("stage1 train needs"))
    assert "of each GPU (end of the forward pass), and 74.0 GiB can be used" in whole.text
    assert whole.certain
    rollout = next(p for p in found.problems if p.text.startswith("stage1 rollout"))
    again = plan(typed(recipe("cosmo_r1"), rollout.hint), model)
    assert [p.text for s in again.steps if s.name.endswith("rollout") for p in s.problems] == []


def test_a_small_node_and_a_crooked_tensor_parallel_size_are_named_by_value():
    values = recipe("cosmo_r1")
    values["rollout"]["vllm"]["tensor_parallel_size"] = 8
    texts = [p.text for p in plan(values, "qwen2_5_vl_7b").problems]
    assert texts == ["tensor_parallel_size = 8 does not divide the model's 28 heads"]
    small = plan(recipe("cosmo_r1"), "qwen2_5_vl_7b", replace(NODE, gpus=4, disk_bytes=100 * GIB))
    texts = [p.text for p in small.problems]
    assert "nproc = 8, and the machine has 4 GPUs" in texts
    assert any("of disk, and 100.0 GiB are free" in text for text in texts)


def test_half_of_the_gpus_idle_is_said():
    values = recipe("cosmo_r1")
    values["rollout"]["vllm"]["tensor_parallel_size"] = 4
    values["rollout"]["shard_groups"] = 128
    faster = "the model fits 1 GPU: --set rollout.vllm.tensor_parallel_size=1 is faster"
    assert plan(values, "qwen2_5_vl_7b").notes == [faster]
    values["phases"][0]["prompts"] = values["phases"][1]["prompts"] = 1
    assert plan(values, "qwen2_5_vl_7b").notes == ["prompts = 1 a turn, and 2 engines: some have nothing to do", faster]


@pytest.fixture
def seven(monkeypatch: pytest.MonkeyPatch) -> None:
    """The 7B's sizes without building it."""
    monkeypatch.setattr(shapes, "read_shape", lambda folder, trusted=False: MODELS["qwen2_5_vl_7b"])
    monkeypatch.setattr(planning, "config_folder", lambda policy: Path("nowhere"))


@pytest.mark.usefixtures("seven")
def test_the_command_says_it_on_stderr_and_by_its_exit_code(capfd: pytest.CaptureFixture[str]):
    path = str(ROOT / "examples/cosmo_r1/recipe.toml")
    assert main(["plan", path, "--machine", "8xh100"]) == 0
    said = capfd.readouterr()
    assert said.out == ""
    assert said.err.endswith("plan: it fits\n")
    assert "stage2 train: fsdp2 on 8 GPUs, float32, checkpointed" in said.err
    assert max(map(len, said.err.splitlines()[1:-2])) <= 80
    assert main(["plan", path, "--machine", "8xh100", "--gpu-memory", "24", "--json"]) == 4
    said = capfd.readouterr()
    document = json.loads(said.out)
    assert not document["fits"]
    assert document["model"]["parameters"] == 8_292_166_656
    assert said.err.startswith("cosmo plan: it does not fit: ")


def test_cosmo_run_asks_a_small_recipe_nothing_and_refuses_what_is_sure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    values = recipe("cosmo_r1")
    output = Output("run")

    def ask(weights: int, machine: Machine) -> None:
        monkeypatch.setattr(machine_check, "check_room", lambda *given: weights)
        monkeypatch.setattr(machine_check, "this_machine", lambda runs: machine)
        machine_check.check_machine(parse(values), tmp_path, output, "ray")

    def refuse(*given: Any) -> Shape:
        raise AssertionError("a small recipe waits for no model to be built")

    monkeypatch.setattr(shapes, "read_shape", refuse)
    ask(30_000_000, replace(NODE, gpus=0, gpu_bytes=0, host_bytes=16 * GIB))
    ask(30_000_000, replace(NODE, gpus=1))
    monkeypatch.setattr(shapes, "read_shape", lambda folder, trusted=False: MODELS["qwen2_5_vl_7b"])
    monkeypatch.setattr(planning, "config_folder", lambda policy: Path("nowhere"))
    ask(33 * GIB, NODE)
    assert capsys.readouterr().err == ""
    values["train"]["gradient_checkpointing"] = False
    ask(33 * GIB, NODE)
    assert "hint: --set train.gradient_checkpointing=true" in capsys.readouterr().err
    del values["train"]["nproc"], values["train"]["parallel"]
    with pytest.raises(UnavailableError, match="one process, 8 GPUs"):
        ask(33 * GIB, NODE)


def test_a_policy_trained_in_float32_is_written_twice_as_large_as_it_was_in_bfloat16(tmp_path: Path):
    (tmp_path / "config.json").write_text('{"dtype": "bfloat16"}')
    (tmp_path / "model.safetensors").write_bytes(b"0" * 1000)
    values = recipe("cosmo_r1") | {"policy": str(tmp_path)}
    assert weights_bytes(parse(values)) == 2000
    values["train"]["dtype"] = "bfloat16"
    assert weights_bytes(parse(values)) == 1000
    # What is planned from the config alone needs no weights.
    (tmp_path / "model.safetensors").unlink()
    assert planning.config_folder(str(tmp_path)) == tmp_path
    with pytest.raises(UnavailableError, match="no such model"):
        planning.config_folder("nowhere at all")
