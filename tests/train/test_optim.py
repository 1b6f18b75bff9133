"""AdamW's groups, the schedule's first step, and moments that go from run to run, on two small layers."""

from __future__ import annotations

import pytest
import torch

from stages.core.errors import UsageError
from stages.models.families import family_of
from stages.models.load import load_policy
from stages.models.policy_ref import resolve_policy
from stages.train.config import TrainConfig
from stages.train.optim import make_optimizer, make_scheduler, optimizer_state, set_frozen, trainable


def layers() -> torch.nn.Module:
    """A matrix with a bias, and a norm."""
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.LayerNorm(2))


def test_weight_decay_is_for_matrices_alone():
    """A bias and a norm's weight are no directions to be kept small."""
    model = layers()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = make_optimizer(model, TrainConfig(learning_rate=0.1, weight_decay=0.5), {})
    # Without a gradient's pull only the decay moves anything: w - rate * decay * w.
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, parameter in model.named_parameters():
        expected = before[name] * (1 - 0.1 * 0.5) if name == "0.weight" else before[name]
        torch.testing.assert_close(parameter.detach(), expected)


def test_frozen_parameters_have_no_place_in_it():
    model = layers()
    model[0].requires_grad_(False)
    optimizer = make_optimizer(model, TrainConfig(), {})
    kept = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert kept == {id(p) for p in model[1].parameters()}


@pytest.mark.parametrize("name", ["qwen2_5_vl", "internvl"])
def test_a_frozen_language_model_leaves_what_sees_and_what_joins_them(name):
    model = load_policy(resolve_policy(f"tiny:{name}"), device="cpu").model
    set_frozen(model, freeze_vision=False, freeze_language=True)
    tower = {id(p) for p in family_of(model).tower(model).parameters()}
    assert tower <= {id(p) for p in trainable(model).values()}
    # Of InternVL the projector is no part of the tower; of Qwen2.5-VL it is.
    joins = [n for n, p in trainable(model).items() if id(p) not in tower]
    assert all("multi_modal_projector" in n for n in joins)
    assert bool(joins) is (name == "internvl")
    set_frozen(model, freeze_vision=False)
    assert len(trainable(model)) == len(list(model.named_parameters()))
    set_frozen(model, freeze_vision=True)
    assert not tower & {id(p) for p in trainable(model).values()}
    if joins:
        set_frozen(model, freeze_vision=True, freeze_language=True)
        assert list(trainable(model)) == joins
    else:
        with pytest.raises(UsageError, match=r"leaves nothing of .* its vision tower is frozen, too"):
            set_frozen(model, freeze_vision=True, freeze_language=True)


def test_frozen_embeddings_take_part_in_gradients_only_while_they_have_to():
    model = load_policy(resolve_policy("tiny:internvl"), device="cpu").model
    ids = torch.tensor([[1, 2, 3]])

    def differentiable(**frozen):
        model.requires_grad_(True)
        set_frozen(model, **frozen)
        if not frozen.get("freeze_language"):
            model.get_input_embeddings().requires_grad_(False)
        return model.get_input_embeddings()(ids).requires_grad

    for _ in range(2):
        assert differentiable(freeze_vision=False, freeze_language=True)
        with torch.no_grad():
            assert not model.get_input_embeddings()(ids).requires_grad
        assert not differentiable(freeze_vision=True)


def test_without_a_tower_a_frozen_language_model_leaves_nothing():
    model = load_policy(resolve_policy("tiny:llama"), device="cpu").model
    with pytest.raises(UsageError, match="leaves nothing of LlamaForCausalLM to train: it has no vision tower"):
        set_frozen(model, freeze_vision=False, freeze_language=True)


@pytest.mark.parametrize(("first_step", "rates"), [(0, [0.25, 0.5, 0.75, 1.0, 1.0]), (2, [0.75, 1.0, 1.0])])
def test_warm_up_begins_above_zero_and_a_chained_run_goes_on_in_it(first_step, rates):
    """A first step at rate 0 would be a rollout's first update thrown away."""
    config = TrainConfig(learning_rate=2.0, warmup_steps=4)
    optimizer = make_optimizer(layers(), config, {})
    scheduler = make_scheduler(optimizer, config, first_step, 0)
    found = []
    for _ in rates:
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert found == [2.0 * rate for rate in rates]


def test_moments_go_on_where_their_shapes_fit():
    model, config = layers(), TrainConfig(learning_rate=0.1)
    optimizer = make_optimizer(model, config, {})
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    state = optimizer_state(model, optimizer)
    again = optimizer_state(model, make_optimizer(model, config, state))
    assert again.keys() == state.keys()
    assert all(torch.equal(again[name], value) for name, value in state.items())
    other = {**state, "0.weight.exp_avg": torch.zeros(1, 1), "0.weight.exp_avg_sq": torch.zeros(1, 1)}
    assert not any(name.startswith("0.weight") for name in optimizer_state(model, make_optimizer(model, config, other)))
