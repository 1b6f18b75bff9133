"""visual_contrast on the tiny Qwen: the number by hand, whatever the batch, and what it asks for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from schemas.rollouts import RolloutGroup
from schemas.scored import grade_of
from schemas.values import text_message
from stages.core.errors import UsageError
from stages.core.registry import load
from stages.models.load import Policy
from stages.score.config import ContrastTable, ScoreConfig
from stages.score.models.image_gain import image_gain, mean_logprobs, words_only
from tests.models.made import image, policy
from tests.score.made import group, on_disk, score, scored

QWEN = "tiny:qwen2_5_vl"
COMPLETIONS = ["<think> it is soap . </think> wash a cup", "red", "there are 5 circles and a long , long story of them"]


def imaged(*texts: str, **fields: Any) -> RolloutGroup:
    """A group with one image and the words of the built-in world."""
    made = group(*texts, images=[image(84, 84, 3)], harmful=False, **fields)
    made.messages[:] = [text_message("user", "how do i use this ?", images=1)]
    return made


def by_hand(loaded: Policy, row: RolloutGroup, parsed: str) -> float:
    """The gain of one completion from two plain forwards, all positions through the head, no padding, no batch."""
    ids = loaded.processor.encode_completion(parsed)
    means = []
    for messages, images in ((row.messages, row.images), (words_only(row.messages), [])):
        prompt = loaded.processor.encode(messages, images)
        whole = torch.tensor([prompt.token_ids + ids])
        inputs: dict[str, Any] = dict(prompt.image_inputs)
        if images:
            inputs["mm_token_type_ids"] = (whole == loaded.processor.image_token_id).long()
        loaded.model.base_model.rope_deltas = None  # what an earlier forward with images left behind
        with torch.no_grad():
            logits_LV = loaded.model(input_ids=whole, attention_mask=torch.ones_like(whole), **inputs).logits[0]
        at = torch.arange(len(prompt.token_ids) - 1, whole.shape[1] - 1)
        means.append(float(logits_LV[at].log_softmax(-1)[torch.arange(len(ids)), torch.tensor(ids)].mean()))
    return means[0] - means[1]


def test_the_gain_is_that_of_two_plain_forwards() -> None:
    loaded, row = policy(QWEN), imaged()
    found = image_gain(loaded, row, COMPLETIONS, 16384)
    assert found == pytest.approx([by_hand(loaded, row, parsed) for parsed in COMPLETIONS], abs=1e-4)
    assert max(abs(gain) for gain in found) > 1e-3, "an untrained model still answers to its input"


def test_batches_do_not_matter() -> None:
    loaded, row = policy(QWEN), imaged()
    prompt = loaded.processor.encode(row.messages, row.images)
    ids = [loaded.processor.encode_completion(parsed) for parsed in COMPLETIONS]
    together = mean_logprobs(loaded, prompt, ids, 10**6)
    assert mean_logprobs(loaded, prompt, ids, 1) == pytest.approx(together, abs=1e-5)


def test_a_run_grades_imaged_rows_and_keeps_the_grades(tmp_path: Path) -> None:
    rows = [imaged(*COMPLETIONS), group("red", question="what colour ?", answer="red")]
    table = ContrastTable(policy=QWEN, scale=0.01, device="cpu")
    folder = score(tmp_path, on_disk(tmp_path, rows), also=["visual_contrast"], contrast=table)
    by_image = {bool(g.images): g for g in scored(folder)}
    expected = [min(1.0, max(0.0, by_hand(policy(QWEN), rows[0], parsed) / 0.01)) for parsed in COMPLETIONS]
    grades = [grade_of(c, "visual_contrast") for c in by_image[True].completions]
    assert [g.value for g in grades if g] == pytest.approx(expected, abs=1e-2)
    blind = grade_of(by_image[False].completions[0], "visual_contrast")
    assert blind is not None
    assert (blind.status, blind.reason) == ("not_applicable", "the row has no image")


def test_its_identity_is_the_policys_content_and_the_scale() -> None:
    def identity(**table: Any) -> dict[str, Any]:
        bound = load("verifier", "visual_contrast")(ScoreConfig(contrast=ContrastTable(**table)))
        return dict(bound.identity)

    first = identity(policy=QWEN)
    assert first == identity(policy=QWEN, batch_tokens=7)
    assert first != identity(policy=QWEN, scale=2.0)
    assert first != identity(policy=f"{QWEN}@1")


def test_without_a_policy_it_says_how_to_name_one() -> None:
    with pytest.raises(UsageError, match="needs a policy") as caught:
        load("verifier", "visual_contrast")(ScoreConfig())
    assert "contrast.policy" in caught.value.hint


def test_a_model_without_eyes_is_refused(tmp_path: Path) -> None:
    table = ContrastTable(policy="tiny:llama", device="cpu")
    with pytest.raises(UsageError, match="reads no images"):
        score(tmp_path, on_disk(tmp_path, [imaged("red")]), also=["visual_contrast"], contrast=table)
