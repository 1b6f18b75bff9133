"""What imported completions train: a verifier on verdicts, DPO and reward models on pairs; RL with token ids alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from schemas.tables import SCORED, STEPS
from schemas.values import Image, text_message
from stages.core.errors import CosmoError, InputError
from stages.core.runs.folder import RunFolder
from stages.models.load import load_policy
from stages.models.policy_ref import resolve_policy
from stages.models.processor import load_processor
from tests.imports.made import groups_of, imported, png, run, write_jsonl
from tests.train.made import scored_group, write_shard

TINY = "tiny:qwen2_5_vl"
FAST = {"policy": TINY, "device": "cpu", "batch_size": 2, "steps": 2, "learning_rate": 1e-3}


def train(runs: Path, folder: RunFolder, objective: str, **values: Any) -> RunFolder:
    return run("train", runs, [folder.path], objective=objective, **{**FAST, **values})


def completions(tmp_path: Path, **more: Any) -> Path:
    """Two prompts, one with an image, of two completions that people found to be of two kinds."""
    (tmp_path / "a.png").write_bytes(png("red", 56))
    rows = [
        {"prompt": "what is it ?", **image, "completion": text, "verdict": verdict, "harmful": True, "answer": "two"}
        for image in ({"image": "a.png"}, {})
        for text, verdict in (("two", "safe_with_refusal"), ("three", "unsafe"))
    ]
    return write_jsonl(tmp_path / "rows.jsonl", [{**row, **more} for row in rows])


def test_a_verifier_learns_from_peoples_verdicts(tmp_path: Path) -> None:
    found = imported(tmp_path / "runs", completions(tmp_path), write="scored", label="safety")
    judged = {"verifier": {"name": "people", "prompt": "safety_brief"}}
    made = train(tmp_path / "runs", found, "verifier", objectives=judged)
    assert [row.groups for row in made.rows(STEPS)] == [2, 2]
    assert (made.path / "policy" / "model.safetensors").is_file()


@pytest.mark.parametrize("objective, policy", [("dpo", TINY), ("reward", "tiny:llama")])
def test_preference_pairs_train(tmp_path: Path, objective: str, policy: str) -> None:
    (tmp_path / "a.png").write_bytes(png("red", 56))
    # A reward model is made of words alone.
    image = {"prompt": "<image>what is it ?", "images": ["a.png"]} if policy == TINY else {"prompt": "what is it ?"}
    rows = [
        {**image, "chosen": "two", "rejected": "one"},
        {"prompt": "how many ?", "chosen": "three", "rejected": "four"},
    ]
    found = imported(tmp_path / "runs", write_jsonl(tmp_path / "pairs.jsonl", rows), write="scored")
    made = train(tmp_path / "runs", found, objective, policy=policy)
    assert [row.groups for row in made.rows(STEPS)] == [2, 2]
    assert list(made.rejected()) == []


def test_rl_refuses_completions_without_token_ids(tmp_path: Path) -> None:
    found = imported(tmp_path / "runs", completions(tmp_path))
    scored = run("score", tmp_path / "runs", [found.path])
    with pytest.raises(InputError, match="without token ids: they were made elsewhere") as caught:
        run("train", tmp_path / "runs", [scored.path], objective="rl", policy=TINY, device="cpu")
    assert "--tokenizer POLICY" in caught.value.hint


def test_what_was_never_completed_has_no_ids_to_miss(tmp_path: Path) -> None:
    """A sampler that failed throughout left nothing to train on, and nothing that was made elsewhere."""
    policy = load_policy(resolve_policy("tiny:llama"))
    group = scored_group(policy, 0, images=False)
    failed = [replace(c, finish_reason="error", text="", token_ids=[], logprobs=[]) for c in group.completions]
    path = write_shard(tmp_path / "s.parquet", SCORED, [replace(group, completions=failed)])
    with pytest.raises(CosmoError) as caught:
        run("train", tmp_path / "runs", [path], objective="rl", policy="tiny:llama", device="cpu")
    assert "nothing was learned" in caught.value.message


def test_rl_learns_from_ids_of_the_policys_own_tokenizer(tmp_path: Path) -> None:
    found = imported(tmp_path / "runs", completions(tmp_path, harmful=False, label="general"), tokenizer=TINY)
    processor = load_processor(resolve_policy(TINY))
    with_image, _ = groups_of(found)
    picture = Image(png("red", 56), "a.png")
    asked = processor.encode([text_message("user", "what is it ?", 1)], [picture])
    assert with_image.prompt_token_ids == asked.token_ids
    assert with_image.banned_token_ids == processor.banned_token_ids
    for completion in with_image.completions:
        assert completion.token_ids == processor.encode_completion(completion.text)
        assert completion.logprobs == []
    scored = run("score", tmp_path / "runs", [found.path])
    settings = {"objective": "rl", "policy": TINY, "device": "cpu", "updates_per_rollout": 1}
    made = run("train", tmp_path / "runs", [scored.path], **settings)
    (row,) = made.rows(STEPS)
    assert row.groups == 2
    assert row.loss is not None
    # Its ratio starts at 1: the old log-probs are the policy's own. The sampler's are nobody's.
    assert row.ratio_mean == pytest.approx(1.0, abs=1e-5)
    assert row.sampler_gap is None
    with pytest.raises(InputError, match="without log-probs") as caught:
        run("train", tmp_path / "runs", [scored.path], **settings, old_logprobs="stored")
    assert caught.value.hint == "--set old_logprobs=recompute"


def test_what_was_cut_off_does_not_teach_to_stop(tmp_path: Path) -> None:
    path = completions(tmp_path, finish_reason="length")
    group = groups_of(imported(tmp_path / "runs", path, tokenizer=TINY))[1]
    processor = load_processor(resolve_policy(TINY))
    assert [c.finish_reason for c in group.completions] == ["length"] * 2
    assert [c.token_ids for c in group.completions] == [
        processor.encode_completion(c.text)[:-1] for c in group.completions
    ]
