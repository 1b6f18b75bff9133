"""Parquet and Hugging Face datasets with their columns mapped."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image as Pillow

from stages.core.errors import InputError, UnavailableError, UsageError
from stages.prepare.sources import identity, parse
from tests.prepare.made import image, prepare, read, write_lines

COLUMNS = {"prompt": "question", "image": "figure", "answer": "gold"}


def table(path: Path, rows: int = 5, **more: list) -> Path:
    figures = [{"bytes": image((n, 0, 0)), "path": f"/home/x/{n}.png"} for n in range(rows)]
    columns = {
        "question": [f"what is {n} ?" for n in range(rows)],
        "figure": figures,
        "gold": list(range(rows)),
    }
    pq.write_table(pa.table({**columns, **more}), path, row_group_size=2)
    return path


def test_a_mapped_table(tmp_path: Path) -> None:
    path = table(tmp_path / "t.parquet", page=[10, 11, 12, 13, None], label=["math"] * 5)
    records, rows = read({"name": "parquet", "path": str(path), "columns": COLUMNS, "keep": ["page"]})
    assert [r.key for r in records] == [r.id for r in rows]
    assert [r.answer for r in rows] == ["0", "1", "2", "3", "4"]
    assert [r.images[0].path for r in rows] == [f"{n}.png" for n in range(5)]
    assert [r.images[0].bytes for r in rows] == [image((n, 0, 0)) for n in range(5)]
    assert {r.label for r in rows} == {"math"}
    assert [r.extra and json.loads(r.extra) for r in rows][3:] == [{"page": 13}, None]
    assert len({r.ref for r in records}) == 5


def test_images_as_bytes_lists_and_paths(tmp_path: Path) -> None:
    (tmp_path / "p.png").write_bytes(image("red"))
    for column, kind in (
        ({"image": [image("red")]}, "bytes"),
        ({"images": [[{"bytes": image("red"), "path": None}]]}, "structs"),
        ({"image": ["p.png"]}, "path"),
        ({"images": [["p.png"]]}, "paths"),
    ):
        file = tmp_path / f"{kind}.parquet"
        pq.write_table(pa.table({"prompt": ["q ?"], **column}), file)
        _, rows = read(f"parquet:{file}")
        assert [i.bytes for i in rows[0].images] == [image("red")], kind
    before = [identity(parse(f"parquet:{tmp_path / k}.parquet", "test")) for k in ("path", "paths", "bytes")]
    (tmp_path / "p.png").write_bytes(image("blue", (30, 30)))
    after = [identity(parse(f"parquet:{tmp_path / k}.parquet", "test")) for k in ("path", "paths", "bytes")]
    assert [a == b for a, b in zip(before, after, strict=True)] == [False, False, True]


def test_prompt_rows_go_through_unchanged(tmp_path: Path) -> None:
    file = write_lines(
        tmp_path / "a.jsonl",
        *({"prompt": f"what is the {n} of {n * n} ?", "answer": n, "label": "math"} for n in range(7)),
    )
    first = prepare(tmp_path / "runs", f"jsonl:{file}", shard_rows=3)
    second = prepare(tmp_path / "runs", f"parquet:{first.folder.path}", shard_rows=3)
    assert second.rows == first.rows
    assert len(first.rows) == 7


def test_columns_that_are_not_there_are_named(tmp_path: Path) -> None:
    path = str(table(tmp_path / "t.parquet"))
    cases = [
        ({}, InputError, "no column 'prompt'"),
        ({"columns": {"prompt": "qestion"}}, InputError, "no column 'qestion'"),
        ({"columns": {"promt": "question"}}, UsageError, "'promt'"),
        ({"columns": COLUMNS, "keep": ["pages"]}, InputError, "no column 'pages'"),
    ]
    for more, kind, words in cases:
        with pytest.raises(kind, match=words) as error:
            read({"name": "parquet", "path": path, **more})
        assert "question" in error.value.hint or "prompt" in error.value.hint


def test_wrong_types_are_rejected_row_by_row(tmp_path: Path) -> None:
    file = tmp_path / "t.parquet"
    pq.write_table(pa.table({"prompt": [1, 2]}), file)
    with pytest.raises(InputError, match="no rows left: 2 malformed") as error:
        prepare(tmp_path / "runs", f"parquet:{file}")
    assert "column 'prompt' is 1 (int)" in error.value.hint


def test_a_file_that_is_no_parquet(tmp_path: Path) -> None:
    whole = table(tmp_path / "t.parquet").read_bytes()
    for name, data in (("words.parquet", b"hello"), ("cut.parquet", whole[:-30])):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(InputError, match=name):
            read(f"parquet:{tmp_path / name}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same data as save_to_disk writes it and as a folder of Parquet."""
    import datasets

    place = tmp_path_factory.mktemp("hf")
    features = datasets.Features(
        {
            "question": datasets.Value("string"),
            "figure": datasets.Image(),
            "kind": datasets.ClassLabel(names=["cat", "dog"]),
        }
    )
    figures = [Pillow.open(io.BytesIO(image((n, 0, 0)))) for n in range(5)]
    columns = {"question": [f"q{n} ?" for n in range(5)], "figure": figures, "kind": [0, 1, 0, 1, 0]}
    data = datasets.Dataset.from_dict(columns, features=features)
    datasets.disable_progress_bars()
    data.save_to_disk(str(place / "disk"))
    datasets.DatasetDict({"test": data}).save_to_disk(str(place / "dict"))
    (place / "files").mkdir()
    data.to_parquet(place / "files" / "train-0.parquet")
    return place


@pytest.mark.parametrize(("kind", "split"), [("disk", "train"), ("dict", "test"), ("files", "train")])
def test_a_local_dataset(kind: str, split: str, folder: Path) -> None:
    columns = {"prompt": "question", "image": "figure", "answer": "kind"}
    spec = {"name": "hf", "path": str(folder / kind), "split": split, "columns": columns}
    records, rows = read(spec)
    assert [r.answer for r in rows] == ["cat", "dog", "cat", "dog", "cat"]
    assert [r.key for r in records] == [r.id for r in rows]
    seen = [Pillow.open(io.BytesIO(r.images[0].bytes)).getpixel((0, 0))[0] for r in rows]
    assert seen == [0, 1, 2, 3, 4]
    assert {r.split for r in rows} == {"train" if split == "train" else "test"}


def test_wrong_splits_columns_and_places(folder: Path, tmp_path: Path) -> None:
    columns = {"prompt": "question"}
    for kind in ("dict", "files"):
        with pytest.raises(InputError, match="nope"):
            read({"name": "hf", "path": str(folder / kind), "split": "nope", "columns": columns})
    with pytest.raises(InputError, match="no column 'prompt'"):
        read(f"hf:{folder / 'disk'}")
    with pytest.raises(InputError, match="no such folder"):
        read(f"hf:{tmp_path / 'gone'}")


def test_a_hub_id_out_of_reach_is_unavailable_without_asking_around(connections: list[object]) -> None:
    with pytest.raises(UnavailableError, match="nobody/no-such-set") as error:
        read("hf:nobody/no-such-set")
    assert error.value.code == 4
    assert error.value.hint
    assert connections == []


def test_base64_without_its_data_url_and_names_that_no_disk_takes_are_bad_rows(tmp_path: Path) -> None:
    (tmp_path / "p.png").write_bytes(image("red"))
    raw = base64.b64encode(image("red", (99, 99))).decode()
    names = ["p.png", raw, "y" * 300, None, "p.png"]
    prompts = ["which colour ?", "how large ?", "who drew it ?", "what is four ?", "what is left ?"]
    pq.write_table(pa.table({"prompt": prompts, "image": names}), tmp_path / "t.parquet")
    made = prepare(tmp_path / "runs", f"parquet:{tmp_path}/t.parquet")
    assert made.why() == {"t.parquet row 1": "missing_image", "t.parquet row 2": "missing_image"}
    assert len(made.rows) == 3
