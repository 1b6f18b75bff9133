"""The few prompts that a model is checked on: words, a system turn, one image, two images of different sizes."""

from __future__ import annotations

import io
from dataclasses import dataclass, field

from schemas.values import Image, Message, Part, text_message
from stages.core.errors import BadSample
from stages.engines.base import SampleRequest
from stages.models.processor import PromptProcessor

_COMPLETIONS = 2
# Wide, then tall and smaller: families that cut tiles cut other numbers of them, and grids have other sides.
_SIZES = ((112, 84), (84, 140))


@dataclass(frozen=True, slots=True)
class Question:
    """One prompt of the check."""

    name: str
    """What the table calls it."""
    messages: list[Message]
    images: list[Image] = field(default_factory=list)


def questions(processor: PromptProcessor) -> list[Question]:
    """What this model can be asked at all: a text-only one is shown no images."""
    asked = [
        Question("text", [text_message("user", "how many red circles are in the picture ?")]),
        Question("longer text", [text_message("user", "say what you see , then answer in one word . what is 2 + 3 ?")]),
    ]
    if processor.image_token_id is None:
        return asked
    wide, tall = (drawn(*size) for size in _SIZES)
    return [
        *asked,
        Question("one image", [text_message("user", "what is red ?", 1)], [wide]),
        Question("one image of another size", [text_message("user", "how many circles are there ?", 1)], [tall]),
        Question("two images of two sizes", [text_message("user", "are they alike ?", 2)], [wide, tall]),
    ]


def with_system_turn() -> list[Message]:
    """A conversation that some chat templates refuse."""
    return [Message("system", [Part("text", "be brief .")]), text_message("user", "what is 2 + 3 ?")]


def requests(processor: PromptProcessor) -> tuple[list[tuple[Question, SampleRequest]], dict[str, str]]:
    """The questions as an engine takes them, and why others can't be asked, by name."""
    made, refused = [], {}
    for question in questions(processor):
        try:
            encoded = processor.encode(question.messages, question.images)
        except BadSample as error:
            refused[question.name] = f"{error.reason}: {error.detail}"
            continue
        request = SampleRequest(
            question.name,
            encoded.token_ids,
            encoded.image_inputs,
            _COMPLETIONS,
            question.messages,
            question.images,
        )
        made.append((question, request))
    return made, refused


def drawn(width: int, height: int) -> Image:
    """Two shapes on white, and stripes, so that no two parts of it are alike."""
    from PIL import Image as Pillow
    from PIL import ImageDraw

    canvas = Pillow.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(canvas)
    draw.ellipse((10, 12, 46, 48), fill="red")
    draw.rectangle((width // 2, 30, width - 8, 70), fill="blue")
    for x in range(0, width, 9):
        draw.line((x, height - 12, x + 3, height), fill=(x % 256, 120, 40))
    buffer = io.BytesIO()
    canvas.save(buffer, "PNG")
    return Image(buffer.getvalue(), f"check{width}x{height}.png")
