"""A prompt with its completions as a card for a terminal: one group a screen, best reward first, no token ids."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

Line = tuple[str, str, int]
"""A line, its style, and where its continuation starts."""
_HEAD = 6
"""Lines that a group's prompt takes, about."""


def card(record: dict[str, Any], width: int | None, height: int | None = None) -> list[Line]:
    """The lines of a row of prompts, rollouts or scored groups, as plain values with its images spelled out.

    `width` is the terminal's, None for a pipe: then nothing is cut.
    """
    completions = sorted(record.get("completions") or [], key=_reward, reverse=True)
    screen = (height or shutil.get_terminal_size().lines) - _HEAD
    room = None if width is None else max(1, screen // max(1, len(completions)) - 1) * (width - 10)
    lines = list(_prompt(record))
    for completion in completions:
        lines += _completion(completion, room)
    return lines


def _reward(completion: dict[str, Any]) -> float:
    reward = completion.get("reward")
    return float("-inf") if reward is None else reward


def _prompt(record: dict[str, Any]) -> Iterator[Line]:
    facts = [f"{record['label']}: {record['task']}", record["source"], record["split"], record.get("family")]
    harmful = {True: "harmful", False: "benign", None: None}[record.get("harmful")]
    yield "  ".join(str(part) for part in (record["id"], *facts, harmful) if part), "bold", 2
    images = iter(record.get("images") or [])
    for message in record["messages"]:
        parts = (str(next(images, "<image>")) if p["type"] == "image" else p["text"] or "" for p in message["content"])
        yield f"  {message['role']:9} {' '.join(parts)}", "", 12
    for name in ("answer", "reference_response"):
        if record.get(name) and (name == "answer" or not record.get("completions")):
            yield f"  {name.partition('_')[0]:9} {record[name]}", "dim", 12


def _completion(completion: dict[str, Any], room: int | None) -> Iterator[Line]:
    text = completion["text"] if completion.get("error") is None else f"({completion['error']})"
    ended = "" if completion["finish_reason"] == "stop" else f" [{completion['finish_reason']}]"
    reward = completion.get("reward")
    head = "" if "reward" not in completion else "   none " if reward is None else f"{reward:+8.3f}"
    yield f"{head or '       -'}  {_cut(' '.join(text.split()), room)}{ended}", "", 10
    if graded := " · ".join(map(_grade, completion.get("grades") or [])):
        yield f"{'':10}{_cut(graded, room)}", "dim", 10


def _grade(grade: dict[str, Any]) -> str:
    verdict = grade.get("verdict") or ("" if grade["status"] == "ok" else grade["status"])
    value = grade.get("value")
    return " ".join(part for part in (grade["name"], verdict, "" if value is None else f"{value:g}") if part)


def _cut(text: str, room: int | None) -> str:
    """The beginning and the end: answers stand there."""
    if room is None or len(text) <= room:
        return text
    end = max(room // 3, 1)
    return f"{text[: room - end - 3]} … {text[-end:]}"
