"""Images from outside, each made for its fault."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pillow

from stages.core.errors import BadSample
from stages.models.image_checks import Limits, check_image, silence_pillow, sniff, suffix_is_wrong
from tests.prepare.made import image

LIMITS = Limits(max_bytes=1 << 20, max_pixels=1_000_000, min_side=4)


def encoded(image: Pillow.Image, kind: str, **save: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **save)
    return out.getvalue()


def noise(size: tuple[int, int] = (64, 48)) -> Pillow.Image:
    values = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Pillow.fromarray(values)


def refused(data: bytes, name: str = "x.png", limits: Limits = LIMITS) -> BadSample:
    with pytest.raises(BadSample) as error:
        check_image(data, name, limits)
    assert name in error.value.detail
    assert "\n" not in error.value.detail
    return error.value


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Pillow.open(io.BytesIO(data)).convert("RGB"))


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header claims this size."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_plain_image_keeps_its_bytes(kind: str) -> None:
    data = encoded(noise(), kind)
    image = check_image(data, f"a.{kind.lower()}", LIMITS)
    assert image.bytes is data
    assert image.path == f"a.{kind.lower()}"


def test_the_type_is_read_from_the_bytes() -> None:
    data = image(kind="WEBP")
    assert check_image(data, "photo.png", LIMITS).bytes is data
    assert suffix_is_wrong("photo.png", data)
    assert not suffix_is_wrong("photo.webp", data)
    assert not suffix_is_wrong("photo", data)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_truncated_file(kind: str, share: float) -> None:
    data = encoded(noise(), kind)
    assert refused(data[: int(len(data) * share)]).reason == "truncated_image"


def test_empty_and_foreign_files() -> None:
    assert refused(b"").reason == "bad_image"
    for data, word in (
        (b"password=1" * 9, "no known image type (90 bytes)"),
        (encoded(noise(), "BMP"), "BMP"),
        (encoded(noise(), "TIFF"), "TIFF"),
        (b"%PDF-1.7 ...", "PDF"),
        (b"<!DOCTYPE html><html>gone</html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS"),
    ):
        bad = refused(data)
        assert bad.reason == "unsupported_type"
        assert word in bad.detail
        # A path may have led to anything: what is in a refused file is told to nobody.
        assert not any(quoted in bad.detail for quoted in ("pass", "70 61", "oid"))


def test_a_broken_body_is_not_called_truncated() -> None:
    data = bytearray(encoded(noise(), "PNG"))
    data[60:90] = b"\x00" * 30
    assert refused(bytes(data)).reason == "bad_image"


def test_size_limits_come_before_decoding() -> None:
    for side in (50_000, 5_000):
        bad = refused(bomb(side, side))
        assert bad.reason == "too_many_pixels"
        assert str(side * side) in bad.detail or f"{side}x{side}" in bad.detail
    assert refused(bomb(0, 0)).reason in ("too_small", "bad_image")
    assert refused(image(size=(40, 3))).reason == "too_small"
    bad = refused(b"\xff\xd8\xff" + b"\0" * 2000, limits=Limits(1000, 10**6, 1))
    assert (bad.reason, "2003" in bad.detail) == ("too_large", True)


def test_a_large_limit_is_kept_without_warnings(recwarn: pytest.WarningsRecorder) -> None:
    # 100 million pixels are above Pillow's own warning; the body is missing, so decoding must have begun.
    with silence_pillow():
        assert refused(bomb(10_000, 10_000), limits=Limits(1 << 20, 150_000_000, 1)).reason == "bad_image"
    assert not recwarn.list


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_once(orientation: int) -> None:
    image = noise()
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    data = encoded(image, "PNG", exif=exif)
    checked = check_image(data, "phone.png", LIMITS)
    turned = {
        1: np.asarray(image),
        2: np.asarray(image)[:, ::-1],
        3: np.asarray(image)[::-1, ::-1],
        4: np.asarray(image)[::-1],
        5: np.asarray(image).swapaxes(0, 1),
        6: np.rot90(np.asarray(image), -1),
        7: np.rot90(np.asarray(image), 2).swapaxes(0, 1),
        8: np.rot90(np.asarray(image)),
    }[orientation]
    assert (pixels(checked.bytes) == turned).all()
    again = check_image(checked.bytes, "phone.png", LIMITS)
    assert again.bytes is checked.bytes


def test_a_rotated_jpeg_is_rewritten_as_png() -> None:
    exif = Pillow.Exif()
    exif[0x0112] = 6
    data = encoded(noise((64, 48)), "JPEG", exif=exif)
    checked = check_image(data, "dir/phone.jpg", LIMITS)
    assert sniff(checked.bytes) == "PNG"
    assert checked.path == "dir/phone.png"
    assert pixels(checked.bytes).shape == (64, 48, 3)


def test_broken_exif_is_taken_as_upright() -> None:
    data = image(kind="JPEG", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff")
    with silence_pillow():
        assert check_image(data, "a.jpg", LIMITS).bytes is data


def test_transparency_is_laid_on_white() -> None:
    image = Pillow.new("RGBA", (16, 16), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (4, 4, 12, 12))
    for data in (encoded(image, "PNG"), encoded(image, "WEBP", lossless=True)):
        seen = pixels(check_image(data, "ink.png", LIMITS).bytes)
        assert (seen[0, 0] == 255).all()
        assert (seen[8, 8] == 0).all()
    opaque = encoded(noise().convert("RGBA"), "PNG")
    assert check_image(opaque, "opaque.png", LIMITS).bytes is opaque


def test_sixteen_bits_are_scaled_and_not_clipped() -> None:
    ramp = np.linspace(0, 65535, 16 * 16).astype(np.uint16).reshape(16, 16)
    seen = pixels(check_image(encoded(Pillow.fromarray(ramp), "PNG"), "scan.png", LIMITS).bytes)
    assert abs(int(seen[8, 0, 0]) - int(ramp[8, 0]) // 257) <= 1
    assert len(np.unique(seen)) > 200


def test_cmyk_palette_and_gray() -> None:
    cmyk = check_image(encoded(noise().convert("CMYK"), "JPEG"), "print.jpg", LIMITS)
    assert sniff(cmyk.bytes) == "PNG"
    for mode in ("P", "L", "1"):
        data = encoded(noise().convert(mode), "PNG")
        assert check_image(data, "a.png", LIMITS).bytes is data


def test_an_animation_becomes_its_first_frame() -> None:
    frames = [Pillow.new("RGB", (16, 16), c) for c in ("red", "lime", "blue")]
    for kind in ("GIF", "WEBP", "PNG"):
        save = {"lossless": True} if kind == "WEBP" else {}
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **save)
        checked = check_image(data, f"moving.{kind.lower()}", LIMITS)
        opened = Pillow.open(io.BytesIO(checked.bytes))
        assert (opened.format, getattr(opened, "n_frames", 1)) == ("PNG", 1)
        assert (pixels(checked.bytes) == (255, 0, 0)).all()


@given(st.binary(max_size=200), st.sampled_from(["PNG", "JPEG", "WEBP", "GIF"]), st.integers(0, 4000))
def test_damage_is_a_bad_sample_or_a_image_and_never_another_error(junk: bytes, kind: str, at: int) -> None:
    data = bytearray(SOUND[kind])
    at = at % len(data)
    data[at : at + len(junk)] = junk
    checked = reason = None
    try:
        checked = check_image(bytes(data), "fuzz", LIMITS)
    except BadSample as bad:
        reason = bad.reason
    if checked is None:
        assert reason in ("bad_image", "truncated_image", "unsupported_type", "too_many_pixels", "too_small")
    else:
        assert pixels(checked.bytes).shape[2] == 3


@pytest.mark.parametrize("more", [{}, {"progressive": True}, {"subsampling": 0}])
def test_a_jpeg_read_small_has_the_verdict_of_the_whole_image(more: dict[str, object]) -> None:
    sound = encoded(noise((120, 90)), "JPEG", **more)
    for end in range(0, len(sound), 41):
        data = sound[:end]
        try:
            pixels(data)
        except (OSError, SyntaxError):
            assert refused(data, "cut.jpg").reason in ("truncated_image", "bad_image", "unsupported_type")
        else:
            assert check_image(data, "cut.jpg", LIMITS).bytes is data


SOUND = {kind: encoded(noise((20, 20)), kind) for kind in ("PNG", "JPEG", "WEBP", "GIF")}
