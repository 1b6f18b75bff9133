"""The plain sample that jsonl, parquet and hf share."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.values import Message, Part
from stages.core.errors import BadSample
from stages.reading.plain_samples import KNOWN, Defaults, draft_of
from stages.reading.unread_images import bytes_image

DEFAULTS = Defaults("jsonl:x", flags=("mine",), strict=True)


def draft(**item):
    return draft_of(item, DEFAULTS, lambda value, name: bytes_image(b"bytes", name))


def malformed(**item) -> str:
    with pytest.raises(BadSample) as error:
        draft(**item)
    assert error.value.reason == "malformed"
    return error.value.detail


def test_the_smallest_sample() -> None:
    row = draft(prompt="why ?").row
    assert row.messages == [Message("user", [Part("text", "why ?")])]
    assert (row.label, row.task, row.split, row.source) == ("general", "general", "train", "jsonl:x")
    assert (row.answer, row.answer_kind, row.harmful, row.extra) == (None, None, None, None)
    assert row.flags == ["mine"]


def test_a_full_sample() -> None:
    row = draft(
        prompt="which ?",
        image="a.png",
        answer="B",
        choices=["red", "blue"],
        response="<think> x </think> B",
        label="safety",
        task="t",
        split="test",
        source="own",
        category="c",
        scene="s",
        risk="picture",
        family="f",
        parent_id="p",
        harmful=False,
        id=7,
        page=3,
        hazards=["glim"],
        unsafe_markers=["step one"],
        facts=["a cup"],
        key_facts=["a cup"],
        visual_keys=["the cup is red"],
        text_keys=["a guest", "two spoons"],
        flags=["no_training"],
        instructions=[{"kind": "k_items", "k": 3}, '{"kind": "capitals"}'],
    ).row
    assert (row.label, row.task, row.split, row.source, row.harmful) == ("safety", "t", "test", "own", False)
    assert (row.answer, row.answer_kind, row.choices) == ("B", "choice", ["red", "blue"])
    assert row.reference_response == "<think> x </think> B"
    assert (row.visual_keys, row.text_keys) == (["the cup is red"], ["a guest", "two spoons"])
    assert [json.loads(i)["kind"] for i in row.instructions] == ["k_items", "capitals"]
    assert row.flags == ["mine", "no_training"]
    assert json.loads(row.extra or "") == {"id": 7, "page": 3}


@pytest.mark.parametrize(
    ("more", "kind"),
    [
        ({"answer": 3}, "number"),
        ({"answer": 2.5}, "number"),
        ({"answer": "3"}, "number"),
        ({"answer": "-1,234.5"}, "number"),
        ({"answer": "C3"}, "text"),
        ({"answer": "007"}, "text"),
        ({"answer": "\\frac{1}{2}"}, "math"),
        ({"answer": "AC", "choices": ["a", "b", "c"]}, "choices"),
        ({"answer": "3", "label": "math"}, "math"),
        ({"answer": "3", "answer_kind": "number"}, "number"),
        ({"answer": 3, "choices": ["1", "3"]}, "choice"),
    ],
)
def test_the_kind_of_an_answer(more: dict, kind: str) -> None:
    row = draft(prompt="?", **more).row
    assert row.answer == str(more["answer"])
    assert row.answer_kind == kind


@pytest.mark.parametrize(
    ("given", "answer", "accepted"),
    [
        (0.10000000149011612, "0.1", []),  # a float32 of 0.1
        (0.30000000000000004, "0.3", []),
        (0.3333333432674408, "0.33333334", []),
        (1e-05, "1e-05", []),
        (["car", "automobile", "car"], "car", ["automobile"]),
        ([4, "four"], "4", ["four"]),
    ],
)
def test_references_are_cleaned_and_several_are_a_list(given: object, answer: str, accepted: list[str]) -> None:
    row = draft(prompt="?", answer=given).row
    assert (row.answer, row.accepted) == (answer, accepted)


def test_several_right_options_and_an_options_place() -> None:
    options = ["cat", "dog", "cow"]
    row = draft(prompt="?", answer=["A", "C"], choices=options, answer_rule={"partial": 0.5}).row
    assert (row.answer, row.answer_kind, row.accepted, row.answer_rule) == ("AC", "choices", [], '{"partial": 0.5}')
    assert draft(prompt="?", answer=1, choices=options).row.answer == "B"
    assert draft(prompt="?", answer=1, choices=["1", "2"]).row.answer == "1"


def test_images_take_their_marks_or_come_first() -> None:
    def shape(**item):
        made = draft(**item)
        return [p.text or "IMAGE" for m in made.row.messages for p in m.content], len(made.images)

    assert shape(prompt="what ?", image="a") == (["IMAGE", "what ?"], 1)
    assert shape(prompt="<image>\nwhat ?", image=["a"]) == (["IMAGE", "what ?"], 1)
    between = (["from ", "IMAGE", " to ", "IMAGE", " ?"], 2)
    assert shape(prompt="from <image> to <image> ?", images=["a", "b"]) == between
    assert draft(prompt="", image="a").row.messages == [Message("user", [Part("image")])]
    turns = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "this ?"}]}]
    assert shape(messages=turns, image="a") == (["IMAGE", "this ?"], 1)
    chat = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "yes"},
        {"role": "user", "content": "?"},
    ]
    assert shape(messages=chat, image="a") == (["hi", "yes", "IMAGE", "?"], 1)
    assert "2 image marks for 1 images" in malformed(prompt="<image><image> ?", image="a")


def test_a_closing_assistant_turn_is_the_response() -> None:
    turns = [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": "r"},
    ]
    row = draft(messages=turns).row
    assert [m.role for m in row.messages] == ["system", "user"]
    assert row.reference_response == "r"
    assert "give one" in malformed(messages=turns, response="other")


@pytest.mark.parametrize(
    ("item", "named"),
    [
        ({}, "neither 'prompt' nor 'messages'"),
        ({"prompt": "a", "messages": []}, "both"),
        ({"prompt": 7}, "'prompt' is 7 (int)"),
        ({"prompt": "  "}, "empty"),
        ({"prompt": "a", "answer": [["x"]]}, "'answer'"),
        ({"prompt": "a", "answer": math.nan}, "can equal"),
        ({"prompt": "a", "answer": -math.inf}, "can equal"),
        ({"prompt": "a", "answer": "NaN"}, "can equal"),
        ({"prompt": "a", "answer": " "}, "leave it out"),
        ({"prompt": "a", "answer": ["x", ""]}, "leave it out"),
        ({"prompt": "a", "answer": "x", "answer_rule": {"about": 1}}, "'answer_rule'"),
        ({"prompt": "a", "answer": 5, "choices": ["x", "y"]}, "the first is 0"),
        ({"prompt": "a", "answer": True}, "'answer'"),
        ({"prompt": "a", "answer_kind": "maths"}, "'answer_kind'"),
        ({"prompt": "a", "harmful": "yes"}, "'harmful'"),
        ({"prompt": "a", "choices": "A"}, "'choices'"),
        ({"prompt": "a", "choices": [1]}, "'choices'"),
        ({"prompt": "a", "split": "dev"}, "'split'"),
        ({"prompt": "a", "label": 3}, "'label'"),
        ({"prompt": "a", "instructions": ["one_word"]}, "'instructions'"),
        ({"prompt": "a", "instructions": [{"k": 3}]}, "'instructions'"),
        ({"prompt": "a", "image": "x", "images": ["x"]}, "'image' and 'images'"),
        ({"prompt": "a", "images": "x"}, "'images'"),
        ({"prompt": "a", "anwser": "3"}, "did you mean 'answer'"),
        ({"messages": "hello"}, "'messages'"),
        ({"messages": []}, "'messages'"),
        ({"messages": [{"role": "bot", "content": "x"}]}, "role"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "user"),
        ({"messages": [{"role": "user", "content": [{"type": "video"}]}]}, "'messages.content'"),
    ],
)
def test_what_is_wrong_is_named(item: dict, named: str) -> None:
    assert named in malformed(**item)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(KNOWN) | st.text(max_size=6), values, max_size=6))
def test_any_json_object_is_a_draft_or_malformed(item: dict) -> None:
    made = reason = None
    try:
        made = draft(**item)
    except BadSample as bad:
        reason = bad.reason
    if made is None:
        assert reason == "malformed"
        return
    assert made.row.messages[-1].role == "user"
    parts = [p for m in made.row.messages for p in m.content if p.type == "image"]
    assert len(parts) == len(made.images)
