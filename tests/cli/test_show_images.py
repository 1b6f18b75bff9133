"""`cosmo show` on terminals: a prompt's images as each of them takes pictures, and in words everywhere else."""

from __future__ import annotations

import base64
import io
import re
import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image as Pillow

from cosmo_cli.inspection.show import image as words_of
from cosmo_cli.terminal.images import Images, cells, drawn_image, way_of
from schemas.prompts import PromptRow
from schemas.tables import PROMPTS
from schemas.values import Image, text_message
from stages.eval.report.sample import scaled_image
from tests.support.cli import cosmo, on_terminal
from tests.train.made import write_shard

RED, BLUE = (250, 10, 20), (10, 20, 250)
KITTY, ITERM, BLOCKS = {"TERM": "xterm-kitty"}, {"TERM_PROGRAM": "iTerm.app"}, {"COLORTERM": "truecolor"}


def halves(size: tuple[int, int] = (84, 40)) -> Image:
    """Red above blue."""
    made = Pillow.new("RGB", size, RED)
    made.paste(BLUE, (0, size[1] // 2, *size))
    buffer = io.BytesIO()
    made.save(buffer, "PNG")
    return Image(buffer.getvalue(), "p.png")


def bomb(width: int, height: int) -> bytes:
    """A PNG of a hundred bytes that says it is so large."""
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"")),
        (b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


def shard(folder: Path, *images: Image) -> Path:
    row = PromptRow(
        id="0123456789abcdef", label="general", source="made", task="made",
        messages=[text_message("user", "what is it ?", len(images))], images=list(images),
    )  # fmt: skip
    return write_shard(folder / "rows.parquet", PROMPTS, [row])


def test_kitty_is_sent_a_png_in_chunks_and_asked_for_no_answer(tmp_path: Path) -> None:
    noisy = Pillow.effect_noise((400, 300), 90)
    buffer = io.BytesIO()
    noisy.save(buffer, "PNG")
    shown = "\n".join(on_terminal("show", shard(tmp_path, Image(buffer.getvalue())), cwd=tmp_path, columns=80, **KITTY))
    sent = re.findall(r"\x1b_G([^;]*);([A-Za-z0-9+/=]*)\x1b\\", shown)
    assert len(sent) > 2
    assert sent[0][0] == "a=T,f=100,q=2,c=32,r=12,m=1"
    assert [keys for keys, _ in sent[1:]] == ["m=1"] * (len(sent) - 2) + ["m=0"]
    assert max(len(data) for _, data in sent) <= 4096
    with Pillow.open(io.BytesIO(base64.b64decode("".join(data for _, data in sent)))) as opened:
        assert (opened.format, opened.size) == ("PNG", (400, 300))


def test_iterm_is_sent_its_own_sequence(tmp_path: Path) -> None:
    lines = on_terminal("show", shard(tmp_path, halves()), cwd=tmp_path, columns=80, **ITERM)
    found = re.fullmatch(r"  \x1b\]1337;File=inline=1;size=(\d+);width=40;height=10:([A-Za-z0-9+/=]+)\x07", lines[1])
    assert found
    data = base64.b64decode(found[2])
    assert len(data) == int(found[1])
    with Pillow.open(io.BytesIO(data)) as opened:
        assert (opened.getpixel((5, 5)), opened.getpixel((5, 35))) == (RED, BLUE)
    assert lines[2].startswith("  user      <PNG 84x40, ")


def test_a_terminal_of_true_colours_shows_half_blocks(tmp_path: Path) -> None:
    lines = on_terminal("show", shard(tmp_path, halves()), cwd=tmp_path, columns=80, **BLOCKS)
    drawn = [line for line in lines if "▀" in line]
    assert len(drawn) == 10
    assert {line.count("▀") for line in drawn} == {40}
    colours = [set(re.findall(r"38;2;(\d+);(\d+);(\d+);48;2;(\d+);(\d+);(\d+)m▀", line)) for line in drawn]
    as_drawn = [tuple(map(str, 2 * colour)) for colour in (RED, BLUE)]
    assert (colours[0], colours[-1]) == ({as_drawn[0]}, {as_drawn[1]})
    narrow = on_terminal("show", shard(tmp_path, halves()), cwd=tmp_path, columns=20, **BLOCKS)
    assert max(line.count("▀") for line in narrow) <= 18


@pytest.mark.parametrize(
    ("args", "env"),
    [
        ([], {}),
        (["--images", "never"], KITTY),
        (["--all"], KITTY),
        (["--json"], KITTY),
        (["--rejected"], KITTY),
        ([], KITTY | {"NO_COLOR": "1"}),
        ([], {"TERM": "dumb", "COLORTERM": "truecolor"}),
    ],
)
def test_everywhere_else_it_is_words(tmp_path: Path, args: list[str], env: dict[str, str]) -> None:
    shown = "\n".join(on_terminal("show", shard(tmp_path, halves()), *args, cwd=tmp_path, columns=80, **env))
    assert not re.search(r"\x1b[_\]]|▀", shown)
    assert "--rejected" in args or "<PNG 84x40, " in shown


@pytest.mark.parametrize("asked", ["auto", "kitty", "blocks"])
def test_a_pipe_gets_no_picture(tmp_path: Path, asked: str) -> None:
    done = cosmo("show", shard(tmp_path, halves()), "--images", asked, cwd=tmp_path, **KITTY)
    assert "\x1b" not in done.stdout
    assert "<PNG 84x40, " in done.stdout


@pytest.mark.parametrize(
    ("environ", "way"),
    [
        ({"TERM": "xterm-kitty"}, Images.KITTY),
        ({"TERM": "xterm-256color", "KITTY_WINDOW_ID": "1"}, Images.KITTY),
        ({"TERM": "xterm-ghostty"}, Images.KITTY),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "WezTerm", "COLORTERM": "truecolor"}, Images.ITERM),
        # A multiplexer's window keeps its terminal's variables and shows no graphics.
        ({"TERM": "tmux-256color", "TERM_PROGRAM": "iTerm.app", "COLORTERM": "truecolor"}, Images.BLOCKS),
        ({"TERM": "xterm-256color", "TMUX": "/tmp/t", "KITTY_WINDOW_ID": "1"}, Images.NEVER),
        ({"TERM": "xterm-256color", "COLORTERM": "24bit"}, Images.BLOCKS),
        ({"TERM": "xterm-256color"}, Images.NEVER),
        ({"COLORTERM": "truecolor"}, Images.NEVER),
        ({"TERM": "xterm-kitty", "NO_COLOR": "1"}, Images.NEVER),
    ],
)
def test_a_terminal_is_known_by_what_it_says(environ: dict[str, str], way: Images) -> None:
    assert way_of(environ) == way


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not a picture",
        halves().bytes[:60],
        bomb(30_000, 30_000),
        bomb(9_000, 9_000),
        b"\x89PNG\r\n\x1a\n\0\0",
        b"II*\0rest",
    ],
)
@pytest.mark.parametrize("terminal", [KITTY, BLOCKS])
def test_a_broken_image_is_a_word_and_no_end(tmp_path: Path, data: bytes, terminal: dict[str, str]) -> None:
    broken = Image(data, "evil\x1b]0;title\x07.png")
    lines = on_terminal("show", shard(tmp_path, broken, halves()), cwd=tmp_path, columns=120, **terminal)
    shown = "\n".join(lines)
    assert r"evil\x1b]0;title\x07.png>" in shown
    assert "<PNG 84x40, " in shown
    assert ("\x1b_G" in shown) == (terminal == KITTY), "the one that is whole is shown"
    assert drawn_image(broken, Images.KITTY, 80, 12) is None
    assert scaled_image(broken, 64) is None


def test_words_come_from_the_header_alone() -> None:
    assert words_of({"bytes": bomb(9_000, 9_000), "path": None}).startswith("<PNG 9000x9000, ")
    # Pillow itself refuses these.
    assert words_of({"bytes": bomb(60_000, 60_000), "path": "a"}).startswith("<not an image, ")


@pytest.mark.parametrize(
    ("size", "room", "fits"),
    [
        ((84, 40), (40, 12), (40, 10)),
        ((40, 84), (40, 12), (11, 12)),
        ((1000, 1), (40, 12), (40, 1)),
        ((1, 1000), (40, 12), (1, 12)),
    ],
)
def test_cells_keep_the_shape(size: tuple[int, int], room: tuple[int, int], fits: tuple[int, int]) -> None:
    assert cells(size, *room) == fits
