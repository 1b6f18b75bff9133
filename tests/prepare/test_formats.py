"""The files that people have, in `../shared/cases`: every one loads as it is, or is refused with what to type."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stages.core.errors import InputError
from tests.prepare.made import prepare
from tests.support.cli import SHARED

CASES = SHARED.parent / "cases"
needs_cases = pytest.mark.skipif(not CASES.exists(), reason="no ../shared/cases: the files people have are not here")
RED, NUMBERED = "a red circle", "a red circle number {n}"

LOADED: dict[str, dict[str, Any]] = {
    "llava.json": {"text": "What shape is in picture {n} ?", "response": NUMBERED},
    "llava.jsonl": {"text": "What shape is in picture {n} ?", "response": NUMBERED},
    "openai.jsonl": {"response": RED},
    "lf_messages.json": {"response": RED},
    "swift.jsonl": {"answer": "circle"},
    "qa.csv": {"answer": "circle"},
    "bench.tsv": {
        "text": "What is in picture {n} ?\n(A) circle\n(B) square\n(C) dog\n(D) cat",
        "answer": "A",
        "choices": ["circle", "square", "dog", "cat"],
    },
    "easyr1.parquet": {"text": None},
    "trl.parquet": {"answer": "circle", "response": RED},
    "trl_disk": {"answer": "circle", "response": RED},
    "trl_sft.parquet": {"response": RED},
    "verl.parquet": {"text": "What shape is in picture {n} ? put it in \\boxed{{}}"},
    "shard-000.tar": {"answer": "circle"},
    "imagefolder": {"text": "What is it ?", "response": "a red circle {n}", "answer": "a red circle {n}"},
    "captions": {"text": "Describe the image.", "response": NUMBERED},
}
REFUSED = {"lf.json": "tool", "tool.jsonl": "tool", "pref.jsonl": "cosmo import pref.jsonl --as scored"}


@needs_cases
def test_every_file_is_in_one_of_the_two_tables() -> None:
    found = {p.name for p in (CASES / "formats").iterdir()} - {"img"}
    assert found == LOADED.keys() | REFUSED.keys()


@needs_cases
@pytest.mark.parametrize("name", LOADED)
def test_a_file_loads_as_it_is(name: str, tmp_path: Path) -> None:
    run = prepare(tmp_path, str(CASES / "formats" / name), near_duplicates=0.0)
    expected = LOADED[name]
    assert len(run.rows) == 4
    assert not run.rejected
    # OpenAI's file asks first and shows then; the order is the writer's.
    order = ["text", "image"] if name == "openai.jsonl" else ["image", "text"]
    images = {(CASES / "formats" / "img" / f"{n}.png").read_bytes(): n for n in range(4)}
    assert sorted(images[row.images[0].bytes] for row in run.rows) == [0, 1, 2, 3]
    for row in run.rows:
        n = images[row.images[0].bytes]
        parts = row.messages[-1].content
        assert len(row.images) == 1
        assert [p.type for p in parts] == order
        text = expected.get("text", "What is in picture {n} ?")
        if text is not None:
            assert parts[order.index("text")].text == text.format(n=n)
        if "answer" in expected:
            assert row.answer == expected["answer"].format(n=n)
        assert row.reference_response == (expected["response"].format(n=n) if "response" in expected else None)
        assert row.choices == expected.get("choices", [])
    said = [note for note in run.notes if " -> " in note]
    assert len(said) == 1


@needs_cases
@pytest.mark.parametrize("name", ["easyr1.parquet", "verl.parquet"])
def test_rl_files_have_their_answers(name: str, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    stored = pq.read_table(CASES / "formats" / name).to_pylist()
    expected = [r["answer"] if "answer" in r else r["reward_model"]["ground_truth"] for r in stored]
    run = prepare(tmp_path, str(CASES / "formats" / name), near_duplicates=0.0)
    assert sorted(row.answer or "" for row in run.rows) == sorted(expected)


@needs_cases
@pytest.mark.parametrize("name", REFUSED)
def test_a_file_is_refused_with_what_to_type(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as refused:
        prepare(tmp_path, str(CASES / "formats" / name))
    assert REFUSED[name] in f"{refused.value.message} {refused.value.hint}"


@needs_cases
def test_the_line_says_what_was_taken_for_what(tmp_path: Path) -> None:
    run = prepare(tmp_path, str(CASES / "formats" / "verl.parquet"))
    assert run.notes[0] == (
        "verl Parquet: prompt -> messages, reward_model.ground_truth -> answer, images -> images, "
        "extra_info.split -> split; 4 rows"
    )


@needs_cases
@pytest.mark.parametrize("spec", ["{file}", "parquet:{file}"])
def test_options_named_by_number_get_their_letters(spec: str, tmp_path: Path) -> None:
    run = prepare(tmp_path, spec.format(file=CASES / "files" / "idx.parquet"))
    assert sorted((r.messages[0].content[0].text or "")[:2] + str(r.answer) for r in run.rows) == ["e1B", "e2A"]
    both = prepare(tmp_path, f"jsonl:{CASES / 'files' / 'mc.jsonl'}", near_duplicates=0.0)
    assert [r.answer for r in both.rows] == ["B", "B"]
