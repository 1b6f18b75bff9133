"""SFT through the runner: the same prompt tokens as a rollout's, loss on the completion alone, a fixed order."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from schemas.tables import PROMPTS
from schemas.values import Image
from stages.core.errors import InputError, UsageError
from stages.core.runs.folder import RunFolder
from stages.core.runs.select import Selection
from stages.core.stage import Resources
from stages.train.config import TrainConfig
from stages.train.supervised.examples import ExampleRows, example_order, usable_entries
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
FAST = {"objective": "sft", "policy": TINY, "learning_rate": 1e-3, "batch_size": 4, "steps": 3}


@pytest.fixture(scope="module")
def rows():
    """Images on most, two labels."""
    return [prompt_row(i, images=i % 3 != 2, label=["general", "value"][i % 2]) for i in range(12)]


@pytest.fixture
def shard(tmp_path, rows):
    return write_shard(tmp_path / "prompts.parquet", PROMPTS, rows)


@pytest.fixture(scope="module")
def usual(tmp_path_factory, rows):
    """The plain run that others are compared with, trained once: only to be read."""
    folder = tmp_path_factory.mktemp("usual")
    return train(write_shard(folder / "prompts.parquet", PROMPTS, rows), folder, **FAST)


def first_batch(shard, **settings):
    """The rows of the first optimizer step, in order."""
    folder = RunFolder.open(shard)
    config = TrainConfig(**{**FAST, **settings})
    order = example_order(usable_entries([folder], config, lambda *_: None), config)
    rows = ExampleRows([folder], order)
    return [rows[i] for i in range(config.batch_size)]


def test_the_collator_feeds_what_a_rollout_feeds_and_trains_the_completion(policies, shard):
    """Prompt ids are PromptProcessor.encode's; labels are the completion and its closing token, nothing else."""
    from types import SimpleNamespace

    from stages.train.parallel.split import Part, Portion
    from stages.train.supervised.imitation import IGNORED, CompletionCollator

    policy = policies("qwen2_5_vl")
    batch_rows = first_batch(shard)
    session = SimpleNamespace(policy=policy, config=TrainConfig())
    batch = CompletionCollator(session, batch_rows, Part(0, 1, lockstep=False))(Portion(range(4), range(4)))
    grids = 0
    for i, row in enumerate(batch_rows):
        encoded = policy.processor.encode(row.messages, row.images)
        completion = policy.processor.tokenizer(row.reference_response, add_special_tokens=False)["input_ids"]
        completion = [*completion, policy.processor.eos_token_ids[0]]
        ids, mask = batch["input_ids"][i], batch["attention_mask"][i].bool()
        assert ids[mask].tolist() == encoded.token_ids + completion
        labels = batch["labels"][i]
        assert labels[labels != IGNORED].tolist() == completion
        assert (labels != IGNORED).nonzero()[:, 0].tolist() == list(
            range(len(encoded.token_ids), len(encoded.token_ids) + len(completion))
        )
        grids += len(row.images)
    assert len(batch["image_grid_thw"]) == grids > 0


def test_the_first_loss_is_the_mean_nll_of_the_completion_tokens(policies, shard, usual):
    """One example at a time through the plain forward, against what TRL's trainer stepped on."""
    policy = policies("qwen2_5_vl")
    total, tokens = 0.0, 0
    for row in first_batch(shard):
        encoded = policy.processor.encode(row.messages, row.images)
        completion = policy.processor.encode_completion(row.reference_response)
        batch = policy.processor.batch([encoded.token_ids + completion], [encoded.image_inputs])
        with torch.no_grad():
            logprobs = policy.model(**batch).logits[0].log_softmax(-1)
        places = torch.arange(len(completion)) + len(encoded.token_ids) - 1
        total -= logprobs[places, torch.tensor(completion)].sum().item()
        tokens += len(completion)
    row = steps(usual)[0]
    assert row.loss == pytest.approx(total / tokens, rel=1e-5)
    assert (row.tokens, row.groups, row.objective) == (tokens, 4, "sft")
    assert sum(s.completions for s in row.labels) == 4
    assert row.entropy > 1.0


def test_it_learns(tmp_path, shard):
    rows = steps(train(shard, tmp_path, **{**FAST, "steps": 25}))
    assert len(rows) == 25
    assert rows[-1].loss < 0.7 * rows[0].loss


@pytest.mark.parametrize("name", ["tiny:llama", "tiny:qwen2_5_vl", "tiny:internvl"])
def test_text_alone_trains_every_family(tmp_path, name):
    shard = write_shard(tmp_path / "p.parquet", PROMPTS, [prompt_row(i, images=False) for i in range(6)])
    rows = steps(train(shard, tmp_path, **{**FAST, "policy": name, "steps": 4}))
    assert rows[-1].loss < rows[0].loss


def test_splitting_the_batch_changes_nothing_but_rounding(tmp_path, shard, usual):
    whole = steps(usual)
    for size in (2, 3):
        split = steps(train(shard, tmp_path / str(size), **FAST, micro_batch_size=size))
        for a, b in zip(whole, split, strict=True):
            assert a.loss == pytest.approx(b.loss, rel=1e-5)
            assert a.grad_norm == pytest.approx(b.grad_norm, rel=1e-3)
            assert (a.tokens, a.groups, a.labels) == (b.tokens, b.groups, b.labels)


def test_the_same_run_twice_and_on_warm_models_is_the_same_to_the_bit(tmp_path, shard):
    torch.set_num_threads(2)
    warm = Resources()
    runs = [train(shard, tmp_path / str(i), resources=r, **FAST) for i, r in enumerate([None, None, warm])]
    chained = [
        train(shard, tmp_path / f"c{i}", resources=r, **{**FAST, "policy": str(runs[2].path)})
        for i, r in enumerate([None, warm])
    ]
    assert contents(runs[0]) == contents(runs[1]) == contents(runs[2])
    assert contents(chained[0]) == contents(chained[1])
    assert steps(chained[0]) == steps(chained[1])
    assert [r.step for r in steps(chained[0])] == [4, 5, 6]


def test_sft_trains_the_vision_tower_and_rl_begins_a_new_lineage(tmp_path, usual):
    from schemas.tables import SCORED
    from stages.models.load import load_policy
    from stages.models.policy_ref import resolve_policy
    from stages.train.checkpoints import read_state

    run = usual
    start = tiny_weights()
    moved = {n for n, w in weights(run).items() if not torch.equal(w, start[n])}
    assert any("visual" in n for n in moved)
    assert read_state(run.path / "trainer").position.step == 3
    policy = load_policy(resolve_policy(str(run.path)), device="cpu")
    scored = write_shard(tmp_path / "scored.parquet", SCORED, [scored_group(policy, i) for i in range(3)])
    settings = {"policy": str(run.path), "learning_rate": 1e-3, "updates_per_rollout": 1}
    fresh, carried = (train(scored, tmp_path / o, **settings, optimizer=o) for o in ("auto", "carry"))
    assert [r.step for r in steps(fresh)] == [r.step for r in steps(carried)] == [1]
    name = "model.language_model.norm.weight.step"
    assert read_state(fresh.path / "trainer").tensors[name] == 1
    assert read_state(carried.path / "trainer").tensors[name] == 4


def test_rows_that_cannot_be_imitated_are_rejected_with_their_reason(tmp_path, rows):
    bad = [
        prompt_row(60, reference_response=None),
        prompt_row(61, flags=["no_training"]),
        prompt_row(62, split="test"),
        replace(prompt_row(63), images=[Image(b"no picture", "broken.png")]),
    ]
    shard = write_shard(tmp_path / "p.parquet", PROMPTS, [*bad, *rows])
    run = train(shard, tmp_path, **{**FAST, "steps": 0, "epochs": 2})
    reasons = ["no_reference_response", "no_training", "test_split", "bad_image"]
    assert rejects(run) == [(reason, row.id) for reason, row in zip(reasons, bad, strict=True)]
    counted = steps(run)
    # 13 usable at first sight, two epochs of them in batches of 4; the broken image is missing in each epoch.
    assert (len(counted), sum(r.groups for r in counted)) == (7, 24)


def test_a_step_without_a_usable_example_changes_nothing(tmp_path):
    rows = [replace(prompt_row(i), images=[Image(b"no picture")]) for i in range(4)]
    with pytest.raises(InputError, match="nothing was learned: no step had an example"):
        train(write_shard(tmp_path / "p.parquet", PROMPTS, rows), tmp_path, **{**FAST, "steps": 1})
    run = RunFolder.open(next(tmp_path.glob("train-*")))
    (row,) = steps(run)
    assert (row.groups, row.tokens, row.loss, row.grad_norm) == (0, 0, 0.0, 0.0)
    start = tiny_weights()
    assert all(torch.equal(w, start[n]) for n, w in weights(run).items())
    assert len(rejects(run)) == 4


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"policy": None}, UsageError, "no policy"),
        ({"forbid_families": ["mirror"]}, InputError, "held-out family 'mirror'"),
        ({"select": Selection(split="test")}, InputError, "no selected prompt can be imitated"),
        ({"select": Selection(labels={"math": 1.0})}, InputError, "no prompt of label 'math'"),
    ],
)
def test_what_cannot_be_trained_says_why_and_what_to_type(tmp_path, rows, settings, error, words):
    rows = [*rows, prompt_row(70, split="test"), prompt_row(71, family="mirror")]
    shard = write_shard(tmp_path / "p.parquet", PROMPTS, rows)
    with pytest.raises(error, match=words) as caught:
        train(shard, tmp_path, **{**FAST, **settings})
    assert caught.value.hint


def test_the_order_is_a_permutation_an_epoch_and_its_windows_give_the_right_rows(tmp_path, rows):
    shards = [write_shard(tmp_path / f"{i}.parquet", PROMPTS, rows[i * 6 : i * 6 + 6]) for i in range(2)]
    folders = [RunFolder.open(s) for s in shards]
    config = TrainConfig(objective="sft", epochs=3, seed=1)
    entries = usable_entries(folders, config, lambda *_: None)
    order = example_order(entries, config)
    epochs = [[e.id for e in order[i * 12 : i * 12 + 12]] for i in range(3)]
    assert [sorted(e) for e in epochs] == [sorted(r.id for r in rows)] * 3
    assert len({tuple(e) for e in epochs}) == 3
    assert example_order(list(reversed(entries)), config) == order
    assert example_order(entries, replace(config, seed=2)) != order
    assert example_order(entries, replace(config, steps=2, batch_size=5)) == order[:10]
    read = ExampleRows(folders, order, window=5)
    by_id = {r.id: r for r in rows}
    assert all(read[i] == by_id[e.id] for i, e in enumerate(order))


def test_selection_decides_what_is_learned(tmp_path, shard):
    row = steps(train(shard, tmp_path, **{**FAST, "steps": 1}, select=Selection(labels={"value": 1.0})))[0]
    assert [s.label for s in row.labels] == ["value"]


def test_stdout_stays_empty(tmp_path, shard, capfd):
    train(shard, tmp_path, **FAST)
    assert capfd.readouterr().out == ""


def test_a_frozen_language_model_stays_as_it_is_while_the_tower_learns(tmp_path, shard):
    after, before = weights(train(shard, tmp_path, **FAST, freeze_language=True)), tiny_weights()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    # Biases of keys get no gradient: softmax does not see what all keys have in common.
    assert {name for name in before if "visual" in name and "qkv" not in name} <= moved
    assert all("visual" in name for name in moved)


def test_beside_a_frozen_language_model_a_row_without_an_image_moves_nothing(tmp_path, shard):
    """Not even where it is a micro-batch of its own, and a gradient has nowhere to go."""
    frozen = {**FAST, "policy": "tiny:internvl", "freeze_language": True}
    together, apart = (weights(train(shard, tmp_path / str(size), **frozen, micro_batch_size=size)) for size in (4, 1))
    for name, value in together.items():
        torch.testing.assert_close(apart[name], value, rtol=0, atol=2e-4)
