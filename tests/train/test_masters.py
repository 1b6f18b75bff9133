"""Weights in bfloat16 move at an RL rate: masters take the steps, go from run to run, and split a run nowhere."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from schemas.tables import PROMPTS, SCORED
from stages.core.errors import UsageError
from stages.train.config import TrainConfig
from stages.train.masters import MASTER
from stages.train.optim import make_optimizer, optimizer_state
from tests.train.made import prompt_row, scored_group, tiny_weights, train, weights, write_shard

STEPS, RATE = 40, 1e-6


def pulled(masters: bool, calls: list[int]) -> tuple[torch.nn.Linear, dict[str, torch.Tensor]]:
    """A bfloat16 layer after so many steps; each call has an optimizer of its own, made from the last one's state."""
    generator = torch.Generator().manual_seed(0)
    layer = torch.nn.Linear(64, 64, bias=False)
    state: dict[str, torch.Tensor] = {}
    with torch.no_grad():
        layer.weight.normal_(0.0, 0.02, generator=generator)
    layer.bfloat16()
    pull = torch.randn(64, 64, generator=generator)
    for steps in calls:
        optimizer = make_optimizer(layer, TrainConfig(learning_rate=RATE, dtype="bfloat16", masters=masters), state)
        for _ in range(steps):
            noise = torch.randn(64, 64, generator=generator)
            layer.weight.grad = (pull + noise).bfloat16()
            optimizer.step()
        state = {name: value.clone() for name, value in optimizer_state(layer, optimizer).items()}
    return layer, state


def moved(layer: torch.nn.Linear) -> float:
    """The share of weights that are not what they began as."""
    begun, _ = pulled(True, [])
    return float((layer.weight != begun.weight).float().mean())


def test_masters_move_what_bfloat16_alone_rounds_away() -> None:
    """A weight that should go 40e-6 does so where its next number is less than twice as far; alone nearly none does."""
    begun, _ = pulled(True, [])
    layer, state = pulled(True, [STEPS])
    assert moved(layer) > 4 * moved(pulled(False, [STEPS])[0])
    master = state[f"weight.{MASTER}"]
    assert master.dtype == torch.float32
    # torch's own AdamW on float32 weights, with the same gradients, to the bit.
    assert torch.equal(layer.weight, master.bfloat16())
    assert float((master != begun.weight.float()).float().mean()) > 0.99


def test_it_is_torchs_adamw_on_float32_weights_to_the_bit() -> None:
    generator = torch.Generator().manual_seed(1)
    wide = torch.nn.Linear(16, 16)
    narrow = torch.nn.Linear(16, 16).bfloat16()
    with torch.no_grad():
        for mine, theirs in zip(wide.parameters(), narrow.parameters(), strict=True):
            mine.copy_(theirs)
    both = [make_optimizer(layer, TrainConfig(learning_rate=1e-3), {}) for layer in (wide, narrow)]
    for _ in range(5):
        for mine, theirs in zip(wide.parameters(), narrow.parameters(), strict=True):
            theirs.grad = torch.randn(theirs.shape, generator=generator).bfloat16()
            mine.grad = theirs.grad.float()
        for optimizer in both:
            optimizer.step()
    states = [optimizer_state(layer, optimizer) for layer, optimizer in zip((wide, narrow), both, strict=True)]
    for name, mine in wide.named_parameters():
        assert torch.equal(states[1][f"{name}.{MASTER}"], mine)
        assert torch.equal(states[1][f"{name}.exp_avg_sq"], states[0][f"{name}.exp_avg_sq"])
    assert f"weight.{MASTER}" not in states[0]


def test_calls_in_a_row_are_one_to_the_bit() -> None:
    whole, state = pulled(True, [STEPS])
    parts, parts_state = pulled(True, [15, 5, 20])
    assert torch.equal(whole.weight, parts.weight)
    assert all(torch.equal(state[name], parts_state[name]) for name in state)
    assert set(state) == set(parts_state)


def test_loading_keeps_masters_and_moments_in_float32() -> None:
    """As accelerate does once a run; torch would cast both to the weights' dtype."""
    layer, state = pulled(True, [3])
    optimizer = make_optimizer(layer, TrainConfig(dtype="bfloat16"), state)
    optimizer.load_state_dict(optimizer.state_dict())
    found = optimizer_state(layer, optimizer)
    assert all(found[name].dtype == torch.float32 and torch.equal(found[name], state[name]) for name in state)


def test_a_rate_that_would_be_rounded_away_is_refused(tmp_path: Path) -> None:
    settings = {"objective": "sft", "policy": "tiny:llama", "dtype": "bfloat16", "masters": False}
    inputs = [write_shard(tmp_path / "p.parquet", PROMPTS, [prompt_row(0, images=False)])]
    with pytest.raises(UsageError, match="learning_rate 1e-06 is rounded away") as caught:
        train(inputs, tmp_path, **settings, learning_rate=1e-6)
    assert caught.value.hint == "--set masters=true, or --set dtype=float32"


def test_runs_save_masters_and_go_on_from_them(policies, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """A rollout, then another from there, are one run over both, to the bit; most masters move, few weights yet."""
    policy = policies("llama")
    rollouts = [
        write_shard(tmp_path / f"{n}.parquet", SCORED, [scored_group(policy, 2 * n + i, images=False) for i in (0, 1)])
        for n in (0, 1)
    ]
    same = {"dtype": "bfloat16", "learning_rate": RATE, "updates_per_rollout": 2, "max_grad_norm": 0.0}
    first = train(rollouts[0], tmp_path / "two", policy="tiny:llama", **same)
    second = train(rollouts[1], tmp_path / "two", policy=str(first.path), **same)
    one = train(rollouts, tmp_path / "one", policy="tiny:llama", **same)
    for name in ("policy/model.safetensors", "trainer/optimizer.safetensors"):
        held, found = (load_file(run.path / name) for run in (one, second))
        assert held.keys() == found.keys()
        assert all(torch.equal(held[key], found[key]) for key in held)
    begun, state = tiny_weights("llama"), load_file(one.path / "trainer" / "optimizer.safetensors")
    masters = {name: state[f"{name}.{MASTER}"] for name in begun if f"{name}.{MASTER}" in state}
    ended = weights(one)
    assert len(masters) > 10
    assert {ended[name].dtype for name in masters} == {torch.bfloat16}
    assert all(torch.equal(ended[name], master.bfloat16()) for name, master in masters.items())
    stepped = [_share(masters[name], begun[name].bfloat16().float()) for name in masters if "layers" in name]
    felt = [_share(ended[name], begun[name].bfloat16()) for name in masters if "layers" in name]
    assert sum(stepped) / len(stepped) > 0.9
    assert sum(felt) / len(felt) < 0.5


def _share(after: torch.Tensor, before: torch.Tensor) -> float:
    return float((after != before).float().mean())
