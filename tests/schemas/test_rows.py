"""Rows survive the trip to Parquet, and other people's tools read them."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pillow

from schemas.arrow import (
    RowError,
    arrow_schema,
    check_schema,
    describe,
    from_record,
    rows_from,
    table_fingerprint,
    to_record,
    to_table,
)
from schemas.columns import Numbers
from schemas.identity import content_id, digest, prompt_id
from schemas.prompts import Edit, PromptRow
from schemas.rollouts import Completion, GuidedCandidate, GuidedStep, RolloutGroup, Sampling
from schemas.scored import Grade, GradeStatus, ScoredCompletion, ScoredGroup
from schemas.tables import PROMPTS, ROLLOUTS, SCORED, STEPS_GUIDED, TABLES, Table, table_of
from schemas.values import Image, Message, Part, text_message
from stages.core.runs.shards import row_bytes, rows_bytes

GOLDEN = Path(__file__).parents[1] / "golden"
texts = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=20)


def png(side: int = 8, colour: str = "red") -> bytes:
    stream = io.BytesIO()
    Pillow.new("RGB", (side, side), colour).save(stream, "PNG")
    return stream.getvalue()


def strategy(cls: type[Any]) -> st.SearchStrategy[Any]:
    """Any row of a dataclass, from its declared types."""
    from schemas.arrow import hints

    return st.builds(cls, **{name: _value(h) for name, h in hints(cls).items()})


def _value(hint: Any) -> st.SearchStrategy[Any]:
    import typing

    from schemas.arrow import unwrap

    inner, nullable = unwrap(hint)
    if typing.get_origin(inner) is typing.Annotated:
        width = typing.get_args(inner)[1]
        made = st.integers(-(2**31), 2**31 - 1) if width == "int32" else st.floats(width=32, allow_nan=False)
    elif typing.get_origin(inner) in (list, Sequence):
        made = st.lists(_value(typing.get_args(inner)[0]), max_size=2)
    elif dataclasses.is_dataclass(inner):
        made = strategy(inner)
    elif issubclass(inner, StrEnum):
        made = st.sampled_from(inner)
    else:
        made = {
            str: texts,
            int: st.integers(-(2**63), 2**63 - 1),
            float: st.floats(allow_nan=False),
            bool: st.booleans(),
            bytes: st.binary(max_size=16),
        }[inner]
    return st.one_of(st.none(), made) if nullable else made


@pytest.mark.parametrize("name", TABLES)
def test_any_row_survives_parquet(name: str) -> None:
    table = TABLES[name]

    @given(st.lists(strategy(table.row), min_size=1, max_size=3))
    def check(rows: list[Any]) -> None:
        stream = io.BytesIO()
        pq.write_table(to_table(table, rows), stream)
        stream.seek(0)
        read = list(rows_from(table, pq.read_table(stream)))
        assert read == rows
        # What was read is written as it was, from wherever in the file it came.
        again = to_table(table, read[1:])
        assert again.equals(to_table(table, rows[1:]))
        assert list(rows_from(table, again.slice(1))) == rows[2:]
        assert rows_bytes(again) == [row_bytes(row) for row in rows[1:]]

    check()


def test_ids_that_are_carried_on_become_no_python_numbers() -> None:
    """They lie where Arrow has them, through reading, scoring and writing."""
    sampling = Sampling(1.0, 1.0, 0, 8, 0)
    made: dict[str, Any] = {"finish_reason": "stop", "sampling": sampling, "policy_id": "p", "engine": "e"}
    ids = [[n] * (n % 3) for n in range(7)]
    completions = [
        Completion(index=n, text="é", token_ids=i, logprobs=[-0.5 * n] * len(i), **made) for n, i in enumerate(ids)
    ]
    common: dict[str, Any] = {"label": "general", "source": "s", "task": "t", "messages": [text_message("user", "a")]}
    rows = [RolloutGroup(id=str(n), **common, prompt_token_ids=[n], completions=completions) for n in range(3)]
    read = list(rows_from(ROLLOUTS, to_table(ROLLOUTS, rows).slice(1)))
    assert read == rows[1:]
    (whole,) = {c.token_ids.array.base is not None for row in read for c in row.completions}
    assert whole
    own = read[0].completions[5].logprobs
    assert (own, own[-1], own[:1], list(own), len(own)) == ([-2.5, -2.5], -2.5, [-2.5], [-2.5, -2.5], 2)
    assert own != [-2.5]
    assert type(own[0]) is float
    # A group may have completions of both kinds, and a list stays one.
    mixed = [dataclasses.replace(read[0], completions=[*read[0].completions, completions[2]])]
    assert next(rows_from(ROLLOUTS, to_table(ROLLOUTS, mixed))) == mixed[0]
    assert rows_bytes(to_table(ROLLOUTS, rows))[0] == row_bytes(rows[0]) == 1 + 4 + 7 * 2 + 8 * sum(map(len, ids))


@pytest.mark.parametrize("name", TABLES)
def test_golden_schema(name: str) -> None:
    """A changed row needs a new version: edit schemas/tables.py, then `make golden`."""
    table = TABLES[name]
    saved = json.loads((GOLDEN / f"{name}.json").read_text())
    now = {"version": table.version, "row": describe(table.row)}
    assert now == saved, f"{name}: rows changed; raise its version in schemas/tables.py and run make golden"


def test_wider_rows_are_read_as_narrower_ones() -> None:
    schema = arrow_schema(SCORED)
    check_schema(ROLLOUTS, schema)
    check_schema(PROMPTS, schema)
    with pytest.raises(RowError, match="column 'prompt_token_ids' is missing"):
        check_schema(ROLLOUTS, arrow_schema(PROMPTS))


def test_wrong_type_and_null_name_the_column() -> None:
    schema = arrow_schema(PROMPTS)
    position = schema.get_field_index("label")
    with pytest.raises(RowError, match=f"column 'label' is int64, and prompts v{PROMPTS.version} needs string"):
        check_schema(PROMPTS, schema.set(position, pa.field("label", pa.int64())))
    row = PromptRow(id="a", label="general", source="s", task="t", messages=[text_message("user", "hi")])
    with pytest.raises(RowError, match="row 7: column 'label' is null"):
        from_record(PromptRow, {**to_record(row), "label": None}, "row 7: ")


def test_of_a_nested_column_the_innermost_place_is_named() -> None:
    schema = arrow_schema(SCORED)
    position = schema.get_field_index("completions")
    completion = schema.field(position).type.value_type
    grades = completion.field("grades")
    older = pa.struct([field for field in grades.type.value_type if field.name != "verdict"])
    fields = [pa.field("grades", pa.list_(older)) if field.name == "grades" else field for field in completion]
    with pytest.raises(RowError) as refused:
        check_schema(SCORED, schema.set(position, pa.field("completions", pa.list_(pa.struct(fields)))))
    assert str(refused.value).startswith("column 'completions.grades.verdict' is missing, and scored v")


def test_a_status_is_one_of_five_words_and_a_string_on_disk() -> None:
    made = to_record(Grade(name="answer", version=1, value=None, status=GradeStatus.TIMEOUT))
    assert pa.array([made["status"]]).to_pylist() == ["timeout"]
    assert type(from_record(Grade, {**made, "status": "timeout"}).status) is GradeStatus
    with pytest.raises(RowError) as caught:
        from_record(Grade, {**made, "status": "late"}, "row 7: grades.")
    said = str(caught.value)
    assert (
        said
        == "row 7: grades.column 'status' is 'late', and has to be one of ok, not_applicable, undecided, timeout, error"
    )


def test_metadata_names_table_version_and_fingerprint() -> None:
    metadata = arrow_schema(PROMPTS).metadata
    assert metadata[b"cosmo.table"] == b"prompts"
    assert metadata[b"cosmo.version"] == str(PROMPTS.version).encode()
    assert metadata[b"cosmo.fingerprint"].decode() == table_fingerprint(PROMPTS)
    assert table_of(PromptRow) is PROMPTS


def test_all_fields_nullable_and_no_dictionary_type_on_disk() -> None:
    def walk(field: pa.Field) -> None:
        assert field.nullable
        assert not pa.types.is_dictionary(field.type)
        for i in range(field.type.num_fields):
            walk(field.type.field(i))

    for table in TABLES.values():
        for field in arrow_schema(table):
            walk(field)


@given(texts, texts, st.lists(st.binary(max_size=8), max_size=2))
def test_identity_is_content(words: str, answer: str, contents: list[bytes]) -> None:
    def make(words: str, names: str) -> str:
        images = [Image(p, f"{names}{i}") for i, p in enumerate(contents)]
        messages = [Message("user", [Part("image") for _ in images] + [Part("text", words)])]
        return prompt_id(label="general", messages=messages, images=images, answer=answer)

    assert make(words, "a") == make(words, "b")
    assert make(words, "a") != make(words + "x", "a")


def test_others_read_it(tmp_path: Path) -> None:
    """datasets, DuckDB and pandas, with no code of ours; images come out as images."""
    import datasets
    import duckdb
    import pandas

    from stages.core.runs.shards import ShardFile

    path = tmp_path / "00000.parquet"
    shard = ShardFile(path, PROMPTS)
    for n in range(3):
        message = text_message("user", f"question {n}", 1)
        shard.add(
            PromptRow(
                id=str(n),
                label="general",
                source="s",
                task="counting",
                messages=[message],
                images=[Image(png(8 + n), None)],
                facts=["one circle"],
            )
        )
    shard.close()
    loaded = datasets.load_dataset("parquet", data_files=str(path), cache_dir=str(tmp_path / "cache"))["train"]
    assert [row["images"][0].size for row in loaded] == [(8, 8), (9, 9), (10, 10)]
    assert loaded[1]["messages"][0]["content"][1]["text"] == "question 1"
    query = f"select task, count(*), octet_length(any_value(images[1].bytes)) from '{path}' group by task"
    [(task, count, size)] = duckdb.sql(query).fetchall()
    assert (task, count) == ("counting", 3)
    assert size in {len(png(8 + n)) for n in range(3)}
    frame = pandas.read_parquet(path)
    assert frame["images"][2][0]["bytes"] == png(10)


def test_large_shard_is_written_in_bounded_row_groups(tmp_path: Path) -> None:
    from stages.core.runs.shards import ROW_GROUP_BYTES, ShardFile, read_rows

    path = tmp_path / "big.parquet"
    shard = ShardFile(path, PROMPTS)
    image = b"\0" * (1 << 20)
    for n in range(12):
        message = text_message("user", str(n), 1)
        shard.add(PromptRow(id=str(n), label="l", source="s", task="t", messages=[message], images=[Image(image)]))
    shard.close()
    metadata = pq.ParquetFile(path).metadata
    sizes = [metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups)]
    assert len(sizes) == 3
    assert max(sizes) < ROW_GROUP_BYTES * 1.1
    assert [r.id for r in read_rows(path, PROMPTS)] == [str(n) for n in range(12)]


@pytest.fixture(scope="module")
def grouped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shard of 23 rows in six row groups."""
    from stages.core.runs.shards import ShardFile

    path = tmp_path_factory.mktemp("grouped") / "00000.parquet"
    shard = ShardFile(path, PROMPTS)
    for n in range(23):
        message = text_message("user", str(n), 1)
        shard.add(PromptRow(id=str(n), label="l", source="s", task="t", messages=[message], images=[Image(bytes([n]))]))
        if n % 4 == 3:
            shard._flush()
    shard.close()
    assert pq.ParquetFile(path).metadata.num_row_groups == 6
    return path


@given(st.sets(st.integers(0, 22)))
def test_rows_are_found_by_number(grouped: Path, numbers: set[int]) -> None:
    from stages.core.runs.shards import rows_at

    found = list(rows_at(grouped, PROMPTS, sorted(numbers)))
    assert [r.id for r in found] == [str(n) for n in sorted(numbers)]
    assert [r.images[0].bytes for r in found] == [bytes([n]) for n in sorted(numbers)]


def test_row_groups_without_a_wanted_row_are_not_read(grouped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from stages.core.runs.shards import rows_at

    plain, read = pq.ParquetFile.read_row_group, []

    def noted(self: Any, group: int, **more: Any) -> Any:
        read.append(group)
        return plain(self, group, **more)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", noted)
    assert [r.id for r in rows_at(grouped, PROMPTS, [5, 6, 21])] == ["5", "6", "21"]
    assert read == [1, 5]


def _older(table: Table) -> pa.Schema:
    """The table's schema as it was before completions could be continued and rows said which facts are whose."""
    schema = arrow_schema(table)
    position = schema.get_field_index("completions")
    completion = schema.field(position).type.value_type
    fields = []
    for field in completion:
        if field.name == "sampling":
            fields.append(pa.field("sampling", pa.struct([f for f in field.type if f.name != "stop"])))
        elif field.name not in ("stopped_by", "generated"):
            fields.append(field)
    older = schema.set(position, pa.field("completions", pa.list_(pa.struct(fields))))
    return pa.schema([field for field in older if field.name not in ("visual_keys", "text_keys", "edit")])


@pytest.mark.parametrize("table", [ROLLOUTS, SCORED])
def test_shards_from_before_completions_could_be_continued_are_read_with_the_defaults(table: Table) -> None:
    """No stop text, and every token generated: what they were."""
    completion = ScoredCompletion(
        index=0, text="hi", token_ids=[1, 2], logprobs=[-1.0, -2.0], finish_reason="stop",
        sampling=Sampling(1.0, 1.0, 0, 8, 0), policy_id="p", engine="made",
    )  # fmt: skip
    if table is ROLLOUTS:
        completion = Completion(**{f.name: getattr(completion, f.name) for f in dataclasses.fields(Completion)})
    row = table.row(
        id="a", label="general", source="s", task="t", messages=[text_message("user", "x")], completions=[completion]
    )
    older = _older(table)
    check_schema(table, older)
    record = to_record(row)
    del record["completions"][0]["stopped_by"], record["completions"][0]["generated"]
    del record["completions"][0]["sampling"]["stop"], record["visual_keys"], record["text_keys"]
    del record["edit"]
    assert list(rows_from(table, pa.Table.from_pylist([record], older))) == [row]
    # Nothing else may be missing, and what is there has to be of its type.
    completions = older.field("completions").type.value_type
    position = older.get_field_index("completions")
    for wrong, said in (
        ([f for f in completions if f.name != "logprobs"], "completions.logprobs' is missing"),
        ([*completions, pa.field("generated", pa.list_(pa.int64()))], "completions.generated' is int64"),
    ):
        with pytest.raises(RowError, match=said):
            check_schema(table, older.set(position, pa.field("completions", pa.list_(pa.struct(wrong)))))


def test_of_many_rows_few_have_an_edit_and_the_others_none() -> None:
    """A struct that may be null comes back as it was, column by column."""
    edit = Edit(
        by="ann", index=1, policy_id="p", seed=3, temperature=1.0, top_p=1.0, top_k=0, noise_id="a", noise_index=1,
        at_token=1, token_ids=[5, 6], logprobs=[-1.0, 0.0], generated=[True, False], written=[False, True],
        before="b", after="c", text="ac",
    )  # fmt: skip
    given = [
        PromptRow(id=name, label="general", source="s", task="t", messages=[text_message("user", "x")], edit=found)
        for name, found in (("a", None), ("b", edit), ("c", None), ("d", dataclasses.replace(edit, why="so")))
    ]
    table = to_table(PROMPTS, given)
    read = list(rows_from(PROMPTS, table))
    assert read == given
    # Not value by value, as a column with an unexpected null is read: ids lie in the shard's buffer.
    assert isinstance(read[1].edit.token_ids, Numbers)
    assert list(rows_from(PROMPTS, table.slice(1, 2))) == given[1:3]


def test_scored_shards_from_before_steps_were_graded_have_none() -> None:
    grade = Grade(name="answer", version=1, value=1.0, status=GradeStatus.OK)
    completion = ScoredCompletion(
        index=0, text="hi", token_ids=[1, 2], logprobs=[-1.0, -2.0], finish_reason="stop",
        sampling=Sampling(1.0, 1.0, 0, 8, 0), policy_id="p", engine="made", grades=[grade],
    )  # fmt: skip
    row = ScoredGroup(
        id="a", label="general", source="s", task="t", messages=[text_message("user", "x")], completions=[completion]
    )
    now = arrow_schema(SCORED)
    kind = now.field("completions").type.value_type
    grades = pa.list_(pa.struct([f for f in kind.field("grades").type.value_type if f.name != "steps"]))
    older_kind = pa.struct([f.with_type(grades) if f.name == "grades" else f for f in kind])
    older = now.set(now.get_field_index("completions"), pa.field("completions", pa.list_(older_kind)))
    check_schema(SCORED, older)
    record = to_record(row)
    del record["completions"][0]["grades"][0]["steps"]
    assert list(rows_from(SCORED, pa.Table.from_pylist([record], older))) == [row]


@given(st.text(st.characters(blacklist_categories=["Cs"])), st.none() | st.text('a"\\\n\x00é', max_size=5))
def test_an_id_is_the_start_of_its_contents_digest(words: str, answer: str | None) -> None:
    turns: list[tuple[str, list[tuple[str, str | None]]]] = [
        ("system", []),
        ("user", [("image", None), ("text", words)]),
    ]
    spelled = [[role, [list(part) for part in parts]] for role, parts in turns]
    assert content_id(words, turns, ["0a"], answer) == digest([words, spelled, ["0a"], answer])[:16]
    assert content_id("", [], [], answer) == digest(["", [], [], answer])[:16]


def test_choices_from_before_there_were_beams_are_of_the_one() -> None:
    row = GuidedStep(id="a", index=0, step=0, from_token=3, candidates=[GuidedCandidate(token_ids=[1, 2])], chosen=0)
    now = arrow_schema(STEPS_GUIDED)
    newer = ("ahead", "cumulative", "beam")
    candidates = pa.list_(pa.struct([f for f in now.field("candidates").type.value_type if f.name not in newer]))
    older = pa.schema([f.with_type(candidates) if f.name == "candidates" else f for f in now if f.name != "beam"])
    check_schema(STEPS_GUIDED, older)
    record = to_record(row)
    del record["beam"]
    record["candidates"] = [{k: v for k, v in record["candidates"][0].items() if k not in newer}]
    assert list(rows_from(STEPS_GUIDED, pa.Table.from_pylist([record], older))) == [row]
