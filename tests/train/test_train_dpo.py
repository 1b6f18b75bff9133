"""DPO: TRL's loss and gradients are the formula's, images included; a killed run ends with the same bits; it learns."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from schemas.prompts import NO_TRAINING
from schemas.tables import SCORED
from schemas.values import Image
from stages.core.config import build
from stages.core.errors import InputError, UsageError
from stages.core.runs.folder import RunFolder
from stages.core.stage import Context, Resources, Silent
from stages.models.policy_ref import resolve_policy
from stages.train.config import TrainConfig
from stages.train.objectives.dpo import PLUGIN, Pairs, make_trainer
from tests.train.made import Stop, StopAfter, contents, rejects, scored_group, steps, train, write_shard

FAST = {"objective": "dpo", "policy": "tiny:qwen2_5_vl", "learning_rate": 1e-4, "batch_size": 4, "steps": 4}
BETA = 0.3


@pytest.fixture(scope="module")
def groups(policies):
    """Six groups, every second one without images; the last is flat."""
    policy = policies("qwen2_5_vl")
    found = [scored_group(policy, i, rewards=[0.0, 1.0, 0.2], images=i % 2 == 0) for i in range(5)]
    return [*found, scored_group(policy, 5, rewards=[0.5, 0.5, 0.5])]


@pytest.fixture
def shard(tmp_path, groups):
    return write_shard(tmp_path / "scored.parquet", SCORED, groups)


def session_of(shard, folder, **settings):
    from stages.train.setup import open_session

    config = TrainConfig(**{"device": "cpu", **FAST, "objectives": {"dpo": {"beta": BETA}}, **settings})
    ctx = Context(config, [RunFolder.open(shard)], Silent(), Resources(), folder)
    return open_session(ctx, None, resolve_policy(config.policy))


def plain_logprob(model, processor, prompt, completion, images):
    """Sum of a completion's log-probs by the model's own forward, one sequence at a time, no padding."""
    batch = processor.batch([prompt + completion], [images], side="right")
    logits = model(**batch).logits[0, len(prompt) - 1 : -1].float()
    return logits.log_softmax(-1).gather(1, torch.tensor(completion)[:, None]).sum()


@pytest.mark.parametrize("name", ["tiny:qwen2_5_vl", "tiny:internvl"])
def test_loss_and_gradients_are_the_formulas(tmp_path, policies, name):
    """Against a plain loop, from a reference that is not the policy: at the start the loss is log 2 whatever it is."""
    policy = policies(name.removeprefix("tiny:"))
    made = [scored_group(policy, i, rewards=[0.0, 1.0, 0.2], images=i % 2 == 0) for i in range(4)]
    shard = write_shard(tmp_path / "s.parquet", SCORED, made)
    session = session_of(shard, tmp_path, policy=name, freeze_vision=False)
    model, processor = session.policy.model, session.policy.processor
    with session.training():
        pairs = Pairs(session)
        trainer = make_trainer(session, pairs, list(range(len(pairs))), 1)
        own = pairs.reference.clone()
        pairs.reference = own + torch.randn(own.shape, generator=torch.Generator().manual_seed(1))
        batch = pairs.collate([{"pair": i} for i in range(len(pairs))])
        del batch["rows"]
        model.train()
        loss = trainer.compute_loss(model, trainer._prepare_inputs(batch))
        loss.backward()
        got = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
        model.zero_grad(set_to_none=True)
    total, found = torch.zeros(()), []
    for place in range(len(pairs)):
        prompt, both, images = pairs._encode(pairs._rows[place])
        chosen, rejected = (plain_logprob(model, processor, prompt, c, images) for c in both)
        found.append([chosen.item(), rejected.item()])
        ref = pairs.reference[place]
        total = total - torch.nn.functional.logsigmoid(BETA * ((chosen - ref[0]) - (rejected - ref[1]))) / len(pairs)
    total.backward()
    assert torch.allclose(own, torch.tensor(found), atol=1e-4)
    assert loss.item() == pytest.approx(total.item(), abs=1e-5)
    expected = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    assert got.keys() == expected.keys()
    assert any("visual" in n or "vision" in n for n in got)
    for parameter, grad in expected.items():
        assert torch.allclose(got[parameter], grad, atol=1e-5), parameter


def test_the_first_step_starts_from_the_reference(tmp_path, shard):
    """No difference yet: the loss is log 2, no pair is ordered, and every pair's margin is 0."""
    first, *_, last = steps(train(shard, tmp_path, **FAST))
    assert first.loss == pytest.approx(math.log(2), abs=1e-5)
    assert first.pair_margin == pytest.approx(0.0, abs=1e-5)
    assert (first.objective, first.groups, first.tokens > 0) == ("dpo", 4, True)
    assert last.pair_margin > 0.0


def test_it_learns_the_order_and_splitting_the_batch_is_rounding(tmp_path, shard):
    whole = steps(train(shard, tmp_path / "a", **{**FAST, "steps": 12}))
    assert whole[-1].loss < 0.8 * whole[0].loss
    assert whole[-1].pair_accuracy == 1.0
    split = steps(train(shard, tmp_path / "b", **{**FAST, "steps": 12}, micro_batch_size=2))
    for a, b in zip(whole, split, strict=True):
        assert a.loss == pytest.approx(b.loss, rel=1e-3, abs=1e-5)
        assert (a.tokens, a.groups) == (b.tokens, b.groups)


def test_killed_and_gone_on_with_it_ends_with_the_same_bits(tmp_path, shard):
    settings = {**FAST, "checkpoint_steps": 1}
    whole = train(shard, tmp_path / "whole", **settings)
    for n in (1, 2):
        with pytest.raises(Stop):
            train(shard, tmp_path / "cut", progress=StopAfter(n), **settings)
    resumed = train(shard, tmp_path / "cut", **settings)
    assert contents(resumed) == contents(whole)
    assert steps(resumed) == steps(whole)


def test_what_can_not_be_learned_from_is_rejected_with_its_reason(tmp_path, groups):
    damaged = replace(groups[0], images=[Image(b"no image", "bad.png")])
    flagged = replace(groups[1], flags=[NO_TRAINING])
    shard = write_shard(tmp_path / "s.parquet", SCORED, [damaged, flagged, *groups[2:]])
    run = train(shard, tmp_path, **FAST)
    found = dict(rejects(run))
    assert found["no_pair"] == groups[5].id
    assert found["no_training"] == groups[1].id
    assert any(ref.startswith(groups[0].id) and "#" in ref for _, ref in rejects(run))


def test_its_settings_identify_its_runs_alone(tmp_path, shard):
    from stages.train.stage import STAGE

    def key(**settings):
        config = build(TrainConfig, {"policy": "tiny:qwen2_5_vl", **settings}, "train")
        return STAGE.plan(Context(config, [RunFolder.open(shard)], Silent(), Resources())).key

    one = {"objective": "dpo"}
    assert key(**one) != key(**one, objectives={"dpo": {"beta": 0.2}})
    assert key(objective="sft") == key(objective="sft", objectives={"dpo": {"beta": 0.2}})
    with pytest.raises(UsageError) as caught:
        key(**one, objectives={"dpo": {"bata": 0.2}})
    assert "beta" in caught.value.hint


def test_no_pair_at_all_is_an_error_that_says_what_to_type(tmp_path, shard):
    with pytest.raises(InputError) as caught:
        train(shard, tmp_path, **FAST, objectives={"dpo": {"margin": 5.0}})
    assert "--set objectives.dpo.margin=" in caught.value.hint
    assert PLUGIN.called == "DPO"
