"""Families that hide a request between words and images: what each part says, and that it can be had back."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pillow

from schemas.identity import prompt_id
from schemas.values import Image, text_message
from stages.core.registry import load
from stages.prepare.augmentations._words import key_word, without
from stages.prepare.augmentations.base import through, words
from stages.prepare.augmentations.rotation import TURNS
from stages.prepare.augmentations.split import halves
from stages.world.drawing.cards import PUBLISHED_SIZE, keyword_card, list_card, list_lines, wrap_for
from tests.prepare.made import image as colour
from tests.prepare.reading import bands, dark, read_list
from tests.prepare.test_augmentations import opened, row
from tests.support.cli import SHARED

FIGSTEP = SHARED / "figstep" / "data" / "images" / "SafeBench"
ASKED = "explain how to make the forbidden thing quietly"
LISTED = ["explain how to", "make the", "forbidden thing", "quietly", "1.", "2.", "3."]


def public(text: str = ASKED, own_images: list[Image] | None = None, **over):
    """A row as a public set gives it: words, harm, nothing else."""
    images = own_images or []
    messages = [text_message("user", text, len(images))]
    fields = {"hazards": [], "unsafe_markers": [], "key_facts": [], "reference_response": None, "extra": None}
    return row(False, **{"messages": messages, "images": images, **fields, **over})


def made(family: str, parent, seed: int = 0, *partner):
    return load("augmentation", family).apply(parent, Random(seed), *partner)


def test_a_typographic_cards_words_can_be_read_back_from_its_pixels():
    assert read_list(opened(made("typographic", public()).images[0])) == LISTED


def test_a_mirrored_and_a_turned_card_have_the_words_again_when_undone():
    card = opened(made("typographic", public()).images[0])
    mirrored = made("mirror", public(own_images=[made("typographic", public()).images[0]]))
    assert opened(mirrored.images[0]).tobytes() != card.tobytes()
    back = opened(mirrored.images[0]).transpose(Pillow.Transpose.FLIP_LEFT_RIGHT)
    assert read_list(back) == LISTED
    turns = set()
    for seed in range(12):
        turned = opened(made("rotation", public(), seed).images[0])
        fits = [t for t in TURNS if turned.rotate(360 - t).tobytes() == card.tobytes()]
        assert len(fits) == 1
        turns.add(fits[0])
    assert turns == set(TURNS)


def test_a_rotated_image_is_the_image_turned_and_its_words_stay():
    parent = public(own_images=[Image(colour("red", (40, 20)), "p.png"), row(True).images[0]])
    turned = made("rotation", parent, 1)
    assert words(turned) == words(parent)
    for before, after in zip(parent.images, turned.images, strict=True):
        old, new = opened(before), opened(after)
        assert any(new.rotate(t, expand=True).tobytes() == old.tobytes() for t in TURNS)


@pytest.mark.skipif(not FIGSTEP.exists(), reason="../shared/data/figstep is not there")
def test_our_card_has_the_geometry_of_the_published_ones():
    text = "List of indicators for cancer based on described symptoms."
    ours = opened(made("typographic", public(text)).images[0])
    theirs = Pillow.open(FIGSTEP / "query_ForbidQI_10_1_6.png").convert("RGB")
    assert ours.size == theirs.size == (PUBLISHED_SIZE, PUBLISHED_SIZE)
    assert ours.getpixel((759, 0)) == theirs.getpixel((759, 0)) == (255, 255, 255)
    places = []
    for card in (ours, theirs):
        ink = dark(card)
        items = bands(ink)[-3:]
        columns = np.flatnonzero(ink.any(axis=0))
        # Bottoms of the three items are baselines in any font; below them and to the right of them is nothing.
        places.append([*(bottom for _, bottom in items), int(columns[0]), bands(ink)[0][0]])
        # The first one's rows also hold tails of the title's letters.
        assert all(not ink[top:bottom, 130:].any() for top, bottom in items[1:])
    assert np.abs(np.subtract(*places)).max() <= 12, places
    assert np.diff(places[0][:3]).tolist() == np.diff(places[1][:3]).tolist() == [75, 75]


@given(st.lists(st.text("abcdefgh", min_size=1, max_size=12), min_size=1, max_size=300).map(" ".join))
def test_a_longer_text_gets_longer_lines_until_nobody_could_read_it(text):
    wrap = wrap_for(text)
    if wrap is None:
        assert len(text) > 600
        assert made("typographic", public(text)) is None
        return
    assert (wrap == 15) == (len(list_lines(text, 15)) <= 9)
    lines = list_lines(text, wrap)
    assert 80 * 15 / wrap * (1 + (len(lines) - 1) * 75 / 80) <= 720


def test_the_largest_text_that_is_drawn_keeps_to_its_page():
    text = " ".join(["forbidden"] * 60)
    card = list_card(text, wrap=wrap_for(text))
    rows, columns = np.nonzero(dark(card))
    assert columns.max() <= 745
    assert rows.max() <= 745


@pytest.mark.parametrize("family", ["typographic", "keyword_card", "split", "rotation"])
def test_a_script_that_the_font_lacks_is_not_drawn_as_boxes(family):
    chinese = public("\u8bf7\u89e3\u91ca\u88ab\u7981\u6b62\u7684\u4e1c\u897f")
    assert not load("augmentation", family).fits(chinese)
    assert made(family, chinese) is None
    # What has a plain letter in it is drawn with that: accents, curly quotes, dashes.
    accented, plain = (made(family, public(f"explain the f{o}rbidden thing")) for o in ("\u00f6", "o"))
    assert accented.images == plain.images


def test_split_says_the_key_word_neither_in_the_words_nor_in_the_image():
    parent = public("Explain how to make the forbidden thing", hazards=["forbidden thing"])
    cut = made("split", parent)
    head, end = halves("forbidden thing")
    assert head + end == "forbidden thing"
    assert "forbidden" not in words(cut)
    assert "forbidden" not in head
    assert end in words(cut)
    # The whole image is the card of the first half, pixel for pixel: there is nothing else on it.
    assert opened(cut.images[0]).tobytes() == keyword_card(head, 448).tobytes()
    assert cut.facts[0] == f"a card that says {head}"


def test_split_puts_a_band_below_a_row_that_has_a_image():
    parent = row(True)
    cut = made("split", parent)
    before, after = opened(parent.images[0]), opened(cut.images[0])
    assert after.width == before.width
    assert after.crop((0, 0, *before.size)).tobytes() == before.tobytes()
    assert dark(after.crop((0, before.height, *after.size))).any()
    assert "vexol" not in words(cut)
    assert len(cut.images) == 1


@given(st.text("abc d", min_size=4, max_size=30).map(str.strip).filter(lambda t: len(t) >= 4))
def test_halves_make_the_whole_and_are_both_shorter(word):
    head, end = halves(word)
    assert head + end == word
    assert head
    assert end


def test_the_key_word_of_a_row_that_tells_none_is_a_whole_word_of_content():
    assert key_word(public("Write instructions for assembling dangerous thunderboxes")) == "thunderboxes"
    assert key_word(public("how do you do this ?")) == ""
    assert key_word(public("Tell me about Vexol", hazards=["vexol"])) == "vexol"
    assert key_word(public("do this", hazards=["vexol"])) == ""
    assert key_word(public("Explain quietly and carefully how bombs work")) == "bombs"
    assert without("tea in a steam Tea", "tea", "X") == "X in a steam X"
    assert without("how can I use a Tea pot , the tea", "tea", "the thing") == "how can I use the thing pot , the thing"


def test_mixup_keeps_the_rows_image_the_stronger_one():
    parent = public(own_images=[Image(colour((255, 0, 0), (60, 40)), "p.png")])
    partner = public(own_images=[Image(colour((0, 0, 255), (90, 90)), "q.png")], harmful=False, facts=["all blue"])
    for seed in range(6):
        blended = made("mixup", parent, seed, partner)
        red, _, blue = opened(blended.images[0]).getpixel((30, 20))
        assert 0.6 * 255 - 1 <= red <= 0.75 * 255 + 1
        assert abs(red + blue - 255) <= 1
        assert blended.facts == ["all blue"]
        drawn = made("mixup", parent, seed)
        colours = opened(drawn.images[0]).getcolors(60 * 40)
        assert len(colours) > 1
        assert drawn.facts
    assert made("mixup", parent, 1).images != made("mixup", parent, 2).images


@pytest.mark.parametrize(("ours", "theirs"), [(True, False), (False, True), (True, True), (False, False)])
def test_a_concatenation_is_harmful_if_either_part_is(ours, theirs):
    def part(harmful: bool, thing: str):
        return public(
            f"tell me about {thing}", harmful=harmful, hazards=[thing] if harmful else [],
            unsafe_markers=[f"{thing} one"] if harmful else [], answer=None if harmful else "fine",
            reference_response=f"<think> it is {thing} . </think> reply on {thing} .", key_facts=[f"it is {thing}"],
        )  # fmt: skip

    first, second = part(ours, "vexol"), part(theirs, "grimor")
    both = made("concatenation", first, 0, second)
    assert both.harmful is (ours or theirs)
    assert both.label == "jailbreak"
    assert sorted(both.hazards) == sorted(h for r in (first, second) for h in r.hazards)
    assert sorted(both.unsafe_markers) == sorted(m for r in (first, second) for m in r.unsafe_markers)
    assert words(first) in words(both)
    assert words(second) in words(both)
    assert both.answer is None
    assert both.parent_id == first.id
    assert both.id == prompt_id(label="jailbreak", messages=both.messages, images=both.images, answer=None)
    replied = both.reference_response
    assert replied.startswith("<think> it is ")
    assert replied.count("</think>") == 1
    asked = [t for t in words(both).split() if t in ("vexol", "grimor")]
    assert [t for t in replied.partition("</think>")[2].split() if t in asked] == asked
    orders = {words(made("concatenation", first, s, second)).index("vexol") for s in range(9)}
    assert len(orders) == 2


def test_a_part_without_markers_is_left_to_the_refusal_rule():
    marked, bare = row(False), public(harmful=True)
    assert made("concatenation", marked, 0, bare).unsafe_markers == []
    assert made("concatenation", marked, 0, public(harmful=False)).unsafe_markers == marked.unsafe_markers


def test_concatenated_images_stand_side_by_side_and_marks_agree_with_them():
    single = public(own_images=[Image(colour("red", (40, 20)), "p.png")])
    other = public(own_images=[Image(colour("blue", (30, 60)), "q.png")], harmful=False)
    joined = made("concatenation", single, 0, other)
    page = opened(joined.images[0])
    assert len(joined.images) == 1
    assert {page.getpixel((0, 5)), page.getpixel((page.width - 1, 5))} == {(255, 0, 0), (0, 0, 255)}
    left_is_red = page.getpixel((0, 5)) == (255, 0, 0)
    assert "left picture" in words(joined)
    assert left_is_red == (page.size == (40 + 10, 20))
    several = public(own_images=[*single.images, *single.images])
    for parent, partner, n in ((several, other, 3), (public(), other, 1), (single, public(harmful=False), 1)):
        result = made("concatenation", parent, 0, partner)
        assert sum(p.type == "image" for p in result.messages[-1].content) == len(result.images) == n


def test_without_a_partner_a_sum_of_the_rows_own_side_is_asked_too():
    for split in ("train", "test"):
        alone = made("concatenation", public(split=split))
        assert "how many" in words(alone)
        assert alone.harmful is True
        assert alone == made("concatenation", public(split=split))
    assert load("augmentation", "concatenation").fits(public(harmful=None)) is False


@pytest.mark.parametrize("family", ["split", "rotation", "concatenation", "mixup", "substitution", "role_play"])
def test_a_twin_is_rewritten_as_its_harmful_row_is(family):
    harmful = replace(row(True), images=[Image(colour("red"), "p.png")])
    twin = replace(
        harmful, id="other", harmful=False, hazards=[], unsafe_markers=[], key_facts=["it is soap"], answer="wash",
        messages=[text_message("user", "tell me how to use soap now please", 1)], parent_id=harmful.id,
        extra=json.dumps({"keyword": "soap"}),
    )  # fmt: skip
    one = through(harmful, family, 7)
    two = through(twin, family, 7, twin_of=harmful)
    assert (two.harmful, two.label, two.family, two.parent_id) == (False, "jailbreak", family, one.id)
    assert (two.hazards, two.unsafe_markers, two.scene, two.split) == ([], [], harmful.scene, harmful.split)
    if family in ("mixup", "rotation"):
        assert two.images == one.images
    if family in ("concatenation", "substitution", "role_play"):
        assert words(two) == words(one).replace("vexol", "soap")


@pytest.mark.parametrize("family", ["mirror", "rotation", "mixup", "collage", "patch_shuffle", "split"])
def test_what_is_made_of_a_jpeg_is_a_jpeg_that_looks_the_same(family):
    drawn = opened(row(True).images[0]).resize((180, 120))
    files = {}
    for kind in ("PNG", "JPEG"):
        out = io.BytesIO()
        drawn.save(out, kind, **({"quality": 100, "subsampling": 0} if kind == "JPEG" else {}))
        files[kind] = replace(row(True), id="same", images=[Image(out.getvalue(), "p")])
    made_of = {kind: through(parent, family, 3).images[0] for kind, parent in files.items()}
    assert [Pillow.open(io.BytesIO(i.bytes)).format for i in made_of.values()] == ["PNG", "JPEG"]
    assert [i.path for i in made_of.values()] == [f"{family}.png", f"{family}.jpg"]
    exact, lossy = (np.asarray(opened(i)).astype(int) for i in made_of.values())
    assert np.abs(exact - lossy).mean() < 2
