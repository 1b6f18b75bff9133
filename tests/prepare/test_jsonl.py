"""Lines of one's own, good and bad."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest

from schemas.identity import prompt_id
from stages.core.errors import InputError
from stages.prepare.sources import identity, parse
from tests.prepare.made import image, prepare, read, write_lines


def test_rows_with_images_beside_inside_and_absolute(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "cup.png").write_bytes(image("red"))
    inside = "data:image/png;base64," + base64.b64encode(image("blue")).decode()
    file = write_lines(
        tmp_path / "mine.jsonl",
        {"prompt": "one ?", "image": "pictures/cup.png", "answer": 1},
        "",
        {"prompt": "two ?", "image": inside},
        {"prompt": "three ?", "image": str(tmp_path / "pictures" / "cup.png")},
    )
    records, rows = read(f"jsonl:{file}")
    assert [r.ref for r in records] == [f"mine.jsonl line {n}" for n in (1, 3, 4)]
    assert [r.images[0].bytes for r in rows] == [image("red"), image("blue"), image("red")]
    assert [r.images[0].path for r in rows] == ["pictures/cup.png", "image 1", "cup.png"]
    for record, row in zip(records, rows, strict=True):
        wanted = prompt_id(label=row.label, messages=row.messages, images=row.images, answer=row.answer)
        assert wanted == row.id == record.key
    assert str(tmp_path) not in str([(r.ref, r.text, r.key) for r in records])


def test_options_fill_what_lines_leave_out(tmp_path: Path) -> None:
    file = write_lines(tmp_path / "a.jsonl", {"prompt": "a ?"}, {"prompt": "b ?", "label": "math", "split": "train"})
    _, rows = read({"name": "jsonl", "path": str(file), "label": "value", "split": "test", "flags": ["no_training"]})
    assert [(r.label, r.split, r.flags) for r in rows] == [
        ("value", "test", ["no_training"]),
        ("math", "train", ["no_training"]),
    ]


def test_bad_lines_are_rejected_rows_with_their_number(tmp_path: Path) -> None:
    file = tmp_path / "bad.jsonl"
    file.write_bytes(
        b'\xef\xbb\xbf{"prompt": "a byte order mark is no fault"}\n'
        b'{"prompt": "cut off\n'
        b"[1, 2]\n"
        b'{"prompt": "latin \xe9"}\n'
        b'{"prompt": "half \\ud800 pair"}\n'
        b'{"prompt": "q", "answer": NaN}\n'
        b'{"answer": 3}\n'
        b'{"prompt": "q", "image": "gone.png"}\n'
        b'{"prompt": "q", "image": "https://example.org/a.png"}\n'
        b'{"prompt": "q", "image": "data:image/png;base64,@@@"}\n'
        b'{"prompt": "q", "image": 7}\n' + b"[" * 100_000 + b"\n"
        b'{"prompt": "the last one has no line end"}'
    )
    run = prepare(tmp_path / "runs", f"jsonl:{file}")
    assert len(run.rows) == 2
    assert run.why() == {
        **{f"bad.jsonl line {n}": "malformed" for n in (2, 3, 4, 5, 6, 7, 11, 12)},
        **{f"bad.jsonl line {n}": "missing_image" for n in (8, 9)},
        "bad.jsonl line 10": "bad_image",
    }
    assert all(r.source == "jsonl" and r.stage == "prepare" for r in run.rejected)
    detail = {r.ref.split()[-1]: r.detail for r in run.rejected}
    assert "at column" in detail["2"]
    assert "gone.png" in detail["8"]


def test_a_folder_is_read_file_by_file(tmp_path: Path) -> None:
    write_lines(tmp_path / "b.jsonl", {"prompt": "b ?"})
    write_lines(tmp_path / "a.jsonl", {"prompt": "a ?"})
    assert [r.text for r in read(f"jsonl:{tmp_path}")[0]] == ["a ?", "b ?"]


def test_sources_that_fail_whole(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("\n\n")
    (tmp_path / "folder").mkdir()
    for path in ("gone.jsonl", "empty.jsonl", "folder"):
        with pytest.raises(InputError) as error:
            read(f"jsonl:{tmp_path / path}")
        assert path in error.value.message
        assert error.value.hint


def test_identity_is_the_content_of_lines_and_images_and_not_the_place(tmp_path: Path) -> None:
    def digest(folder: str, color: str) -> object:
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "p.png").write_bytes(image(color))
        file = write_lines(tmp_path / folder / f"{folder}.jsonl", {"prompt": "q", "image": "p.png"})
        return identity(parse(f"jsonl:{file}", "test"))

    red, moved, blue = digest("a", "red"), digest("b", "red"), digest("c", "blue")
    assert red == moved
    assert red != blue


def test_a_image_that_changes_after_planning_is_told_by_another_fingerprint(tmp_path: Path) -> None:
    (tmp_path / "p.png").write_bytes(image("red"))
    file = write_lines(tmp_path / "a.jsonl", {"prompt": "q", "image": "p.png"})
    first = prepare(tmp_path / "runs", f"jsonl:{file}")
    again = prepare(tmp_path / "runs", f"jsonl:{file}")
    (tmp_path / "p.png").write_bytes(image("blue"))
    changed = prepare(tmp_path / "runs", f"jsonl:{file}")
    assert (first.state, again.state, changed.state) == ("done", "cached", "done")
    assert first.rows[0].id != changed.rows[0].id


LONG = "x" * 300 + ".png"


@pytest.mark.parametrize(
    ("value", "detail"),
    [
        (base64.b64encode(image("red", (99, 99))).decode(), "image 1 is no file; base64 needs data:image/png;base64,"),
        # A JPEG in base64 looks like an absolute path.
        ("/" + base64.b64encode(image("red", (99, 99))).decode(), "image 1 is no file; base64 needs data:image/"),
        (LONG, "(304 characters): File name too long"),
        (f"{LONG}/cup.png", "File name too long"),
        ("cup.png/cup.png", "no image cup.png/cup.png"),
        ("a\0b.png", "no image"),
    ],
)
def test_a_name_that_no_disk_takes_is_one_bad_row(tmp_path: Path, value: str, detail: str) -> None:
    (tmp_path / "cup.png").write_bytes(image("red"))
    good = [{"prompt": f"what is drawn here for {n} ?", "image": "cup.png"} for n in ("ann", "ben", "cara")]
    file = write_lines(tmp_path / "mine.jsonl", *good[:2], {"prompt": "broken ?", "image": value}, good[2])
    made = prepare(tmp_path / "runs", f"jsonl:{file}", near_duplicates=0.0)
    assert len(made.rows) == 3
    (left,) = made.rejected
    assert (left.ref, left.reason) == ("mine.jsonl line 3", "missing_image")
    assert detail in left.detail
    assert len(left.detail) < 250


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser enters every folder")
def test_an_image_in_a_closed_folder_is_one_bad_row(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir()
    (closed / "cup.png").write_bytes(image("red"))
    file = write_lines(tmp_path / "mine.jsonl", {"prompt": "a ?", "image": "closed/cup.png"}, {"prompt": "b ?"})
    closed.chmod(0)
    try:
        made = prepare(tmp_path / "runs", f"jsonl:{file}")
    finally:
        closed.chmod(0o700)
    assert [r.reason for r in made.rejected] == ["missing_image"]
    assert "Permission denied" in made.rejected[0].detail
    assert len(made.rows) == 1
