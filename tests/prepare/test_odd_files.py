"""Files as strangers have them: each loads rightly, or is refused in one line that says what to type."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.values import plain_text
from stages.core.errors import InputError
from stages.reading.containers.found import found
from tests.prepare.made import Prepared, image, prepare, write_lines
from tests.support import bombs

TABLE = "question,answer\nWie gro\u00df?,drei\nUnd nun?,vier\n"
LINES = [{"question": "Wie gro\u00df?", "answer": "drei"}, {"question": "Und nun?", "answer": "vier"}]
AS_LINES = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in LINES)
AS_ARRAY = json.dumps(LINES, ensure_ascii=False)


def run(path: Path, **config: Any) -> Prepared:
    return prepare(path.parent / "runs", str(path), near_duplicates=0.0, **config)


def answers(made: Prepared) -> dict[str, str | None]:
    return {plain_text(row.messages).partition("\n")[0]: row.answer for row in made.rows}


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-8-sig"])
@pytest.mark.parametrize(("name", "text"), [("q.csv", TABLE), ("q.jsonl", AS_LINES), ("q.json", AS_ARRAY)])
@pytest.mark.parametrize("packed", [False, True])
def test_marked_encodings_and_line_ends_of_windows_are_read(
    name: str, text: str, encoding: str, packed: bool, tmp_path: Path
) -> None:
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    data = (mark + text.replace("\n", "\r\n")).encode(encoding)
    path = tmp_path / (f"{name}.gz" if packed else name)
    path.write_bytes(gzip.compress(data) if packed else data)
    assert answers(run(path)) == {"Wie gro\u00df?": "drei", "Und nun?": "vier"}
    # Rows are read again by their position, also where none can be entered at.
    container = found(str(path), "")
    items = list(container.items())
    assert [container.read(item.position) for item in reversed(items)] == [item.record for item in reversed(items)]


def test_half_a_character_at_a_buffers_end_is_none(tmp_path: Path) -> None:
    """A character of four bytes in UTF-16 at every place of a file longer than what is read at once."""
    words = "\U0001f600x" * 400_000
    path = tmp_path / "q.jsonl"
    path.write_bytes(json.dumps({"question": words}, ensure_ascii=False).encode("utf-16"))
    (item,) = found(str(path), "").items()
    assert item.record == {"question": words}
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match="can't be read"):
        list(found(str(path), "").items())


CUT = gzip.compress(AS_LINES.encode() * 999)[:300]
REFUSED: dict[str, tuple[bytes, str, str]] = {
    "cp1252.csv": (TABLE.encode("cp1252"), "not UTF-8 in line 2", "iconv"),
    "no_mark.csv": (TABLE.encode("utf-16-le"), "NUL bytes in line 1", "UTF-16LE"),
    "mac.csv": (TABLE.replace("\n", "\r").encode(), "carriage return alone", "tr "),
    "cut.jsonl.gz": (CUT, "ended before", "download it again"),
    "packed.jsonl": (gzip.compress(AS_LINES.encode()), "its name doesn't say so", "packed.jsonl.gz"),
    "table.csv.gz": (TABLE.encode(), "Not a gzipped file", "download it again"),
    "pointer.parquet": (b"version https://git-lfs.github.com/spec/v1\noid x", "Git LFS pointer", "git lfs pull"),
    "page.csv": (b"\xef\xbb\xbf\n<!DOCTYPE html><html>", "a web page", "the file itself"),
    "pretty.jsonl": (json.dumps(LINES[0], indent=1).encode(), "over several lines", "jq -c"),
    "joined.json": (b'{"question": "a"}{"question": "b"}', "Extra data", "jq -c"),
    "doubled.csv": (b"question,answer,answer\na,b,c\n", "two columns 'answer'", "a name of its own"),
    "empty.csv": (b"", "is empty", "copy"),
    "head.csv": (b"question,answer\n", "no record", "not empty"),
    "blank.jsonl": (b"\n \n", "no record", "not empty"),
    "empty.json": (b"[]", "no record", "not empty"),
    "deep.json": (b'[{"sample": {"question": "a?"}, "n": 1}]', "no column is known", "sample.question, n"),
    "kto.json": (
        b'[{"instruction": "q?", "output": "no", "kto_tag": false}]', "a verdict each (kto_tag)", "cosmo import"
    ),
    "trl_kto.jsonl": (b'{"prompt": "q?", "completion": "no", "label": false}', "(label)", "cosmo import"),
    "boxes.json": (
        json.dumps([{"messages": [{"role": "user", "content": "Where is <ref-object>?"}], "objects": {}, "n": 1}])
        .replace('"objects": {}', '"objects": {"ref": ["dog"]}').encode(),
        "<ref-object>", "into the text",
    ),
    "many.jsonl": (
        json.dumps({"question": "Which?", "options": [f"o{n}" for n in range(27)], "answer": "o1"}).encode(),
        "1 too_many_options", "--map choices=none",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cant_be_read_is_refused_in_a_line_with_a_hint(name: str, tmp_path: Path) -> None:
    data, said, hint = REFUSED[name]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError) as error:
        run(tmp_path / name)
    assert said in error.value.message
    assert hint in (error.value.hint or "")
    assert "\n" not in f"{error.value.message}{error.value.hint}"


def test_more_options_than_letters_are_left_out_where_a_person_says_so(tmp_path: Path) -> None:
    (tmp_path / "many.jsonl").write_bytes(REFUSED["many.jsonl"][0])
    (row,) = run(tmp_path / "many.jsonl", map=["choices=none"]).rows
    assert (row.answer, row.answer_kind, row.choices) == ("o1", "text", [])


PLACES = ["pics\\0.png", ".\\pics\\0.png", "file:pics/0.png", "file://{0}/pics/0.png", "file://localhost{0}/pics/0.png"]


@pytest.mark.parametrize("written", [*PLACES, "file://pics/0.png", "file://{0}/pics/a%20b.png", "FILE:{0}/pics/0.png"])
def test_images_named_as_other_systems_name_them(written: str, tmp_path: Path) -> None:
    (tmp_path / "pics").mkdir()
    for name in ("0.png", "a b.png"):
        (tmp_path / "pics" / name).write_bytes(image("teal"))
    path = write_lines(tmp_path / "q.jsonl", {"question": "What?", "image": written.format(tmp_path), "answer": "teal"})
    (row,) = run(path).rows
    assert row.images[0].bytes == image("teal")


def test_a_backslash_or_an_address_leads_no_further_out_than_a_slash(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "out.png").write_bytes(image("teal"))
    lines = [{"question": f"{n}?", "image": name} for n, name in enumerate(["..\\out.png", "file:%2e%2e/out.png"])]
    path = write_lines(tmp_path / "in" / "q.jsonl", *lines)
    with pytest.raises(InputError, match="2 outside"):
        run(path)


def test_a_name_with_a_backslash_in_it_is_a_name(tmp_path: Path) -> None:
    (tmp_path / "a\\b.png").write_bytes(image("teal"))
    path = write_lines(tmp_path / "q.jsonl", {"question": "What?", "image": "a\\b.png"})
    assert run(path).rows[0].images[0].bytes == image("teal")


def test_objects_in_columns_are_asked_for_their_value(tmp_path: Path) -> None:
    """SQuAD's answers, and a question that is an object."""
    lines = [
        {"question": {"text": "Capital?"}, "context": "Some.", "answers": {"text": ["Paris"], "answer_start": [3]}},
        {"question": {"text": "Who?"}, "context": "Other.", "answers": {"text": ["Ann", "Anna"], "answer_start": [3]}},
    ]
    made = run(write_lines(tmp_path / "q.jsonl", *lines))
    assert {row.answer: row.accepted for row in made.rows} == {"Paris": [], "Ann": ["Anna"]}
    assert any("context looks like what a question is about (--map hint=context)" in note for note in made.notes)
    with_hint = run(tmp_path / "q.jsonl", map=["hint=context"])
    assert sorted(plain_text(row.messages) for row in with_hint.rows) == ["Other.\nWho?", "Some.\nCapital?"]


@pytest.mark.parametrize(
    ("whole", "expected"),
    [
        ({"version": "1", "data": {"train": [{"question": "a?", "answer": "1"}]}}, {"a?": "1"}),
        ({"data": {"train": [{"question": "a?", "answer": "1"}], "test": []}}, {"a?": "1"}),
        # Records by name, which hold lists of their own.
        ({"x": {"conversations": [{"from": "human", "value": "a?"}, {"from": "gpt", "value": "1"}]}}, {"a?": None}),
    ],
)
def test_lists_of_records_one_level_down(whole: Any, expected: dict[str, str | None], tmp_path: Path) -> None:
    (tmp_path / "q.json").write_text(json.dumps(whole))
    assert answers(run(tmp_path / "q.json")) == expected


def test_options_under_small_letters(tmp_path: Path) -> None:
    """In a dict, and in columns where the answers are their names; of a sum `a` and `b` are no options."""
    options = [{"question": "Which?", "options": {"a": "cat", "b": "dog"}, "answer": "b"}]
    (row,) = run(write_lines(tmp_path / "dict.jsonl", *options)).rows
    assert (row.answer, row.choices) == ("B", ["cat", "dog"])
    (tmp_path / "c.csv").write_text("question,a,b,c,answer\nWhich?,cat,dog,cow,b\nWho?,x,y,z,C\n")
    assert {row.answer: row.choices for row in run(tmp_path / "c.csv").rows} == {
        "B": ["cat", "dog", "cow"],
        "C": ["x", "y", "z"],
    }
    (tmp_path / "sum.csv").write_text("question,a,b,answer\nWhat is a + b?,1,2,3\n")
    (row,) = run(tmp_path / "sum.csv").rows
    assert (row.answer, row.choices) == ("3", [])


def test_columns_that_are_short_mixed_or_yes_and_no(tmp_path: Path) -> None:
    (tmp_path / "q.csv").write_text("question,answer,harmful\nWhat?,red\nAnd?\nThird?,5,True\nLast?,blue,no\n")
    made = run(tmp_path / "q.csv")
    assert answers(made) == {"What?": "red", "And?": None, "Third?": "5", "Last?": "blue"}
    flags = {plain_text(row.messages): row.harmful for row in made.rows}
    assert flags == {"What?": None, "And?": None, "Third?": True, "Last?": False}
    mixed = [{"question": "a?", "answer": 3}, {"question": "b?", "answer": ["x"]}, {"question": 7}, "[1]"]
    made = run(write_lines(tmp_path / "m.jsonl", *mixed, '{"question": "c?", "answer":'))
    assert answers(made) == {"a?": "3", "b?": "x"}
    assert sorted(made.why()) == ["m.jsonl line 3", "m.jsonl line 4", "m.jsonl line 5"]


def test_large_and_dictionary_columns_of_parquet(tmp_path: Path) -> None:
    columns = {
        "question": pa.array(["a?", "b?"], pa.large_string()),
        "answer": pa.array(["x", "y"]).dictionary_encode(),
        "image": pa.array([image("red"), image("blue")], pa.large_binary()),
        "choices": pa.array([["x", "y"], ["z", "y"]], pa.large_list(pa.large_string())),
    }
    pq.write_table(pa.table(columns), tmp_path / "q.parquet")
    made = run(tmp_path / "q.parquet")
    assert answers(made) == {"a?": "A", "b?": "B"}
    assert {row.images[0].bytes for row in made.rows} == {image("red"), image("blue")}


def test_a_field_longer_than_csv_takes_by_itself(tmp_path: Path) -> None:
    words = "word " * 100_000
    (tmp_path / "q.csv").write_text(f'question,answer\n"{words}",drei\nShort?,vier\n')
    assert answers(run(tmp_path / "q.csv")) == {words: "drei", "Short?": "vier"}


def test_a_webdataset_of_jpegs_and_objects_in_a_folder(tmp_path: Path) -> None:
    colors = ("red", "blue")
    with tarfile.open(tmp_path / "w.tar", "w") as tar:
        for n, color in enumerate(colors):
            for suffix, data in (
                ("jpeg", image(color, kind="JPEG")),
                ("json", json.dumps({"question": f"{n}?", "answer": color}).encode()),
            ):
                member = tarfile.TarInfo(f"part/{n:03d}.{suffix}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    made = run(tmp_path / "w.tar")
    assert {row.answer: row.images[0].bytes for row in made.rows} == {c: image(c, kind="JPEG") for c in colors}


def test_verls_reward_model_as_text_and_llama_factorys_history(tmp_path: Path) -> None:
    prompt = [[{"role": "user", "content": "q?"}]]
    reward = [json.dumps({"style": "rule", "ground_truth": ["72", "73"]})]
    pq.write_table(pa.table({"prompt": prompt, "reward_model": reward}), tmp_path / "v.parquet")
    (row,) = run(tmp_path / "v.parquet").rows
    assert (row.answer, row.accepted) == ("72", ["73"])
    alpaca = [{"instruction": "q?", "input": "x", "output": "red", "history": [["a", "b"]]}]
    (tmp_path / "l.json").write_text(json.dumps(alpaca))
    (row,) = run(tmp_path / "l.json").rows
    assert [m.role for m in row.messages] == ["user", "assistant", "user"]
    assert (plain_text(row.messages[-1:]), row.reference_response) == ("q?\nx", "red")


@pytest.mark.parametrize("source", ["{}", "parquet:{}"])
@pytest.mark.parametrize("kind", ["dictionary", "inside_lists", "pages"])
def test_a_small_file_that_stands_for_gigabytes_is_refused_by_its_name(kind: str, source: str, tmp_path: Path) -> None:
    bombs.PARQUET[kind](tmp_path / "q.parquet")
    with pytest.raises(InputError, match=r"q\.parquet has [0-9,]+ bytes and stands for [0-9,]+ or more") as error:
        prepare(tmp_path / "runs", source.format(tmp_path / "q.parquet"))
    assert "write it anew" in error.value.hint


def test_an_arrow_file_that_stands_for_gigabytes_is_refused_by_its_name(tmp_path: Path) -> None:
    bombs.arrow(tmp_path / "q.arrow")
    with pytest.raises(InputError, match=r"q\.arrow has [0-9,]+ bytes and stands for [0-9,]+ or more"):
        run(tmp_path / "q.arrow")
