"""How records are stored: every container gives the same rows, and what is broken is said in one line."""

from __future__ import annotations

import base64
import bz2
import csv
import gzip
import io
import json
import lzma
import os
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.values import plain_text
from stages.core.errors import InputError, UnavailableError
from tests.prepare.made import image, prepare, read, write_lines

COLOURS = ("red", "green", "blue")
RECORDS = [{"question": f"Which colour is {n}?", "answer": c, "image": f"img/{c}.png"} for n, c in enumerate(COLOURS)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "img").mkdir()
    for colour in COLOURS:
        (tmp_path / "img" / f"{colour}.png").write_bytes(image(colour))
    return tmp_path


def lines_of(records: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(r) + "\n" for r in records).encode()


def table_of(separator: str, records: list[dict[str, Any]] = RECORDS) -> bytes:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(records[0]), delimiter=separator)
    writer.writeheader()
    writer.writerows(records)
    return out.getvalue().encode()


def by_column() -> dict[str, list[Any]]:
    return {name: [r[name] for r in RECORDS] for name in RECORDS[0]}


FILES: dict[str, Callable[[], bytes]] = {
    "a.jsonl": lambda: lines_of(RECORDS),
    "bom.jsonl": lambda: b"\xef\xbb\xbf" + lines_of(RECORDS),
    "a.ndjson": lambda: lines_of(RECORDS),
    "lines.json": lambda: lines_of(RECORDS),
    "array.json": lambda: json.dumps(RECORDS).encode(),
    "pretty.json": lambda: json.dumps(RECORDS, indent=2).encode(),
    "array.jsonl": lambda: json.dumps(RECORDS).encode(),
    "data.json": lambda: json.dumps({"version": 1, "data": RECORDS}).encode(),
    "by_id.json": lambda: json.dumps({str(n): r for n, r in enumerate(RECORDS)}, indent=1).encode(),
    "by_column.json": lambda: json.dumps(by_column()).encode(),
    "splits.json": lambda: json.dumps({"train": RECORDS, "test": RECORDS[:1]}).encode(),
    "a.csv": lambda: table_of(","),
    "semicolons.csv": lambda: b"\xef\xbb\xbf" + table_of(";"),
    "a.tsv": lambda: table_of("\t"),
    "a.jsonl.gz": lambda: gzip.compress(lines_of(RECORDS)),
    "a.json.gz": lambda: gzip.compress(json.dumps(RECORDS).encode()),
    "a.csv.bz2": lambda: bz2.compress(table_of(",")),
    "a.tsv.xz": lambda: lzma.compress(table_of("\t")),
    "a.jsonl.zst": lambda: pa.compress(lines_of(RECORDS), codec="zstd", asbytes=True),
}


def check(path: Path) -> None:
    """The three rows, read in order and again in another."""
    found, rows = read(str(path))
    assert [r.rejected for r in found] == [None] * 3
    assert [plain_text(r.messages) for r in rows] == [r["question"] for r in RECORDS]
    assert [r.answer for r in rows] == list(COLOURS)
    assert [r.images[0].bytes for r in rows] == [image(c) for c in COLOURS]
    read_again, position = found[0].payload
    assert read_again.container.read(position)["answer"] == "red"


@pytest.mark.parametrize("name", FILES)
def test_files(name: str, folder: Path) -> None:
    (folder / name).write_bytes(FILES[name]())
    check(folder / name)


def test_tables(folder: Path) -> None:
    table = pa.Table.from_pylist(RECORDS)
    pq.write_table(table, folder / "a.parquet", row_group_size=2)
    check(folder / "a.parquet")
    with pa.OSFile(str(folder / "stream.arrow"), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    check(folder / "stream.arrow")
    with pa.OSFile(str(folder / "a.feather"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=1)
    check(folder / "a.feather")


def test_folders_that_datasets_writes(folder: Path) -> None:
    import datasets

    features = datasets.Features(
        {
            "question": datasets.Value("string"),
            "answer": datasets.ClassLabel(names=list(COLOURS)),
            "image": datasets.Image(),
        }
    )
    named = [{**r, "image": str(folder / str(r["image"]))} for r in RECORDS]
    data = datasets.Dataset.from_list(named, features=features)
    data.save_to_disk(folder / "disk")
    check(folder / "disk")
    datasets.DatasetDict(train=data, test=data.select([0])).save_to_disk(folder / "parts")
    check(folder / "parts")
    test, _ = read({"name": "any", "path": str(folder / "parts"), "part": "test"})
    assert len(test) == 1
    data.to_parquet(folder / "classes.parquet")
    check(folder / "classes.parquet")


def test_folders_of_shards(folder: Path) -> None:
    for n in range(3):
        where = folder / "hub" / "data" / f"train-{n:05d}-of-00003.parquet"
        where.parent.mkdir(parents=True, exist_ok=True)
        record = {**RECORDS[n], "image": {"bytes": image(COLOURS[n]), "path": "x.png"}}
        pq.write_table(pa.Table.from_pylist([record]), where)
    check(folder / "hub")
    pq.write_table(pa.Table.from_pylist(RECORDS[:1]), folder / "hub" / "data" / "test-00000-of-00001.parquet")
    with pytest.raises(InputError, match="say which"):
        read(str(folder / "hub"))
    found, _ = read({"name": "any", "path": str(folder / "hub"), "part": "train"})
    assert len(found) == 3


@pytest.mark.parametrize("suffix", ["tar", "tar.gz", "tgz"])
def test_webdataset(suffix: str, folder: Path) -> None:
    with tarfile.open(folder / f"shard.{suffix}", "w:gz" if "gz" in suffix else "w") as tar:
        for n, r in enumerate(RECORDS):
            members = {
                "json": json.dumps({"question": r["question"], "answer": r["answer"]}).encode(),
                "png": image(COLOURS[n]),
                "cls": b"3",
            }
            for kind, data in members.items():
                info = tarfile.TarInfo(f"./part.1/{n:04d}.{kind}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    check(folder / f"shard.{suffix}")


def test_image_folders(folder: Path) -> None:
    renamed = [{**{k: v for k, v in r.items() if k != "image"}, "file_name": r["image"]} for r in RECORDS]
    write_lines(folder / "metadata.jsonl", *renamed)
    check(folder)
    (folder / "metadata.jsonl").unlink()
    (folder / "metadata.csv").write_bytes(table_of(",", renamed))
    check(folder)
    (folder / "metadata.csv").unlink()
    for colour in COLOURS:
        (folder / "img" / f"{colour}.txt").write_text(f"all {colour}\n")
    _, rows = read(str(folder / "img"))
    assert [(plain_text(r.messages), r.reference_response) for r in rows] == [
        ("Describe the image.", f"all {c}") for c in sorted(COLOURS)
    ]
    for colour in COLOURS:
        (folder / "img" / f"{colour}.txt").unlink()
    with pytest.raises(InputError, match="prompt"):
        read(str(folder / "img"))
    classes = {"name": "any", "path": str(folder), "map": {"prompt": "'Which?'", "answer": "folder"}}
    assert [r.answer for r in read(classes)[1]] == ["img"] * 3


def test_a_tsv_of_base64_images_some_of_them_named_by_their_row(folder: Path) -> None:
    large = base64.b64encode(image("red", (600, 600), "PNG", compress_level=0)).decode()
    assert len(large) > csv.field_size_limit() or len(large) > 131072
    rows = [
        {"index": 7, "image": large, "question": "a?", "A": "x", "B": "y", "answer": "A"},
        {"index": 8, "image": "7", "question": "b\nwith a line?", "A": "x", "B": "y", "answer": "B"},
        {"index": 9, "image": "12", "question": "c?", "A": "x", "B": "y", "answer": "A"},
        {"index": 10, "image": f"['{large}', '{large}']", "question": "d?", "A": "x", "B": "y", "answer": "A"},
    ]
    (folder / "bench.tsv").write_bytes(table_of("\t", rows))
    found, made = read(str(folder / "bench.tsv"))
    assert [r.rejected and r.rejected[0] for r in found] == [None, None, "missing_image", None]
    assert [len(r.images) for r in made] == [1, 1, 2]
    assert made[1].images[0].bytes == made[0].images[0].bytes
    assert plain_text(made[1].messages).startswith("b\nwith a line?")


def test_rows_of_our_own_come_back(folder: Path) -> None:
    file = write_lines(folder / "a.jsonl", *RECORDS)
    first = prepare(folder / "runs", str(file))
    again = prepare(folder / "runs", str(first.folder.where))
    assert sorted(r.id for r in again.rows) == sorted(r.id for r in first.rows)
    assert again.notes[0] == "prompt rows of cosmo; 3 rows"


BROKEN: dict[str, bytes] = {
    "empty.jsonl": b"",
    "empty.csv": b"",
    "words.jsonl": b"hello\nworld\n",
    "words.json": b"hello",
    "cut.json": json.dumps(RECORDS).encode()[:-20],
    "cut.jsonl.gz": gzip.compress(lines_of(RECORDS) * 50)[:-30],
    "no.jsonl.gz": b"not gzip",
    "no.jsonl.zst": b"not zst",
    "no.parquet": b"PAR1 no",
    "no.arrow": b"ARROW no",
    "no.tar": b"no tar" * 200,
    "latin.csv": "question,answer\nÄ?,ä\n".encode("latin-1"),
    "utf16.csv": table_of(",").decode().encode("utf-16"),
    "twice.csv": b"question,answer,answer\na,b,c\n",
    "quote.csv": b'question,answer\n"a,b\n',
    "deep.json": b"[" * 100_000,
    "number.json": b"[1, 2, 3]",
    "nan.json": b'[{"question": NaN}]',
    "nothing.json": b"{}",
    "null.jsonl": b"null\n",
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_are_said_in_one_line(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(BROKEN[name])
    with pytest.raises(InputError) as refused:
        prepare(tmp_path / "runs", str(tmp_path / name))
    assert refused.value.hint
    assert "\n" not in refused.value.message


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_texts_that_are_no_utf8_are_said_and_do_not_end_the_process(kind: str, tmp_path: Path) -> None:
    table = pa.table({"question": pa.array([b"\xff\xfe"] * 3).view(pa.string())})
    file = tmp_path / f"a.{kind}"
    if kind == "parquet":
        pq.write_table(table, file)
    else:
        with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
    with pytest.raises(InputError, match=f"can't be read as {kind.title()}"):
        read(str(file))


def test_a_bad_record_is_one_rejected_row(folder: Path) -> None:
    bad: list[Any] = [
        "not json",
        '{"question": NaN}',
        '{"question": "\\ud800", "answer": "x"}',
        "[1]",
        {"question": {"a": [1]}, "answer": "x"},
        {"question": "gone?", "answer": "x", "image": "img/none.png"},
        {"question": "nul?", "answer": "x", "image": "a\x00b.png"},
        {"question": "long?", "answer": "x", "image": "a" * 5000},
        {"question": "odd?", "answer": "x", "image": {"a": 1}},
        {"question": "odd?", "answer": "x", "image": [[1]]},
        {"question": "odd?", "answer": {"a": 1}},
        {"question": "", "answer": "x"},
    ]
    run = prepare(folder / "runs", str(write_lines(folder / "a.jsonl", *RECORDS, *bad)))
    assert len(run.rows) == 3
    assert {r.ref for r in run.rejected} == {f"a.jsonl line {n}" for n in range(4, 4 + len(bad))}
    assert all(r.detail for r in run.rejected)


def test_images_stay_in_their_folder_unless_asked_otherwise(folder: Path) -> None:
    (folder / "in").mkdir()
    os.symlink(folder / "img" / "red.png", folder / "in" / "link.png")
    for path in ("../img/red.png", str(folder / "img" / "red.png"), "link.png", f"file://{folder}/img/red.png"):
        file = write_lines(folder / "in" / "a.jsonl", {"question": "?", "image": path})
        found, _ = read(str(file))
        assert found[0].rejected is not None, path
        assert found[0].rejected[0] == "outside", path
        assert str(folder) not in found[0].rejected[1]
        _, rows = read({"name": "any", "path": str(file), "allow_outside": True})
        assert rows[0].images[0].bytes == image("red"), path
    file = write_lines(folder / "in" / "a.jsonl", {"question": "?", "image": "red.png"})
    run = prepare(folder / "runs", str(file), image_folder=str(folder / "img"))
    assert run.rows[0].images[0].bytes == image("red")


def test_web_images_are_downloaded_only_when_asked_for(folder: Path) -> None:
    from functools import partial
    from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
    from threading import Thread

    handler = partial(SimpleHTTPRequestHandler, directory=str(folder / "img"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        base = f"http://127.0.0.1:{server.server_port}"
        records = [{"question": "a?", "image": f"{base}/red.png"}, {"question": "b?", "image": f"{base}/none.png"}]
        file = write_lines(folder / "a.jsonl", *records)
        found, _ = read(str(file))
        assert ["--fetch-images" in (r.rejected or ("", ""))[1] for r in found] == [True, True]
        run = prepare(folder / "runs", str(file), fetch_images=True)
        assert [r.images[0].bytes for r in run.rows] == [image("red")]
        assert run.why() == {"a.jsonl line 2": "missing_image"}
    finally:
        server.shutdown()


def test_another_image_is_another_source(folder: Path) -> None:
    file = write_lines(folder / "a.jsonl", *RECORDS)
    first = prepare(folder / "runs", str(file))
    assert prepare(folder / "runs", str(file)).state == "cached"
    (folder / "img" / "red.png").write_bytes(image("white"))
    second = prepare(folder / "runs", str(file))
    assert second.folder.where != first.folder.where
    (folder / "img" / "red.png").unlink()
    assert prepare(folder / "runs", str(file)).why() == {"a.jsonl line 1": "missing_image"}


def test_a_dry_run_shows_the_first_rows_and_writes_nothing(folder: Path) -> None:
    from tests.support.cli import cosmo

    file = write_lines(folder / "a.jsonl", *RECORDS, "no json")
    done = cosmo("prepare", file, "--dry-run", "--map", "task='colours'", cwd=folder)
    assert done.returncode == 0, done.stderr
    shown = done.stderr.splitlines()
    assert sum("user: <image> Which colour is" in line for line in shown) == 3
    assert all(word in shown[0] for word in ("img/red.png", '"answer": "red"', '"task": "colours"'))
    assert any("'colours' -> task; 4 rows" in line for line in shown)
    assert not (folder / "runs").exists()
    assert done.stdout == ""


def test_a_workbook_is_read_where_its_reader_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `cosmo import` reads it, and with the same words where it can't be."""
    lines = [("question", None, "answer"), ("What is 3 + 4?", "note", 7), ("Who?", None, "Ada"), (None, None, None)]
    (tmp_path / "a.xlsx").write_bytes(b"PK")
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(UnavailableError, match="is an Excel file") as caught:
        prepare(tmp_path / "runs", str(tmp_path / "a.xlsx"))
    assert "openpyxl" in caught.value.hint
    sheet = SimpleNamespace(iter_rows=lambda values_only: iter(lines))
    reader = SimpleNamespace(load_workbook=lambda *given, **more: SimpleNamespace(worksheets=[sheet]))
    monkeypatch.setitem(sys.modules, "openpyxl", reader)
    rows = prepare(tmp_path / "runs", str(tmp_path / "a.xlsx")).rows
    assert {(r.messages[0].content[0].text, r.answer, r.answer_kind) for r in rows} == {
        ("What is 3 + 4?", "7", "number"),
        ("Who?", "Ada", "text"),
    }
