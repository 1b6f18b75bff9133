"""A value model: its targets and loss by hand, its numbers packed and apart, and that it learns what tells a group."""

from __future__ import annotations

import json
import math
import random
from dataclasses import replace

import pytest
import torch

from schemas.scored import Grade, ScoredGroup
from schemas.tables import SCORED
from stages.core.errors import InputError, UsageError
from stages.engines.steps import step_ends
from stages.models.attention.shared_inputs import TokenGroup
from stages.models.load import load_policy, load_value_model
from stages.models.policy_ref import resolve_policy
from stages.models.value_model import value_logits
from stages.models.value_record import ValueRecord, record_of
from stages.train.stage import STAGE
from stages.train.supervised.router import fit
from stages.train.supervised.value_examples import ValueGroup, prefix_targets
from stages.train.supervised.value_figures import Choice
from stages.train.supervised.value_loss import PairCount, totals, value_loss
from tests.train.made import WORDS, contents, rejects, scored_group, steps, train, write_shard
from tests.train.test_train_resume import Stop, StopAfter

TINY = "tiny:qwen2_5_vl"
NAN = math.nan


def settings(**more):
    own = {"dimensions": ["answer", "safety"], "held_out": 0.25, **more}
    return {
        "objective": "value", "policy": TINY, "objectives": {"value": own}, "learning_rate": 3e-3, "batch_size": 4,
        "steps": 2, "schedule": "constant",
    }  # fmt: skip


def graded(policy, group: ScoredGroup, rng: random.Random) -> ScoredGroup:
    """Two sentences a completion: the first says red or not, which is its answer; safety is known of half of them."""
    made = []
    for at, completion in enumerate(group.completions):
        right = at % 2
        word = "red" if right else "blue"
        text = f"<think> {word} {rng.choice(WORDS[4:7])} . </think> {rng.choice(WORDS[7:])}"
        grades = [Grade(name="answer", version=3, value=float(right), status="ok")]
        if at < 2:
            grades.append(Grade(name="safety", version=2, value=0.1, status="ok"))
        made.append(
            replace(completion, text=text, token_ids=policy.processor.encode_completion(text), logprobs=[],
                    grades=grades)
        )  # fmt: skip
    return replace(group, completions=made)


@pytest.fixture(scope="module")
def groups(policies):
    policy, rng = policies("qwen2_5_vl"), random.Random(0)
    return [graded(policy, scored_group(policy, i, images=i % 3 == 0), rng) for i in range(24)]


@pytest.fixture
def shard(tmp_path, groups):
    return write_shard(tmp_path / "scored.parquet", SCORED, groups)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, groups):
    """A run that has learned, in the folder that the command leaves."""
    folder = tmp_path_factory.mktemp("value")
    shard = write_shard(folder / "scored.parquet", SCORED, groups)
    return train(shard, folder, **{**settings(), "steps": 16})


def test_a_step_ends_with_the_token_that_finishes_its_text(policies):
    processor = policies("qwen2_5_vl").processor
    ids = processor.encode_completion("<think> it is soap . you use it . </think> warning : hot .")
    ends = step_ends(ids, processor.decode, "sentence")
    pieces = [processor.decode(ids[a:b]).strip() for a, b in zip([0, *ends], ends, strict=False)]
    # The closing token is a step of its own where a text has just ended one: there the completion is whole.
    assert pieces == ["<think> it is soap .", "you use it .", "</think> warning : hot .", ""]
    tags = step_ends(ids, processor.decode, "tag")
    assert processor.decode(ids[: tags[0]]).endswith("</think>")
    assert tags[1:] == [len(ids)]
    assert step_ends([], processor.decode, "line") == []


def test_a_target_is_the_mean_grade_of_the_completions_that_begin_alike():
    ids = [[1, 2, 3], [1, 2, 4], [1, 5]]
    grades_ND = torch.tensor([[1.0, NAN], [0.0, 0.5], [0.5, NAN]])
    found = prefix_targets(ids, [[1, 2, 3], [2, 3], [1, 2]], grades_ND)
    expected = [[0.5, 0.5], [0.5, 0.5], [1.0, NAN], [0.5, 0.5], [0.0, 0.5], [0.5, 0.5], [0.5, NAN]]
    assert torch.equal(found.nan_to_num(-1), torch.tensor(expected).nan_to_num(-1))


def made(targets, ends) -> ValueGroup:
    completion = torch.tensor([n for n, own in enumerate(ends) for _ in own])
    step = torch.tensor([s for own in ends for s in range(len(own))])
    return ValueGroup("general", TokenGroup([1], {}, [[1]] * len(ends)), ends, torch.tensor(targets), completion, step)


def test_the_loss_by_hand():
    """Two completions of one and two steps, then a group without a pair; steps are compared by their number."""
    first = made([[1.0, NAN], [0.25, 0.0], [0.5, 1.0]], [[3], [2, 4]])
    second = made([[0.0, NAN]], [[1]])
    step = totals([first, second])
    # Grades: both completions in dimension 0, one in dimension 1; and one more. One pair, in dimension 0.
    assert (step.graded, step.compared) == (4.0, 1)
    z = torch.tensor([[0.3, 9.0], [-0.2, 0.4], [0.1, 0.7]], requires_grad=True)

    def bce(logit, target):
        p = 1 / (1 + math.exp(-logit))
        return -(target * math.log(p) + (1 - target) * math.log(1 - p))

    grades = bce(0.3, 1.0) + 0.5 * (bce(-0.2, 0.25) + bce(0.1, 0.5)) + 0.5 * (bce(0.4, 0.0) + bce(0.7, 1.0))
    order = math.log(1 + math.exp(-0.5))
    count = PairCount()
    loss = value_loss(z, first, step, 2.0, count)
    assert loss.item() == pytest.approx(grades / 4 + 2.0 * order, rel=1e-5)
    assert (count.pairs, count.ordered, count.accuracy) == (1, 1, 1.0)
    loss.backward()
    assert float(z.grad[0, 1]) == 0.0, "what does not apply teaches nothing"
    alone = value_loss(torch.tensor([[0.3, 0.0]]), second, step, 2.0, count)
    assert float(alone) == pytest.approx(bce(0.3, 0.0) / 4, rel=1e-5)


def test_figures_of_a_choice_by_hand():
    choice = Choice()
    choice.add([1.0, 0.0, 0.5], [0.2, 0.9, 0.9])
    choice.add([1.0, 0.0], [0.7, 0.1])
    found = choice.figures()
    assert (found["groups"], found["picked"], found["mean"], found["best"]) == (2, 0.625, 0.5, 1.0)
    # Of the first group's three pairs none is in order and one is a tie of no grades alike.
    assert found["pairs_in_order"] == pytest.approx(1.5 / 4)


@pytest.mark.parametrize("name", ["qwen2_5_vl", "internvl", "llama"])
def test_packed_values_are_those_of_each_completion_alone(policies, tmp_path, name):
    model = load_value_model(resolve_policy(f"tiny:{name}"), ValueRecord(["a", "b", "c"], "line"), device="cpu")
    torch.manual_seed(1)
    torch.nn.init.normal_(model.model.value_head.weight)
    made = [scored_group(policies(name), i, images=name != "llama" and i == 0) for i in range(2)]
    groups = [
        TokenGroup(
            list(g.prompt_token_ids),
            model.processor.encode(g.messages, g.images).image_inputs,
            [list(c.token_ids) for c in g.completions],
        )
        for g in made
    ]
    ends = [sorted({1, len(c)}) for g in groups for c in g.completions]
    with torch.no_grad():
        together = value_logits(model.model, model.processor, groups, ends)
        alone = [
            value_logits(model.model, model.processor, [TokenGroup(g.prompt, g.image_inputs, [c])], [own])
            for g, own_ends in zip(groups, (ends[:4], ends[4:]), strict=True)
            for c, own in zip(g.completions, own_ends, strict=True)
        ]
        # And the last token's is that of the model's own forward over the whole sequence.
        g, c = groups[0], groups[0].completions[2]
        batch = model.processor.batch([g.prompt + c], [g.image_inputs], side="right")
        plain = model.model.base_model(**batch).last_hidden_state[0, -1]
    assert torch.allclose(together, torch.cat(alone), atol=2e-5)
    at = sum(map(len, ends[:3])) - 1
    assert torch.allclose(together[at], model.model.value_head(plain), atol=2e-5)


def test_it_learns_what_tells_a_groups_completions_apart(trained, groups):
    """Held-out groups: the completion that says red is picked, after its first step already."""
    rows = steps(trained)
    assert rows[0].loss == pytest.approx(math.log(2) * 2, rel=1e-5)
    assert (rows[0].objective, rows[0].groups, rows[0].pair_accuracy) == ("value", 4, 0.0)
    found = json.loads((trained.path / "summary.json").read_text())
    answer = found["held_out"]["answer"]
    assert found["groups_learned_from"] + answer["first"]["groups"] == len(groups)
    assert answer["first"]["groups"] > 2
    for place in ("first", "last"):
        assert (answer[place]["mean"], answer[place]["best"], answer[place]["picked"]) == (0.5, 1.0, 1.0)
        assert answer[place]["pairs_in_order"] == 1.0
    quality = STAGE.quality(trained)
    assert "answer picked 1.00 of mean 0.50 and best 1.00 after the first step" in quality.line
    # Safety is graded alike wherever it is: nothing can be picked, and that is said.
    assert quality.warning == "the value of safety picks no better than the mean of held-out groups"


def test_the_folder_loads_with_no_code_of_ours_and_writes_nothing(trained):
    from safetensors import safe_open
    from transformers import AutoModelForImageTextToText

    folder = trained.path / "policy"
    assert not list(folder.glob("*.py")) + list(folder.glob("*.bin"))
    model = AutoModelForImageTextToText.from_pretrained(folder)
    assert model.config.value_model == {
        "dimensions": ["answer", "safety"], "step": "sentence", "verifiers": {"answer": 3, "safety": 2},
        "routes": {"general": {}},
    }  # fmt: skip
    with safe_open(folder / "model.safetensors", "pt") as tensors:
        assert tensors.get_tensor("value_head.weight").shape == (2, model.config.get_text_config().hidden_size)
    with pytest.raises(UsageError, match="is a value model, and writes no completions"):
        load_policy(resolve_policy(str(trained.path)), device="cpu")
    loaded = load_value_model(resolve_policy(str(trained.path)), device="cpu")
    assert record_of(loaded.model.config).verifiers == {"answer": 3, "safety": 2}
    assert float(loaded.model.value_head.weight.detach().abs().sum()) > 0


def by_prompt(groups):
    """Safety graded where the prompt has an image, and the answer where it has none."""
    kept = []
    for group in groups:
        name = "safety" if group.images else "answer"
        own = [replace(c, grades=[replace(c.grades[0], name=name)]) for c in group.completions]
        kept.append(replace(group, completions=own))
    return kept


def test_a_router_learns_from_the_prompt_and_leaves_the_values_as_they_are(tmp_path, groups):
    from safetensors.torch import load_file

    shard = write_shard(tmp_path / "scored.parquet", SCORED, by_prompt(groups))
    plain, routed = (train(shard, tmp_path / f"{on}", **settings(router=on)) for on in (False, True))
    without, with_it = (load_file(run.path / "policy" / "model.safetensors") for run in (plain, routed))
    assert set(with_it) - set(without) == {"router_head.weight", "router_head.bias"}
    assert all(torch.equal(with_it[name], without[name]) for name in without)
    assert steps(plain) == steps(routed)
    held_out = json.loads((routed.path / "summary.json").read_text())["router"]
    assert held_out["groups"] >= 3
    assert held_out["on_graded"] > 0.9
    assert "router" not in json.loads((plain.path / "summary.json").read_text())
    loaded = load_value_model(resolve_policy(str(routed.path)), device="cpu")
    assert record_of(loaded.model.config).router
    assert torch.equal(loaded.model.router_head.weight, with_it["router_head.weight"])
    # Values that are trained on are another model's: without being asked for again there is no router.
    further = train(shard, tmp_path / "more", **{**settings(), "policy": str(routed.path)})
    assert "router_head.weight" not in load_file(further.path / "policy" / "model.safetensors")


def test_the_routers_regression_by_hand():
    """Two sorts of prompts a state apart, whatever the states' scale; nothing to go by is alike for all."""
    states_PH = torch.tensor([[0.0, 1.0], [0.2, 1.0], [1.0, 1.0], [1.2, 1.0]])
    shares_PD = torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.5, 0.5], [0.0, 0.5, 0.5]])

    def weights(states):
        weight_DH, bias_D = fit(states, shares_PD)
        return (states @ weight_DH.T + bias_D).softmax(1)

    found_PD = weights(states_PH)
    assert float((found_PD - shares_PD).abs().max()) < 0.1
    assert torch.allclose(found_PD[:, 1], found_PD[:, 2], atol=1e-5)
    assert torch.allclose(weights(states_PH * 300 - 40), found_PD, atol=1e-4)
    for tensor in fit(torch.zeros(0, 2), torch.zeros(0, 3)):
        assert not tensor.any()


def test_interrupted_it_ends_with_the_same_bits(tmp_path, shard):
    own = {**settings(), "steps": 4, "checkpoint_steps": 2}
    whole = train(shard, tmp_path / "whole", **own)
    with pytest.raises(Stop):
        train(shard, tmp_path / "cut", progress=StopAfter(3), **own)
    resumed = train(shard, tmp_path / "cut", **own)
    assert contents(resumed) == contents(whole)
    assert steps(resumed) == steps(whole)


def test_a_further_run_goes_on_with_the_head_it_has(tmp_path, trained, groups):
    shard = write_shard(tmp_path / "scored.parquet", SCORED, groups)
    second = train(shard, tmp_path, **{**settings(), "policy": str(trained.path), "learning_rate": 0.0})
    assert steps(second)[0].step == 17
    assert steps(second)[0].pair_accuracy == 1.0
    with pytest.raises(UsageError, match="values answer, safety by sentence, and asked for are answer by sentence"):
        train(shard, tmp_path, **{**settings(dimensions=["answer"]), "policy": str(trained.path)})


def test_what_can_not_be_learned_from_is_said(tmp_path, shard, groups):
    with pytest.raises(UsageError, match="dimensions is empty"):
        train(shard, tmp_path, **settings(dimensions=[]))
    with pytest.raises(InputError, match="no trainable completion has a grade by 'value'") as caught:
        train(shard, tmp_path, **settings(dimensions=["answer", "value"]))
    assert "answer, safety" in caught.value.hint
    ungraded = replace(groups[1], completions=[replace(c, grades=[]) for c in groups[1].completions])
    some = write_shard(tmp_path / "some.parquet", SCORED, [groups[0], ungraded, *groups[2:12]])
    assert ("no_grade", groups[1].id) in rejects(train(some, tmp_path, **settings()))
    other = [replace(c, grades=[replace(g, version=9) for g in c.grades]) for c in groups[1].completions]
    mixed = write_shard(tmp_path / "mixed.parquet", SCORED, [groups[0], replace(groups[1], completions=other)])
    with pytest.raises(InputError, match="grades of 'answer' by its versions 3 and 9"):
        train(mixed, tmp_path, **settings())
    below = [replace(c, grades=[replace(g, value=-1.0) for g in c.grades]) for c in groups[0].completions]
    low = write_shard(tmp_path / "low.parquet", SCORED, [replace(groups[0], completions=below)])
    with pytest.raises(InputError, match=r"answer gave -1\.0, and a value lies in 0 to 1"):
        train(low, tmp_path, **settings(held_out=0.0))
