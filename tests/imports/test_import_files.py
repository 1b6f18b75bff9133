"""Files of every kind that are broken, too large or hostile; and what makes two imports two runs."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from stages.core.errors import InputError, UnavailableError, UsageError
from stages.reading.containers import base
from tests.imports.made import groups_of, imported, inspect_samples, png, rejected, write_eval, write_jsonl

GOOD = {"prompt": "a", "completion": "b"}


def test_lines_that_are_broken_or_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "MAX_RECORD_BYTES", 200)
    lines = [
        json.dumps(GOOD).encode(),
        b"{not json",
        b"[1, 2]",
        b'{"prompt": "\xff"}',
        b'{"prompt": "\\ud800", "completion": "half a pair"}',
        json.dumps({"prompt": "x" * 1000, "completion": "b"}).encode(),
        b"",
        b"[" * 150,
        json.dumps({**GOOD, "prompt": "last"}).encode(),
    ]
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"\n".join(lines))
    rollout = imported(tmp_path / "runs", path)
    assert [reason for _, reason in rejected(rollout)] == ["malformed"] * 4 + ["too_large", "malformed"]
    # What stands behind a line that was passed over is found at its own place.
    assert [g.messages[0].content[0].text for g in groups_of(rollout)] == ["a", "last"]


@pytest.mark.parametrize(
    "name, content, words",
    [
        ("a.json", b"{", "no JSON document"),
        ("a.json", b'"text"', "no list of rows"),
        ("a.json", b'{"a": [{}], "b": [{}]}', "no list of rows"),
        ("a.parquet", b"PAR1", "as Parquet"),
        ("a.eval", b"PK nothing", "no inspect log"),
        ("a.csv", b"prompt,completion\n\xff,b\n", "UTF-8"),
        ("a.pkl", b"", "of no kind"),
    ],
)
def test_a_file_that_can_not_be_read_is_named(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=words) as caught:
        imported(tmp_path / "runs", tmp_path / name)
    assert name in caught.value.message


def test_absent_files_and_empty_folders(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for path, words in ((tmp_path / "absent.jsonl", "no such file"), (tmp_path / "empty", "holds no file")):
        with pytest.raises(InputError, match=words):
            imported(tmp_path / "runs", path)
    with pytest.raises(UsageError, match="no file"):
        imported(tmp_path / "runs")


def test_a_short_row_of_a_table_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("prompt,completion\na,b\nc\nd,e,f\n")
    assert rejected(imported(tmp_path / "runs", path)) == [("line 3", "malformed"), ("line 4", "malformed")]


def test_a_zip_that_unpacks_to_more_than_a_row_may_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_eval(tmp_path / "log.eval", inspect_samples("model-a"))
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("samples/bomb_epoch_1.json", b" " * 5_000_000)
    monkeypatch.setattr(base, "MAX_RECORD_BYTES", 1_000_000)
    assert path.stat().st_size < 100_000
    assert rejected(imported(tmp_path / "runs", path)) == [("bomb_epoch_1.json", "too_large")]


def test_a_whole_document_has_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "MAX_DOCUMENT_BYTES", 10)
    (tmp_path / "a.json").write_text(json.dumps({"samples": [GOOD]}))
    with pytest.raises(InputError, match="10 are read at most"):
        imported(tmp_path / "runs", tmp_path / "a.json")


def test_excel_without_its_reader_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "openpyxl", None)
    (tmp_path / "m_Set.xlsx").write_bytes(b"PK")
    with pytest.raises(UnavailableError, match="Excel") as caught:
        imported(tmp_path / "runs", tmp_path / "m_Set.xlsx")
    assert "openpyxl" in caught.value.hint


def test_a_file_that_changed_since_its_plan_is_another_run(tmp_path: Path) -> None:
    """What identifies an import: its files' and images' content, mapping and options; no path."""
    path = write_jsonl(tmp_path / "a" / "rows.jsonl", [{**GOOD, "other": "c", "image": "x.png"}])
    (path.parent / "x.png").write_bytes(png())
    runs = tmp_path / "runs"
    first = imported(runs, path)
    moved = tmp_path / "b"
    path.parent.rename(moved)
    path = moved / "rows.jsonl"
    assert imported(runs, path).fingerprint == first.fingerprint
    others = [
        imported(runs, path, map=["completion=other"]),
        imported(runs, path, write="scored"),
        imported(runs, path, model="m"),
        imported(runs, path, label="math"),
    ]
    (path.parent / "x.png").write_bytes(png("blue"))
    others.append(imported(runs, path))
    write_jsonl(path, [{**GOOD, "completion": "c", "image": "x.png"}])
    others.append(imported(runs, path))
    assert len({first.fingerprint, *(o.fingerprint for o in others)}) == 7


def test_a_killed_import_goes_on(tmp_path: Path) -> None:
    """Shards that are there are not made again, and the rows are those of one run from end to end."""
    rows = [{"prompt": f"question {n}", "completion": str(n)} for n in range(6)]
    path = write_jsonl(tmp_path / "rows.jsonl", rows)
    whole = imported(tmp_path / "one", path, shard_groups=2)
    half = imported(tmp_path / "two", path, shard_groups=2)
    kept = half.path / "receipts"
    names = sorted(p.name for p in kept.iterdir())
    (kept / names[1]).unlink()
    for shard in half.path.glob("shards/*1.parquet"):
        shard.unlink()
    again = imported(tmp_path / "two", path, shard_groups=2)
    assert groups_of(again) == groups_of(whole)


@pytest.mark.parametrize(
    "values, words",
    [
        ({"map": ["completions_=x"]}, "no field 'completions_'"),
        ({"map": ["answer"]}, "no field and '='"),
        ({"map": ["answer=[0]"]}, "no path"),
        ({"map": ["answer=absent.column"]}, "no row of rows.jsonl has anything there"),
        ({"write": "scored", "grades": {"gpt": "absent"}}, "grades.gpt=...: no row of rows.jsonl has"),
        ({"verdicts": {"1": "good"}}, "add --as scored|rollout groups have no grades"),
    ],
)
def test_settings_that_can_not_be_right(tmp_path: Path, values: dict, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        imported(tmp_path / "runs", write_jsonl(tmp_path / "rows.jsonl", [GOOD]), **values)
