"""`make bench`: what comes of made-up results, and that every script can be called. Nothing is timed here."""

from __future__ import annotations

import importlib
import inspect
import json
from pathlib import Path
from typing import Any

import pytest

import bench.__main__ as command
from bench import sized
from bench.figures import FIGURES, SCRIPTS, document_of, lines_of, table_of
from stages.models.load import load_policy
from stages.models.policy_ref import resolve_policy
from tests.support.cli import ROOT

KEYS = {
    "train_vs_trl", "train_ideal", "train_memory_vs_trl", "rollout_vs_vllm", "rollout_vs_generate", "score_vs_trl",
    "score_scaling", "prepare_vs_datasets", "prepare_texts_vs_datasets", "start_vs_typer", "loop_vs_trl",
    "loop_start_vs_trl", "loop_memory_vs_trl", "loop_overhead", "loop_memory", "score_memory", "ranks_turn",
    "search_cost", "guidance_cost", "masks_cost", "view_open", "view_page",
}  # fmt: skip
MADE: dict[str, Any] = {
    "train_vs_trl": {
        "ours": 1.0, "trl": 2.5, "ratio": 2.5, "ideal": 2.0,
        "memory": {"ours_mib": 60.0, "trl_mib": 100.0, "ratio": 0.6},
    },
    "rollout_vs_generate": {"ours": 190.0, "bare": 100.0, "ratio": 1.9},
    "score_vs_trl": {"math": {"ours_4": 300.0, "trl": 100.0, "ratio": 3.0}, "gsm8k": {"ratio": 9.0}},
    "score_scaling": {"by_4": 500.0, "by_1": 200.0, "ratio": 2.5},
    "start_vs_typer": {"ours_s": 0.26, "peer_s": 0.2, "ratio": 1.3},
    "loop_vs_trl": {
        "ours": 2.0, "trl": 12.0, "ratio": 6.0,
        "start": {"ours": 8.0, "trl": 5.0, "ratio": 1.6}, "memory": {"ours": 900.0, "trl": 1500.0, "ratio": 0.6},
    },
    "loop_overhead": {"overhead_s": 0.1, "turn_s": 4.0, "ratio": 0.025},
    "ranks_turn": {"ours": 4.0, "peer": 12.0, "ratio": 3.0},
    "loop_memory": {"last_mib": 720.0, "warm_mib": 700.0, "ratio": 1.029},
    "search_and_guidance": {
        "plain": 0.5, "search": 1.0, "guided": 4.0, "masked": 0.2, "whole": 0.25,
        "ratios": {"search": 2.0, "guided": 8.0, "masked": 0.8},
    },
    "view_vs_duckdb": {
        "open": {"ours": 1.5, "peer": 0.1, "ratio": 15.0}, "filtered": {"ours": 0.1, "peer": 0.4, "ratio": 0.25},
    },
    "token_columns": {"long_mib": 208.0, "short_mib": 198.0, "ratio": 1.051},
}  # fmt: skip
PREPARE = ("prepare_vs_datasets", "prepare_texts_vs_datasets")
SKIPPED = {"rollout_vs_vllm": "vllm is not installed", "prepare_vs_datasets": "not asked for"}
WITHOUT = {"rollout_vs_vllm": SKIPPED["rollout_vs_vllm"], **dict.fromkeys(PREPARE, "not asked for")}


def test_every_figure_is_of_a_script_and_every_script_has_a_main() -> None:
    files = {p.stem for p in (ROOT / "bench").glob("*.py")} - {"__main__", "figures", "sized", "timing"}
    assert {s.name for s in SCRIPTS} == files == {f.script for f in FIGURES}
    assert {f.name for f in FIGURES} == KEYS
    for name in files:
        signature = inspect.signature(importlib.import_module(f"bench.{name}").main)
        assert not [p for p in signature.parameters.values() if p.default is inspect.Parameter.empty], name
        # What it returns is what the table is made of.
        assert signature.return_annotation.startswith("dict[str, "), name


def test_a_sized_policy_is_a_larger_one_with_the_same_tokenizer(tmp_path: Path) -> None:
    parameters = sized.build(tmp_path / "model", hidden=256, layers=6)
    assert parameters > 5e6
    policy = load_policy(resolve_policy(str(tmp_path / "model")), device="cpu")
    assert policy.model.config.get_text_config().num_hidden_layers == 6
    tiny = load_policy(resolve_policy("tiny:qwen2_5_vl"), device="cpu")
    assert policy.processor.tokenizer.get_vocab() == tiny.processor.tokenizer.get_vocab()


def test_verdicts() -> None:
    lines = {n.name: n for n in lines_of(MADE, SKIPPED)}
    # 2.5 times is more than 1.2 times an ideal of 2.0; a bound itself is met.
    assert (lines["train_vs_trl"].target, lines["train_vs_trl"].verdict) == (">= 2.4", "met")
    assert (lines["train_memory_vs_trl"].target, lines["train_memory_vs_trl"].verdict) == ("<= 0.5", "missed")
    assert lines["rollout_vs_generate"].verdict == "missed"
    assert (lines["start_vs_typer"].target, lines["start_vs_typer"].verdict) == ("<= 1.3", "met")
    assert [lines[f"loop{name}"].verdict for name in ("_vs_trl", "_start_vs_trl", "_memory_vs_trl")] == [
        "missed",
        "missed",
        "",
    ]
    assert lines["loop_overhead"].verdict == "met"
    assert (lines["loop_memory"].target, lines["loop_memory"].verdict) == ("<= 1.15", "met")
    assert (lines["train_ideal"].ratio, lines["train_ideal"].verdict) == (2.0, "")
    assert (lines["rollout_vs_vllm"].ratio, lines["rollout_vs_vllm"].verdict) == (None, "")


def test_the_ideal_moves_the_target() -> None:
    made = {**MADE, "train_vs_trl": {**MADE["train_vs_trl"], "ideal": 2.2}}
    assert next(n for n in lines_of(made, SKIPPED) if n.name == "train_vs_trl").verdict == "missed"


def test_the_table_has_a_line_a_figure() -> None:
    shown = table_of(lines_of(MADE, SKIPPED)).splitlines()
    assert shown[0].split() == ["figure", "ours", "peer", "unit", "ratio", "target"]
    assert [line.split()[0].rstrip(":") for line in shown[1:]] == [
        *(f.name for f in FIGURES if f.script not in SKIPPED),
        "rollout_vs_vllm",
        *PREPARE,
    ]
    assert shown[1].split() == ["train_vs_trl", "1", "2.5", "s/step", "2.5", ">=", "2.4", "met"]
    assert shown[-3] == "rollout_vs_vllm: skipped, vllm is not installed"


def test_the_document_has_nulls_and_reasons() -> None:
    document = json.loads(json.dumps(document_of(lines_of(MADE, SKIPPED), MADE, command.machine(2))))
    assert document.keys() >= KEYS
    assert {k for k in KEYS if document[k] is None} == document["skipped"].keys()
    assert document["skipped"] == WITHOUT
    assert document["targets"]["train_memory_vs_trl"] == {"target": "<= 0.5", "verdict": "missed"}
    assert document["results"] == MADE
    assert document["machine"]["versions"].keys() >= {"python", "torch", "transformers", "trl"}
    assert len(document["machine"]["load_average"]) == 3


def test_a_missing_peer_is_skipped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "bench.json"
    monkeypatch.setattr(command, "SCRIPTS", (command.Script("train_vs_trl", "no_such_peer"), *SCRIPTS[1:]))
    monkeypatch.setattr("sys.argv", ["bench", "--only", "train_vs_trl", "--out", str(out)])
    assert command.main() == 0
    document = json.loads(out.read_text("utf-8"))
    assert document["skipped"]["train_memory_vs_trl"] == "no_such_peer is not installed"
    assert document["skipped"]["loop_overhead"] == "not asked for"
    assert {document[k] for k in KEYS} == {None}


def test_what_the_loop_is_watched_by_is_still_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """It wraps functions where their users find them: after a move it would count nothing, or fail after minutes."""
    import cosmo_cli.recipe.run as loop
    from bench.loop_overhead import Clock, watch
    from stages.engines.transformers.engine import TransformersEngine
    from stages.score.models import batching
    from stages.train.rl.trainer import RlTrainer

    watched = [(TransformersEngine, name) for name in ("encode", "decode", "sample")]
    watched += [(RlTrainer, "learn"), (batching, "in_order"), (loop, "start_stage")]
    before = [getattr(owner, name) for owner, name in watched]
    for (owner, name), plain in zip(watched, before, strict=True):
        # So that they are themselves again after the test.
        monkeypatch.setattr(owner, name, plain)
    watch(Clock())
    assert all(getattr(owner, name) is not plain for (owner, name), plain in zip(watched, before, strict=True))
