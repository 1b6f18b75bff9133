"""Images and prompts for tests of models, engines and rollout."""

from __future__ import annotations

import functools
import io
import random

from PIL import Image as Pillow

from schemas.values import Image, Message, text_message
from stages.models.load import Policy, load_policy
from stages.models.policy_ref import resolve_policy

WORDS = ["how", "many", "red", "blue", "circles", "squares", "are", "in", "the", "picture", "and", "their", "sum", "?"]


def image(width: int, height: int, seed: int = 0, mode: str = "RGB", kind: str = "PNG") -> Image:
    """An encoded image of noise: every size and seed has its own pixels."""
    rng = random.Random(f"{seed} {width} {height}")
    noise = Pillow.frombytes("RGB", (width, height), rng.randbytes(width * height * 3))
    out = io.BytesIO()
    noise.convert(mode).save(out, kind)
    return Image(out.getvalue(), f"noise{seed}.{kind.lower()}")


def prompt(seed: int, images: int = 0, longest: int = 20) -> tuple[list[Message], list[Image]]:
    """A question of some words over some images."""
    rng = random.Random(seed)
    text = " ".join(rng.choices(WORDS, k=rng.randint(3, longest)))
    return [text_message("user", text, images)], [image(84, 84, seed + i) for i in range(images)]


@functools.cache
def policy(spec: str) -> Policy:
    """A loaded tiny policy, shared by all tests of a process: do not change it."""
    return load_policy(resolve_policy(spec), device="cpu")
