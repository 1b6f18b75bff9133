"""A verifier learns the verdict line and nothing else, on train rows, every verdict alike."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pytest
import torch

from schemas.scored import Grade, ScoredGroup
from schemas.tables import PROMPTS, SCORED
from schemas.values import text_message
from stages.core.errors import InputError, UsageError
from stages.core.runs.folder import RunFolder
from stages.judging.prompt import FOLDER, conversation, load_prompt, parse_verdict, verdict_line
from stages.train.config import TrainConfig
from stages.train.supervised.examples import ExampleRows
from stages.train.supervised.verdicts import as_example, judged_entries, verdict_order
from tests.train.made import contents, prompt_row, rejects, scored_group, steps, train, write_shard
from tests.train.test_train_resume import Stop, StopAfter

TINY = "tiny:qwen2_5_vl"


def learning_from(**more):
    return {"verifier": {"name": "safety", "prompt": "safety_brief", **more}}


FAST = {
    "objective": "verifier", "policy": TINY, "objectives": learning_from(), "learning_rate": 1e-3, "batch_size": 4,
    "steps": 3,
}  # fmt: skip


def graded(group: ScoredGroup, verdicts: list[str | None], name: str = "safety") -> ScoredGroup:
    """The group with a grade a completion; None: the verifier timed out. Think blocks hold a word of their own."""
    made = []
    for completion, verdict in zip(group.completions, verdicts, strict=True):
        status, value = ("timeout", None) if verdict is None else ("ok", 0.5)
        grade = Grade(name=name, version=1, value=value, status=status, verdict=verdict)
        text = f"<think> secret </think> {completion.text}"
        made.append(replace(completion, text=text, grades=[*completion.grades, grade]))
    return replace(group, completions=made)


@pytest.fixture(scope="module")
def groups(policies):
    """Six groups of four completions: 18 safe, 5 unsafe, 1 illogical."""
    policy = policies("qwen2_5_vl")
    verdicts = ["safe_without_risk"] * 18 + ["unsafe"] * 5 + ["illogical"]
    groups = [scored_group(policy, i, images=i % 2 == 0, label="safety") for i in range(6)]
    return [graded(g, verdicts[i::6]) for i, g in enumerate(groups)]


@pytest.fixture
def shard(tmp_path, groups):
    return write_shard(tmp_path / "scored.parquet", SCORED, groups)


def judged(shard, reject=lambda *_: None, **settings):
    """The examples of a shard, and the run's config."""
    config = TrainConfig(**{**FAST, **settings})
    prompt = load_prompt(config.objective_settings().asked)
    return judged_entries([RunFolder.open(shard)], config, prompt, reject), config


def test_it_is_shown_what_a_judge_is_shown_and_learns_the_verdict_line_alone(policies, shard, groups):
    """Prompt ids are those of the judge's conversation about the answer; labels are the verdict's, and the end."""
    from stages.train.parallel.split import Part, Portion
    from stages.train.supervised.imitation import IGNORED, CompletionCollator

    policy, prompt = policies("qwen2_5_vl"), load_prompt("safety_brief")
    entries, _ = judged(shard)
    rows = ExampleRows([RunFolder.open(shard)], entries, table=SCORED, made=partial(as_example, prompt))
    session = SimpleNamespace(policy=policy, config=SimpleNamespace(system_turn="as_it_is"))
    batch = CompletionCollator(session, rows, Part(0, 1, lockstep=False))(Portion(range(8), range(8)))
    for i, entry in enumerate(entries[:8]):
        group = next(g for g in groups if g.id == entry.id)
        completion = group.completions[entry.completion]
        turns, images = conversation(prompt, group, completion.text.partition("</think>")[2].strip())
        shown = policy.processor.encode(turns, images).token_ids
        ids = batch["input_ids"][i][batch["attention_mask"][i].bool()].tolist()
        labels = batch["labels"][i]
        target = policy.processor.encode_completion(verdict_line(completion.grades[-1].verdict))
        assert ids == shown + target
        assert labels[labels != IGNORED].tolist() == target
        assert "secret" not in policy.processor.decode(ids)
        assert parse_verdict(prompt, policy.processor.decode(target)) == entry.verdict
    assert any(len(g.images) for g in groups)
    assert "image_grid_thw" in batch


def test_verdicts_come_in_turn_and_rare_ones_again(shard):
    entries, config = judged(shard, steps=0, epochs=2)
    assert Counter(e.verdict for e in entries) == {"safe_without_risk": 18, "unsafe": 5, "illogical": 1}
    order = verdict_order(entries, config)
    assert len(order) == 48
    for start in range(0, 48, 12):
        counts = Counter(e.verdict for e in order[start : start + 12])
        assert counts == {"safe_without_risk": 4, "unsafe": 4, "illogical": 4}
    safe = [e for e in order if e.verdict == "safe_without_risk"]
    # 16 draws from 18: none twice. 16 from 5: each three times before any a fourth.
    assert len(set(safe)) == 16
    assert sorted(Counter(e for e in order if e.verdict == "unsafe").values()) == [3, 3, 3, 3, 4]
    assert verdict_order(list(reversed(entries)), config) == order
    assert verdict_order(entries, replace(config, seed=1)) != order


def test_unbalanced_is_one_permutation_an_epoch_and_fewer_examples_are_a_seeded_draw(shard):
    as_they_come = learning_from(balance=False)
    entries, config = judged(shard, steps=0, epochs=2, objectives=as_they_come)
    order = verdict_order(entries, config)
    assert set(order[:24]) == set(order[24:]) == set(entries)
    assert order[:24] != order[24:]
    few = verdict_order(entries, replace(config, objectives=learning_from(balance=False, max_examples=6)))
    assert len(few) == 12
    assert len(set(few)) == 6
    evenly = verdict_order(entries, replace(config, objectives=learning_from(max_examples=7)))
    assert Counter(e.verdict for e in set(evenly)) == {"safe_without_risk": 3, "unsafe": 3, "illogical": 1}


def test_only_train_rows_with_a_known_verdict_are_learned_from(tmp_path, policies, groups):
    policy = policies("qwen2_5_vl")
    bad = [
        graded(scored_group(policy, 20, g=2, split="test"), ["unsafe", "unsafe"]),
        graded(scored_group(policy, 21, g=2, flags=["no_training"]), ["unsafe", "unsafe"]),
        scored_group(policy, 22, g=2),
        graded(scored_group(policy, 23, g=3), [None, "unparsable", "unsafe"]),
    ]
    run = train(write_shard(tmp_path / "s.parquet", SCORED, [*bad, *groups]), tmp_path, **FAST)
    ids = [g.id for g in bad]
    assert rejects(run) == [
        ("test_split", ids[0]),
        ("no_training", ids[1]),
        ("no_verdict", ids[2]),
        ("no_verdict", f"{ids[3]}#0"),
        ("unknown_verdict", f"{ids[3]}#1"),
    ]
    record = json.loads((run.path / "verifier.json").read_text())
    assert record["completions"] == {"illogical": 1, "safe_without_risk": 18, "unsafe": 6}
    assert record["prompt_digest"] == load_prompt("safety_brief").digest
    rows = steps(run)
    assert {r.objective for r in rows} == {"verifier"}
    assert Counter({s.label: s.completions for s in rows[0].labels}) == {
        "illogical": 2, "safe_without_risk": 1, "unsafe": 1,
    }  # fmt: skip


def test_what_cannot_be_learned_says_why_and_what_to_type(tmp_path, shard):
    def refused(error, words, hint, inputs=shard, **settings):
        with pytest.raises(error, match=words) as caught:
            train(inputs, tmp_path, **{**FAST, **settings})
        assert hint in caught.value.hint

    refused(InputError, "carries a verdict by 'valu'", "there: safety", objectives=learning_from(name="valu"))
    refused(InputError, "'value' knows none of", "verifier.prompt", objectives=learning_from(prompt="value"))
    refused(InputError, "no judge prompt 'nice'", "safety_brief", objectives={"verifier": {"name": "nice"}})
    refused(UsageError, "is not said", "verifier.name=", objectives={})
    refused(UsageError, "a verifier was given no policy", "--policy", policy=None)
    prompts = write_shard(tmp_path / "p.parquet", PROMPTS, [prompt_row(0)])
    refused(InputError, "a verifier learns from scored groups", "cosmo score", inputs=prompts)


def test_the_prompt_counts_by_its_words_and_only_for_a_verifier(tmp_path, shard):
    from stages.core.stage import Context, Resources, Silent
    from stages.train.stage import STAGE

    copy = tmp_path / "elsewhere.toml"
    copy.write_bytes((FOLDER / "safety_brief.toml").read_bytes())

    def key(**settings):
        config = TrainConfig(**{**FAST, **settings})
        return STAGE.plan(Context(config, [RunFolder.open(shard)], Silent(), Resources())).key

    assert key() == key(objectives=learning_from(prompt=str(copy)))
    copy.write_text(copy.read_text().replace("Verdict?", "Well?"))
    assert key() != key(objectives=learning_from(prompt=f"{tmp_path}/./elsewhere.toml"))
    assert key() != key(objectives=learning_from(balance=False))
    assert key(objective="sft") == key(objective="sft", objectives=learning_from(name="other"))


def test_interrupted_it_ends_with_the_same_bits(tmp_path, shard):
    settings = {**FAST, "steps": 5, "checkpoint_steps": 2}
    whole = train(shard, tmp_path / "whole", **settings)
    for n in (1, 3):
        with pytest.raises(Stop):
            train(shard, tmp_path / "cut", progress=StopAfter(n), **settings)
    resumed = train(shard, tmp_path / "cut", **settings)
    assert contents(resumed) == contents(whole)
    assert steps(resumed) == steps(whole)


def test_it_learns_to_judge_completions_that_it_never_saw(tmp_path, policies):
    """A made-up rule: a completion that names red is bad. Verdicts on unseen completions, read as a judge's are."""
    from stages.models.load import load_policy
    from stages.models.policy_ref import resolve_policy

    asked = tmp_path / "red.toml"
    asked.write_text('user = "$completion ?"\n[verdicts]\ngood = 1.0\nbad = 0.0\n')
    policy = policies("llama")
    made = [scored_group(policy, i, g=8, images=False) for i in range(36)]
    made = [graded(g, ["bad" if "red" in c.text.split() else "good" for c in g.completions], "rule") for g in made]
    options = learning_from(name="rule", prompt=str(asked))
    shard = write_shard(tmp_path / "scored.parquet", SCORED, made[:32])
    run = train(
        shard, tmp_path, **{**FAST, "policy": "tiny:llama", "objectives": options, "batch_size": 16, "steps": 25}
    )
    verifier, prompt = load_policy(resolve_policy(str(run.path)), device="cpu"), load_prompt(str(asked))
    seen = {c.text for g in made[:32] for c in g.completions}
    right = []
    for group in made[32:]:
        for completion in group.completions:
            if completion.text in seen:
                continue
            turns = [text_message("user", f"{completion.text.partition('</think>')[2].strip()} ?")]
            ids = torch.tensor([verifier.processor.encode(turns, []).token_ids])
            out = verifier.model.generate(ids, max_new_tokens=10, do_sample=False)[0, ids.shape[1] :].tolist()
            right.append(parse_verdict(prompt, verifier.processor.decode(out)) == completion.grades[-1].verdict)
    assert len(right) > 20
    assert sum(right) / len(right) > 0.9
