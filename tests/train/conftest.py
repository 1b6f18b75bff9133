"""Tiny policies and made-up rows for the training tests."""

from __future__ import annotations

import io
import os
import random

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from schemas.identity import prompt_id
from schemas.prompts import PromptRow
from schemas.rollouts import Sampling
from schemas.scored import Grade, ScoredCompletion, ScoredGroup, Term
from schemas.values import Image, text_message

WORDS = "how many red circles are there in the picture two three one answer is blue square count them now".split()


@pytest.fixture(scope="session", autouse=True)
def two_threads():
    """Small matrices gain nothing from more, and other tests run beside these."""
    import torch

    torch.set_num_threads(2)


@pytest.fixture(scope="session")
def policies():
    """Load a tiny backbone by name; a fresh copy each call."""
    from stages.models.identity import resolve_policy
    from stages.models.load import load_policy

    return lambda name, **kwargs: load_policy(resolve_policy(f"tiny:{name}"), device="cpu", **kwargs)


def picture(seed: int, side: int = 56) -> Image:
    """A small PNG of coloured blocks."""
    from PIL import Image as Pillow

    rng = random.Random(seed)
    canvas = Pillow.new("RGB", (side, side), (rng.randrange(256), rng.randrange(256), rng.randrange(256)))
    canvas.paste((rng.randrange(256), 0, 90), (4, 4, 4 + rng.randrange(8, 40), 30))
    buffer = io.BytesIO()
    canvas.save(buffer, "PNG")
    return Image(buffer.getvalue(), f"made-{seed}.png")


def prompt_row(i: int, *, images: bool = True, label: str = "general", **fields) -> PromptRow:
    """Prompt number i: some words, and a picture unless told otherwise."""
    rng = random.Random(i)
    pictures = [picture(i, rng.choice([56, 84]))] if images else []
    words = " ".join(rng.choices(WORDS, k=rng.randrange(4, 12))) + f" {i} ?"
    messages = [text_message("user", words, len(pictures))]
    fields.setdefault("reference_response", f"<think> {' '.join(rng.choices(WORDS, k=4))} </think> {rng.choice(WORDS)}")
    return PromptRow(
        id=prompt_id(label=label, messages=messages, images=pictures, answer=str(i)),
        label=label,
        source="made",
        task="made",
        messages=messages,
        images=pictures,
        answer=str(i),
        answer_kind="text",
        **fields,
    )


def scored_group(
    policy, i: int, *, g: int = 4, rewards: list[float | None] | None = None, images: bool = True,
    label: str = "general", temperature: float = 1.0, top_p: float = 1.0, **fields
) -> ScoredGroup:
    """A scored group whose completions are random words of the policy's own vocabulary."""
    rng = random.Random(1000 + i)
    row = prompt_row(i, images=images, label=label, **fields)
    encoded = policy.processor.encode(row.messages, row.images)
    rewards = rewards if rewards is not None else [rng.choice([0.0, 0.1, 0.5, 1.0]) for _ in range(g)]
    completions = []
    for k, reward in enumerate(rewards):
        text = " ".join(rng.choices(WORDS, k=rng.randrange(1, 7)))
        ids = policy.processor.encode_reply(text)
        grade = Grade(name="made", version=1, value=reward, status="ok" if reward is not None else "timeout")
        completions.append(
            ScoredCompletion(
                index=k, text=text, token_ids=ids, logprobs=[-2.0 - 0.01 * k] * len(ids), finish_reason="stop",
                sampling=Sampling(temperature, top_p, 0, 16, 0), policy_id=policy.ref.id, engine="made",
                grades=[grade], terms=[Term("made", 1.0, reward)], reward=reward,
            )
        )
    values = {name: getattr(row, name) for name in PromptRow.__dataclass_fields__}
    return ScoredGroup(
        **values, prompt_token_ids=encoded.token_ids, banned_token_ids=policy.processor.banned_token_ids,
        completions=completions, recipe="made*1",
    )
