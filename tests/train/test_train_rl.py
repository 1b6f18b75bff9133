"""RL on stored groups, through the runner: what a step is, what is left out, what is carried on."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

import pytest
import torch

from schemas.scored import Grade
from schemas.tables import PROMPTS, SCORED
from schemas.values import Image
from stages.core.errors import CosmoError, InputError, UsageError
from stages.core.stage import Resources
from stages.models.attention.shared_inputs import TokenGroup
from stages.models.policy_ref import resolve_policy
from stages.models.warm import POLICY
from stages.train.checkpoints import TRAINER_STATE
from stages.train.rl.logprobs import completion_logprobs
from stages.train.rl.vision_cache import FrozenTower
from tests.train.made import (
    contents,
    prompt_row,
    rejects,
    scored_group,
    steps,
    tiny_weights,
    train,
    weights,
    write_shard,
)

TINY = "tiny:qwen2_5_vl"
FAST = {"policy": TINY, "learning_rate": 1e-3, "updates_per_rollout": 3}


@pytest.fixture(scope="module")
def policy(policies):
    return policies("qwen2_5_vl")


@pytest.fixture(scope="module")
def groups(policy):
    """Twelve groups of two labels, images on most."""
    return [scored_group(policy, i, label=["general", "value"][i % 2], images=i % 4 != 3) for i in range(12)]


@pytest.fixture(scope="module")
def usual(tmp_path_factory, groups):
    """By aggregation, the plain run that others are compared with, trained once: only to be read."""
    folder = tmp_path_factory.mktemp("usual")
    shard = write_shard(folder / "scored.parquet", SCORED, groups)
    return cache(lambda aggregation="group_tokens": train(shard, folder, **FAST, aggregation=aggregation))


@pytest.fixture
def shard(tmp_path, groups):
    return write_shard(tmp_path / "scored.parquet", SCORED, groups)


def test_k_calls_on_one_folder_each_equal_one_call_on_k_folders(tmp_path, groups):
    """Weights, optimizer, position and rows, to the bit, with a schedule running across the calls."""
    torch.set_num_threads(2)  # sums split over threads must not depend on which is first
    parts = [write_shard(tmp_path / f"part{k}.parquet", SCORED, groups[k * 4 : k * 4 + 4]) for k in range(3)]
    settings = {**FAST, "warmup_steps": 2, "schedule_steps": 20, "order": "seeded"}
    whole = train(parts, tmp_path / "one", **settings)
    chain, rows = None, []
    for part in parts:
        chain = train(part, tmp_path / "many", **{**settings, "policy": str(chain.path) if chain else TINY})
        rows += steps(chain)
    assert contents(chain) == contents(whole)
    assert rows == steps(whole)
    assert [r.step for r in rows] == list(range(1, 10))
    assert [(r.rollout, r.update) for r in rows] == [(k, u) for k in range(3) for u in range(3)]
    assert len({r.learning_rate for r in rows}) > 5


def test_warm_equals_cold(tmp_path, shard):
    """What an earlier stage left in memory only saves time: two chained runs, with and without it."""
    warm, ids = Resources(), []
    for resources in (None, warm):
        runs = tmp_path / str(resources is None)
        first = train(shard, runs, resources=resources, **FAST)
        second = train(shard, runs, resources=resources, **{**FAST, "policy": str(first.path)})
        ids.append((resolve_policy(str(first.path)).id, contents(second), steps(second)))
    assert ids[0] == ids[1]
    left = warm.peek(POLICY, resolve_policy(str(second.path)).id)
    assert left is not None
    assert not left.model.training
    assert all(p.requires_grad and p.grad is None for p in left.model.parameters())
    assert warm.peek(TRAINER_STATE, resolve_policy(str(second.path)).id).position.step == 6
    assert warm.peek(POLICY, resolve_policy(str(first.path)).id) is None


def test_the_first_update_is_exactly_on_policy_and_later_ones_are_not(usual):
    rows = steps(usual())
    assert rows[0].ratio_mean == 1.0
    assert rows[0].clip_fraction == rows[0].drift == 0.0
    assert rows[1].ratio_mean != 1.0
    assert any(r.clip_fraction > 0 and r.drift != 0 for r in rows[1:])


def test_a_second_pass_keeps_the_old_log_probs(tmp_path, shard):
    rows = steps(train(shard, tmp_path, **FAST, epochs=2))
    assert len(rows) == 6
    assert rows[3].ratio_mean != 1.0
    assert [r.update for r in rows] == [0, 1, 2, 3, 4, 5]
    assert rows[3].sampler_gap == rows[0].sampler_gap


def test_the_first_gradient_is_reinforce_with_baseline_done_by_hand(tmp_path, groups, policy, shard):
    """The whole path against the formula of METHODS.md section 1, with separate sequences and plain autograd."""
    row = steps(train(shard, tmp_path, **{**FAST, "updates_per_rollout": 1, "advantage": "group_mean"}))[0]
    model, processor = policy.model, policy.processor
    model.zero_grad()
    loss = 0.0
    for group in groups:
        rewards = torch.tensor([c.reward for c in group.completions])
        item = TokenGroup(
            group.prompt_token_ids,
            processor.encode(group.messages, group.images).image_inputs,
            [c.token_ids for c in group.completions],
            [1.0] * len(group.completions),
        )
        scores = completion_logprobs(model, processor, [item], processor.banned_token_ids, share=False)
        weighted = ((rewards - rewards.mean())[:, None] * scores.logprobs_NT).sum()
        loss = loss - weighted / scores.mask_NT.sum() / len(groups)
    loss.backward()
    language = [p.grad for n, p in model.named_parameters() if "visual" not in n]
    norm = torch.stack([g.norm() for g in language]).norm().item()
    model.zero_grad()
    assert row.grad_norm == pytest.approx(norm, rel=1e-4)
    assert row.tokens == sum(len(c.token_ids) for g in groups for c in g.completions)


def test_two_updates_at_temperature_0_7_are_a_plain_loop(tmp_path, policies):
    """CPGD written out: one sequence at a time through the plain forward, banned ids out, divided by 0.7, AdamW.

    The ratio of the second update has the temperature in both of its log-probs, the first one's gradient in one.
    """
    trained = policies("llama")
    groups = [scored_group(trained, i, g=3, rewards=[0.0, 1.0, 0.4], images=False, temperature=0.7) for i in range(4)]
    shard = write_shard(tmp_path / "s.parquet", SCORED, groups)
    settings = {"policy": "tiny:llama", "learning_rate": 1e-3, "updates_per_rollout": 2}
    rows = steps(train(shard, tmp_path, **settings))

    model, banned = trained.model.eval(), trained.processor.banned_token_ids
    matrices, vectors = ([p for p in model.parameters() if (p.dim() >= 2) is wide] for wide in (True, False))
    decayed = [{"params": matrices, "weight_decay": 0.01}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(decayed, lr=1e-3, betas=(0.9, 0.95), eps=1e-8)

    def logprobs(prompt, completion):
        logits = model(torch.tensor([[*prompt, *completion]])).logits[0, len(prompt) - 1 : -1] / 0.7
        logits[:, banned] = -1e9
        return logits.log_softmax(-1).gather(1, torch.tensor(completion)[:, None]).squeeze(1)

    with torch.no_grad():
        old = [[logprobs(g.prompt_token_ids, c.token_ids) for c in g.completions] for g in groups]
    rewards = torch.tensor([0.0, 1.0, 0.4])
    advantages = (rewards - rewards.mean()) / (rewards.std() + 1e-9)
    for update, row in enumerate(rows):
        loss, ratios = 0.0, []
        for n in (2 * update, 2 * update + 1):
            tokens = sum(len(c.token_ids) for c in groups[n].completions)
            for completion, old_T, a in zip(groups[n].completions, old[n], advantages, strict=True):
                new_T = logprobs(groups[n].prompt_token_ids, completion.token_ids)
                log_ratio_T = new_T - old_T
                bounded_T = log_ratio_T.clamp(math.log(0.8), math.log(1.2))
                drift_T = (log_ratio_T.exp().detach() - 1).clamp(max=2.0) * new_T
                loss = loss - (torch.minimum(log_ratio_T * a, bounded_T * a) - 0.01 * drift_T).sum() / tokens / 2
                ratios += log_ratio_T.exp().tolist()
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        assert row.loss == pytest.approx(loss.item(), abs=2e-5)
        assert row.grad_norm == pytest.approx(norm.item(), rel=1e-3)
        assert row.ratio_mean == pytest.approx(sum(ratios) / len(ratios), rel=1e-4)
    assert rows[1].ratio_mean != pytest.approx(1.0, abs=1e-2)


def test_groups_that_ban_other_tokens_are_not_one_rollout(tmp_path, groups):
    """A micro-batch is renormalised without one list of ids."""
    more = replace(groups[2], banned_token_ids=[*groups[2].banned_token_ids, 7])
    for name, rows in (("last", [*groups[:2], more]), ("first", [more, *groups[:2]])):
        shard = write_shard(tmp_path / f"{name}.parquet", SCORED, rows)
        with pytest.raises(InputError, match="its groups ban different tokens") as caught:
            train(shard, tmp_path, **FAST)
        assert "split it" in caught.value.hint


def test_a_nan_reward_ends_the_run_and_names_its_prompt(tmp_path, policy):
    rows = [scored_group(policy, i, rewards=[0.0, float("nan") if i == 1 else 0.5, 1.0]) for i in range(3)]
    shard = write_shard(tmp_path / "s.parquet", SCORED, rows)
    with pytest.raises(InputError, match=f"prompt {rows[1].id}, completion 1: its reward is nan"):
        train(shard, tmp_path, **FAST)


@pytest.mark.parametrize("settings", [{"micro_batch_tokens": 40}, {"prefix_sharing": "off"}])
@pytest.mark.parametrize("aggregation", ["group_tokens", "global_tokens"])
def test_the_machine_settings_change_nothing_but_rounding(tmp_path, shard, usual, settings, aggregation):
    settings = {**FAST, "aggregation": aggregation, "optimizer": "fresh", **settings}
    other = train(shard, tmp_path, **settings)
    for a, b in zip(steps(usual(aggregation)), steps(other), strict=True):
        assert a.loss == pytest.approx(b.loss, abs=2e-5)
        assert a.grad_norm == pytest.approx(b.grad_norm, rel=1e-3)
        assert (a.tokens, a.groups, a.labels) == (b.tokens, b.groups, b.labels)


@pytest.mark.parametrize("settings", [{"gradient_checkpointing": True}, {"autocast": "bf16"}])
def test_memory_savers_train_and_leave_the_warm_policy_as_it_was(tmp_path, shard, usual, settings):
    warm = Resources()
    run = train(shard, tmp_path, resources=warm, **FAST, **settings)
    row = steps(run)[0]
    tolerance = 1e-4 if "gradient_checkpointing" in settings else 0.1
    assert row.grad_norm == pytest.approx(steps(usual())[0].grad_norm, rel=tolerance)
    assert (row.ratio_mean, row.clip_fraction) == (1.0, 0.0)
    model = warm.peek(POLICY, resolve_policy(str(run.path)).id).model
    assert not {"forward", "_original_forward"} & set(vars(model))
    assert not model.is_gradient_checkpointing


def test_the_vision_tower_is_frozen_unless_told_otherwise(tmp_path, shard, usual):
    start = tiny_weights()
    for freeze, run in ((None, usual()), (False, train(shard, tmp_path, **FAST, freeze_vision=False))):
        after = weights(run)
        moved = {n for n in after if not torch.equal(after[n], start[n])}
        assert any("visual" in n for n in moved) is (freeze is False)
        assert any("visual" not in n for n in moved)


def test_groups_of_equal_reward_are_left_out_undecoded_and_still_counted(tmp_path, policy, groups):
    """Their image is not even an image; their label is in the metrics; they dilute the step's mean."""
    flat = [
        replace(g, label="safety", images=[Image(b"no picture")])
        for g in (scored_group(policy, 50 + i, rewards=[0.5] * 4) for i in range(3))
    ]
    mixed = write_shard(tmp_path / "mixed.parquet", SCORED, [*groups[:6], *flat])
    alone = write_shard(tmp_path / "alone.parquet", SCORED, groups[:6])
    settings = {**FAST, "updates_per_rollout": 1}
    a, b = (steps(train(s, tmp_path / "runs", **settings))[0] for s in (mixed, alone))
    assert (a.groups, a.dropped_groups, b.groups, b.dropped_groups) == (9, 3, 6, 0)
    assert a.grad_norm == pytest.approx(b.grad_norm * 6 / 9, rel=1e-5)
    assert a.tokens == b.tokens
    assert [(s.label, s.completions) for s in a.labels] == [("general", 12), ("safety", 12), ("value", 12)]
    filtered = steps(train(mixed, tmp_path / "runs", **settings, advantage="clip_filter"))[0]
    plain = steps(train(alone, tmp_path / "runs", **settings, advantage="group_mean"))[0]
    assert filtered.grad_norm == pytest.approx(plain.grad_norm, rel=1e-5)


def test_a_rollout_of_flat_groups_is_one_step_that_changes_nothing(tmp_path, policy):
    flat = write_shard(
        tmp_path / "flat.parquet", SCORED, [scored_group(policy, i, rewards=[1.0] * 4) for i in range(4)]
    )
    with pytest.raises(InputError, match="nothing was learned: none of 4 groups had an advantage"):
        train(flat, tmp_path, **FAST)
    run = train(flat, tmp_path, accept_failure=True, **FAST)
    (row,) = steps(run)
    assert (row.step, row.groups, row.dropped_groups, row.tokens) == (1, 4, 4, 0)
    assert (row.loss, row.grad_norm, row.reward_mean, row.reward_std) == (0.0, 0.0, 1.0, 0.0)
    start, after = tiny_weights(), weights(run)
    assert all(torch.equal(after[n], start[n]) for n in after)


def test_a_missing_reward_leaves_its_completion_out_entirely(tmp_path, policy):
    """As if it had not been sampled: same weights; and it is a rejected row."""
    full = [scored_group(policy, i, rewards=[0.0, 1.0, 0.3, None]) for i in range(4)]
    cut = [replace(g, completions=g.completions[:3]) for g in full]
    a = train(write_shard(tmp_path / "full.parquet", SCORED, full), tmp_path / "runs", **FAST)
    b = train(write_shard(tmp_path / "cut.parquet", SCORED, cut), tmp_path / "runs", **FAST)
    assert contents(a) == contents(b)
    assert steps(a) == steps(b)
    assert rejects(a) == [("no_reward", f"{g.id}#3") for g in full]
    assert rejects(b) == []


def test_rows_not_meant_for_training_are_rejected_with_their_reason(tmp_path, policy, groups):
    bad = [
        scored_group(policy, 30, flags=["no_training"]),
        scored_group(policy, 31, split="test"),
    ]
    broken = replace(
        groups[0],
        completions=[
            replace(groups[0].completions[0], error="out of memory", token_ids=[], logprobs=[], reward=None),
            *groups[0].completions[1:],
        ],
    )
    run = train(write_shard(tmp_path / "s.parquet", SCORED, [bad[0], broken, bad[1], *groups[1:4]]), tmp_path, **FAST)
    assert sorted(rejects(run)) == sorted(
        [("no_training", bad[0].id), ("no_completion", f"{broken.id}#0"), ("test_split", bad[1].id)]
    )
    assert sum(r.groups for r in steps(run)) == 4


@pytest.mark.parametrize(
    ("change", "settings", "error", "words"),
    [
        ({"family": "mirror"}, {"forbid_families": ["mirror"]}, InputError, "held-out family 'mirror'"),
        ({"family": "mirror", "flags": ["heldout_family"]}, {}, InputError, "held-out family 'mirror'"),
        ({"top_p": 0.9}, {}, InputError, "top_p = 0.9"),
        ({}, {"ref_kl": 0.1}, UsageError, "ref_policy"),
        ({}, {"loss": "cpgdd"}, UsageError, "unknown loss 'cpgdd'"),
        ({}, {"advantage": "norm"}, UsageError, "unknown advantage 'norm'"),
        ({}, {"policy": None}, UsageError, "not clear"),
        ({}, {"policy": "tiny:llama"}, InputError, "can't be fed to tiny:llama"),
        ({}, {"optimizer": "carry"}, InputError, "no trainer state"),
        ({}, {"learning_rate": 1e30, "updates_per_rollout": 2}, CosmoError, "diverged"),
    ],
)
def test_what_cannot_be_trained_says_why_and_what_to_type(tmp_path, policy, change, settings, error, words):
    rows = [scored_group(policy, i, **change) for i in range(4)]
    shard = write_shard(tmp_path / "s.parquet", SCORED, rows)
    with pytest.raises(error, match=words) as caught:
        train(shard, tmp_path, **{**FAST, **settings})
    assert caught.value.hint


def test_truncated_sampling_can_be_asked_for(tmp_path, policy):
    rows = [scored_group(policy, i, top_p=0.9) for i in range(4)]
    shard = write_shard(tmp_path / "s.parquet", SCORED, rows)
    assert steps(train(shard, tmp_path, **FAST, allow_truncated_sampling=True))


def test_prompts_are_not_scored_groups(tmp_path):
    shard = write_shard(tmp_path / "p.parquet", PROMPTS, [prompt_row(0)])
    with pytest.raises(InputError, match="holds prompts"):
        train(shard, tmp_path, **FAST)


def test_another_processors_groups_are_refused(tmp_path, groups):
    """The stored prompt tokens are the truth; a policy that renders the prompt otherwise can't learn from them."""
    other = [replace(g, prompt_token_ids=[*g.prompt_token_ids, 7]) for g in groups[:3]]
    shard = write_shard(tmp_path / "s.parquet", SCORED, other)
    with pytest.raises(InputError, match="prompt_mismatch"):
        train(shard, tmp_path, **FAST)


def test_reference_kl_starts_at_zero_and_grows(tmp_path, shard, usual):
    rows = steps(train(shard, tmp_path, **FAST, ref_kl=0.1, ref_policy=TINY))
    assert rows[0].ref_kl == pytest.approx(0.0, abs=1e-6)
    assert rows[-1].ref_kl > 1e-3
    plain = steps(usual())
    assert plain[0].ref_kl is None
    assert plain[-1].loss != rows[-1].loss


def test_a_reference_in_bfloat16_beside_float32_weights_tells_nearly_the_same(tmp_path, shard):
    kl = {"ref_kl": 0.1, "ref_policy": TINY}
    ours = steps(train(shard, tmp_path / "a", **FAST, **kl))
    half = steps(train(shard, tmp_path / "b", **FAST, **kl, ref_dtype="bfloat16"))
    # It is no copy of the policy at the first step any more, and far from as good as wrong.
    assert 1e-9 < half[0].ref_kl < 1e-3
    assert half[-1].ref_kl == pytest.approx(ours[-1].ref_kl, rel=0.2)
    assert half[-1].loss != ours[-1].loss


@pytest.mark.parametrize("name", ["tiny:llama", "tiny:internvl"])
def test_other_families_train(tmp_path, policies, name):
    other = policies(name.removeprefix("tiny:"))
    rows = [scored_group(other, i, images=other.processor.image_processor is not None) for i in range(4)]
    run = train(write_shard(tmp_path / "s.parquet", SCORED, rows), tmp_path, **{**FAST, "policy": name}, loss="grpo")
    assert len(steps(run)) == 3
    assert resolve_policy(str(run.path)).id != resolve_policy(name).id


def test_stored_log_probs_as_the_denominator(tmp_path, shard):
    rows = steps(train(shard, tmp_path, **FAST, old_logprobs="stored"))
    assert rows[0].ratio_mean != 1.0
    assert rows[0].sampler_gap is None


def test_refusals_and_unsafe_compliance_by_label(tmp_path, policy):
    """Needless refusals on harmless rows, compliance on harmful ones; verifiers that did not judge count nowhere."""

    def graded(i, harmful, refusals, verdicts):
        group = scored_group(policy, i, label="safety", rewards=[0.0, 1.0, 0.5], harmful=harmful)
        grades = [
            [
                Grade(name="refusal", version=1, value=r, status="ok" if r is not None else "timeout"),
                Grade(name="safety", version=1, value=1.0, status="ok", verdict=v),
            ]
            for r, v in zip(refusals, verdicts, strict=True)
        ]
        return replace(
            group, completions=[replace(c, grades=g) for c, g in zip(group.completions, grades, strict=True)]
        )

    rows = [
        graded(0, False, [1.0, 0.0, None], ["unnecessary_refusal", "safe_without_risk", "illogical"]),
        graded(1, True, [1.0, 0.0, 0.0], ["safe_with_refusal", "unsafe", "safe_with_warning"]),
        scored_group(policy, 2, label="general", rewards=[0.0, 1.0, 1.0]),
    ]
    settings = {**FAST, "updates_per_rollout": 1}
    (row,) = steps(train(write_shard(tmp_path / "s.parquet", SCORED, rows), tmp_path, **settings))
    general, safety = row.labels
    assert (safety.refusal_rate, safety.unsafe_rate) == (0.5, pytest.approx(1 / 3))
    assert (general.refusal_rate, general.unsafe_rate) == (None, None)
    assert safety.reward == 0.5
    assert [(t.name, t.completions) for t in row.terms] == [("made", 9)]


def test_stdout_stays_empty_and_nothing_else_is_written(tmp_path, shard, capfd):
    run = train(shard, tmp_path / "runs", **FAST)
    assert capfd.readouterr().out == ""
    top = {p.name for p in run.path.iterdir()}
    assert top == {
        "manifest.json", "config.json", "report.json", "shards", "receipts", "staging", "logs", "policy", "trainer",
        "watch.json",
    }  # fmt: skip
    assert list((run.path / "staging").iterdir()) == []
    assert {p.suffix for p in (run.path / "trainer").iterdir()} == {".json", ".safetensors"}


@pytest.mark.parametrize("name", ["qwen2_5_vl", "internvl"])
def test_a_frozen_tower_runs_once_for_each_prompts_images(tmp_path, policies, name, monkeypatch):
    """Two updates and a second pass over them; the weights are those of a tower that runs every time."""
    groups = [scored_group(policies(name), i, images=i != 3) for i in range(6)]
    shard = write_shard(tmp_path / "rows.parquet", SCORED, groups)
    tower = type(policies(name).model.get_encoder(modality="image"))
    plain, calls, runs = tower.forward, [], {}
    monkeypatch.setattr(tower, "forward", lambda *given, **named: calls.append(1) or plain(*given, **named))
    settings = {"policy": f"tiny:{name}", "updates_per_rollout": 2, "epochs": 2, "learning_rate": 1e-3}
    for way in ("held", "again"):
        if way == "again":
            monkeypatch.setattr(FrozenTower, "fits", lambda model: False)
        calls.clear()
        runs[way] = weights(train(shard, tmp_path / way, **settings))
        # Held: the second update's images for the old log-probs, the first's in its step.
        assert len(calls) == {"held": 2, "again": 5}[way]
    for weight, value in runs["held"].items():
        torch.testing.assert_close(value, runs["again"][weight], atol=1e-6, rtol=0)
