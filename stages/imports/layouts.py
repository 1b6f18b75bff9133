"""Who wrote a row: each tool's layout, brought to the names that `samples` looks for.

A layout is known by columns that nobody else has together. What it gives is still a row of columns, so that `--map`
and further columns work with every layout; beside it, completions and grades that are not one column each.

Written after the tools' own code as of 2026: lmms-eval's and lm-eval's `samples_*.jsonl`, inspect's logs, VLMEvalKit's
result files, and preference pairs as TRL, ms-swift and LLaMA-Factory have them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stages.core.errors import BadSample

Row = Mapping[str, Any]


@dataclass(slots=True)
class Columns:
    """A row under our names, as far as a layout knows them."""

    row: dict[str, Any]
    """`prompt` or `messages`, `id`, `model`, `answer`, `choices`, `image`, and every further column."""
    completions: list[Any] | None = None
    """Several completions of one row; None: `row` has a column for one."""
    finish: list[str | None] = field(default_factory=list)
    """Why each ended, where that is known."""
    grades: list[dict[str, Any]] = field(default_factory=list)
    """Verdicts by name of each completion."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How one tool's rows are known, and read."""

    fits: Callable[[Row], bool]
    read: Callable[[Row, Row], Columns]
    """(row, the file's head) -> columns; BadSample for a row that is not as the tool writes them."""
    split: str = "train"
    """The split of rows without one: what a benchmark's log holds is for no training."""
    model_of: Callable[[Path, Row], str | None] = lambda path, head: _model_in(head)
    """The policy's name by the file and its head, for rows that name none."""


def layout_of(row: Row) -> str:
    """The layout that a row is in; `rows` where it is nobody's in particular."""
    return next(name for name, layout in BY_NAME.items() if layout.fits(row))


def _rows(row: Row, head: Row) -> Columns:
    return Columns(dict(row))


def _model_in(head: Row) -> str | None:
    """A model's name at the top of a file or one level below."""
    for place in (head, *(v for v in head.values() if isinstance(v, dict))):
        found = place.get("model") or place.get("model_name")
        if isinstance(found, str):
            return found
    return None


_OTHERWISE = ("label", "task", "split", "source", "family", "scene", "risk", "flags", "model", "verdict", "score")
"""What a benchmark's own columns are called that do not mean what we mean by it: a class, a file, a year."""


def _apart(name: str) -> str:
    """A name under which a benchmark's column is kept and not read."""
    return f"doc.{name}" if name in _OTHERWISE else name


# lmms-eval and lm-eval


def _lm_eval(row: Row, head: Row) -> Columns:
    """One document's responses. `resps` is what the model wrote; `filtered_resps` what a metric's filter left of it."""
    doc = _object(row.get("doc"))
    found: dict[str, Any] = {_apart(k): v for k, v in doc.items() if isinstance(v, str | int | float | list)}
    # The document's own columns come second: `input` and `target` are what the model was given and measured by.
    found |= {"id": row.get("doc_id"), "prompt": _lm_eval_prompt(row), "answer": row.get("target")}
    for name in ("resps", "filtered_resps", "doc_hash", "prompt_hash", "target_hash"):
        found.pop(name, None)
    texts = _flat(row.get("resps") or row.get("filtered_resps"))
    if not texts or not all(isinstance(t, str) for t in texts):
        raise BadSample("malformed", "no generated text: the task compares log-likelihoods of options")
    own = set(_LM_EVAL) | {"doc", "input", "arguments", "metrics"}
    scores = {k: v for k, v in row.items() if k not in own and isinstance(v, int | float | str)}
    return Columns(found, texts, [None] * len(texts), [scores for _ in texts])


_LM_EVAL = ("doc_id", "target", "resps", "filtered_resps", "doc_hash", "prompt_hash", "target_hash", "filter")


def _lm_eval_prompt(row: Row) -> Any:
    """lmms-eval writes `input`; lm-eval `arguments`, a list of argument lists or an object of objects."""
    if isinstance(given := row.get("input"), str):
        return given
    arguments = row.get("arguments")
    while isinstance(arguments, dict | list) and arguments:
        arguments = next(iter(arguments.values())) if isinstance(arguments, dict) else arguments[0]
    return arguments


def _object(value: Any) -> dict[str, Any]:
    """The object that stands there; an empty one for anything else."""
    return value if isinstance(value, dict) else {}


def _flat(value: Any) -> list[Any]:
    """The texts of nested lists, in order."""
    if isinstance(value, list):
        return [text for inner in value for text in _flat(inner)]
    return [] if value is None else [value]


def _lm_eval_model(path: Path, head: Row) -> str | None:
    """Both put a model's samples into a folder called after it, `/` written as `__`."""
    return path.resolve().parent.name.replace("__", "/") or None


# inspect


def _inspect(row: Row, head: Row) -> Columns:
    output = _object(row.get("output"))
    choices = output.get("choices") or []
    if row.get("error") or not choices:
        why = row.get("error") or {}
        texts: list[Any] = [None]
        finish: list[str | None] = [str(why.get("message", "error")) if isinstance(why, dict) else str(why)]
    else:
        texts = [c.get("message", {}).get("content") for c in choices]
        finish = [c.get("stop_reason") for c in choices]
    attachments = _object(row.get("attachments"))
    given = row.get("input")
    found: dict[str, Any] = {"id": row.get("id"), "answer": row.get("target")}
    if options := row.get("choices"):
        found["choices"] = options
    # The log's messages are what the model was given, a system prompt and the options included; `input` is not.
    turns = _until_answer(row.get("messages")) or given
    found |= {"messages": _attached(turns, attachments)} if isinstance(turns, list) else {"prompt": turns}
    if isinstance(model := output.get("model") or _object(head.get("eval")).get("model"), str):
        found["model"] = model
    if isinstance(extra := row.get("metadata"), dict):
        found |= {_apart(k): v for k, v in extra.items() if k not in found}
    grades: dict[str, Any] = {}
    for scorer, score in _object(row.get("scores")).items():
        value = score.get("value") if isinstance(score, dict) else score
        named = value if isinstance(value, dict) else {"": value}
        grades |= {f"{scorer}.{k}" if k else scorer: _INSPECT.get(str(v), v) for k, v in named.items()}
    return Columns(found, texts, finish, [grades, *({} for _ in texts[1:])])


_INSPECT = {"C": "correct", "I": "incorrect", "P": "partial", "N": "no_answer"}


def _until_answer(turns: Any) -> list[Any] | None:
    """The conversation up to the completion: turns before the first of the assistant that nothing follows."""
    if not isinstance(turns, list) or not turns or not all(isinstance(t, dict) for t in turns):
        return None
    roles = [t.get("role") for t in turns]
    if "tool" in roles:
        raise BadSample("malformed", "the sample uses tools, and turns of tools are not read yet")
    end = len(turns) - 1 if roles[-1] == "assistant" else len(turns)
    return turns[:end] or None


def _attached(turns: list[Any], attachments: Mapping[str, Any]) -> list[Any]:
    """The turns with what inspect stores once, beside them, put back in its place."""

    def put_back(value: Any) -> Any:
        if isinstance(value, str) and value.startswith("attachment://"):
            return attachments.get(value.removeprefix("attachment://"), value)
        if isinstance(value, dict):
            return {k: put_back(v) for k, v in value.items()}
        return [put_back(v) for v in value] if isinstance(value, list) else value

    return [put_back(turn) for turn in turns]


# VLMEvalKit


def _vlmeval(row: Row, head: Row) -> Columns:
    """One line of a result file. Options are columns A, B, C, ...; the prompt is written as its users know it."""
    found = {_apart(k): v for k, v in row.items() if len(k) > 1 and k not in ("hit", "log")}
    options = [str(row[letter]) for letter in "ABCDEFGHIJ" if row.get(letter) is not None]
    lines = [f"Hint: {row['hint']}"] if row.get("hint") else []
    lines.append(str(row.get("question", "")))
    if options:
        found["choices"] = options
        lines += ["Options:", *(f"{letter}. {text}" for letter, text in zip("ABCDEFGHIJ", options))]
    found["prompt"] = "\n".join(lines)
    grades = {"hit": row["hit"]} if row.get("hit") is not None else {}
    # Before `index`, which counts, no other name of the row is looked for.
    return Columns({**found, "id": row.get("index")}, [row.get("prediction")], [None], [grades])


def _vlmeval_model(path: Path, head: Row) -> str | None:
    """`MODEL_DATASET.xlsx` in a folder called MODEL, or in one inside it."""
    near = [p.name for p in path.resolve().parents[:2]]
    return next((name for name in near if name and path.stem.startswith(f"{name}_")), None)


# Preference pairs


def _pairs(row: Row, head: Row) -> Columns:
    """Two completions of a prompt, the better one first. Conversations begin alike, and may hold the prompt."""
    found = {k: v for k, v in row.items() if k not in ("chosen", "rejected")}
    sides = [row["chosen"], row["rejected"]]
    if not any(found.get(name) for name in ("prompt", "messages", "conversations", "question", "instruction")):
        turns = [side for side in sides if isinstance(side, list)]
        if len(turns) < 2 or turns[0][:-1] != turns[1][:-1] or len(turns[0]) < 2:
            raise BadSample("malformed", "there is no prompt, and the two conversations don't begin alike")
        found["messages"] = turns[0][:-1]
    grades = [{PREFERENCE: 1.0}, {PREFERENCE: 0.0}]
    return Columns(found, sides, [None, None], grades)


PREFERENCE = "preference"
"""The grade of a pair's completions: 1 for the one that was preferred, 0 for the other."""


# Several completions of a prompt in numbered columns


def _numbered(row: Row, head: Row) -> Columns:
    """`response_0`, `response_1`, ...; PKU-SafeRLHF has people's choices beside them."""
    name, numbers = _numbers(row)
    own = {f"{name}_{n}" for n in numbers}
    grades: list[dict[str, Any]] = [{} for _ in numbers]
    for column, value in row.items():
        # `better_response_id`: which one it is of all; `is_response_1_safe`: what one of them is.
        if column.endswith(f"_{name}_id") and value in numbers:
            own.add(column)
            for n, grade in zip(numbers, grades, strict=True):
                grade[column.removesuffix(f"_{name}_id")] = float(value == n)
        for n, grade in zip(numbers, grades, strict=True):
            start = f"is_{name}_{n}_"
            if column.startswith(start):
                own.add(column)
                grade[column.removeprefix(start)] = value
    found = {k: v for k, v in row.items() if k not in own}
    return Columns(found, [row[f"{name}_{n}"] for n in numbers], [None for _ in numbers], grades)


def _numbers(row: Row) -> tuple[str, range]:
    """What numbered columns are called, and their numbers; an empty range without any."""
    for name in ("response", "completion", "output", "prediction", "generation"):
        for first in (0, 1):
            last = first
            while f"{name}_{last}" in row:
                last += 1
            if last - first > 1:
                return name, range(first, last)
    return "", range(0)


def _is_pair(row: Row) -> bool:
    return all(row.get(side) is not None for side in ("chosen", "rejected"))


def _is_inspect(row: Row) -> bool:
    return isinstance(row.get("output"), dict) and "input" in row and "epoch" in row


def _is_lm_eval(row: Row) -> bool:
    return "doc_id" in row and ("filtered_resps" in row or "resps" in row)


def _is_vlmeval(row: Row) -> bool:
    return all(name in row for name in ("index", "question", "prediction"))


BY_NAME: dict[str, Layout] = {
    "lm_eval": Layout(_is_lm_eval, _lm_eval, "test", _lm_eval_model),
    "inspect": Layout(_is_inspect, _inspect, "test"),
    "vlmeval": Layout(_is_vlmeval, _vlmeval, "test", _vlmeval_model),
    "pairs": Layout(_is_pair, _pairs),
    "numbered": Layout(lambda row: bool(_numbers(row)[1]), _numbered),
    "rows": Layout(lambda row: True, _rows),
}
"""In the order in which they are tried; the last fits everything."""
