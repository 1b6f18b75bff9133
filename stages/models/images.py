"""Images from bytes, the same way for every engine. Loads no torch."""

from __future__ import annotations

import io

from PIL import Image as Pillow
from PIL import ImageOps

from schemas.values import Image
from stages.core.errors import BadSample


def decode_image(image: Image, position: int = 0) -> Pillow.Image:
    """An upright RGB image; transparency becomes white. BadSample when the bytes are no image."""
    try:
        with Pillow.open(io.BytesIO(image.bytes)) as opened:
            # Cameras store a turned image and a tag that says so; models' own processors do not look at it.
            upright = ImageOps.exif_transpose(opened)
            if upright.mode in ("RGBA", "LA", "PA") or "transparency" in upright.info:
                upright = upright.convert("RGBA")
                # `convert("RGB")` alone would show whatever colour stands under what is transparent, most often black.
                white = Pillow.new("RGBA", upright.size, "white")
                upright = Pillow.alpha_composite(white, upright)
            return upright.convert("RGB")
    # Pillow raises any of these over bytes: SyntaxError for a broken PNG, a bomb above twice its limit of pixels.
    except (OSError, ValueError, SyntaxError, Pillow.DecompressionBombError) as error:
        name = image.path or f"image {position}"
        raise BadSample("bad_image", f"{name}: {error} ({len(image.bytes)} bytes)") from None
