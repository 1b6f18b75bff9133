"""What an augmentation plugin is, and the helper that sends any dataset's rows through some of them."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from random import Random
from typing import TYPE_CHECKING, Any, Protocol

from schemas.identity import prompt_id
from schemas.prompts import PromptRow
from schemas.values import Image, Message, Part
from stages.core.errors import BadSample
from stages.core.registry import load
from stages.world.chance import rng_for

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

_JPEG = b"\xff\xd8\xff"


class Augmentation(Protocol):
    """A plugin module's `PLUGIN`: one family of rewritings that keep a request's meaning and hide it."""

    version: int
    """Raised when the same row would become another."""
    works_on: str
    """`words`: rows without an image; `image`: rows with one; `any`. Which rows the built-in world draws for it."""
    pairs: bool
    """True: `apply` takes a third argument, a harmless row of the same split to be mixed in, or None."""

    def fits(self, row: PromptRow) -> bool:
        """Whether the family can rewrite this row, as far as can be told without decoding its images."""

    def apply(self, row: PromptRow, rng: Random) -> PromptRow | None:
        """The rewritten row, made with `rewritten`, or None when the family can't apply to this row."""


@dataclass(frozen=True, slots=True)
class Hints:
    """What a row's `extra` may tell an augmentation, with a stand-in for rows that tell nothing."""

    keyword: str
    """The word that names the thing asked about; a row's first hazard otherwise, or ""."""
    title: str
    """The request in a few words; the user's words otherwise."""
    context: str
    """Words before the request that must stay in the text, or ""."""
    image: int | None
    """Side of a new image in pixels; None means the family's published size."""


def hints(row: PromptRow) -> Hints:
    """What is known of a row beyond its words."""
    extra: dict[str, Any] = json.loads(row.extra) if row.extra else {}
    keyword = extra.get("keyword") or next(iter(row.hazards), "")
    # The key keeps the older word for an image: rows on disk have it, and the built-in world's rows would change.
    side = extra.get("picture")
    return Hints(
        keyword=str(keyword),
        title=str(extra.get("title") or words(row)),
        context=str(extra.get("context") or ""),
        image=side if isinstance(side, int) else None,
    )


def words(row: PromptRow) -> str:
    """The words of the last user turn."""
    return " ".join(p.text for p in row.messages[-1].content if p.text)


def rewritten(
    row: PromptRow,
    family: str,
    *,
    text: str | None = None,
    images: list[Image] | None = None,
    facts: list[str] | None = None,
) -> PromptRow:
    """The row with new words in its last turn or new images; family, parent, label and id follow.

    A safety row, or any harmful one, becomes a `jailbreak` row; its truth and its reference completion stay.
    Images may change in content, or come to a row that had none; their number never changes otherwise.
    """
    new_images = row.images if images is None else images
    messages = list(row.messages)
    if text is not None or len(new_images) != len(row.images):
        # All marks go in front: among new words there is no place that an old mark belongs to.
        marks = [p for p in messages[-1].content if p.type == "image"]
        marks += [Part("image")] * (len(new_images) - len(row.images))
        last = Message(messages[-1].role, [*marks, Part("text", words(row) if text is None else text)])
        messages[-1] = last
    label = "jailbreak" if row.label == "safety" or row.harmful else row.label
    return replace(
        row,
        id=prompt_id(label=label, messages=messages, images=new_images, answer=row.answer),
        label=label,
        messages=messages,
        images=new_images,
        facts=row.facts if facts is None else facts,
        family=family,
        parent_id=row.id,
    )


def is_seen_question(row: PromptRow) -> bool:
    """Whether the row asks something of an image, and is neither harmful nor a benign twin.

    Those alone go through the settings of the perception study, which hide nothing: see `followed`.
    """
    return bool(row.images) and bool(words(row)) and row.harmful is None and row.label not in ("safety", "jailbreak")


def followed(row: PromptRow, family: str, text: str) -> PromptRow:
    """The row with a sentence after the words of its last turn; everything else stays."""
    return rewritten(row, family, text=f"{words(row)} {text}")


@dataclass(frozen=True, slots=True)
class Followed:
    """An augmentation that puts the same sentence behind every question about an image that nobody's harm hangs on."""

    family: str
    text: str
    version: int = 1
    works_on: str = "image"
    pairs: bool = False

    def fits(self, row: PromptRow) -> bool:
        """Questions about an image, neither harmful nor a twin: `is_seen_question`."""
        return is_seen_question(row)

    def apply(self, row: PromptRow, rng: Random) -> PromptRow | None:
        """The image and the question stay; None for a row that is none."""
        return followed(row, self.family, self.text) if self.fits(row) else None


@lru_cache(maxsize=2)
def decoded(image: Image) -> PillowImage:
    """The image in RGB, not to be drawn on; BadSample when its bytes are none.

    The last two are remembered: a row and its twin go through one family after another.
    """
    from PIL import Image as Pillow
    from PIL import UnidentifiedImageError

    try:
        return Pillow.open(io.BytesIO(image.bytes)).convert("RGB")
    except (UnidentifiedImageError, OSError, ValueError, Pillow.DecompressionBombError) as e:
        raise BadSample("bad_image", f"{image.path or 'image'}: {e}") from e


def encoded(pixels: PillowImage, name: str, like: Image | None = None) -> Image:
    """The image as PNG, lightly compressed; what was made of a JPEG is a JPEG again, a fifth the size and the time.

    `name` has no suffix.
    """
    from stages.world.drawing.painting import png

    if like is None or not like.bytes.startswith(_JPEG):
        return Image(png(pixels), f"{name}.png")
    out = io.BytesIO()
    # Full colour resolution, for the thin strokes of letters; 95 is the most that Pillow's documentation advises.
    pixels.save(out, "JPEG", quality=95, subsampling=0)
    return Image(out.getvalue(), f"{name}.jpg")


def through(
    row: PromptRow,
    family: str,
    seed: int,
    twin_of: PromptRow | None = None,
    partner: PromptRow | None = None,
) -> PromptRow | None:
    """The row through one family, or None where it can't apply.

    A benign twin is rewritten by the very draws of the harmful row it belongs to, and names that row, rewritten,
    as its parent: same order, same code word, same corner.
    """
    plugin = load("augmentation", family)

    def rewrite(one: PromptRow) -> PromptRow | None:
        rng = rng_for("augment", seed, family, (twin_of or row).id)
        made: PromptRow | None = plugin.apply(one, rng, partner) if plugin.pairs else plugin.apply(one, rng)
        return made

    # The harmful row is rewritten here only for its new id: its own shard may be made by another process.
    made, harmful = rewrite(row), None if twin_of is None else rewrite(twin_of)
    return made if made is None or harmful is None else replace(made, parent_id=harmful.id)


def augmented(row: PromptRow, families: Sequence[str], seed: int) -> Iterator[PromptRow]:
    """The row through each named family that can apply to it: for rows of any dataset."""
    for family in families:
        result = through(row, family, seed)
        if result is not None:
            yield result
