"""The facts of CPGD (arXiv:2505.12504), of its relatives and of the shared aggregation, on bare tensors."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.core.config import build
from stages.core.errors import UsageError
from stages.core.registry import load, names
from stages.train.config import TrainConfig
from stages.train.losses.base import AGGREGATIONS, LossInputs, StepTotals, k3, sequence_weight

CONFIG = TrainConfig().resolved().loss_settings()
ALL = names("loss")
ONE = torch.ones(1, 1, dtype=torch.float64)
CPGD, GRPO = load("loss", "cpgd"), load("loss", "grpo")


def settings_for(name, **changes):
    """What a loss is told under these settings of [train]."""
    return TrainConfig(loss=name, **changes).resolved().loss_settings()


def cpgd_settings(alpha, **changes):
    """CPGD's with another weight of the drift."""
    return settings_for("cpgd", losses={"cpgd": {"drift_alpha": alpha}}, **changes)


def loss_of(plugin, new, old, advantages, mask, weights, options, ref=None):
    """The plugin's loss and statistics of bare tensors."""
    return plugin.loss(LossInputs(new, old, advantages[:, None], mask, weights, ref), options)


def batch(seed: int, n: int = 6, t: int = 9, spread: float = 0.5):
    """Random log-probs, old log-probs, advantages, mask with a first token always on, and weights."""
    g = torch.Generator().manual_seed(seed)
    old = -torch.rand(n, t, generator=g, dtype=torch.float64) * 3 - 0.1
    new = (old + torch.randn(n, t, generator=g, dtype=torch.float64) * spread).requires_grad_()
    advantages = torch.randn(n, generator=g, dtype=torch.float64)
    mask = (torch.rand(n, t, generator=g) > 0.3).double()
    mask[:, 0] = 1
    weights = torch.rand(n, generator=g, dtype=torch.float64) + 0.1
    return new, old, advantages, mask, weights


def closed_form(new, old, advantages, mask, weights, config):
    """d loss / d logprob by METHODS.md section 1: -(1[not clipped] A - alpha min(r - 1, c)), weighted."""
    r, a = (new - old).exp().detach(), advantages[:, None]
    inside = torch.where(a > 0, r < 1 + config.clip_high, r > 1 - config.clip_low)
    w = inside * a - config.own.drift_alpha * (r - 1).clamp(max=config.own.drift_cap)
    return -w * mask * weights[:, None]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    spread=st.floats(0.0, 3.0),
    alpha=st.floats(0.0, 1.0),
    eps=st.floats(0.01, 0.9),
)
def test_gradient_is_a_weighted_nll_with_detached_weights(seed, spread, alpha, eps):
    config = cpgd_settings(alpha, clip_low=eps, clip_high=eps)
    new, old, *rest = batch(seed, spread=spread)
    loss, _ = loss_of(CPGD, new, old, *rest, config)
    loss.backward()
    torch.testing.assert_close(new.grad, closed_form(new, old, *rest, config), rtol=1e-12, atol=1e-14)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_value_is_equation_2(seed):
    new, old, a, mask, w = batch(seed)
    loss, _ = loss_of(CPGD, new, old, a, mask, w, CONFIG)
    log_ratio, a1 = new - old, a[:, None]
    bounded = log_ratio.clamp(math.log(1 - CONFIG.clip_low), math.log(1 + CONFIG.clip_high))
    phi = torch.minimum(log_ratio * a1, bounded * a1)
    drift = (log_ratio.exp() - 1).clamp(max=CONFIG.own.drift_cap) * new
    expected = -((phi - CONFIG.own.drift_alpha * drift) * mask * w[:, None]).sum()
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-12)


def test_on_policy_drift_is_exactly_zero_and_the_step_is_reinforce_with_baseline():
    new, _, a, mask, w = batch(3)
    loss, stats = loss_of(CPGD, new, new.detach().clone(), a, mask, w, cpgd_settings(5.0))
    loss.backward()
    assert stats["drift"].item() == 0.0
    assert stats["clipped"].item() == 0
    assert stats["ratio"].item() == mask.sum().item()
    assert torch.equal(new.grad, -(a[:, None] * mask * w[:, None]))


@pytest.mark.parametrize(
    ("ratio", "advantage", "clipped"),
    [
        (1.5, 1.0, True),
        (1.5, -1.0, False),
        (0.5, -1.0, True),
        (0.5, 1.0, False),
        (1.1, 1.0, False),
        (0.9, -1.0, False),
    ],
)
def test_clip_removes_the_gradient_only_on_the_outward_side(ratio, advantage, clipped):
    old = torch.full((1, 1), -1.0, dtype=torch.float64)
    new = (old + math.log(ratio)).requires_grad_()
    one = torch.ones(1, 1, dtype=torch.float64)
    config = cpgd_settings(0.0)
    loss, stats = loss_of(CPGD, new, old, torch.tensor([advantage], dtype=torch.float64), one, one[0], config)
    loss.backward()
    assert (new.grad.item() == 0.0) is clipped
    assert stats["clipped"].item() == float(clipped)


@pytest.mark.parametrize("above", [True, False])
def test_at_the_boundary_itself_cpgd_has_no_gradient_any_more(above):
    """The paper's gradient form: 1[not clipped] is r < 1 + eps where A > 0, and r > 1 - eps where A < 0."""
    config = cpgd_settings(0.0, clip_low=0.5, clip_high=1.0)
    edge = math.log(2.0) if above else math.log(0.5)
    old = torch.zeros(1, 1, dtype=torch.float64)
    for log_ratio, clipped in ((edge, True), (edge * (1 - 1e-9), False)):
        new = torch.full((1, 1), log_ratio, dtype=torch.float64, requires_grad=True)
        advantage = torch.tensor([1.0 if above else -1.0], dtype=torch.float64)
        loss, stats = loss_of(CPGD, new, old, advantage, ONE, ONE[0], config)
        loss.backward()
        assert (new.grad.item() == 0.0) is clipped
        assert stats["clipped"].item() == float(clipped)


def test_a_clipped_token_is_still_pulled_back_by_the_drift():
    """Without it nothing would: this is what drift is for."""
    old, one = torch.zeros(1, 1, dtype=torch.float64) - 2, torch.ones(1, 1, dtype=torch.float64)
    new = (old + math.log(1.5)).requires_grad_()
    loss_of(CPGD, new, old, one[0], one, one[0], CONFIG)[0].backward()
    assert new.grad.item() == pytest.approx(CONFIG.own.drift_alpha * 0.5)


def test_the_drifts_gradient_has_a_ceiling():
    old, one = torch.zeros(1, 1, dtype=torch.float64) - 9, torch.ones(1, 1, dtype=torch.float64)
    new = (old + math.log(50.0)).requires_grad_()
    loss_of(CPGD, new, old, one[0], one, one[0], CONFIG)[0].backward()
    assert new.grad.item() == pytest.approx(CONFIG.own.drift_alpha * CONFIG.own.drift_cap)


@pytest.mark.parametrize("eps", [0.1, 0.2, 0.3])
def test_at_the_edge_of_the_clip_ppo_moves_the_ratio_further_than_cpg(eps):
    """Proposition 1 on a softmax policy: one equal step from just inside r = 1 + eps with A > 0."""
    config = cpgd_settings(0.0, clip_low=eps, clip_high=eps)

    def ratio_after(plugin):
        logits = torch.tensor([0.3, -0.2, 0.1, 0.0], dtype=torch.float64, requires_grad=True)
        logprob = torch.log_softmax(logits, 0)[1].view(1, 1)
        old = logprob.detach() - math.log(1 + eps - 1e-6)
        one = torch.ones(1, 1, dtype=torch.float64)
        loss_of(plugin, logprob, old, one[0], one, one[0], config)[0].backward()
        moved = torch.log_softmax(logits.detach() - 0.05 * logits.grad, 0)[1]
        return (moved - old).exp().item()

    ppo, cpg = ratio_after(GRPO), ratio_after(CPGD)
    assert abs(ppo - 1) > abs(cpg - 1) > eps - 1e-6


def no_drift(name, **changes):
    return cpgd_settings(0.0, **changes) if name == "cpgd" else settings_for(name, **changes)


def step_of_one(name, ratio, advantage, config=None):
    """Gradient on the log-prob of a completion of one token, and its statistics."""
    old = torch.full((1, 1), -2.0, dtype=torch.float64)
    new = (old + math.log(ratio)).requires_grad_()
    config = config or no_drift(name)
    loss, stats = loss_of(load("loss", name), new, old, advantage * ONE[0], ONE, ONE[0], config)
    loss.backward()
    return new.grad.item(), stats


def test_what_each_loss_declares_is_its_papers():
    found = {
        name: (c.aggregation, c.advantage, c.clip_low, c.clip_high)
        for name in ALL
        for c in [TrainConfig(loss=name).resolved()]
    }
    assert found == {
        "cpgd": ("group_tokens", "group_norm", 0.2, 0.2),
        "grpo": ("group_tokens", "group_norm", 0.2, 0.2),
        "dr_grpo": ("constant_length", "group_mean", 0.2, 0.2),
        "dapo": ("global_tokens", "group_norm", 0.2, 0.28),
        "gspo": ("sequence_mean", "group_norm", 3e-4, 4e-4),
        "rloo": ("sequence_sum", "rloo", 0.2, 0.2),
        "reinforce_pp": ("sequence_mean", "batch_norm", 0.2, 0.2),
        "cispo": ("global_tokens", "group_norm", 1.0, 4.0),
    }


def test_an_explicit_setting_wins_over_what_the_loss_declares():
    settled = TrainConfig(loss="dapo", advantage="rloo", clip_high=0.0).resolved()
    assert (settled.advantage, settled.clip_high) == ("rloo", 0.0)
    assert (settled.aggregation, settled.clip_low) == ("global_tokens", 0.2)
    assert TrainConfig(objective="sft", loss="none").resolved().aggregation is None


@pytest.mark.parametrize("name", ALL)
def test_on_policy_every_loss_has_the_gradient_of_reinforce(name):
    new, _, a, mask, w = batch(3)
    plugin, config = load("loss", name), settings_for(name)
    loss, stats = loss_of(plugin, new, new.detach().clone(), a, mask, w, config)
    loss.backward()
    torch.testing.assert_close(new.grad, -(a[:, None] * mask * w[:, None]), rtol=1e-12, atol=1e-14)
    assert stats["ratio"].item() == mask.sum().item()
    assert stats["clipped"].item() == 0


@pytest.mark.parametrize("name", sorted(set(ALL) - {"cispo"}))
def test_every_clip_acts_on_the_outward_side_alone(name):
    settled = TrainConfig(loss=name).resolved()
    above, below = 1 + settled.clip_high + 1e-5, 1 - settled.clip_low - 1e-5
    inside, under = 1 + settled.clip_high - 1e-5, 1 - settled.clip_low + 1e-5
    for ratio, advantage, clipped in [
        (above, 1.0, True), (above, -1.0, False), (inside, 1.0, False),
        (below, -1.0, True), (below, 1.0, False), (under, -1.0, False),
    ]:  # fmt: skip
        gradient, stats = step_of_one(name, ratio, advantage)
        assert (gradient == 0.0) is clipped
        assert stats["clipped"].item() == float(clipped)


def test_cispo_caps_a_tokens_weight_and_keeps_its_gradient():
    for advantage in (1.0, -1.0):
        gradient, stats = step_of_one("cispo", 50.0, advantage)
        assert gradient == pytest.approx(-5.0 * advantage)
        assert stats["clipped"].item() == 1
        gradient, stats = step_of_one("cispo", 0.01, advantage)
        assert gradient == pytest.approx(-0.01 * advantage)
        assert stats["clipped"].item() == 0
        # With a lower side that is not open: the least weight.
        gradient, stats = step_of_one("cispo", 0.01, advantage, settings_for("cispo", clip_low=0.25))
        assert gradient == pytest.approx(-0.75 * advantage)
        assert stats["clipped"].item() == 1


def test_a_reference_of_no_weight_is_neither_added_nor_counted():
    new, old, a, mask, w = batch(4)
    without, stats = loss_of(GRPO, new, old, a, mask, w, CONFIG)
    found, counted = loss_of(GRPO, new, old, a, mask, w, CONFIG, ref=old - 1.0)
    assert (found.item(), counted.keys()) == (without.item(), stats.keys())
    assert "ref_kl" not in counted


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("ratio", [0.01, 50.0])
def test_without_a_clip_no_gradient_is_lost(name, ratio):
    """The ablations of arXiv:2505.12504: CPG's gradient is A alone, PPO's and CISPO's r * A."""
    config = no_drift(name, clip=False)
    for advantage in (1.0, -1.0):
        gradient, stats = step_of_one(name, ratio, advantage, config)
        assert gradient == pytest.approx(-advantage * (1.0 if name == "cpgd" else ratio))
        assert stats["clipped"].item() == 0


def test_gspos_ratio_is_the_geometric_mean_and_rloos_the_product():
    new, old, a, mask, w = batch(9, spread=1e-5)
    log_ratio_N = ((new - old) * mask).sum(1).detach()
    for name, log_s_N, share_N in (("gspo", log_ratio_N / mask.sum(1), 1.0), ("rloo", log_ratio_N, 1 / mask.sum(1))):
        loss, stats = loss_of(load("loss", name), new, old, a, mask, w, settings_for(name))
        expected = -(log_s_N.exp() * a * share_N * w * mask.sum(1)).sum()
        torch.testing.assert_close(loss.detach(), expected, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(stats["ratio"], (log_s_N.exp() * mask.sum(1)).sum(), rtol=1e-12, atol=1e-12)
        assert stats["clipped"].item() == 0


@pytest.mark.parametrize("advantage", [1.0, -1.0])
def test_rloos_ratio_does_not_overflow_over_a_long_completion(advantage):
    new = torch.zeros(1, 500, requires_grad=True)
    mask, weights = torch.ones(1, 500), torch.ones(1)
    config = settings_for("rloo")
    loss, _ = loss_of(load("loss", "rloo"), new, new.detach() - 1.0, advantage * torch.ones(1), mask, weights, config)
    loss.backward()
    assert loss.isfinite()
    assert torch.count_nonzero(new.grad) == 0


@pytest.mark.parametrize("name", ALL)
def test_zero_advantage_on_policy_contributes_nothing(name):
    new, _, a, mask, w = batch(5)
    loss_of(load("loss", name), new, new.detach(), torch.zeros_like(a), mask, w, CONFIG)[0].backward()
    assert torch.count_nonzero(new.grad) == 0


@pytest.mark.parametrize("name", ALL)
def test_reference_kl_adds_its_gradient(name):
    new, old, a, mask, w = batch(7)
    ref = old.detach() + 0.3
    plugin, config = load("loss", name), replace(CONFIG, ref_kl=0.5)
    plain, _ = loss_of(plugin, new, old, a, mask, w, CONFIG, ref)
    with_kl, stats = loss_of(plugin, new, old, a, mask, w, config, ref)
    expected = 0.5 * (k3(new, ref) * mask * w[:, None]).sum()
    torch.testing.assert_close(with_kl - plain, expected)
    torch.testing.assert_close(stats["ref_kl"], (k3(new, ref) * mask).sum().detach())
    (grad,) = torch.autograd.grad(with_kl - plain, new)
    torch.testing.assert_close(grad, 0.5 * (1 - (ref - new).exp()) * mask * w[:, None])


@pytest.mark.parametrize("name", names("loss"))
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_a_step_split_into_micro_batches_is_the_same_step(name, data):
    """Loss, gradient and statistics add up however the step's completions are cut, also inside a group."""
    n = 8
    new, old, a, mask, _ = batch(data.draw(st.integers(0, 999)), n=n)
    mode = data.draw(st.sampled_from(AGGREGATIONS))
    group = [0, 0, 0, 1, 1, 2, 2, 2]
    lengths = mask.sum(1).int().tolist()
    of_group = [sum(x for x, g in zip(lengths, group, strict=True) if g == k) for k in range(3)]
    totals = StepTotals(prompts=5, sequences=n + 4, tokens=sum(lengths) + 11, limit=20)
    weights = torch.tensor(
        [sequence_weight(mode, x, of_group[g], totals) for x, g in zip(lengths, group, strict=True)],
        dtype=torch.float64,
    )
    plugin = load("loss", name)
    whole, whole_stats = loss_of(plugin, new, old, a, mask, weights, CONFIG)
    (whole_grad,) = torch.autograd.grad(whole, new)

    cuts = sorted({0, n, *data.draw(st.lists(st.integers(1, n - 1), max_size=4))})
    total, grads, sums = 0.0, torch.zeros_like(new), dict.fromkeys(whole_stats, 0.0)
    for start, end in itertools.pairwise(cuts):
        part = slice(start, end)
        loss, stats = loss_of(plugin, new[part], old[part], a[part], mask[part], weights[part], CONFIG)
        total += loss
        grads += torch.autograd.grad(loss, new)[0]
        sums = {k: sums[k] + stats[k] for k in sums}
    torch.testing.assert_close(total, whole, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(grads, whole_grad, rtol=1e-12, atol=1e-15)
    for k in sums:
        torch.testing.assert_close(sums[k], whole_stats[k], rtol=1e-12, atol=1e-12)


def test_aggregations_are_the_means_they_say():
    new, _, _, mask, _ = batch(11, n=4)
    group, lengths = [0, 0, 1, 1], mask.sum(1).int().tolist()
    of_group = [lengths[0] + lengths[1], lengths[2] + lengths[3]]
    totals = StepTotals(prompts=2, sequences=4, tokens=sum(lengths), limit=16)
    values = new.detach() * mask

    def mean(mode):
        return sum(
            values[i].sum().item() * sequence_weight(mode, lengths[i], of_group[group[i]], totals) for i in range(4)
        )

    per_group = [values[:2].sum() / of_group[0], values[2:].sum() / of_group[1]]
    assert mean("group_tokens") == pytest.approx((sum(per_group) / 2).item())
    assert mean("sequence_mean") == pytest.approx((values.sum(1) / mask.sum(1)).mean().item())
    assert mean("global_tokens") == pytest.approx((values.sum() / mask.sum()).item())
    assert mean("sequence_sum") == pytest.approx(values.sum(1).mean().item())
    assert mean("constant_length") == pytest.approx(values.sum(1).mean().item() / 16)


def test_plugins_load_without_torch():
    """`cosmo list loss` and planning read names and versions only."""
    import subprocess
    import sys

    code = (
        "import sys; from stages.core.registry import load, names\n"
        "versions = [load(k, n).version for k in ('loss', 'advantage') for n in names(k)]\n"
        "assert all(isinstance(v, int) for v in versions) and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("table", "error", "hint"),
    [
        ({"losses": {"cpgd": {"drift_alhpa": 0.1}}}, "drift_alhpa.*train.losses.cpgd", "drift_alpha"),
        ({"losses": {"cpgd": {"drift_alpha": -1.0}}}, "drift_alpha = -1.0 is too small", "0.0"),
        ({"losses": {"cpgd": {"drift_alpha": "much"}}}, "drift_alpha = 'much' is a str", "float"),
        ({"losses": {"cpgdd": {}}}, "unknown loss 'cpgdd'", "cpgd"),
        ({"losses": {"grpo": {"drift_alpha": 0.1}}}, "loss 'grpo' has no settings of its own", "ref_kl"),
        ({"advantages": {"canon": {"nu": 0.1}}}, "nu.*train.advantages.canon", "mu"),
        ({"drift_alpha": 0.1}, "is now 'drift_alpha' in .train.losses.cpgd", "--set losses.cpgd.drift_alpha"),
        ({"drift_cap": 1.0}, "is now 'drift_cap' in .train.losses.cpgd", "--set losses.cpgd.drift_cap"),
        ({"canon": {"mu": 0.1}}, "is now 'canon' in .train.advantages", "--set advantages.canon"),
        ({"lagrangian": {"lr": 0.1}}, "is now 'lagrangian' in .train.advantages", "--set advantages.lagrangian"),
    ],
)
def test_a_setting_that_no_plugin_has_says_where_it_belongs(table, error, hint):
    with pytest.raises(UsageError, match=error) as caught:
        build(TrainConfig, table, "train")
    assert hint in caught.value.hint


def test_a_table_is_for_its_own_plugin_and_takes_what_recipes_write():
    values = {"loss": "cpgd", "losses": {"cpgd": {"drift_alpha": 0}}, "advantages": {"canon": {"a": 1}}}
    config = build(TrainConfig, values, "train").resolved()
    assert (config.loss_settings().own.drift_alpha, config.loss_settings().own.drift_cap) == (0.0, 2.0)
    assert config.advantage_settings() is None
    assert replace(config, loss="grpo").loss_settings().own is None
    assert replace(config, advantage="canon").advantage_settings().a == 1.0


PULL = """
'''A pull towards the old policy.'''
from dataclasses import dataclass
from stages.core.config import option
from stages.train.losses.base import LossPlugin

@dataclass(frozen=True)
class PullSettings:
    strength: float = option(0.5, "Weight of the pull", low=0.0)

def per_token(inputs, settings):
    log_ratio_NT = inputs.log_ratio_NT
    pull_NT = settings.own.strength * log_ratio_NT**2
    return pull_NT - log_ratio_NT * inputs.advantages_N1, {"ratio": log_ratio_NT.exp()}

pull = LossPlugin(version=1, per_token=per_token, settings=PullSettings)
"""


def test_a_loss_with_a_setting_is_one_file(tmp_path):
    """Outside of this repository, its table by its own name."""
    file = tmp_path / "pull.py"
    file.write_text(PULL)
    name = f"{file}:pull"
    new, old, a, mask, w = batch(3)
    for table, strength in (({}, 0.5), ({"pull": {"strength": 2}}, 2.0), ({name: {"strength": 3.0}}, 3.0)):
        config = build(TrainConfig, {"loss": name, "losses": table}, "train").resolved()
        loss, _ = loss_of(load("loss", name), new, old, a, mask, w, config.loss_settings())
        expected = ((strength * (new - old) ** 2 - (new - old) * a[:, None]) * mask * w[:, None]).sum()
        torch.testing.assert_close(loss, expected)
    with pytest.raises(UsageError, match="unknown key 'strenght'"):
        build(TrainConfig, {"loss": name, "losses": {"pull": {"strenght": 2}}}, "train").resolved().loss_settings()
