"""Processors of image-and-video families without their video half, which needs torchvision.

The image half runs on Pillow everywhere, so pixels are the same with and without torchvision.
"""

from __future__ import annotations

import re
from typing import Any

from transformers import InternVLProcessor, ProcessorMixin, Qwen2_5_VLProcessor


class QwenImages(Qwen2_5_VLProcessor):
    """Qwen2-VL and Qwen2.5-VL: the processor made from the image processor and the tokenizer alone."""

    def __init__(self, image_processor: Any = None, tokenizer: Any = None, chat_template: Any = None) -> None:
        self.image_token, self.video_token = "<|image_pad|>", "<|video_pad|>"
        self.image_token_id = tokenizer.convert_tokens_to_ids(self.image_token)
        self.video_token_id = tokenizer.convert_tokens_to_ids(self.video_token)
        ProcessorMixin.__init__(self, image_processor, tokenizer, chat_template=chat_template)


class InternImages(InternVLProcessor):
    """InternVL: the processor made from the image processor and the tokenizer alone."""

    def __init__(
        self, image_processor: Any = None, tokenizer: Any = None, image_seq_length: int = 256, chat_template: Any = None
    ) -> None:
        ProcessorMixin.__init__(self, image_processor, tokenizer, chat_template=chat_template)
        self.image_seq_length = image_seq_length
        self.start_image_token, self.end_image_token = tokenizer.start_image_token, tokenizer.end_image_token
        self.start_image_token_id = tokenizer.start_image_token_id
        self.end_image_token_id = tokenizer.end_image_token_id
        self.image_token, self.image_token_id = tokenizer.context_image_token, tokenizer.context_image_token_id
        self.video_token = tokenizer.video_token
        self.multimodal_pattern = re.compile(f"(?P<image>{re.escape(self.image_token)})")


IMAGE_PROCESSORS: dict[str, Any] = {"qwen2_vl": QwenImages, "qwen2_5_vl": QwenImages, "internvl": InternImages}
