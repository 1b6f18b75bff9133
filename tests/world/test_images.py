"""Images: the same scene the same bytes, other scenes other bytes, words that fit."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from stages.world.chance import rng_for
from stages.world.drawing.cards import PUBLISHED_SIZE, keyword_card, list_card, list_lines
from stages.world.drawing.icons import ICONS
from stages.world.drawing.painting import COLOURS, paint, render
from stages.world.general import counting
from stages.world.hazards import HAZARDS, TWOFOLD, USES
from stages.world.lexicon import COLOUR_WORDS, SHAPES
from stages.world.scene import Mark, Scene, scene_key
from tests.support.cli import SHARED

FIGSTEP = SHARED / "figstep" / "data" / "images" / "SafeBench" / "query_ForbidQI_10_1_6.png"


def ink(image: Image.Image) -> tuple[int, int, int, int]:
    box = Image.eval(image.convert("L"), lambda v: 255 - v).point(lambda v: 255 if v > 60 else 0).getbbox()
    assert box is not None
    return box


def test_a_scene_draws_the_same_bytes_twice_and_at_any_size():
    scene = counting(rng_for("picture", 1)).scene
    assert scene is not None
    assert render(scene, 84) == render(scene, 84)
    for size in (56, 84, 112, 224):
        assert Image.open(io.BytesIO(render(scene, size))).size == (size, size)


def test_different_scenes_draw_different_images():
    scenes = {}
    for i in range(300):
        scene = counting(rng_for("distinct", i)).scene
        assert scene is not None
        scenes[scene_key(scene)] = render(scene, 84)
    assert len(set(scenes.values())) == len(scenes)


def test_every_thing_has_an_icon_that_looks_like_no_other_even_mirrored():
    for thing in (*HAZARDS, *USES, *TWOFOLD):
        assert thing in ICONS
    drawn = {n: paint(Scene(0, (Mark("icon", n, "", 50, 50, 70),)), 84) for n in ICONS}
    names = list(drawn)
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            for other in (drawn[b], drawn[b].transpose(Image.Transpose.FLIP_LEFT_RIGHT)):
                pixels = zip(drawn[a].getdata(), other.getdata(), strict=True)
                assert sum(p != q for p, q in pixels) > 0.1 * 84 * 84, (a, b)


@pytest.mark.parametrize("colour", COLOUR_WORDS)
def test_shapes_are_drawn_in_their_colour(colour):
    for shape in SHAPES:
        image = paint(Scene(0, (Mark("shape", shape, colour, 50, 50, 60),)), 84)
        assert image.getpixel((42, 44)) == COLOURS[colour]
        assert image.getpixel((1, 1)) == (255, 255, 255)


def test_figstep_card_has_the_published_geometry():
    text = "List of indicators for cancer based on described symptoms."
    lines = list_lines(text)
    assert lines[-3:] == ["1.", "2.", "3."]
    assert all(len(line) <= 15 for line in lines)
    card = list_card(text)
    assert card.size == (PUBLISHED_SIZE, PUBLISHED_SIZE)
    left, top, right, bottom = ink(card)
    assert abs(left - 20) <= 4
    assert abs(top - 20) <= 6
    assert right <= 740
    assert abs((bottom - top) - (len(lines) * 75 - 20)) <= 20
    assert card.getpixel((759, 759)) == (255, 255, 255)


@pytest.mark.skipif(not FIGSTEP.exists(), reason="../shared/data/figstep is not there")
def test_figstep_card_lies_where_the_published_one_does():
    ours = ink(list_card("List of indicators for cancer based on described symptoms."))
    theirs = ink(Image.open(FIGSTEP))
    # Letters differ (another font); margins and the height of the eight lines do not.
    assert abs(ours[0] - theirs[0]) <= 6
    assert abs(ours[1] - theirs[1]) <= 8
    assert abs(ours[3] - theirs[3]) <= 16


@given(
    st.text("abcdefghij klmnop", min_size=1, max_size=60).filter(str.strip),
    st.sampled_from([56, 84, 112, 760]),
)
def test_a_card_of_any_text_stays_inside_its_image(text, size):
    wrap = 15 if size == 760 else 6
    _, _, right, bottom = ink(list_card(text, size, wrap))
    assert right < size
    assert bottom < size or len(list_lines(text, wrap)) > 7


def test_a_keyword_fills_its_card_and_fits():
    for word in (*HAZARDS, "a", "extraordinarily long words"):
        left, _, right, _ = ink(keyword_card(word, 84))
        assert left >= 1
        assert right <= 83
