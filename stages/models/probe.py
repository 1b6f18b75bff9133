"""Probe prompts and their log-probs: the same questions put to a policy before and after it is exported."""

from __future__ import annotations

import hashlib
import io
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from schemas.values import Image, text_message
from stages.core.errors import BadSample, UnavailableError

if TYPE_CHECKING:
    from stages.models.load import Policy
    from stages.models.processor import PromptProcessor

_TEXTS = (
    "how many red circles are in the picture ?",
    "say what you see , then answer in one word .",
    "what is 2 + 3 ?",
    "is it kind to help a neighbour ? A : yes B : no",
)
_COMPLETION_TOKENS = 16


@dataclass(frozen=True, slots=True)
class Probe:
    """One prompt, a made-up completion, and what the policy thinks of it."""

    text: str
    image: bool
    token_ids: list[int]
    """The rendered prompt, image placeholders expanded."""
    completion_ids: list[int]
    """Ids drawn from the vocabulary by digest: any completion will do, as long as it is always the same."""
    logprobs: list[float]
    """Of the completion's ids, in float32. Same length."""


def make_probes(policy: Policy) -> list[Probe]:
    """Every text without an image, where the policy takes words alone, and with one where it sees.

    UnavailableError where it refuses each of them, so that nothing could be compared.
    """
    sees = policy.processor.image_token_id is not None
    images = [image for image in (False, True) if (sees if image else policy.processor.family.words_alone)]
    probes = []
    for text in _TEXTS:
        for image in images:
            try:
                token_ids, image_inputs = encode(policy.processor, text, image)
            # What the processor refuses before the export it refuses after it.
            except BadSample:
                continue
            completion_ids = _completion(policy.processor, text)
            found = completion_logprobs(policy, token_ids, image_inputs, completion_ids)
            probes.append(Probe(text, image, token_ids, completion_ids, found))
    if not probes:
        raise UnavailableError(f"{policy.ref.name} refuses every probe", "cosmo check MODEL says why")
    return probes


def encode(processor: PromptProcessor, text: str, image: bool) -> tuple[list[int], dict[str, Any]]:
    """The probe's prompt as the processor renders it."""
    images = [probe_image()] if image else []
    encoded = processor.encode([text_message("user", text, len(images))], images)
    return encoded.token_ids, encoded.image_inputs


def probe_image() -> Image:
    """Two shapes on white, 112 x 84."""
    from PIL import Image as Pillow
    from PIL import ImageDraw

    canvas = Pillow.new("RGB", (112, 84), "white")
    draw = ImageDraw.Draw(canvas)
    draw.ellipse((10, 12, 46, 48), fill="red")
    draw.rectangle((60, 30, 100, 70), fill="blue")
    buffer = io.BytesIO()
    canvas.save(buffer, "PNG")
    return Image(buffer.getvalue(), "probe.png")


def _completion(processor: PromptProcessor, text: str) -> list[int]:
    banned = set(processor.banned_token_ids)
    # Embeddings are padded beyond the tokenizer's ids, and a tokenizer may know ids that have no embedding.
    allowed = [i for i in range(min(len(processor.tokenizer), processor.vocab_size)) if i not in banned]
    draws = (hashlib.sha256(f"{text}|{n}".encode()).digest() for n in range(_COMPLETION_TOKENS))
    return [allowed[int.from_bytes(d[:8], "big") % len(allowed)] for d in draws]


def completion_logprobs(
    policy: Policy, token_ids: list[int], image_inputs: dict[str, Any], completion_ids: list[int]
) -> list[float]:
    """Log-prob of each completion id after the prompt and the ids before it, by one forward pass."""
    import torch

    batch = policy.processor.batch([token_ids + completion_ids], [image_inputs])
    batch = {k: v.to(policy.device) for k, v in batch.items()}
    with torch.inference_mode():
        # From the prompt's last position: its logits are of the completion's first token.
        logits_TV = policy.model(**batch).logits[0, len(token_ids) - 1 : -1].float()
    ids_T1 = torch.tensor(completion_ids, device=logits_TV.device)[:, None]
    return logits_TV.log_softmax(-1).gather(1, ids_T1)[:, 0].tolist()


def gaps(before: list[Probe], after: list[Probe]) -> tuple[float, float]:
    """(mean, largest) absolute log-prob difference between two runs of the probes; NaN counts as infinite."""
    found = [
        abs(a - b) if a == a and b == b else float("inf")
        for one, two in zip(before, after, strict=True)
        for a, b in zip(one.logprobs, two.logprobs, strict=True)
    ]
    return sum(found) / len(found), max(found)


def as_json(probes: list[Probe]) -> list[dict[str, Any]]:
    """Probes as plain values."""
    return [asdict(p) for p in probes]


def from_json(values: list[dict[str, Any]]) -> list[Probe]:
    """Probes as they were written."""
    return [Probe(**v) for v in values]
