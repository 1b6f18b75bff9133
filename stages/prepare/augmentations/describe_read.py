"""Describe, with words read: as `describe`, and the teacher is told what a program reads in the image.

VTPerception-R1 (arXiv:2509.24776) merges words read from the image into its descriptions. The reader is RapidOCR on
ONNX Runtime, whose package brings its models: `pip install 'cosmo-rl[ocr]'`, no download besides.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec
from random import Random
from typing import Any

from schemas.prompts import PromptRow
from schemas.values import Image
from stages.core.errors import UnavailableError
from stages.prepare.augmentations.base import decoded, followed, is_seen_question
from stages.prepare.augmentations.describe import ASKED

_PACKAGE = "rapidocr_onnxruntime"
_SUREST = 0.5
"""Confidence below which a line is left out: RapidOCR's own default."""


class DescribeRead:
    """The rows of `describe`, for images with writing."""

    version = 1
    works_on = "image"
    pairs = False

    def fits(self, row: PromptRow) -> bool:
        """Questions about an image that nobody's harm hangs on; UnavailableError where the reader is not installed."""
        if find_spec(_PACKAGE) is None:
            raise UnavailableError(
                "augmentation describe_read: rapidocr-onnxruntime is not installed", "pip install 'cosmo-rl[ocr]'"
            )
        return is_seen_question(row)

    def apply(self, row: PromptRow, rng: Random) -> PromptRow | None:
        """The image and the question stay; where nothing can be read, it is what `describe` asks."""
        if not self.fits(row):
            return None
        lines = [line for image in row.images for line in words_read(image)]
        told = f"A program read these words in the picture, perhaps wrongly: {'; '.join(lines)}\n" if lines else ""
        return followed(row, "describe_read", f"{told}{ASKED.strip()}")


def words_read(image: Image) -> list[str]:
    """The lines of writing in an image, in the reader's order, from top to bottom."""
    import numpy as np

    # It takes pixels as OpenCV has them, blue first.
    found, _ = _reader()(np.asarray(decoded(image))[:, :, ::-1])
    return [" ".join(str(text).split()) for _, text, sure in found or [] if float(sure) >= _SUREST]


@lru_cache(maxsize=1)
def _reader() -> Any:
    from rapidocr_onnxruntime import RapidOCR

    return RapidOCR(intra_op_num_threads=1)


PLUGIN = DescribeRead()
