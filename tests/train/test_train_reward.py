"""A reward model: which pairs it is given, and that it learns to order them."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
import torch

from schemas.scored import ScoredGroup
from schemas.tables import SCORED
from stages.core.errors import InputError, UsageError
from stages.models.load import load_policy
from stages.models.policy_ref import resolve_policy
from stages.train.supervised.pair_options import PairOptions
from stages.train.supervised.pairs import pairs_of
from tests.train.made import WORDS, contents, rejects, scored_group, steps, train, write_shard
from tests.train.test_train_resume import Stop, StopAfter

FAST = {"objective": "reward", "policy": "tiny:llama", "learning_rate": 1e-3, "batch_size": 8, "steps": 4}


def reds(policy, i: int) -> ScoredGroup:
    """A group of four completions, two of which name red and have the higher reward."""
    rng = random.Random(i)
    group = scored_group(policy, i, rewards=[1.0, 1.0, 0.0, 0.0], images=False)
    plain = [w for w in WORDS if w != "red"]
    made = []
    for completion in group.completions:
        words = rng.choices(plain, k=6)
        if completion.reward:
            words[rng.randrange(6)] = "red"
        made.append(replace(completion, text=" ".join(words)))
    return replace(group, completions=made)


@pytest.fixture(scope="module")
def groups(policies):
    policy = policies("llama")
    return [reds(policy, i) for i in range(40)]


@pytest.fixture
def shard(tmp_path, groups):
    return write_shard(tmp_path / "scored.parquet", SCORED, groups[:32])


def completions(*rewards, texts=None):
    return [
        {"text": texts[i] if texts else f"t{i}", "reward": r, "finish_reason": "stop"} for i, r in enumerate(rewards)
    ]


def test_pairs_lie_a_margin_apart_the_better_one_first():
    every = PairOptions(margin=0.5, max_pairs=0)
    assert sorted(pairs_of(completions(1.0, 0.0, 0.5, 0.6), "p", every, 0)) == [(0, 1), (0, 2), (2, 1), (3, 1)]
    # 1.1 - 0.6 is a little less than 0.5 in binary; a margin is meant as it is written.
    assert pairs_of(completions(1.1, 0.6), "p", every, 0) == [(0, 1)]
    assert pairs_of(completions(0.7, 0.7), "p", replace(every, margin=0.0), 0) == []
    assert pairs_of(completions(1.0, None, 0.0), "p", every, 0) == [(0, 2)]
    assert pairs_of(completions(1.0, 0.0, texts=["same", "same"]), "p", every, 0) == []
    failed = completions(1.0, 0.0)
    failed[1]["finish_reason"] = "error"
    assert pairs_of(failed, "p", every, 0) == []


def test_the_most_pairs_of_a_group_are_a_seeded_draw():
    group = completions(*[float(i) for i in range(8)])
    options = PairOptions(margin=0.5, max_pairs=3)
    drawn = {tuple(pairs_of(group, "p", options, seed)) for seed in range(6)}
    assert len(drawn) > 3
    assert all(len(d) == 3 and all(a > b for a, b in d) for d in drawn)
    assert pairs_of(group, "p", options, 0) == pairs_of(group, "p", options, 0)


def test_it_orders_held_out_pairs(tmp_path, shard, groups):
    """The saved folder, through transformers alone: the completion that names red gets the higher number."""
    from transformers import AutoModelForSequenceClassification

    run = train(shard, tmp_path, **{**FAST, "steps": 24})
    rows = steps(run)
    assert rows[0].loss == pytest.approx(math.log(2), rel=1e-6)
    assert (rows[0].objective, rows[0].groups, rows[0].reward_mean) == ("reward", 8, 0.0)
    assert rows[-1].pair_accuracy == 1.0
    folder = run.path / "policy"
    assert (folder / "model.safetensors").is_file()
    assert not list(folder.glob("*.bin"))
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    assert model.config.num_labels == 1
    processor = load_policy(resolve_policy("tiny:llama"), device="cpu").processor
    ordered = []
    for group in groups[32:]:
        prompt = processor.encode(group.messages, []).token_ids
        batch = processor.batch(
            [prompt + processor.encode_completion(c.text) for c in group.completions], [], side="right"
        )
        with torch.no_grad():
            scores = model(**batch).logits[:, 0].tolist()
        ordered += [scores[a] > scores[b] for a in (0, 1) for b in (2, 3)]
    assert sum(ordered) / len(ordered) > 0.9


def test_interrupted_it_ends_with_the_same_bits(tmp_path, shard):
    settings = {**FAST, "batch_size": 3, "steps": 5, "checkpoint_steps": 2}
    whole = train(shard, tmp_path / "whole", **settings)
    with pytest.raises(Stop):
        train(shard, tmp_path / "cut", progress=StopAfter(3), **settings)
    resumed = train(shard, tmp_path / "cut", **settings)
    assert contents(resumed) == contents(whole)
    assert steps(resumed) == steps(whole)


def test_a_further_run_goes_on_with_the_head_it_has(tmp_path, shard):
    first = train(shard, tmp_path, **FAST)
    second = train(shard, tmp_path, **{**FAST, "policy": str(first.path)})
    assert [r.step for r in steps(second)] == [5, 6, 7, 8]
    assert steps(second)[0].loss < math.log(2)


def test_what_it_cannot_be_given_is_left_out_or_refused(tmp_path, policies, groups):
    policy = policies("qwen2_5_vl")
    seen = scored_group(policy, 50, rewards=[1.0, 0.0])
    test = replace(groups[33], split="test")
    flat = scored_group(policy, 51, rewards=[1.0, 1.0], images=False)
    run = train(
        write_shard(tmp_path / "s.parquet", SCORED, [seen, test, flat, *groups[:8]]),
        tmp_path,
        **{**FAST, "steps": 1},
    )
    assert [reason for reason, _ in rejects(run)] == ["test_split", "no_pair", "no_vision"]
    assert rejects(run)[2][1] == f"{seen.id}#0>1"
    images = write_shard(tmp_path / "v.parquet", SCORED, [seen])
    with pytest.raises(InputError, match="none of 1 pairs"):
        train(images, tmp_path, **FAST)
    with pytest.raises(InputError, match="rewards lie 5 apart"):
        train(images, tmp_path, **{**FAST, "objectives": {"reward": {"margin": 5.0}}})
    with pytest.raises(UsageError, match="sees images") as caught:
        train(images, tmp_path, **{**FAST, "policy": "tiny:qwen2_5_vl"})
    assert "tiny:llama" in caught.value.hint


def test_nobody_samples_from_it(tmp_path, shard):
    run = train(shard, tmp_path, **{**FAST, "steps": 1})
    with pytest.raises(UsageError, match="is a reward model"):
        load_policy(resolve_policy(str(run.path)), device="cpu")
