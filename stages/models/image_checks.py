"""Images from outside: what they are is read from their bytes, and nothing large is decoded unasked.

What passes is a PNG, JPEG or WebP that any decoder turns into the RGB image a person sees. Bytes are kept
as they came where that is so already. An image that is rotated by EXIF, transparent, animated, CMYK, GIF or
of 16 bits is rewritten as a plain RGB PNG: `.convert("RGB")` alone would show a model something else.
"""

from __future__ import annotations

import io
import os
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePath

import numpy as np
from PIL import Image as Pillow
from PIL import ImageOps

from schemas.values import Image
from stages.core.errors import BadSample, first_line

_READ = ("PNG", "JPEG", "WEBP", "GIF")
_SUFFIXES = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".gif": "GIF"}
# Beyond the four that are read, these are what people have in place of an image, so that the reason can say which.
_STARTS = (
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "a BMP file"),
    (b"II*\x00", "a TIFF file"),
    (b"MM\x00*", "a TIFF file"),
    (b"%PDF", "a PDF file"),
    (b"version https://git-lfs", "a Git LFS pointer (run git lfs pull)"),
    (b"<svg", "an SVG file"),
    (b"<?xml", "an XML or SVG file"),
    (b"<!doctype html", "a web page"),
    (b"<html", "a web page"),
)
_ORIENTATION = 0x0112
# From its decoders: SyntaxError for PNG chunks, struct.error, IndexError and TypeError
# for short headers and odd tags, OSError for the rest (UnidentifiedImageError is one).
UNDECODABLE = (OSError, SyntaxError, ValueError, EOFError, struct.error, IndexError, TypeError)
"""All that Pillow raises on broken bytes but its DecompressionBombError, which is of the class Exception alone."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What an image may be."""

    max_bytes: int
    max_pixels: int
    min_side: int


def sniff(data: bytes) -> str | None:
    """PNG, JPEG, WEBP or GIF by the first bytes; else words for what it seems to be, or None."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    # ISO base media files (HEIC, AVIF, MP4) have a length first, then `ftyp`, then their brand.
    if data[4:8] == b"ftyp":
        return f"an {data[8:12].decode('ascii', 'replace').strip().upper()} file"
    # Markup may begin with a byte order mark or blanks, and in capitals; a magic number is matched as it is.
    start = data[:64].lstrip(b"\xef\xbb\xbf \r\n\t").lower()
    return next((kind for head, kind in _STARTS if data.startswith(head) or start.startswith(head)), None)


def header(data: bytes) -> tuple[str, int, int] | None:
    """Type, width and height of an image that is read here, by its header alone; None for anything else."""
    if (kind := sniff(data)) not in _READ:
        return None
    try:
        with silence_pillow(), Pillow.open(io.BytesIO(data), formats=[kind]) as image:
            return kind, image.width, image.height
    except (Pillow.DecompressionBombError, *UNDECODABLE):
        return None


def suffix_is_wrong(name: str, data: bytes) -> bool:
    """True when the name's suffix is another image type than the bytes: worth a note, never an error."""
    claimed = _SUFFIXES.get(os.path.splitext(name)[1].lower())
    return claimed is not None and claimed != sniff(data)


@contextmanager
def silence_pillow() -> Iterator[None]:
    """Pillow warns of large images, which have a limit here, and of broken EXIF, which viewers ignore.

    Warning filters belong to the whole process, so this goes around threads that check images, not into them.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="PIL")
        yield


def check_image(data: bytes, name: str, limits: Limits) -> Image:
    """The image, ready for any decoder.

    BadSample, its detail naming file and value: `unsupported_type`, `too_large` (bytes, before anything is
    decoded), `too_many_pixels` (from the header), `too_small`, `truncated_image`, `bad_image`.
    """
    kind = sniff(data)
    if not data:
        raise BadSample("bad_image", f"{name} is empty (0 bytes)")
    if kind not in _READ:
        # No byte of it is quoted: a path may lead to a file that holds secrets, and rejected rows travel.
        what = kind or f"no known image type ({len(data)} bytes)"
        raise BadSample("unsupported_type", f"{name} is {what}; PNG, JPEG, WebP and GIF are read")
    # Bytes before header, header before pixels: each check is made before the next one costs memory.
    if len(data) > limits.max_bytes:
        raise BadSample("too_large", f"{name} has {len(data)} bytes, and the limit is {limits.max_bytes}")
    image = _header(data, kind, name, limits)
    try:
        plain = None if _decodes_small(image) else _plain_rgb(image)
    except UNDECODABLE as error:
        raise _undecodable(data, kind, name, error) from None
    if plain is None:
        return Image(data, name)
    out = io.BytesIO()
    plain.save(out, "PNG")
    return Image(out.getvalue(), str(PurePath(name).with_suffix(".png")))


def _header(data: bytes, kind: str, name: str, limits: Limits) -> Pillow.Image:
    """The image opened and not decoded, its size within limits."""
    try:
        # `formats` keeps Pillow from trying its other plugins on bytes from outside.
        image = Pillow.open(io.BytesIO(data), formats=[kind])
    # Pillow raises this by itself above twice its MAX_IMAGE_PIXELS, while it reads the header.
    except Pillow.DecompressionBombError as error:
        raise BadSample("too_many_pixels", f"{name}: {error}") from None
    except UNDECODABLE as error:
        raise _undecodable(data, kind, name, error) from None
    width, height = image.size
    if width * height > limits.max_pixels:
        raise BadSample("too_many_pixels", f"{name} is {width}x{height} pixels, and the limit is {limits.max_pixels}")
    if min(width, height) < limits.min_side:
        raise BadSample("too_small", f"{name} is {width}x{height} pixels, and the shortest side is {limits.min_side}")
    return image


def _decodes_small(image: Pillow.Image) -> bool:
    """Decode an upright JPEG of plain colours at an eighth of its size; False where `_plain_rgb` has to look.

    All of its data are read so, and a fault is found as in the whole image, for half the time.
    """
    if image.format != "JPEG" or image.mode not in ("RGB", "L") or _orientation(image) != 1:
        return False
    # JPEG's DCT scales to 1/8 at the least; the pixels are thrown away, only their faults matter.
    image.draft(image.mode, (1, 1))
    image.load()
    return True


def _undecodable(data: bytes, kind: str, name: str, error: Exception) -> BadSample:
    if _ends_early(data, kind):
        return BadSample("truncated_image", f"{name}: the {kind} file ends early, after {len(data)} bytes")
    reason = first_line(error)
    # Pillow ends some messages with the address of a BytesIO, which would make each run's rejected rows others.
    return BadSample("bad_image", f"{name} can't be decoded as {kind}: {reason.split(' <_io')[0]}")


def _ends_early(data: bytes, kind: str) -> bool:
    """True when the file's own frame says that bytes are missing at the end."""
    # A PNG's last chunk is IEND: 4 bytes of length, 4 of name, 4 of checksum.
    if kind == "PNG":
        return b"IEND" not in data[-16:]
    # Cameras and editors write trailers behind the end marker, so it is looked for in the last kilobyte.
    if kind == "JPEG":
        return b"\xff\xd9" not in data[-1024:]
    # A GIF ends with `;`, and some writers pad it with zeros.
    if kind == "GIF":
        return data.rstrip(b"\x00")[-1:] != b";"
    # A WebP file is a RIFF chunk: its length, less the 8 bytes of the head, stands in bytes 4 to 7.
    return len(data) < 12 or int.from_bytes(data[4:8], "little") + 8 > len(data)


def _plain_rgb(image: Pillow.Image) -> Pillow.Image | None:
    """The RGB image a person sees, where the file as it is would not give it; None where it would."""
    image.load()
    turned = _orientation(image) != 1
    # MPO is what phones write: a JPEG with further images behind it that no decoder shows unasked.
    moving = getattr(image, "n_frames", 1) > 1 and image.format != "MPO"
    opaque = _without_alpha(image)
    if image.mode.startswith("I"):
        # A gray image of 16 bits: convert("RGB") would clip it to white.
        # 65535 / 257 = 255: the whole range of 16 bits goes onto that of 8.
        values = np.asarray(image).astype(np.int64) // 257
        opaque = Pillow.fromarray(values.clip(0, 255).astype(np.uint8))
    changed = opaque is not image or turned or moving or image.mode == "CMYK" or image.format == "GIF"
    if not changed:
        return None
    # `exif_transpose` looks for the tag in the image that it is given, and the flattened copy may have lost it.
    if turned:
        opaque.getexif()[_ORIENTATION] = _orientation(image)
        opaque = ImageOps.exif_transpose(opaque)
    # A fresh image, for `save` would write the old one's colour profile and transparent colour into the PNG.
    return Pillow.fromarray(np.asarray(opaque.convert("RGB")))


def _without_alpha(image: Pillow.Image) -> Pillow.Image:
    """The image on white where any of it is see-through; itself where nothing is."""
    if not image.has_transparency_data:
        return image
    layers = image.convert("RGBA")
    if layers.getchannel("A").getextrema() == (255, 255):
        return image
    page = Pillow.new("RGBA", layers.size, "white")
    return Pillow.alpha_composite(page, layers).convert("RGB")


def _orientation(image: Pillow.Image) -> int:
    """The EXIF orientation, 1 (upright) to 8; 1 where EXIF is absent or broken, as viewers take it."""
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except UNDECODABLE:
        return 1
    return value if value in range(1, 9) else 1
