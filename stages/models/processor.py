"""From a conversation with images to what a model's forward takes, and back to text."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from schemas.values import Image, Message
from stages.core.errors import BadSample, CosmoError, UnavailableError, first_line, what_failed
from stages.models.batch_maker import BatchMaker
from stages.models.families import family_named, image_token_id, marked_images
from stages.models.find_processor import find_processor
from stages.models.images import decode_image
from stages.models.templates.render import render

if TYPE_CHECKING:
    from stages.models.policy_ref import PolicyRef

# Small files that make a folder's tokenizer and processor; saved again byte for byte.
_KEPT_SUFFIXES = (".json", ".txt", ".model", ".jinja", ".tiktoken", ".py")
_ENDLESS = 1 << 31
"""Positions of a model whose config counts none: state-space models read on for ever."""
_MOST_SPARE_IDS = 1 << 20
"""Models round their vocabularies up, or leave room for tokens to come: a few hundred to some thousands."""
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json")
_MODEL_FILES = ("config.json", "generation_config.json", "model.safetensors.index.json")


@dataclass(slots=True)
class Encoded:
    """One prompt as a model takes it."""

    token_ids: list[int]
    """Image placeholders expanded to the model's count. Shape (P,)."""
    image_inputs: dict[str, torch.Tensor]
    """`pixel_values` and whatever else the model's forward takes of what the processor gives, that along the sequence
    (1, P, ...) with it; {} without images."""


class PromptProcessor:
    """The tokenizer, chat template and image processor of one model folder; ValueError where one is missing."""

    def __init__(self, folder: Path, config: Any, *, trust_remote_code: bool = False) -> None:
        if not any((folder / name).is_file() for name in _TOKENIZER_FILES):
            raise ValueError(f"{folder} has no tokenizer ({', '.join(_TOKENIZER_FILES)})")
        self._processor = find_processor(folder, config, trust_remote_code)
        self.tokenizer = getattr(self._processor, "tokenizer", self._processor)
        # A template may lie with the tokenizer alone, and a processor then has none.
        self._renderer = self._processor if getattr(self._processor, "chat_template", None) else self.tokenizer
        if not self._renderer.chat_template:
            raise ValueError(f"{folder} has no chat template: is it a base model?")
        self.image_processor = getattr(self._processor, "image_processor", None)
        text = config.get_text_config()
        has_vision = self.image_processor is not None
        self.family = family_named(config.model_type)
        self.image_token_id = image_token_id(self.family, config, self._processor) if has_vision else None
        self.vocab_size: int = _checked_size(text.vocab_size, len(self.tokenizer))
        self.max_positions: int = _first(getattr(text, "max_position_embeddings", None), _ENDLESS)
        self.eos_token_ids: list[int] = _eos_token_ids(folder, self.tokenizer)
        self.pad_token_id: int = _first(self.tokenizer.pad_token_id, self.eos_token_ids[0])
        self.banned_token_ids: list[int] = self._banned()
        announced = "mm_token_type_ids" in self._processor.model_input_names
        extra_inputs = self.family.extra_inputs or (marked_images if announced else None)
        self.batches = BatchMaker(self.family, self.pad_token_id, self.image_token_id, extra_inputs)
        self._control = sorted(self.tokenizer.convert_ids_to_tokens(sorted(self._special_ids())))
        self.files = {
            p.name: p.read_bytes()
            for p in sorted(folder.iterdir())
            if p.is_file() and p.name.endswith(_KEPT_SUFFIXES) and p.name not in _MODEL_FILES
        }

    def _banned(self) -> list[int]:
        """Ids that never belong to a completion: control tokens other than end-of-sequence, and ids with no token.

        A sampled vision token would break the next forward (features and placeholders would not match), and the
        rest would hide words from whoever reads the decoded completion.
        """
        ids = self._special_ids() | set(range(len(self.tokenizer), self.vocab_size))
        return sorted(i for i in ids - set(self.eos_token_ids) if i < self.vocab_size)

    def _special_ids(self) -> set[int]:
        added = {i for i, t in self.tokenizer.added_tokens_decoder.items() if t.special}
        return added | set(self.tokenizer.all_special_ids)

    def encode(self, messages: list[Message], images: list[Image]) -> Encoded:
        """Render a conversation that ends with a user turn, ready for the completion.

        Raises BadSample: `no_vision`, `no_image`, `bad_image`, `special_token`, `image_tokens`, `image_inputs`,
        `chat_template`, `malformed`.
        """
        placeholders = sum(p.type == "image" for m in messages for p in m.content)
        if placeholders != len(images):
            raise BadSample("malformed", f"{placeholders} image parts and {len(images)} images")
        if images and self.image_token_id is None:
            raise BadSample("no_vision", f"{len(images)} images for a text-only model")
        if not images and not self.batches.words_alone:
            raise BadSample("no_image", f"{self.family.name} takes no prompt without an image")
        self._check_words(messages)
        text = self.render(messages)
        # The template has written the tokens that begin a prompt: a tokenizer would add them once more.
        if not images:
            return Encoded(self.tokenizer(text, add_special_tokens=False)["input_ids"], {})
        decoded_images = [decode_image(image, i) for i, image in enumerate(images)]
        out = self.whole_output(text, decoded_images)
        token_ids = out["input_ids"][0].tolist()
        if lost := self.batches.unread(out):
            raise BadSample("image_inputs", f"this model family's {lost[0]} is no tensor, and would be lost")
        inputs = self.batches.inputs_of(out, len(token_ids))
        placeholders, features = (
            token_ids.count(self.image_token_id),
            self.family.feature_count(self._processor, inputs),
        )
        if features not in (None, placeholders):
            raise BadSample("image_tokens", f"{placeholders} image tokens for {features} features")
        return Encoded(token_ids, inputs)

    def whole_output(self, text: str, images: list[Any]) -> dict[str, Any]:
        """All that the processor returns for a rendered prompt and its decoded images; BadSample for one it refuses."""
        return _returned(self._processor, text, images)

    def render(self, messages: list[Message]) -> str:
        """The conversation as text; BadSample where the chat template refuses a turn, fails or takes too much."""
        turns = [_as_dict(m) for m in messages]
        try:
            return render(self._renderer, turns)
        # A template is a stranger's program: it may fail in any way that a program can.
        except Exception as error:
            roles = ", ".join(m.role for m in messages)
            raise BadSample("chat_template", f"{first_line(error)} (turns: {roles})") from None

    def _check_words(self, messages: list[Message]) -> None:
        """A control token spelled out in the words would be read as control, not as words."""
        for message in messages:
            for part in message.content:
                found = next((t for t in self._control if t in (part.text or "")), None)
                if found is not None:
                    raise BadSample("special_token", f"the words hold {found!r}, which this model reads as control")

    def encode_completion(self, text: str) -> list[int]:
        """A completion's ids as a model would have sampled them: no control tokens but the closing one."""
        return [*self.tokenizer(text, add_special_tokens=False)["input_ids"], self.eos_token_ids[0]]

    def batch(
        self, token_ids: list[list[int]], image_inputs: list[dict[str, torch.Tensor]], side: str = "left"
    ) -> dict[str, torch.Tensor]:
        """Sequences padded to one length, with the images of all rows: see `BatchMaker.batch`."""
        return self.batches.batch(token_ids, image_inputs, side)

    def renderer_ids(self, token_ids: list[int]) -> list[int]:
        """A prompt's ids for a renderer that expands image placeholders itself, as vLLM does."""
        return self.family.renderer_ids(token_ids, self.image_token_id)

    def decode(self, token_ids: list[int]) -> str:
        """The words, without control tokens."""
        return str(self.tokenizer.decode(token_ids, skip_special_tokens=True))


def text_ids(processor: PromptProcessor, text: str) -> list[int]:
    """The ids of words as words: what spells a control token is split into pieces that are none."""
    ids: list[int] = processor.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    return ids


def _checked_size(size: Any, tokens: int) -> int:
    """A config's vocabulary; ValueError where no tokenizer could need it: ids without tokens are listed one by one."""
    if not isinstance(size, int) or not 0 < size <= tokens + _MOST_SPARE_IDS:
        raise ValueError(f"vocab_size = {size!r} in its config, and its tokenizer has {tokens} tokens")
    return size


def load_processor(ref: PolicyRef, *, trust_remote_code: bool = False) -> PromptProcessor:
    """A policy's tokenizer and image processor without its weights; UnavailableError where they can't be had."""
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(ref.path, trust_remote_code=trust_remote_code, local_files_only=True)
        return PromptProcessor(ref.path, config, trust_remote_code=trust_remote_code)
    except (CosmoError, MemoryError):
        raise
    # A stranger's config or tokenizer may make the libraries fail in any way.
    except Exception as error:
        raise UnavailableError(
            f"can't load the processor of {ref.spec}: {what_failed(error)}", "is it a whole model folder?"
        ) from None


def _returned(processor: Any, text: str, images: list[Any]) -> dict[str, Any]:
    try:
        return dict(processor(text=[text], images=images, add_special_tokens=False, return_tensors="pt"))
    except ValueError as error:
        # Qwen's resize refuses aspect ratios above 200; others have limits of their own.
        raise BadSample("bad_image", first_line(error)) from None
    except (TypeError, LookupError, AttributeError, ArithmeticError, RuntimeError) as error:
        # Families' own code says it less well, and one row's images must not end the run.
        raise BadSample("bad_image", f"{type(error).__name__}: {first_line(error)}") from None


def _as_dict(message: Message) -> dict[str, Any]:
    parts = [
        {"type": "image"} if p.type == "image" else {"type": "text", "text": p.text or ""} for p in message.content
    ]
    if all(p["type"] == "text" for p in parts):
        # Templates of text-only models take nothing but a string.
        return {"role": message.role, "content": "".join(p["text"] for p in parts)}
    return {"role": message.role, "content": parts}


def _eos_token_ids(folder: Path, tokenizer: Any) -> list[int]:
    """Every id that ends a completion; the tokenizer's own first."""
    from transformers import GenerationConfig

    ids = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    # Chat models end a turn by one id and a text by another; the tokenizer has one of them, this file all.
    if (folder / "generation_config.json").is_file():
        found = GenerationConfig.from_pretrained(folder, local_files_only=True).eos_token_id
        ids += found if isinstance(found, list) else [] if found is None else [found]
    if not ids:
        raise UnavailableError(f"{folder} names no end-of-sequence token", "set eos_token_id in generation_config.json")
    return list(dict.fromkeys(ids))


def _first(value: int | None, otherwise: int) -> int:
    return otherwise if value is None else value
