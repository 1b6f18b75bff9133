"""Records in the layouts people have: what becomes messages, images, answer and options."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from schemas.prompts import PromptRow
from schemas.values import plain_text
from stages.core.errors import InputError, UsageError
from tests.prepare.made import image, prepare, read, write_lines

RED, BLUE = image("red"), image("blue")
RED_URL = f"data:image/png;base64,{base64.b64encode(RED).decode()}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "red.png").write_bytes(RED)
    (tmp_path / "blue.png").write_bytes(BLUE)
    return tmp_path


def row(folder: Path, record: dict[str, Any], **options: Any) -> PromptRow:
    """The row of the one record in a file."""
    found, rows = read({"name": "any", "path": str(write_lines(folder / "one.jsonl", record)), **options})
    assert found[0].rejected is None, found[0].rejected
    return rows[0]


def why(folder: Path, record: dict[str, Any], **options: Any) -> str:
    """Why the one record in a file is rejected."""
    found, _ = read({"name": "any", "path": str(write_lines(folder / "one.jsonl", record)), **options})
    assert found[0].rejected is not None
    return " ".join(found[0].rejected)


def shape(made: PromptRow) -> list[tuple[str, list[str]]]:
    """Turns as (role, parts), an image as `#`."""
    return [(m.role, ["#" if p.type == "image" else p.text or "" for p in m.content]) for m in made.messages]


CONVERSATIONS: list[tuple[dict[str, Any], list[tuple[str, list[str]]], str | None]] = [
    (
        {
            "image": "red.png",
            "conversations": [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "a"}],
        },
        [("user", ["#", "What?"])],
        "a",
    ),
    (
        {
            "conversations": [
                {"from": "system", "value": "Be brief."},
                {"from": "human", "value": "Hi"},
                {"from": "gpt", "value": "Hello"},
                {"from": "human", "value": "<image>And?"},
            ],
            "images": ["red.png"],
        },
        [("system", ["Be brief."]), ("user", ["Hi"]), ("assistant", ["Hello"]), ("user", ["#", "And?"])],
        None,
    ),
    (
        {
            "messages": [
                {"role": "developer", "content": "Be brief."},
                {
                    "role": "user",
                    "content": [
                        {"type": "image_url", "image_url": {"url": RED_URL, "detail": "low"}},
                        {"type": "text", "text": "What?"},
                    ],
                },
            ]
        },
        [("system", ["Be brief."]), ("user", ["#", "What?"])],
        None,
    ),
    (
        {"messages": [{"role": "user", "content": [{"image": "red.png"}, {"text": "What?"}]}]},
        [("user", ["#", "What?"])],
        None,
    ),
    (
        {
            "messages": [
                {
                    "role": "user",
                    "content": [{"type": "image", "image": "file://red.png"}, {"type": "text", "text": "?"}],
                }
            ]
        },
        [("user", ["#", "?"])],
        None,
    ),
    (
        {
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {
                            "type": "image",
                            "source": {"type": "base64", "media_type": "image/png", "data": RED_URL[22:]},
                        },
                        {"type": "text", "text": "What?"},
                    ],
                }
            ]
        },
        [("user", ["#", "What?"])],
        None,
    ),
    (
        {"messages": json.dumps([{"role": "user", "content": "<image>What?"}]), "image": "red.png"},
        [("user", ["#", "What?"])],
        None,
    ),
    (
        {"prompt": [{"role": "user", "content": "What?"}], "completion": [{"role": "assistant", "content": "a"}]},
        [("user", ["What?"])],
        "a",
    ),
    ({"prompt": "What?", "completion": "a"}, [("user", ["What?"])], "a"),
    (
        {"query": "<img>red.png</img>What?", "response": "a", "history": [["Hi", "Hello"]]},
        [("user", ["Hi"]), ("assistant", ["Hello"]), ("user", ["#", "What?"])],
        "a",
    ),
    (
        {"instruction": "Translate.", "input": "cat", "output": "chat", "system": "Be brief."},
        [("system", ["Be brief."]), ("user", ["Translate.\ncat"])],
        "chat",
    ),
    ({"instruction": "Translate.", "input": "", "output": "chat"}, [("user", ["Translate."])], "chat"),
    ({"messages": [{"role": "system", "content": ""}, {"role": "user", "content": "Hi"}]}, [("user", ["Hi"])], None),
]


@pytest.mark.parametrize(("record", "turns", "response"), CONVERSATIONS)
def test_conversations(
    record: dict[str, Any], turns: list[tuple[str, list[str]]], response: str | None, folder: Path
) -> None:
    made = row(folder, record)
    assert shape(made) == turns
    assert made.reference_response == response
    assert [i.bytes for i in made.images] == [RED] * sum("#" in parts for _, parts in turns)


TOOLS = [
    [{"role": "user", "content": "a"}, {"role": "tool", "content": "b"}, {"role": "user", "content": "c"}],
    [{"from": "human", "value": "a"}, {"from": "observation", "value": "b"}],
    [{"role": "user", "content": "a"}, {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}],
]


@pytest.mark.parametrize("turns", TOOLS)
def test_tool_turns_are_refused_by_name(turns: list[dict[str, Any]], folder: Path) -> None:
    assert why(folder, {"messages": turns}).startswith("tool_turns turn 2")


OPTIONS: list[tuple[dict[str, Any], list[str], str]] = [
    ({"choices": ["cat", "dog"], "answer": "B"}, ["cat", "dog"], "B"),
    ({"choices": ["cat", "dog"], "answer": 1}, ["cat", "dog"], "B"),
    ({"choices": ["cat", "dog"], "answer": "dog"}, ["cat", "dog"], "B"),
    ({"choices": ["cat", "dog"], "answer": "(B)"}, ["cat", "dog"], "B"),
    ({"choices": ["cat", "dog"], "answer": "B. dog"}, ["cat", "dog"], "B"),
    ({"choices": ["3", "4", "5"], "answer": 4}, ["3", "4", "5"], "B"),
    ({"choices": {"A": "cat", "B": "dog"}, "answer": "b"}, ["cat", "dog"], "B"),
    ({"choices": {"text": ["cat", "dog"], "label": ["1", "2"]}, "answerKey": "1"}, ["cat", "dog"], "A"),
    ({"options": [{"label": "A", "text": "cat"}, {"label": "B", "text": "dog"}], "answer": "B"}, ["cat", "dog"], "B"),
    ({"options": "['cat', 'dog']", "answer": "B"}, ["cat", "dog"], "B"),
    ({"options": '["cat", "it\'s"]', "answer": "B"}, ["cat", "it's"], "B"),
    ({"options": "(A) cat (B) dog", "answer": "B"}, ["cat", "dog"], "B"),
    ({"options": "A. cat\nB. dog", "answer": "dog"}, ["cat", "dog"], "B"),
    ({"A": "cat", "B": "dog", "answer": "B"}, ["cat", "dog"], "B"),
    ({"option_a": "cat", "option_b": "dog", "option_c": "", "answer": "B"}, ["cat", "dog"], "B"),
    ({"options": ["A. cat", "B. dog"], "answer": "B. dog"}, ["cat", "dog"], "B"),
    ({"options": ["(A) cat", "(B) dog"], "answer": 0}, ["cat", "dog"], "A"),
    ({"choices": ["B", "A"], "answer": "A"}, ["B", "A"], "A"),
]


@pytest.mark.parametrize(("record", "texts", "answer"), OPTIONS)
def test_options_and_which_is_right(record: dict[str, Any], texts: list[str], answer: str, folder: Path) -> None:
    made = row(folder, {"question": "Which?", **record})
    assert (made.choices, made.answer, made.answer_kind) == (texts, answer, "choice")
    assert plain_text(made.messages) == "Which?\n" + "\n".join(f"({x}) {t}" for x, t in zip("ABC", texts, strict=False))


def test_several_references_and_several_right_options(folder: Path) -> None:
    made = row(folder, {"question": "Where?", "options": "[]", "answer": "['Paris', 'Lutetia']"})
    assert (made.answer, made.accepted, made.choices) == ("Paris", ["Lutetia"], [])
    assert row(folder, {"question": "Which interval?", "answer": "[1, 2]"}).answer == "[1, 2]"
    for answer in ("AC", "A, C", ["A", "C"], ["cat", "hen"], [0, 2]):
        made = row(folder, {"question": "Which?", "choices": ["cat", "dog", "hen"], "answer": answer})
        assert (made.answer_kind, set(made.answer or "") - set(", ")) == ("choices", {"A", "C"}), answer


def test_options_that_the_question_names_are_not_named_twice(folder: Path) -> None:
    made = row(folder, {"question": "A cat or a dog?", "choices": ["cat", "dog"], "answer": 0})
    assert plain_text(made.messages) == "A cat or a dog?"


@pytest.mark.parametrize("answer", [3, -1, "E", "bird", "7"])
def test_a_reference_that_is_no_option_is_no_row(answer: Any, folder: Path) -> None:
    assert "none of 2 options" in why(folder, {"question": "Which?", "choices": ["cat", "dog"], "answer": answer})


def test_numbers_counted_from_one(tmp_path: Path) -> None:
    lines = [{"question": f"Which {n}?", "choices": ["cat", "dog"], "answer": n} for n in (1, 2)]
    run = prepare(tmp_path / "runs", str(write_lines(tmp_path / "a.jsonl", *lines)), near_duplicates=0.0)
    assert [r.answer for r in run.rows] == ["A", "B"] or [r.answer for r in run.rows] == ["B", "A"]
    assert "answer (counted from 1)" in run.notes[0]


def test_marks_with_numbers_find_their_images_in_questions_and_options(folder: Path) -> None:
    record = {
        "question": "Which is like <image 2>?",
        "options": "['<image 1>', '<image 2>']",
        "image_1": "red.png",
        "image_2": "blue.png",
        "image_3": None,
        "answer": "B",
    }
    made = row(folder, record)
    assert shape(made) == [("user", ["Which is like ", "#", "?\n(A) ", "#", "(B) image 2"])]
    assert [i.bytes for i in made.images] == [BLUE, RED]
    assert made.choices == ["<image 1>", "<image 2>"]


def test_a_mark_without_its_image_is_no_row(folder: Path) -> None:
    assert "<image 3>" in why(folder, {"question": "See <image 3>", "image_1": "red.png"})
    assert "image marks" in why(folder, {"question": "<image><image>", "image": "red.png"})


ANSWERS: list[tuple[dict[str, Any], str]] = [
    ({"solution": "<answer> 42 </answer>"}, "42"),
    ({"answer": "6 * 7 = 42\n#### 42"}, "42"),
    ({"ground_truth": 42}, "42"),
    ({"reward_model": {"style": "rule", "ground_truth": "42"}}, "42"),
    ({"Gold Answer": "42"}, "42"),
    ({"answer": ["42"]}, "42"),
    ({"answer": True}, "true"),
]


@pytest.mark.parametrize(("record", "answer"), ANSWERS)
def test_answers(record: dict[str, Any], answer: str, folder: Path) -> None:
    assert row(folder, {"prompt": "How many?", **record}).answer == answer


def test_the_map_comes_before_all_else(folder: Path) -> None:
    record = {
        "text": "How many?",
        "meta": {"gold": [{"value": 3}]},
        "answer": "none",
        "image": "red.png",
    }
    mapped = {
        "prompt": "text",
        "answer": "meta.gold[0].value",
        "label": "'safety'",
        "harmful": "'true'",
        "images": "none",
    }
    made = row(folder, record, map=mapped)
    assert (made.answer, made.label, made.harmful, made.images) == ("3", "safety", True, [])
    with pytest.raises(UsageError, match="answr"):
        row(folder, record, map={"answr": "a"})
    with pytest.raises(InputError, match="nothing there"):
        row(folder, record, map={"answer": "meta.gld"})


def test_the_command_line_maps_every_reader(tmp_path: Path) -> None:
    file = write_lines(tmp_path / "a.jsonl", {"problem": "2 + 2?", "grader": {"truth": 4}})
    for spec in (str(file), f"jsonl:{file}"):
        run = prepare(tmp_path / "runs", spec, map=["answer=grader.truth", "task='sums'"])
        assert (run.rows[0].answer, run.rows[0].task) == ("4", "sums")


def test_what_looks_like_something_and_is_not_read_is_named(tmp_path: Path) -> None:
    record = {"prompt": "a", "image": RED_URL, "label": "cat", "is_correct": 1, "side_image": "x.png", "colour": "red"}
    run = prepare(tmp_path / "runs", str(write_lines(tmp_path / "a.jsonl", record)))
    (named,) = (n for n in run.notes if n.startswith("not used"))
    for word in ("label looks like an answer (--map answer=label)", "is_correct", "side_image looks like an image"):
        assert word in named
    assert "colour" not in named
    assert json.loads(run.rows[0].extra or "") == {
        k: record[k] for k in ("label", "is_correct", "side_image", "colour")
    }


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("question_text", "correct_option", "img_file", "options"), ("A", ["red", "blue"], 1)),
        (("Q", "gt", "image name", "opts"), ("A", ["red", "blue"], 1)),
        (("text", "target", "file_name", "answer options"), ("A", ["red", "blue"], 1)),
        (("Question Text", "Right Answer", "Diagram", "Choices"), ("A", ["red", "blue"], 1)),
        # A class of ours it is not, and one of the options it is.
        (("Prompt", "Label", "Path", "candidates"), ("A", ["red", "blue"], 1)),
    ],
)
def test_columns_are_known_by_the_words_of_their_names_and_by_what_they_hold(
    folder: Path, names: tuple[str, ...], expected: tuple[str, list[str], int]
) -> None:
    record = dict(zip(names, ("What colour is it?", "red", "red.png", ["red", "blue"]), strict=True))
    made = row(folder, record)
    assert (made.answer, made.choices, len(made.images)) == expected
    assert shape(made) == [("user", ["#", "What colour is it?\n(A) red\n(B) blue"])]


@pytest.mark.parametrize("letters", [("Option A", "Option B"), ("choice1", "choice2"), ("opt-a", "opt-b"), ("A", "B")])
def test_options_in_columns_of_their_own(folder: Path, letters: tuple[str, str]) -> None:
    made = row(folder, {"question": "Which?", letters[1]: "dog", letters[0]: "cat", "answer": "dog"})
    assert (made.choices, made.answer) == (["cat", "dog"], "B")


def test_a_column_that_comes_late_is_read(tmp_path: Path) -> None:
    lines = [{"prompt": f"question number {n}"} for n in range(200)] + [{"prompt": "the last one", "solution": "42"}]
    run = prepare(tmp_path / "runs", str(write_lines(tmp_path / "a.jsonl", *lines)), near_duplicates=0.0)
    assert [r.answer for r in run.rows if r.answer] == ["42"]


def test_pairs_are_completions_unless_the_better_one_is_to_be_imitated(folder: Path) -> None:
    record = {"prompt": "Hi", "chosen": "Hello", "rejected": "Go away"}
    with pytest.raises(InputError) as refused:
        row(folder, record)
    assert "cosmo import one.jsonl --as scored" in refused.value.hint
    assert row(folder, record, map={"response": "chosen"}).reference_response == "Hello"
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    made = row(folder, {"chosen": turns, "rejected": turns}, map={"messages": "chosen"})
    assert (shape(made), made.reference_response) == ([("user", ["Hi"])], "Hello")


def test_nothing_that_can_be_the_prompt(folder: Path) -> None:
    with pytest.raises(InputError) as refused:
        row(folder, {"a": 1, "b": "x"})
    assert "--map prompt=COLUMN; its columns: a, b" in refused.value.hint
