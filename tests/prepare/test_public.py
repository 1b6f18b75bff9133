"""The loaders of public sets, against the authors' own files."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from schemas.identity import prompt_id
from schemas.prompts import PromptRow
from stages.core.errors import InputError
from tests.prepare.made import needs_shared, read
from tests.support.cli import SHARED

pytestmark = needs_shared


def source(name: str, **options: str) -> dict[str, str]:
    return {"name": name, "path": str(SHARED / name), **options}


def texts(row: PromptRow) -> list[str | None]:
    return [p.text if p.type == "text" else None for m in row.messages for p in m.content]


def sound(rows: list[PromptRow]) -> None:
    """What must hold for every row of every loader."""
    for row in rows:
        assert row.id == prompt_id(label=row.label, messages=row.messages, images=row.images, answer=row.answer)
        parts = [p for m in row.messages for p in m.content if p.type == "image"]
        assert len(parts) == len(row.images)
        assert row.messages[-1].role == "user"
        assert all(t is None or t.strip() for t in texts(row))
        assert not any((i.path or "").startswith("/") for i in row.images)
        assert row.extra is None or isinstance(json.loads(row.extra), dict)


def test_gsm8k() -> None:
    records, rows = read(source("gsm8k"))
    assert Counter(r.split for r in rows) == {"train": 7473, "test": 1319}
    assert len(records) == len(rows) == len({r.id for r in rows})
    sound(rows)
    assert all(re.fullmatch(r"-?\d+(\.\d+)?", r.answer or "") for r in rows)
    assert all((r.label, r.answer_kind, r.flags) == ("math", "number", []) for r in rows)
    first = rows[0]
    assert first.answer == "72"
    assert first.reference_response is not None
    assert first.reference_response.startswith("<think> Natalia sold 48/2 = 24 clips in May.")
    assert first.reference_response.endswith("</think> 72")
    assert not any("<<" in (r.reference_response or "") for r in rows)
    assert [len(read(source("gsm8k", subset=s))[1]) for s in ("train", "test")] == [7473, 1319]


def test_gsm8k_reads_a_single_file_by_its_name() -> None:
    file = SHARED / "gsm8k" / "grade_school_math" / "data" / "test.jsonl"
    _, rows = read(f"gsm8k:{file}")
    assert {r.split for r in rows} == {"test"}
    assert len(rows) == 1319


def test_math_v_testmini() -> None:
    records, rows = read(source("math_v"))
    assert len(records) == len(rows) == 304
    sound(rows)
    assert all(len(r.images) == 1 and r.images[0].bytes[:2] == b"\xff\xd8" for r in rows)
    assert all((r.split, r.flags, r.label) == ("test", ["no_training"], "math") for r in rows)
    assert not any(re.search(r"<image\d*>", t or "") for r in rows for t in texts(r))
    kinds = Counter(r.answer_kind for r in rows)
    assert kinds == {"choice": 191, "math": 113}
    assert all(r.answer in "ABCDE" and len(r.choices) == 5 for r in rows if r.answer_kind == "choice")


def test_math_v_shows_options_only_where_they_are_words_and_numbers_only_several_marks() -> None:
    rows = {json.loads(r.extra or "")["id"]: r for r in read(source("math_v"))[1]}
    upstream = [json.loads(x) for x in (SHARED / "math_v/data/testmini.jsonl").read_text("utf-8").splitlines()]
    for item in upstream:
        said = " ".join(t for t in texts(rows[item["id"]]) if t)
        bare = [o.strip("()") for o in item["options"]] in ([*"ABCDE"], [])
        assert bare is ("(A) " not in said)
        if not bare:
            assert all(o in said or "<image" in o for o in item["options"])
        several = len(set(re.findall(r"<image\d+>", " ".join([item["question"], *item["options"]])))) > 1
        assert several is ("(image 1)" in said)


def test_math_v_test_lists_missing_images() -> None:
    records, rows = read(source("math_v", subset="test"))
    assert len(records) == 3040
    assert Counter(r.rejected and r.rejected[0] for r in records) == {None: 304, "missing_image": 2736}
    assert "images/1.jpg" in next(r.rejected[1] for r in records if r.rejected)
    assert len({r.id for r in rows} & {r.id for r in read(source("math_v"))[1]}) == 304


def test_xstest() -> None:
    records, rows = read(source("xstest"))
    assert len(records) == len(rows) == len({r.id for r in rows}) == 450
    sound(rows)
    assert Counter(r.harmful for r in rows) == {False: 250, True: 200}
    assert all((r.category or "").startswith("contrast_") is r.harmful for r in rows)
    assert all((r.split, r.flags, r.label, r.risk) == ("test", ["no_training"], "safety", "text") for r in rows)
    assert len(read(source("xstest", subset="unsafe"))[0]) == 200


def test_figstep() -> None:
    records, rows = read(source("figstep"))
    assert len(records) == 550
    assert Counter(r.source for r in rows) == {"figstep:tiny": 50, "figstep:safebench": 60}
    assert Counter(r.rejected and r.rejected[0] for r in records) == {None: 110, "missing_image": 440}
    sound(rows)
    assert len({r.id for r in rows}) == 110
    assert len({tuple(texts(r)) for r in rows}) == 1
    assert all(r.harmful and r.label == "jailbreak" and r.flags == ["no_training"] for r in rows)
    assert len({r.category for r in rows}) == 10


def test_figstep_text_arm_is_the_same_questions_without_images() -> None:
    _, rows = read(source("figstep", subset="tiny", arm="text"))
    asked = [json.loads(r.extra or "")["question"] for r in rows]
    assert [texts(r) for r in rows] == [[q] for q in asked]
    assert all(not r.images and r.label == "safety" for r in rows)


@pytest.mark.parametrize("name", ["gsm8k", "math_v", "xstest", "figstep"])
def test_a_folder_with_another_layout_is_named(name: str, tmp_path) -> None:
    for path in (tmp_path, tmp_path / "gone"):
        with pytest.raises(InputError, match=re.escape(str(path))) as error:
            read(f"{name}:{path}")
        assert error.value.hint


def test_an_image_name_that_no_disk_takes_is_one_bad_row(tmp_path: Path) -> None:
    lines = (SHARED / "math_v" / "data" / "testmini.jsonl").read_text().splitlines()[:3]
    items = [json.loads(line) for line in lines]
    for name in {item["image"] for item in items}:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes((SHARED / "math_v" / name).read_bytes())
    items[1]["image"] = "z" * 300
    (tmp_path / "testmini.jsonl").write_text("\n".join(map(json.dumps, items)))
    records, rows = read({"name": "math_v", "path": str(tmp_path)})
    assert [r.rejected and r.rejected[0] for r in records] == [None, "missing_image", None]
    assert len(rows) == 2
