"""Prompts: those of a prepared run by id or by words, or the file's own with images beside it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from schemas.values import plain_text
from stages.core.errors import InputError
from tests.imports.made import (
    QUESTIONS,
    data_url,
    groups_of,
    imported,
    lm_eval_rows,
    png,
    rejected,
    run,
    write_jsonl,
    write_table,
)


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    """Three prompts, two of which have the same words and other images."""
    for name, color in (("a", "red"), ("b", "blue")):
        (tmp_path / f"{name}.png").write_bytes(png(color))
    rows = [
        {"id": "q0", "prompt": QUESTIONS[0][0], "answer": 4, "label": "math", "task": "legs"},
        {"id": "q1", "prompt": "What colour is it?", "image": "a.png", "answer": "red", "choices": ["red", "blue"]},
        {"id": "q2", "prompt": "What colour is it?", "image": "b.png", "answer": "blue", "choices": ["red", "blue"]},
    ]
    path = write_jsonl(tmp_path / "prompts.jsonl", rows)
    return run("prepare", tmp_path / "runs", [], sources=[f"jsonl:{path}"], near_duplicates=0.0).path


def test_prompts_are_found_by_id_and_by_words(tmp_path: Path, prepared: Path) -> None:
    ids = {g.answer: g.id for g in run_rows(prepared)}
    rows = [
        # Our own id, which a file has that was made from an exported prompt set.
        {"prompt_id": ids["red"], "completion": "one"},
        # The words, laid out otherwise.
        {"prompt": f"  {QUESTIONS[0][0]}\n", "completion": "two"},
        # The source's own id, and words around the question, as tools put them.
        {"id": "q2", "prompt": "Hint: look.\nWhat colour is it?\nA. red", "completion": "three"},
        # The source's own id and no words at all.
        {"id": "q1", "completion": "four"},
    ]
    path = write_jsonl(tmp_path / "made.jsonl", rows)
    rollout = imported(tmp_path / "runs", path, prompts=[prepared], model="m")
    groups = {g.answer: g for g in groups_of(rollout)}
    assert {a: [c.text for c in g.completions] for a, g in groups.items()} == {
        "red": ["one", "four"],
        "4": ["two"],
        "blue": ["three"],
    }
    assert {a: g.id for a, g in groups.items()} == ids
    assert groups["4"].label == "math"
    assert groups["4"].task == "legs"
    assert groups["red"].images[0].bytes == png("red")
    assert groups["red"].choices == ["red", "blue"]
    assert rollout.manifest.inputs[0].stage == "prepare"


def test_what_no_prompt_or_several_have_is_rejected(tmp_path: Path, prepared: Path) -> None:
    rows = [
        {"prompt": "What colour is it?", "completion": "which of the two"},
        {"id": "q0", "prompt": "Another question altogether", "completion": "an id by chance"},
        {"prompt": "Nobody asked this", "completion": "x"},
        {"prompt": QUESTIONS[0][0], "completion": "4"},
    ]
    rollout = imported(tmp_path / "runs", write_jsonl(tmp_path / "made.jsonl", rows), prompts=[prepared])
    assert rejected(rollout) == [
        ("line 1", "ambiguous_prompt"),
        ("line 2", "no_such_prompt"),
        ("line 3", "no_such_prompt"),
    ]


def run_rows(path: Path):
    from schemas.tables import PROMPTS
    from stages.core.runs.folder import RunFolder

    return list(RunFolder.open(path).rows(PROMPTS))


def test_own_prompts_have_their_images(tmp_path: Path) -> None:
    (tmp_path / "img").mkdir()
    (tmp_path / "img" / "a.png").write_bytes(png("red"))
    rows = [
        {"prompt": "<image>\nWhat is it?", "image": "img/a.png", "completion": "1"},
        {"prompt": "What is it?", "images": [data_url(png("blue"))], "completion": "2"},
        {"prompt": "What is it?", "image": data_url(png("green")).rpartition(",")[2], "completion": "3"},
        {
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "image_url", "image_url": {"url": data_url(png("black"))}},
                        {"type": "text", "text": "What is it?"},
                    ],
                }
            ],
            "completion": "4",
        },
        # The same prompt as the first.
        {"prompt": "<image>\nWhat is it?", "image": "img/a.png", "completion": "5"},
    ]
    groups = groups_of(imported(tmp_path / "runs", write_jsonl(tmp_path / "rows.jsonl", rows)))
    assert [g.images[0].bytes for g in groups] == [png(c) for c in ("red", "blue", "green", "black")]
    assert [[c.text for c in g.completions] for g in groups] == [["1", "5"], ["2"], ["3"], ["4"]]
    assert [[p.type for p in g.messages[0].content] for g in groups] == [["image", "text"]] * 4
    assert {plain_text(g.messages) for g in groups} == {"What is it?"}
    # The id is that of the prompt however it came here: `prepare` makes the same.
    source = write_jsonl(tmp_path / "prompts.jsonl", [{"prompt": "<image>\nWhat is it?", "image": "img/a.png"}])
    assert run_rows(run("prepare", tmp_path / "runs", [], sources=[f"jsonl:{source}"]).path)[0].id == groups[0].id


def test_images_stay_inside_the_folder(tmp_path: Path) -> None:
    """A file of strangers must not have our disk copied into a run: neither by a path nor by a link."""
    inside = tmp_path / "theirs"
    inside.mkdir()
    (tmp_path / "secret.png").write_bytes(png())
    (inside / "link.png").symlink_to(tmp_path / "secret.png")
    (inside / "text.png").write_bytes(b"no image at all")
    names = [
        "../secret.png",
        str(tmp_path / "secret.png"),
        "link.png",
        "absent.png",
        "http://x/y.png",
        "a\0b",
        "x" * 999,
    ]
    rows = [{"prompt": f"What is {n}?", "image": name, "completion": "c"} for n, name in enumerate(names)]
    rows += [{"prompt": "Which?", "image": "text.png", "completion": "c"}, {"prompt": "Fine?", "completion": "c"}]
    rollout = imported(tmp_path / "runs", write_jsonl(inside / "rows.jsonl", rows))
    # The last is as long as base64 is, and none.
    reasons = [*["outside"] * 3, *["missing_image"] * 3, "bad_image", "unsupported_type"]
    assert [reason for _, reason in rejected(rollout)] == reasons
    assert [plain_text(g.messages) for g in groups_of(rollout)] == ["Fine?"]
    assert str(tmp_path) not in "".join(r.detail for r in rollout.rejected())


@pytest.mark.parametrize(
    "row, words",
    [
        ({"prompt": "hm"}, "no completion among 'prompt'"),
        ({"completion": "hm"}, "no prompt and no id"),
        ({"id": 3, "completion": "hm"}, "--prompts RUN"),
        ({"prompt": " ", "completion": "hm"}, "empty"),
        ({"prompt": "<image>", "completion": "hm"}, "1 image marks for 0 images"),
        ({"prompt": "a", "completion": {"x": 1}}, "--map completion"),
        ({"prompt": "a", "completion": "b", "answer": {"a": 1}}, "'answer' is {'a': 1}"),
        ({"prompt": "a", "completion": "b", "harmful": "perhaps"}, "true or false"),
        ({"prompt": [{"role": "tool", "content": "x"}], "completion": "b"}, "turn 1 (tool) is of a tool"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "no prompt"),
    ],
)
def test_a_bad_row_says_why(tmp_path: Path, row: dict, words: str) -> None:
    rollout = imported(tmp_path / "runs", write_jsonl(tmp_path / "r.jsonl", [{"prompt": "a", "completion": "b"}, row]))
    (bad,) = rollout.rejected()
    assert (bad.ref, bad.source, bad.stage) == ("line 2", "r.jsonl", "import")
    assert words in bad.detail


def test_rows_of_a_table_are_found_again(tmp_path: Path) -> None:
    """Quoted fields go over lines, shards hold few groups: each reads its own rows, from the middle of the file."""
    rows = [{"question": f'Line one of {n}\nline "two", and more', "completion": f"answer\n{n}"} for n in range(7)]
    path = write_table(tmp_path / "rows.csv", rows)
    # A byte order mark, as spreadsheets write it.
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    groups = groups_of(imported(tmp_path / "runs", path, shard_groups=2))
    assert [(plain_text(g.messages), g.completions[0].text) for g in groups] == [
        (r["question"], r["completion"]) for r in rows
    ]


def test_nothing_to_import_is_an_error_with_the_first_reason(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", [{"prompt": "a"}, {"prompt": "b"}])
    with pytest.raises(InputError, match="no completion to import: 2 malformed") as caught:
        imported(tmp_path / "runs", path)
    assert caught.value.hint.startswith("the first: rows.jsonl line 1: no completion among")


def test_what_is_called_as_ours_and_means_something_else_is_kept_apart(tmp_path: Path) -> None:
    """A class called `label`, a benchmark's `split` and `source`: read as ours they would lose or mislead rows."""
    rows = [
        {"prompt": "a", "completion": "b", "label": "toxic"},
        {"prompt": "c", "completion": "d", "label": "math", "split": "validation"},
    ]
    groups = groups_of(imported(tmp_path / "runs", write_jsonl(tmp_path / "rows.jsonl", rows)))
    assert [(g.label, g.split, g.extra) for g in groups] == [
        ("general", "train", '{"label": "toxic"}'),
        ("math", "test", None),
    ]
    logged = [{**row, "doc": {**row["doc"], "label": 3, "split": "dev"}} for row in lm_eval_rows("model-a")]
    path = write_jsonl(tmp_path / "m" / "samples_x.jsonl", logged)
    first, *_ = groups_of(imported(tmp_path / "runs", path))
    assert (first.label, first.split, json.loads(first.extra)["doc.label"]) == ("general", "test", 3)
    asked, *_ = groups_of(imported(tmp_path / "runs", path, split="train"))
    assert asked.split == "train"


LETTERED = {"choices": ["cat", "dog", "emu"], "answer_kind": "choice"}
READ: list[tuple[dict, dict]] = [
    ({"answer": ["4", "four"]}, {"answer": "4", "accepted": ["four"], "answer_kind": "text"}),
    ({"answer": "['4', 'four']"}, {"answer": "4", "accepted": ["four"]}),
    ({"answer": "['4']"}, {"answer": "4", "accepted": [], "answer_kind": "number"}),
    ({"answer": "[1, 2]"}, {"answer": "[1, 2]", "accepted": []}),
    ({"answer": float("nan")}, {"answer": None, "answer_kind": None}),
    ({"answer": 0.10000000149011612}, {"answer": "0.1"}),
    ({"choices": {"B": "dog", "A": "cat", "C": "emu"}, "answer": "B"}, {**LETTERED, "answer": "B"}),
    ({"choices": {"1": "cat", "2": "dog", "3": "emu"}, "answer": 2}, {**LETTERED, "answer": "B"}),
    ({"choices": "['cat', 'dog', 'emu']", "answer": 1}, {**LETTERED, "answer": "B"}),
    ({"choices": ["A. cat", "B. dog", "C. emu"], "answer": "C"}, {**LETTERED, "answer": "C"}),
    ({"A": "cat", "B": "dog", "C": "emu", "answer": "A"}, {**LETTERED, "answer": "A"}),
    ({"options": {"text": ["cat", "dog"], "label": ["i", "ii"]}, "answer": "ii"}, {"answer": "B"}),
    ({"choices": ["cat", "dog", "emu"], "answer": ["A", "C"]}, {"answer": "AC", "answer_kind": "choices"}),
    ({"category": 3, "harmful": "1.0", "facts": "['a', 'b']"}, {"category": "3", "harmful": True, "facts": ["a", "b"]}),
    ({"instructions": "Be brief.", "answer_kind": "open"}, {"instructions": [], "answer_kind": None}),
]


def test_references_and_options_are_read_as_prepare_reads_them(tmp_path: Path) -> None:
    rows = [{"prompt": f"question {n}", "completion": "c", **row} for n, (row, _) in enumerate(READ)]
    groups = groups_of(imported(tmp_path / "runs", write_jsonl(tmp_path / "rows.jsonl", rows)))
    assert len(groups) == len(READ)
    for group, (row, expected) in zip(groups, READ, strict=True):
        assert {name: getattr(group, name) for name in expected} == expected, row


def test_several_right_options_may_be_said_of_all_rows(tmp_path: Path) -> None:
    """By the command line as by a row: one letter alone is one of several right ones, too."""
    row = {"prompt": "Which?", "completion": "B", "choices": ["cat", "dog"], "answer": "B"}
    (group,) = groups_of(imported(tmp_path / "runs", write_jsonl(tmp_path / "r.jsonl", [row]), answer_kind="choices"))
    assert (group.answer, group.answer_kind) == ("B", "choices")


def test_images_are_read_as_prepare_reads_them(tmp_path: Path) -> None:
    """Struct, list written as text, marks by number, and what leads outside only where it is allowed."""
    inside = tmp_path / "in"
    for color in ("red", "blue"):
        (inside / f"{color}.png").parent.mkdir(exist_ok=True)
        (inside / f"{color}.png").write_bytes(png(color))
    both = ["red.png", {"path": "blue.png"}]
    rows = [
        {"prompt": "a", "images": both},
        {"prompt": "b", "images": "['red.png', 'blue.png']"},
        {"prompt": "c <image 2> and <image 1>", "image_1": "blue.png", "image_2": "red.png"},
        {"prompt": "d", "image": {"bytes": data_url(png("red")).rpartition(",")[2]}},
    ]
    path = write_jsonl(inside / "rows.jsonl", [{**row, "completion": "x"} for row in rows])
    groups = groups_of(imported(tmp_path / "runs", path))
    red, blue = png("red"), png("blue")
    assert [[i.bytes for i in g.images] for g in groups] == [[red, blue]] * 3 + [[red]]
    elsewhere = write_jsonl(
        tmp_path / "out" / "rows.jsonl", [{"prompt": "a", "image": "../in/red.png", "completion": "x"}]
    )
    (group,) = groups_of(imported(tmp_path / "runs", elsewhere, allow_outside=True))
    assert group.images[0].bytes == red
    (group,) = groups_of(
        imported(
            tmp_path / "runs",
            write_jsonl(tmp_path / "out" / "b.jsonl", [{"prompt": "a", "image": "red.png", "completion": "x"}]),
            image_folder=str(inside),
        )
    )
    assert group.images[0].bytes == red


def test_instructions_that_no_check_is_for_are_no_rows_as_in_prepare(tmp_path: Path) -> None:
    rows = [
        {"prompt": "Say one word.", "instructions": [{"kind": "one_word"}], "completion": "one"},
        {"prompt": "Say it.", "instructions": [{"kind": "one_wrod"}], "completion": "one"},
        {"prompt": "Count.", "instructions": [{"kind": "count:numbers", "N": "two"}], "completion": "1 2"},
    ]
    path = write_jsonl(tmp_path / "made.jsonl", rows)
    rollout = imported(tmp_path / "runs", path)
    assert [g.instructions for g in groups_of(rollout)] == [['{"kind": "one_word"}']]
    refused = {r.ref: (r.reason, r.detail) for r in rollout.rejected()}
    assert {ref: reason for ref, (reason, _) in refused.items()} == {
        "line 2": "unknown_instruction",
        "line 3": "wrong_instruction",
    }
    assert "'one_wrod'" in refused["line 2"][1]
    source = write_jsonl(tmp_path / "prompts.jsonl", [{k: v for k, v in r.items() if k != "completion"} for r in rows])
    same = run("prepare", tmp_path / "runs", [], sources=[f"jsonl:{source}"])
    assert sorted((r.reason, r.detail) for r in same.rejected()) == sorted(refused.values())


def test_a_field_can_be_left_out(tmp_path: Path) -> None:
    options = [f"o{n}" for n in range(27)]
    path = write_jsonl(
        tmp_path / "made.jsonl", [{"prompt": "Which?", "choices": options, "answer": "o1", "reply": "o1"}]
    )
    with pytest.raises(InputError) as error:
        imported(tmp_path / "runs", path)
    assert "--map choices=none" in (error.value.hint or "")
    (group,) = groups_of(imported(tmp_path / "runs", path, map=["choices=none"]))
    assert (group.answer, group.answer_kind, group.choices) == ("o1", "text", [])


@pytest.mark.parametrize(("column", "other"), [("kto_tag", {"instruction": "q?"}), ("label", {"prompt": "q?"})])
def test_completions_with_a_verdict_each_become_rewards_as_prepare_says(
    column: str, other: dict[str, str], tmp_path: Path
) -> None:
    rows = [{**other, "completion": text, column: liked} for text, liked in (("yes", True), ("no", False))]
    path = write_jsonl(tmp_path / "made.jsonl", rows)
    found = imported(tmp_path / "runs", path, write="scored", grades={"liked": column}, reward="liked")
    assert {c.text: c.reward for g in groups_of(found) for c in g.completions} == {"yes": 1.0, "no": 0.0}
