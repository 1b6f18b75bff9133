"""The settings of the perception study, and the asking of a teacher: what each adds to a question, and what not."""

from __future__ import annotations

import importlib
import io
import re
from importlib.util import find_spec
from pathlib import Path
from random import Random

import pytest
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from schemas.identity import prompt_id
from schemas.prompts import PromptRow
from schemas.values import Image, Part, text_message
from stages.core.config import build
from stages.core.errors import UnavailableError
from stages.core.registry import load
from stages.prepare.augmentations.base import words
from tests.prepare.made import prepare
from tests.prepare.test_augmentations import image

SETTINGS = {
    "notes": "what do 3 stars cost ? notes on the picture : a star costs 4 . a heart costs 2 .",
    "structured_visual": "what do 3 stars cost ? first write down what the picture shows , then answer .",
    "structured_visual_text": "what do 3 stars cost ? first write down what the picture shows and what the question"
    " tells , then answer .",
    "look": "what do 3 stars cost ? look carefully at the picture .",
    "describe": "what do 3 stars cost ? Reply in three parts and nothing else:\n"
    "<description>what the picture shows of what the question needs, and nothing that follows from it</description>\n"
    "<think>the reasoning, from the question and the description alone</think>\n"
    "<answer>the answer alone</answer>",
    "look_both": "what do 3 stars cost ? look carefully at the picture , and read the question carefully .",
}


def row(**over) -> PromptRow:
    images = over.pop("images", [image()])
    messages = [text_message("user", "what do 3 stars cost ?", images=len(images))]
    fields = {
        "id": prompt_id(label="general", messages=messages, images=images, answer="12"),
        "label": "general",
        "source": "other",
        "task": "prices",
        "messages": messages,
        "images": images,
        "answer": "12",
        "visual_keys": ["a star costs 4", "a heart costs 2"],
        "text_keys": ["3 stars"],
        "key_facts": ["a star costs 4", "3 stars cost 12"],
        "reference_response": "<think> 3 stars cost 12 . </think> 12",
        **over,
    }
    return PromptRow(**fields)


def world(**over) -> list[PromptRow]:
    plugin = load("dataset", "builtin")
    options = build(plugin.options, {"train": 0, "test": 400, "prices": 0.3, **over}, "builtin")
    return [plugin.row(r, options) for r in plugin.records(options, 3)]


@pytest.mark.parametrize("setting", SETTINGS)
def test_the_rewritten_message_and_nothing_else(setting):
    parent = row()
    made = load("augmentation", setting).apply(parent, Random(0))
    assert made.messages == [type(parent.messages[0])("user", [Part("image"), Part("text", SETTINGS[setting])])]
    assert (made.family, made.parent_id, made.label) == (setting, parent.id, "general")
    assert made.id == prompt_id(label="general", messages=made.messages, images=made.images, answer="12")
    # No draw decides anything: ids are stable whatever the seed.
    assert made == load("augmentation", setting).apply(parent, Random(9))
    for kept in ("images", "answer", "visual_keys", "text_keys", "key_facts", "reference_response", "split", "scene"):
        assert getattr(made, kept) == getattr(parent, kept)


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize(
    "over",
    [{"images": []}, {"harmful": True}, {"harmful": False}, {"label": "safety"}, {"label": "jailbreak"}],
)
def test_words_alone_and_rows_about_harm_are_no_part_of_the_study(setting, over):
    plugin = load("augmentation", setting)
    assert not plugin.fits(row(**over))
    assert plugin.apply(row(**over), Random(0)) is None


def test_notes_refuse_a_row_whose_facts_to_be_seen_are_not_known():
    notes = load("augmentation", "notes")
    assert not notes.fits(row(visual_keys=[]))
    assert notes.apply(row(visual_keys=[]), Random(0)) is None
    assert load("augmentation", "look").fits(row(visual_keys=[]))


def test_notes_never_hold_an_answer_that_seeing_alone_does_not_give():
    notes = load("augmentation", "notes")
    checked = set()
    for parent in world():
        made = notes.apply(parent, Random(0))
        if made is None or parent.answer is None:
            continue
        seen = re.findall(r"\w+", " ".join(parent.visual_keys))
        if parent.answer not in seen:
            added = words(made).removeprefix(words(parent))
            assert parent.answer not in re.findall(r"\w+", added), added
            checked.add(parent.task)
    assert {"prices", "arithmetic", "sign"} <= checked


def test_every_setting_of_a_prepared_mix_names_its_baseline_row(tmp_path: Path):
    table = {
        "name": "builtin",
        "train": 0,
        "test": 60,
        "test_weights": {"general": 3, "knowledge": 1, "safety": 1},
        "augment": list(SETTINGS),
        "augment_labels": ["general", "knowledge", "safety"],
    }
    rows = prepare(tmp_path, table).rows
    plain = {r.id: r for r in rows if r.family is None}
    asked = [r for r in plain.values() if r.images and r.harmful is None]
    for setting in SETTINGS:
        made = [r for r in rows if r.family == setting]
        assert sorted(r.parent_id for r in made) == sorted(r.id for r in asked)
        assert all(r.label == plain[r.parent_id].label and r.task == plain[r.parent_id].task for r in made)


class Reader:
    """Reads the same two lines of writing in every image, and is sure of one of them."""

    def __call__(self, pixels):
        assert pixels.shape == (60, 90, 3)
        # Blue first: the image is blue at its top.
        assert pixels[1, 60].tolist() == [255, 0, 0]
        return [[None, "star  = 4", 0.98], [None, "smudge", 0.2]], 0.1


def test_a_teacher_may_be_told_what_a_program_reads(monkeypatch):
    reading = importlib.import_module("stages.prepare.augmentations.describe_read")
    plugin = load("augmentation", "describe_read")
    monkeypatch.setattr(reading, "_PACKAGE", "json")
    monkeypatch.setattr(reading, "_reader", Reader)
    said = words(plugin.apply(row(), Random(0)))
    assert said == SETTINGS["describe"].replace(
        "? Reply", "? A program read these words in the picture, perhaps wrongly: star = 4\nReply"
    )
    monkeypatch.setattr(reading, "_reader", lambda: lambda pixels: (None, None))
    assert words(plugin.apply(row(), Random(0))) == SETTINGS["describe"]
    monkeypatch.setattr(reading, "_PACKAGE", "no_such_package")
    with pytest.raises(UnavailableError, match="not installed") as raised:
        plugin.fits(row())
    assert "cosmo-rl[ocr]" in raised.value.hint


@pytest.mark.skipif(find_spec("rapidocr_onnxruntime") is None, reason="the extra `ocr` is not installed")
def test_the_real_reader_reads_a_drawn_price_card():
    card = Pillow.new("RGB", (400, 90), "white")
    ImageDraw.Draw(card).text((20, 20), "star = 4", fill="black", font=ImageFont.load_default(size=40))
    out = io.BytesIO()
    card.save(out, "PNG")
    said = words(load("augmentation", "describe_read").apply(row(images=[Image(out.getvalue(), "c.png")]), Random(0)))
    assert "perhaps wrongly: star = 4\n" in said
