"""Ranks that stay go on from what lies in their memory, and come to what ranks that read it would."""

from __future__ import annotations

from typing import Any

import pytest

from stages.train.config import LoraOptions
from tests.train.parallel import SETTINGS, assert_two_runs_as_cold, parallel_inputs

RL = {**SETTINGS["rl"], "epochs": 1, "checkpoint_steps": 0}


@pytest.mark.parametrize(
    "more",
    [
        {"parallel": "ddp"},
        {"parallel": "fsdp2"},
        {"parallel": "ddp", "dtype": "bfloat16", "learning_rate": 1e-4},
        {"parallel": "fsdp2", "dtype": "bfloat16", "learning_rate": 1e-4},
    ],
    ids=lambda more: "-".join(map(str, more.values())),
)
def test_a_second_run_reads_nothing_again(tmp_path, policies, more: dict[str, Any]):
    inputs = parallel_inputs(policies("qwen2_5_vl"), tmp_path)
    assert_two_runs_as_cold(inputs["rl"], tmp_path, **{**RL, **more})


@pytest.mark.parametrize("parallel", ["ddp", "fsdp2"])
def test_adapters_are_read_again(tmp_path, policies, parallel):
    """On disk they are in the weights, which they are on no rank but the first."""
    inputs = parallel_inputs(policies("qwen2_5_vl"), tmp_path)
    assert_two_runs_as_cold(
        inputs["rl"], tmp_path, may_read=True, **{**RL, "parallel": parallel, "lora": LoraOptions(rank=2)}
    )
