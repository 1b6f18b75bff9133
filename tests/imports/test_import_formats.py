"""Every layout goes from its file to scored groups and metrics, one group a prompt and model."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from schemas.scored import grade_of
from schemas.tables import EVALS
from schemas.values import plain_text
from tests.imports.made import (
    COMPLETIONS,
    QUESTIONS,
    flat_rows,
    groups_of,
    imported,
    inspect_samples,
    lm_eval_rows,
    lmms_eval_rows,
    rejected,
    run,
    vlmeval_rows,
    write_eval,
    write_json,
    write_jsonl,
    write_parquet,
    write_table,
)

MODELS = tuple(COMPLETIONS)


def _listed() -> list[dict]:
    """All completions of a prompt in one row."""
    return [
        {"prompt": question, "answer": answer, "model_name": model, "completions": texts}
        for model, all_texts in COMPLETIONS.items()
        for (question, answer), texts in zip(QUESTIONS, all_texts, strict=True)
    ]


def _talks() -> list[dict]:
    """Conversations that end in the completion."""
    return [
        {
            "messages": [
                {"role": "user", "content": row["question"]},
                {"role": "assistant", "content": [{"type": "text", "text": row["response"]}]},
            ],
            "model": row["model"],
            "answer": row["answer"],
        }
        for row in flat_rows()
    ]


def _by_model(make: Callable[[Path, str], Path]) -> Callable[[Path], list[Path]]:
    return lambda place: [make(place, model) for model in MODELS]


def _written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def lines_bytes() -> bytes:
    return "".join(json.dumps(row) + "\n" for row in flat_rows()).encode()


def table_bytes(separator: str) -> bytes:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(flat_rows()[0]), delimiter=separator)
    writer.writeheader()
    writer.writerows(flat_rows())
    return out.getvalue().encode()


FILES: dict[str, Callable[[Path], list[Path]]] = {
    "jsonl": lambda p: [write_jsonl(p / "rows.jsonl", flat_rows())],
    "json list": lambda p: [write_json(p / "rows.json", flat_rows())],
    "json object": lambda p: [write_json(p / "rows.json", {"about": "legs", "results": flat_rows()})],
    "csv": lambda p: [write_table(p / "rows.csv", flat_rows())],
    "semicolons": lambda p: [_written(p / "rows.csv", table_bytes(";"))],
    "packed lines": lambda p: [_written(p / "rows.jsonl.gz", gzip.compress(lines_bytes()))],
    "packed array": lambda p: [_written(p / "rows.json.gz", gzip.compress(json.dumps(flat_rows()).encode()))],
    "array of columns": lambda p: [
        write_json(p / "rows.json", {k: [r[k] for r in flat_rows()] for k in flat_rows()[0]})
    ],
    "tsv": lambda p: [write_table(p / "rows.tsv", flat_rows())],
    "parquet": lambda p: [write_parquet(p / "rows.parquet", flat_rows())],
    "lists": lambda p: [write_jsonl(p / "rows.jsonl", _listed())],
    "conversations": lambda p: [write_jsonl(p / "rows.jsonl", _talks())],
    "folder": lambda p: (
        [write_jsonl(p / "all" / "b.jsonl", flat_rows()[2:]).parent]
        if write_jsonl(p / "all" / "a.jsonl", flat_rows()[:2])
        else []
    ),
    "lm-eval": _by_model(lambda p, m: write_jsonl(p / m / "samples_legs_2026.jsonl", lm_eval_rows(m))),
    "lmms-eval": _by_model(lambda p, m: write_jsonl(p / m / "2026_samples_legs.jsonl", lmms_eval_rows(m))),
    "inspect eval": _by_model(lambda p, m: write_eval(p / f"{m}.eval", inspect_samples(m), m)),
    "inspect json": _by_model(
        lambda p, m: write_json(p / f"{m}.json", {"eval": {"model": m}, "samples": inspect_samples(m)})
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_goes_through_import_score_and_eval(name: str, tmp_path: Path) -> None:
    rollout = imported(tmp_path / "runs", *FILES[name](tmp_path))
    groups = groups_of(rollout)
    assert rejected(rollout) == []
    found = {
        (c.policy_id, plain_text(g.messages[-1:])): [c.text for c in g.completions]
        for g in groups
        for c in g.completions
    }
    assert found == {
        (model, question): texts
        for model, all_texts in COMPLETIONS.items()
        for (question, _), texts in zip(QUESTIONS, all_texts, strict=True)
    }
    assert [(g.answer, g.answer_kind) for g in groups[:2]] == [("4", "number"), ("2", "number")]
    assert len({g.id for g in groups}) == 2
    assert all(c.token_ids == c.logprobs == [] and c.finish_reason == "stop" for g in groups for c in g.completions)
    scored = run("score", tmp_path / "runs", [rollout.path])
    by_policy = {}
    for group in groups_of(scored):
        rewards = [grade.value for c in group.completions for grade in c.grades if grade.name == "answer"]
        by_policy.setdefault(group.completions[0].policy_id, []).append(rewards)
    assert by_policy == {"model-a": [[1.0, 1.0], [1.0, 0.0]], "model-b": [[0.0, 0.0], [1.0, 1.0]]}
    rows = [r for r in run("eval", tmp_path / "runs", [scored.path]).rows(EVALS) if r.slice == "all"]
    figures = {r.policy: r.value for r in rows if r.metric == "capability"}
    assert figures == {"model-a": 0.75, "model-b": 0.5}
    # How long they are in tokens nobody knows: no figure, and no zero.
    assert {r.value for r in rows if r.metric == "completion_length"} == {None}


def test_a_vlmevalkit_file_has_its_options_and_its_model(tmp_path: Path) -> None:
    """The model is the folder's name, the file's name begins with it; every option is a choice."""
    path = write_table(tmp_path / "my-model" / "my-model_Animals.tsv", vlmeval_rows(["A", "The answer is C.", "C"]))
    rollout = imported(tmp_path / "runs", path)
    groups = groups_of(rollout)
    assert [g.choices for g in groups] == [["cat", "bird", "fish"]] * 3
    assert [(g.answer, g.answer_kind) for g in groups] == [("A", "choice"), ("B", "choice"), ("C", "choice")]
    assert {c.policy_id for g in groups for c in g.completions} == {"my-model"}
    assert plain_text(groups[0].messages).splitlines()[-1] == "C. fish"
    scored = groups_of(run("score", tmp_path / "runs", [rollout.path]))
    grades = [grade_of(g.completions[0], "answer") for g in scored]
    assert [g and g.value for g in grades] == [1.0, 0.0, 1.0]


def test_filters_of_one_document_are_one_completion(tmp_path: Path) -> None:
    """lm-eval writes a document once a filter, its responses unchanged: twice the completions would be a lie."""
    path = write_jsonl(tmp_path / "model-a" / "samples_legs_1.jsonl", lm_eval_rows("model-a", ("strict", "flexible")))
    rollout = imported(tmp_path / "runs", path)
    assert [len(g.completions) for g in groups_of(rollout)] == [2, 2]
    assert [reason for _, reason in rejected(rollout)] == ["other_filter"] * 2


def test_likelihoods_are_no_completions(tmp_path: Path) -> None:
    rows = [{**row, "resps": [[[-1.5, False]]], "filtered_resps": [[-1.5, False]]} for row in lm_eval_rows("model-a")]
    good = lm_eval_rows("model-b")
    rollout = imported(tmp_path / "runs", write_jsonl(tmp_path / "m" / "samples_x.jsonl", [*rows, *good]))
    assert [reason for _, reason in rejected(rollout)] == ["malformed"] * 2
    assert len(groups_of(rollout)) == 2


def test_a_sample_that_failed_is_a_completion_that_failed(tmp_path: Path) -> None:
    samples = inspect_samples("model-a")
    samples[0] |= {"error": {"message": "server gone"}, "output": {"model": "model-a", "choices": []}}
    samples[1]["output"]["choices"][0]["stop_reason"] = "max_tokens"
    first, *_ = groups_of(imported(tmp_path / "runs", write_eval(tmp_path / "log.eval", samples)))
    assert [(c.finish_reason, c.error) for c in first.completions] == [("error", "server gone"), ("length", None)]
    assert [m.role for m in first.messages] == ["system", "user"]


def test_an_empty_text_is_a_completion_and_null_is_one_that_failed(tmp_path: Path) -> None:
    rows = [{"prompt": "a", "response": text, "model": "m"} for text in ("b", "", None)]
    (group,) = groups_of(imported(tmp_path / "runs", write_jsonl(tmp_path / "r.jsonl", rows)))
    assert [(c.text, c.finish_reason) for c in group.completions] == [("b", "stop"), ("", "stop"), ("", "error")]


def test_a_row_maps_what_is_called_otherwise(tmp_path: Path) -> None:
    rows = [{"a": {"q": q}, "said": [{"text": "4"}], "gold": [a, "x"], "who": "me"} for q, a in QUESTIONS]
    mapped = ["prompt=a.q", "completion=said[0].text", "answer=gold[0]", "model=who", "label='math'"]
    groups = groups_of(imported(tmp_path / "runs", write_jsonl(tmp_path / "rows.jsonl", rows), map=mapped))
    assert [(g.label, g.answer, g.completions[0].text, g.completions[0].policy_id) for g in groups] == [
        ("math", "4", "4", "me"),
        ("math", "2", "4", "me"),
    ]
