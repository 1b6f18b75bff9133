"""What cosmo has to know about a model family beyond what transformers says: one record a family, in FAMILIES.

A new family is one record there and a test that compares it with the model's own forward (tests/models, and
tests/train/test_logprobs.py where its prompts are shared). A family without a record works as far as transformers
describes it: each completion has a copy of the prompt, and everything else is looked up in the model and its processor.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import accumulate, groupby
from typing import TYPE_CHECKING, Any

from stages.core.errors import UnavailableError, UsageError

if TYPE_CHECKING:
    from torch import Tensor

KINDS = "token_type_ids"
"""The input that says of which kind each token of a prompt is."""
BLOCKS, VARLEN = "packed_sdpa", "packed_varlen"
"""Kernels of attention over shared prompts (stages/models/attention): block by block anywhere; one call on a GPU."""


@dataclass(frozen=True, slots=True)
class Positions:
    """How a family numbers the tokens of a sequence."""

    of_prompts: Callable[[Any, dict[str, Tensor]], tuple[Tensor, Tensor]]
    """(model, padded batch) -> position ids (*axes, B, L), and the position that follows each row (B,)."""
    axes: tuple[int, ...] = ()
    """Axes in front of (B, L): (3,) for M-RoPE's time, height and width, else none."""


def _counted(model: Any, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    mask_BL = batch["attention_mask"]
    # Padding on the left would be at -1: it is masked, but that is no row of a table of positions.
    return (mask_BL.cumsum(-1) - 1).clamp(min=0), mask_BL.sum(-1)


def _mrope(model: Any, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """An image takes as many positions as its longer side has merged patches (arXiv:2409.12191, section 2.1)."""
    if "image_grid_thw" not in batch:
        positions_BL, following_B = _counted(model, batch)
        return positions_BL.expand(_mrope_axes(model), -1, -1), following_B
    of_model = _rope_index(model)
    taken = inspect.signature(of_model).parameters
    positions_3BL, _ = of_model(**{name: value for name, value in batch.items() if name in taken})
    return positions_3BL, positions_3BL.amax(dim=(0, 2)) + 1


def _mrope_axes(model: Any) -> int:
    """Time, height and width; HunYuan-VL counts a fourth axis, and its config has a share of each head for each."""
    rope = getattr(model.config.get_text_config(), "rope_parameters", None) or {}
    return len(rope.get("mrope_section") or range(3))


def _rope_index(model: Any) -> Any:
    """The model's own function of positions, of its inner model or (Omni thinkers) its own; None where it has none."""
    owners = (model.base_model, model)
    return next((owner.get_rope_index for owner in owners if hasattr(owner, "get_rope_index")), None)


COUNTED, MROPE = Positions(_counted), Positions(_mrope, axes=(3,))


def collapsed(token_ids: list[int], image_token_id: int | None) -> list[int]:
    """The ids with each run of image tokens cut to one."""
    cut: list[int] = []
    for token, run in groupby(token_ids):
        cut += [token] if token == image_token_id else list(run)
    return cut


def collapsed_with_frame(token_ids: list[int], image_token_id: int | None) -> list[int]:
    """The same without the token before and the token after each run, which vLLM writes as well."""
    cut = collapsed(token_ids, image_token_id)
    frame = {i + step for i, token in enumerate(cut) if token == image_token_id for step in (-1, 1)}
    return [token for i, token in enumerate(cut) if i not in frame]


def merged_patches(processor: Any, inputs: Mapping[str, Tensor]) -> int | None:
    """Patches of a grid after the tower's merging, for images of any size."""
    return int(inputs["image_grid_thw"].prod(-1).sum()) // int(processor.image_processor.merge_size) ** 2


def tiles(processor: Any, inputs: Mapping[str, Tensor]) -> int | None:
    """So many features a tile, whatever the image."""
    return int(inputs["pixel_values"].shape[0]) * int(processor.image_seq_length)


def counted_by_inputs(processor: Any, inputs: Mapping[str, Tensor]) -> int | None:
    """By the grid where the processor gives one; None where not: an `image_seq_length` may be a maximum (Gemma 4)."""
    known = "image_grid_thw" in inputs and hasattr(processor.image_processor, "merge_size")
    return merged_patches(processor, inputs) if known else None


def uncounted(processor: Any, inputs: Mapping[str, Tensor]) -> int | None:
    """Not told here: the model's forward itself compares."""
    return None


def marked_images(ids_BL: Tensor, image_token_id: int | None) -> dict[str, Tensor]:
    """1 at image tokens: M-RoPE counts them otherwise."""
    # -1 is nobody's id: without a placeholder nothing is marked.
    return {"mm_token_type_ids": (ids_BL == (-1 if image_token_id is None else image_token_id)).long()}


def each_image(kinds_P: list[int]) -> list[tuple[int, int]]:
    """Where the images lie, [begin, end) each: runs of tokens of kind 1."""
    runs = [(kind, len(list(run))) for kind, run in groupby(kinds_P)]
    ends = list(accumulate(length for _, length in runs))
    return [(end - length, end) for (kind, length), end in zip(runs, ends, strict=True) if kind == 1]


def whole_prompt(kinds_P: list[int]) -> list[tuple[int, int]]:
    """The prompt from its first token to its last, as one part."""
    return [(0, len(kinds_P))]


def image_encoder(model: Any) -> Any:
    """The vision tower's module; the model itself where it has none."""
    return model.get_encoder(modality="image")


@dataclass(frozen=True, slots=True)
class Family:
    """One family of models.

    Example: a family like LLaVA, whose images are tiles of a fixed size, in a language model with plain positions::

        Family(
            "llava",
            placeholder="image_token_index",
            feature_count=tiles,
            vision_outputs=("last_hidden_state", "pooler_output"),
        )
    """

    name: str
    """The config's `model_type`."""
    unshared: str | None = None
    """Why its completions can't share their prompt; None where they can: its forward takes explicit positions and hands
    keywords down to every attention layer."""
    kernels: tuple[str, ...] = (BLOCKS, VARLEN)
    """Attention over shared prompts that gives what separate sequences give."""
    both_ways: Callable[[list[int]], list[tuple[int, int]]] | None = None
    """The kinds (`token_type_ids`) of a prompt's tokens (P,) -> the parts [begin, end) whose tokens all see each other,
    those behind them too; None: each sees its past alone."""
    head_is_last: bool = True
    """Whether its forward takes `logits_to_keep` and does nothing after the output head: no cap on logits, no scale."""
    positions: Positions | None = COUNTED
    """How tokens are numbered; None: M-RoPE where the model can compute it, else counted."""
    placeholder: str | None = None
    """The config's name for the id of an image's placeholder token; None: looked for under the usual names."""
    renderer_ids: Callable[[list[int], int | None], list[int]] = collapsed
    """(expanded ids, placeholder's id) -> the ids for a renderer that expands placeholders itself, as vLLM does: given
    expanded ones it would expand them again and say nothing."""
    image_processor: str | None = None
    """transformers' processor class to load without its video half, which needs torchvision, and with Pillow for
    images, so that pixels are the same everywhere; None: whatever AutoProcessor finds."""
    feature_count: Callable[[Any, Mapping[str, Tensor]], int | None] = counted_by_inputs
    """(processor, image inputs) -> how many vectors the tower will give, None where that can't be told. A prompt with
    another number of placeholders is a bad row."""
    extra_inputs: Callable[[Tensor, int | None], dict[str, Tensor]] | None = None
    """(ids_BL, placeholder's id) -> inputs (B, L) that its forward takes beside ids and mask; None: those of the names
    that the processor announces and this module knows."""
    completion_marks: Mapping[str, int] = field(default_factory=dict)
    """Inputs with an entry a token -> what a completion's tokens get: 0 for kinds of tokens (`*_type_ids`) that are
    not named here, and for others what the prompt's last token has."""
    words_alone: bool = True
    """Whether a prompt may have no image."""
    images_alone: bool = False
    """Whether a sequence with images goes through the model by itself: what it gives for one's images depends on those
    of the others in a batch."""
    pads_pixels: bool = True
    """Whether its tower gives for an image padded to a larger one's height and width what it gives for it alone, by the
    images' sizes and with no mask of pixels. Convolutions that overlap would see where the image ends (Emu3)."""
    tower: Callable[[Any], Any] = image_encoder
    """A model -> its vision tower: what `freeze_vision` freezes, and where the kept outputs of a frozen one enter."""
    vision_outputs: tuple[str, ...] = ()
    """All that the tower returns for the model to read: tensors, or lists of them, each with rows of `pixel_values`
    first. Empty: a frozen tower's outputs are not kept, and it runs each time."""

    def kept_outputs(self, tower: Any, output: Any) -> dict[str, Any]:
        """What the tower returns by name, to be given to the model again.

        Raises UsageError where the tower returns more than `vision_outputs` names: the rest would be dropped, and the
        model's later layers would go without it in silence.
        """
        # transformers' outputs are mappings; a tower that returns a tuple has no names to check.
        found = dict(output.items()) if hasattr(output, "items") else {}
        lost = [name for name, value in found.items() if value is not None and name not in self.vision_outputs]
        if lost or not found:
            what = " and ".join(lost) or f"a {type(output).__name__}"
            raise UsageError(
                f"the vision tower {type(tower).__name__} returns {what}, which would be lost when a frozen tower's"
                f" outputs are kept: the record of {self.name!r} does not name it",
                "--set prefix_sharing=off runs the tower every time; or add the name to vision_outputs in"
                " stages/models/families.py",
            )
        return {name: value for name, value in found.items() if value is not None}


_POOLED = ("last_hidden_state", "pooler_output")
_QWEN2_5_VL = Family(
    "qwen2_5_vl",
    positions=MROPE,
    placeholder="image_token_id",
    image_processor="Qwen2_5_VLProcessor",
    feature_count=merged_patches,
    extra_inputs=marked_images,
    vision_outputs=_POOLED,
)
_INTERNVL = Family(
    "internvl",
    placeholder="image_token_id",
    renderer_ids=collapsed_with_frame,
    image_processor="InternVLProcessor",
    feature_count=tiles,
    vision_outputs=_POOLED,
)
# Features of the tower enter at further layers: kept ones have to be given back with the rest.
_QWEN3_VL = replace(_QWEN2_5_VL, name="qwen3_vl", image_processor=None, vision_outputs=(*_POOLED, "deepstack_features"))
# Images of any size through the family's own processor; what its tower returns is not kept.
_IMAGES_IN_ORDER = tuple(
    Family(name) for name in ("llava", "llava_next", "llava_onevision", "smolvlm", "idefics3", "mistral3")
)
_WORDS_ALONE = tuple(Family(name) for name in ("llama", "qwen2", "qwen3", "qwen3_moe", "mistral", "phi3"))
WINDOWS = "some of its layers see a part of the past only"
_SLIDING = "sliding_attention"
_STATES = "its layers keep a state of all that was read"
_COPIED = {
    "mllama": "its layers look at the images at each token",
    **dict.fromkeys(("mamba2", "qwen3_next", "qwen3_5"), _STATES),
}
# They number images, or cut them by the first one's size, through a whole batch.
_ALONE = {
    # Its tower gives the ends of rows beside a grid's patches.
    "hunyuan_vl": uncounted,
    "minicpmv4_6": counted_by_inputs,
}
_UNKNOWN = Family("", unshared="not known to work", kernels=(), head_is_last=False, positions=None, pads_pixels=False)


def _unshared(name: str) -> Family:
    return replace(_UNKNOWN, name=name, unshared=f"not known to work for {name}")


_RECORDS = (
    *(replace(_unshared(name), feature_count=count, images_alone=True) for name, count in _ALONE.items()),
    _QWEN2_5_VL,
    replace(_QWEN2_5_VL, name="qwen2_vl"),
    _QWEN3_VL,
    replace(_QWEN3_VL, name="qwen3_vl_moe"),
    _INTERNVL,
    *_IMAGES_IN_ORDER,
    *_WORDS_ALONE,
    Family("gemma3", kernels=(BLOCKS,), both_ways=each_image, positions=None),
    # A prompt's tokens see each other both ways, and its completion is no part of that.
    Family("paligemma", kernels=(BLOCKS,), both_ways=whole_prompt, completion_marks={KINDS: 1}, words_alone=False),
    *(Family(name, unshared=why, kernels=(), positions=None) for name, why in _COPIED.items()),
    # A cap on logits follows the head.
    Family("gemma2", unshared=WINDOWS, kernels=(), head_is_last=False),
)
FAMILIES: dict[str, Family] = {family.name: family for family in _RECORDS}


def family_named(model_type: str) -> Family:
    """The record of a config's `model_type`; for one without a record, what is right for any family."""
    return FAMILIES.get(model_type, _unshared(model_type))


def family_of(model: Any) -> Family:
    """The record of a loaded model."""
    return family_named(model.config.model_type)


def language_parts(model: Any) -> list[Any]:
    """The modules of a loaded model that are its language model: decoder, embeddings and output head, where it has one.

    What joins a tower to it is no part of them.
    """
    parts = (model.get_decoder(), model.get_input_embeddings(), model.get_output_embeddings())
    return [part for part in parts if part is not None]


def unshared_reason(model: Any) -> str | None:
    """Why completions of a loaded model can't share their prompt; None where they can."""
    family, text = family_of(model), model.config.get_text_config()
    if family.unshared is not None:
        return family.unshared
    if text._attn_implementation not in ("sdpa", *family.kernels):
        return f"its attention is {text._attn_implementation}, not sdpa"
    if family.both_ways is whole_prompt and has_windows(model):
        # Two compositions of the two are in use, and it is not known which this one has.
        return f"its prompt attends both ways, and {WINDOWS}"
    if others := set(getattr(text, "layer_types", None) or ()) - {"full_attention", _SLIDING}:
        return f"some of its layers attend in a way of their own: {', '.join(sorted(others))}"
    return None


def has_windows(model: Any) -> bool:
    """Whether some of a loaded model's layers see a part of the past only."""
    text = model.config.get_text_config()
    layers = getattr(text, "layer_types", None)
    return _SLIDING in layers if layers else bool(getattr(text, "sliding_window", None))


def uncached_reason(model: Any) -> str | None:
    """Why completions can't read one cache of their prompt while they are sampled; None where they can.

    What can't be shared in training can't be here; and a cache keeps of a layer with a window only its end.
    """
    return unshared_reason(model) or (WINDOWS if has_windows(model) else None)


def _positions_of(model: Any) -> Positions:
    known = family_of(model).positions
    return known or (MROPE if _rope_index(model) is not None else COUNTED)


def prompt_positions(model: Any, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Position ids of a padded batch, (B, L) or (3, B, L) for M-RoPE models, and the position after each row (B,).

    Given explicitly to every forward, because M-RoPE models otherwise remember the offsets of the last batch that had
    images.
    """
    return _positions_of(model).of_prompts(model, batch)


def next_positions(model: Any, following_B: Tensor, step: int, axes: tuple[int, ...] | None = None) -> Tensor:
    """Position ids of each row's `step`-th token after its prompt: (B, 1), or (3, B, 1) for M-RoPE models.

    `axes`: those in front of (B, L) that the prompts' positions have; without, the record's.
    """
    positions_B1 = (following_B + step).unsqueeze(-1)
    return positions_B1.expand(*(_positions_of(model).axes if axes is None else axes), *positions_B1.shape)


def image_token_id(family: Family, config: Any, processor: Any) -> int:
    """The id of the token that stands for one image feature; UnavailableError where nothing names it."""
    names = (family.placeholder,) if family.placeholder else ("image_token_id", "image_token_index")
    vision = getattr(config, "vision_config", None)
    for owner, name in (*((config, name) for name in names), (processor, "image_token_id"), (vision, "image_token_id")):
        if getattr(owner, name, None) is not None:
            return int(getattr(owner, name))
    raise UnavailableError(
        f"{type(processor).__name__} does not say which token stands for an image",
        "this model family is not supported",
    )


@cache
def without_video(name: str) -> Any:
    """transformers' processor class of this name, made from the image processor and the tokenizer alone."""
    import transformers

    whole: Any = getattr(transformers, name)

    class ImageOnly(whole):
        """The class's own `__init__` with no video processor: what follows from the tokenizer stays its business."""

        @classmethod
        def get_attributes(cls) -> list[str]:
            # transformers loads and checks what is listed here; its video processors import torchvision.
            return [part for part in super().get_attributes() if part != "video_processor"]

    ImageOnly.__name__ = name
    return ImageOnly
