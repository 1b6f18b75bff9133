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
    assert [reason for _, reason in rejected(rollout)] == [*["missing_image"] * len(names), "unsupported_type"]
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
        ({"prompt": "a", "completion": "b", "answer": ["1", "2"]}, "--map answer"),
        ({"prompt": "a", "completion": "b", "harmful": "perhaps"}, "true or false"),
        ({"prompt": [{"role": "tool", "content": "x"}], "completion": "b"}, "a turn of 'tool'"),
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
