"""From a row to a sample: its prompt's columns, whose completions it has, and what was thought of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from schemas.rollouts import FinishReason
from stages.core.errors import BadSample, UsageError, did_you_mean
from stages.core.field_paths import LEFT_OUT, MISSING, FieldPath, parse_map, parse_path
from stages.imports.config import ImportConfig
from stages.imports.layouts import BY_NAME, Columns
from stages.reading.layouts.look import letter_columns, numbered_columns
from stages.reading.layouts.table import COLUMNS, LABELS
from stages.reading.literals import opened
from stages.reading.references import KINDS

_REFERENCES = ("answer", "reference", "reference_answer", "ground_truth", "gold", "target")
"""Before all that `prepare` knows: logs have a target and a solution, and the target is what was compared with."""
CALLED: dict[str, tuple[str, ...]] = {
    "prompt": ("prompt", "question", "instruction", "query", "input", "problem"),
    "messages": ("messages", "conversations", "conversation"),
    "completion": ("completion", "response", "reply", "prediction", "output", "generation", "model_output"),
    "completions": ("completions", "responses", "replies", "outputs", "generations"),
    "model": ("model", "model_name", "model_id", "policy", "generator"),
    "id": ("prompt_id", "id", "question_id", "qid", "uid", "pid", "sample_id", "index"),
    "answer": tuple(dict.fromkeys((*_REFERENCES, *COLUMNS["answer"]))),
    "choices": COLUMNS["choices"],
    "images": COLUMNS["images"],
    "verdict": ("verdict", "final_label", "human_label", "human_verdict", "judgement", "judgment"),
    "finish_reason": ("finish_reason", "stop_reason"),
}
"""What people call a field, the likeliest first. Whatever else a column is called, `--map` says it."""
OURS = (
    "label",
    "task",
    "split",
    "source",
    "answer_kind",
    "category",
    "risk",
    "family",
    "parent_id",
    "scene",
    "harmful",
)
LISTS = ("facts", "key_facts", "visual_keys", "text_keys", "hazards", "unsafe_markers", "flags", "instructions")
MACHINES = ("correct", "is_correct", "score", "rating", "jailbroken")
"""Columns that are grades called as the column is: who gave them is not known."""
FIELDS = (*CALLED, *OURS, *LISTS)
_CUT = ("length", "max_tokens", "model_length", "token_limit")
_NO_TEXT = "the file has no completion here"


@dataclass(frozen=True, slots=True)
class Made:
    """One completion as the file has it."""

    text: str | None
    """None where there is none: then `error` says why."""
    finish: FinishReason
    error: str | None
    verdicts: dict[str, Any]
    """By the name of the grade."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What one row says."""

    prompt: dict[str, Any]
    """The prompt's columns under our names; empty where there is an id alone."""
    id: str | None
    model: str
    completions: list[Made]
    used: dict[str, str] = field(default_factory=dict)
    """Field -> the column that it was read from."""


class SampleReader:
    """How rows of one file are read."""

    def __init__(self, config: ImportConfig, layout: str, path: Path, head: Mapping[str, Any]) -> None:
        """UsageError for a mapping of what is no field, and for a path that is none."""
        self._layout, self._head = BY_NAME[layout], dict(head)
        self._map = field_map(config.map)
        self._grades = {name: parse_path(text) for name, text in config.grades.items()}
        self._judge = config.judge_name
        self._split = config.split or self._layout.split
        self._with_grades = config.write == "scored"
        self.default_model = config.model or self._layout.model_of(path, head) or path.stem

    def sample(self, row: Mapping[str, Any]) -> Sample:
        """What the row says; BadSample where it has no completion or no prompt."""
        found = self._layout.read(row, self._head)
        found.row = _gathered(found.row)
        values, used = self._fields(row, found)
        completions = self._completions(row, found, values)
        given = {name: path for name, path in self._grades.items() if _present(_or_none(path.find(row)))}
        used |= {f"grade {name}": path.text for name, path in given.items()}
        prompt = {name: values[name] for name in FIELDS if name in values and name not in _NOT_PROMPT}
        taken = set(used.values())
        extra = {k: v for k, v in found.row.items() if k not in taken and _present(v)}
        if "id" in values:
            extra["id"] = values["id"]
        if extra:
            prompt["extra"] = extra
        prompt.setdefault("split", self._split)
        if "prompt" not in prompt and "messages" not in prompt and "id" not in values:
            names = ", ".join(map(repr, list(row)[:12]))
            raise BadSample("malformed", f"no prompt and no id among {names}: --map prompt=COLUMN")
        ident = str(values["id"]) if "id" in values else None
        return Sample(prompt, ident, str(values.get("model") or self.default_model), completions, used)

    def _fields(self, row: Mapping[str, Any], found: Columns) -> tuple[dict[str, Any], dict[str, str]]:
        """Values by field, and the columns that they are from: as mapped, else by what the columns are called."""
        values: dict[str, Any] = {}
        used: dict[str, str] = {}
        for name in FIELDS:
            if name in self._map:
                if self._map[name].text == LEFT_OUT:
                    continue
                value = self._map[name].find(row)
                if value is not MISSING and value is not None:
                    values[name], used[name] = value, self._map[name].text
                continue
            column = next((c for c in CALLED.get(name, (name,)) if _means(name, found.row.get(c))), None)
            if column is not None and column not in used.values():
                values[name], used[name] = found.row[column], column
        return values, used

    def _completions(self, row: Mapping[str, Any], found: Columns, values: dict[str, Any]) -> list[Made]:
        """Every completion of the row with its verdicts."""
        texts: list[Any]
        if "completion" in self._map:
            texts = [values.get("completion")]
        elif found.completions is not None:
            texts = found.completions
        elif isinstance(several := values.get("completions"), list):
            texts = several
        elif any(c in found.row for c in CALLED["completion"]):
            texts = [values.get("completion", _said_nothing(found.row))]
        else:
            texts = [self._closing_turn(values, list(row))]
        verdicts = [dict(v) for v in found.grades] or [{} for _ in texts]
        if self._with_grades and len(verdicts) == len(texts):
            for name, value in self._row_verdicts(row, values, found).items():
                shared = value if isinstance(value, list) and len(value) == len(texts) else [value] * len(texts)
                for own, one in zip(verdicts, shared, strict=True):
                    own.setdefault(name, one)
        finish = [*found.finish, *[values.get("finish_reason")] * (len(texts) - len(found.finish))]
        padded = [*verdicts, *({} for _ in texts[len(verdicts) :])]
        return [_made(*one) for one in zip(texts, finish, padded)]

    def _closing_turn(self, values: dict[str, Any], columns: list[str]) -> Any:
        """The conversation's last turn, taken off it, where the assistant has it."""
        turns = values.get("messages")
        if isinstance(turns, list) and turns and _role(turns[-1]) == "assistant":
            values["messages"] = turns[:-1]
            return turns[-1]
        names = ", ".join(map(repr, columns[:12]))
        raise BadSample("malformed", f"no completion among {names}: --map completion=COLUMN")

    def _row_verdicts(self, row: Mapping[str, Any], values: dict[str, Any], found: Columns) -> dict[str, Any]:
        verdicts = {name: path.find(row) for name, path in self._grades.items()}
        if "verdict" in values:
            verdicts.setdefault(self._judge, values["verdict"])
        verdicts |= {c: found.row[c] for c in MACHINES if _present(found.row.get(c)) and c not in verdicts}
        return {name: value for name, value in verdicts.items() if value is not MISSING and _present(value)}


_NOT_PROMPT = ("completion", "completions", "model", "id", "verdict", "finish_reason")


def field_map(specs: Iterable[str]) -> dict[str, FieldPath]:
    """`--map` by field; UsageError for what is no field."""
    found = parse_map(specs)
    for name in found:
        if name not in FIELDS:
            hint = did_you_mean(name, FIELDS) or f"fields: {', '.join(FIELDS)}"
            raise UsageError(f"--map {name}=...: there is no field {name!r}", hint)
    return found


def _means(name: str, value: Any) -> bool:
    """Whether a column holds what we call so: a `label` may be a class of somebody's own, `instructions` a text."""
    if name == "label":
        return value in LABELS
    if name == "answer_kind":
        return value in KINDS
    if name == "instructions":
        value = opened(value)
        return isinstance(value, list) and all(isinstance(opened(v), dict) and "kind" in opened(v) for v in value)
    return _present(value)


def _present(value: Any) -> bool:
    """Whether something stands there. A NaN is how tables of numbers leave a field out."""
    return value is not None and value != "" and not (isinstance(value, float) and math.isnan(value))


def _gathered(row: dict[str, Any]) -> dict[str, Any]:
    """The row with options and images that have a column each (A, B, C; image_1, image_2) as one list."""
    present = [column for column, value in row.items() if _present(value)]
    for name, columns in (("choices", letter_columns(present)), ("images", numbered_columns(present))):
        if columns and not any(_present(row.get(c)) for c in CALLED[name]):
            row = {**{c: v for c, v in row.items() if c not in columns}, name: [row[c] for c in columns]}
    return row


def _or_none(value: Any) -> Any:
    return None if value is MISSING else value


def _said_nothing(row: Mapping[str, Any]) -> str | None:
    """The empty text of a completion that says nothing: it was made, and is not one that failed."""
    return "" if any(row.get(column) == "" for column in CALLED["completion"]) else None


def _role(turn: Any) -> str | None:
    if not isinstance(turn, Mapping):
        return None
    role = turn.get("role") or turn.get("from")
    return {"gpt": "assistant", "human": "user"}.get(str(role), role)


def _made(value: Any, finish: Any, verdicts: dict[str, Any]) -> Made:
    text = text_of(value)
    if text is None:
        return Made(None, FinishReason.ERROR, str(finish) if finish else _NO_TEXT, {})
    return Made(text, FinishReason.LENGTH if finish in _CUT else FinishReason.STOP, None, verdicts)


def text_of(value: Any) -> str | None:
    """A completion's words: a text, a number, a turn, the last of some turns, or parts; None where there is none."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, bool | int | float):
        # Tables have a column of numbers where every completion is one.
        return str(value)
    if isinstance(value, Mapping):
        inner = next((value[k] for k in ("content", "value", "text", "response") if k in value), MISSING)
        if inner is not MISSING and not isinstance(inner, Mapping):
            return text_of(inner)
    if isinstance(value, list) and value and all(isinstance(v, Mapping) for v in value):
        if any("role" in v or "from" in v for v in value):
            return text_of(value[-1])
        # Parts: a model's thoughts are kept by some tools as one of their own.
        pieces = [_part(v) for v in value]
        return "".join(pieces)
    raise BadSample("malformed", f"a completion is {type(value).__name__}, and must be text: --map completion=PATH")


def _part(part: Mapping[str, Any]) -> str:
    if part.get("type") in ("reasoning", "thinking"):
        return f"<think>{part.get('reasoning') or part.get('thinking') or ''}</think>\n"
    return str(part.get("text") or "")
