"""Small files in the layouts that other tools write, and the stages that take them, run in this process."""

from __future__ import annotations

import base64
import io
import json
import zipfile
from pathlib import Path
from typing import Any

from PIL import Image as Pillow

from schemas.tables import ROLLOUTS, SCORED
from stages.core.config import build
from stages.core.runner import Options, run_stage
from stages.core.runs.folder import RunFolder
from stages.core.stage_list import load_config, load_stage

QUESTIONS = [("How many legs has a cat?", "4"), ("How many legs has a bird?", "2")]
COMPLETIONS = {"model-a": [["4", "four legs, so 4"], ["2", "3"]], "model-b": [["5", "3"], ["2", "2"]]}
"""By model, then by question: two completions each."""


def png(color: str = "red", side: int = 40) -> bytes:
    out = io.BytesIO()
    Pillow.new("RGB", (side, side), color).save(out, "PNG")
    return out.getvalue()


def run(verb: str, runs: Path, inputs: list[Path], **values: Any) -> RunFolder:
    """A stage to its end, its config from plain values."""
    config = build(load_config(verb), values, verb)
    return RunFolder.open(run_stage(load_stage(verb), config, inputs, options=Options(runs=runs)).path)


def imported(runs: Path, *files: Path, prompts: list[Path] | None = None, **values: Any) -> RunFolder:
    return run("import", runs, prompts or [], files=[str(f) for f in files], **values)


def groups_of(folder: RunFolder) -> list[Any]:
    return list(folder.rows(SCORED if folder.table == SCORED.name else ROLLOUTS))


def rejected(folder: RunFolder) -> list[tuple[str, str]]:
    return [(r.ref, r.reason) for r in folder.rejected()]


def flat_rows() -> list[dict[str, Any]]:
    """One completion a row."""
    return [
        {"id": f"q{n}", "question": question, "answer": answer, "model": model, "response": text}
        for model, all_texts in COMPLETIONS.items()
        for n, ((question, answer), texts) in enumerate(zip(QUESTIONS, all_texts, strict=True))
        for text in texts
    ]


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_json(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value, indent=1), encoding="utf-8")
    return path


def write_table(path: Path, rows: list[dict[str, Any]]) -> Path:
    import csv

    path.parent.mkdir(parents=True, exist_ok=True)
    names = list(dict.fromkeys(name for row in rows for name in row))
    with open(path, "w", encoding="utf-8", newline="") as handle:
        writer = csv.DictWriter(handle, names, delimiter="\t" if path.suffix == ".tsv" else ",")
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_parquet(path: Path, rows: list[dict[str, Any]]) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    # Small row groups, so that rows are looked for in several.
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=3)
    return path


def lm_eval_rows(model: str, filters: tuple[str, ...] = ("none",)) -> list[dict[str, Any]]:
    """As lm-eval has them: a row a document and filter, all responses of a document in it."""
    return [
        {
            "doc_id": n,
            "doc": {"question": question, "answer": f"some steps #### {answer}"},
            "target": answer,
            "arguments": {"gen_args_0": {"arg_0": question, "arg_1": {"until": ["\n"]}}},
            "resps": [texts],
            "filtered_resps": texts[:1],
            "filter": name,
            "metrics": ["exact_match"],
            "exact_match": float(texts[0] == answer),
            "doc_hash": "d",
            "prompt_hash": "p",
            "target_hash": "t",
        }
        for name in filters
        for n, ((question, answer), texts) in enumerate(zip(QUESTIONS, COMPLETIONS[model], strict=True))
    ]


def lmms_eval_rows(model: str) -> list[dict[str, Any]]:
    """As lmms-eval's tracker leaves them: `input`, no document, `resps` only where filters changed it."""
    return [
        {
            "doc_id": n,
            "target": answer,
            "input": question,
            "filtered_resps": texts,
            "doc_hash": "d",
            "some_acc": {"pred": texts[0], "label": answer},
            "exact_match": 1.0,
        }
        for n, ((question, answer), texts) in enumerate(zip(QUESTIONS, COMPLETIONS[model], strict=True))
    ]


def inspect_samples(model: str) -> list[dict[str, Any]]:
    """A sample an epoch, as inspect's logs have them."""
    return [
        {
            "id": f"q{n}",
            "epoch": epoch,
            "input": question,
            "target": answer,
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": question},
                {"role": "assistant", "content": text},
            ],
            "output": {
                "model": model,
                "choices": [{"message": {"role": "assistant", "content": text}, "stop_reason": "stop"}],
            },
            "scores": {"match": {"value": "C" if text == answer else "I", "answer": text, "explanation": "..."}},
            "metadata": {"level": "easy"},
            "attachments": {},
        }
        for n, ((question, answer), texts) in enumerate(zip(QUESTIONS, COMPLETIONS[model], strict=True))
        for epoch, text in enumerate(texts, start=1)
    ]


def write_eval(path: Path, samples: list[dict[str, Any]], model: str = "model-a") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("header.json", json.dumps({"version": 2, "eval": {"model": model, "task": "legs"}}))
        for sample in samples:
            archive.writestr(f"samples/{sample['id']}_epoch_{sample['epoch']}.json", json.dumps(sample))
        archive.writestr("summaries.json", "[]")
    return path


def vlmeval_rows(texts: list[str]) -> list[dict[str, Any]]:
    """A multiple-choice result file: options as columns, one prediction a line."""
    return [
        {
            "index": n + 100,
            "question": f"Which animal is number {n}?",
            "A": "cat",
            "B": "bird",
            "C": "fish",
            "answer": "ABC"[n],
            "category": "animals",
            "prediction": text,
        }
        for n, text in enumerate(texts)
    ]


def data_url(data: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(data).decode()
