"""Verifiers that are plain functions: one called for each completion, or one called for each group as TRL's are.

    def accuracy(prompt, completion, answer, **row) -> float | bool | None: ...

is called with the last user turn's words, the words after the think block (all of them where there is none), and the
row's reference answer. Any further parameter is a field of the row by its name (`label`, `choices`, `facts`,
`images`, ...), or of the completion: `text` (all of it, as sampled), `think`, `finish_reason`, `token_ids`.

    def brevity(completions, **columns) -> list[float | None]: ...

is TRL's reward function: a first parameter called `completions` or `prompts`. It is called once a group, with lists as
long as the group, of all that the other form knows by name (and `completion_ids`). `completions` are whole texts, and
`prompts` the last turn's words; a first parameter whose annotation says `dict` asks for TRL's conversations instead:
`[{"role": "assistant", "content": text}]` and the prompt's turns.

None says that it does not apply. What it raises, and anything that is no finite number, is an error grade.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import Any

from schemas.prompts import PromptRow
from schemas.rollouts import Completion, RolloutGroup
from schemas.values import plain_text
from stages.core.errors import CosmoError
from stages.judging.parsed import ParsedCompletion, parse_completion
from stages.score.verifiers.base import (
    BoundVerifier,
    Judgement,
    ModelVerifier,
    Ungraded,
    Verifier,
    does_not_apply,
    failed,
    finite_value,
    raised,
)

FUNCTION_VERSION = 1
"""Raised when a function would be called with something else."""
ROW = tuple(f.name for f in fields(PromptRow))
OF_COMPLETION = ("text", "think", "finish_reason", "token_ids")
KNOWN = ("prompt", "completion", *OF_COMPLETION, *ROW)
LISTS = ("prompts", "completions", "completion_ids", *OF_COMPLETION, *ROW)


def adapt(name: str, plugin: Any) -> Any:
    """A verifier of that name, or what binds one to a config; TypeError for what can't be one."""
    if isinstance(plugin, Verifier | ModelVerifier):
        return replace(plugin, name=name)
    if isinstance(plugin, BoundVerifier):
        return plugin
    # Calling a class would make an object for each completion, not a number.
    if not callable(plugin) or inspect.isclass(plugin):
        raise TypeError(f"{plugin!r:.60} is no function and no Verifier")
    # A coroutine would be taken for the value, and be no number, for every completion of the run.
    if inspect.iscoroutinefunction(plugin):
        raise TypeError(f"{name} is async, and a verifier is called as it is")
    parameters = [p for p in inspect.signature(plugin).parameters.values() if p.kind is not p.VAR_KEYWORD]
    if parameters and parameters[0].name == "config":
        return plugin
    if parameters and parameters[0].name in ("completions", "prompts"):
        takes = _taken(name, plugin, LISTS)
        # An annotation is a type, or its text where the file postpones them: both say `dict` as a string.
        return _of_groups(name, plugin, takes, "dict" in str(parameters[0].annotation))
    takes = _taken(name, plugin, KNOWN)

    def judge(group: RolloutGroup, completion: Completion, parsed: ParsedCompletion) -> Judgement:
        every = _of_completion(completion, parsed)
        given = {key: every[key] if key in every else getattr(group, key) for key in takes if key != "prompt"}
        if "prompt" in takes:
            given["prompt"] = _asked(group)
        return _judgement(name, plugin(**given))

    return Verifier(FUNCTION_VERSION, judge, name)


def _taken(name: str, function: Callable[..., Any], known: Sequence[str]) -> list[str]:
    """Which of the known arguments a function takes; TypeError for one that it needs and nobody has."""
    parameters = inspect.signature(function).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        takes = list(known)
    else:
        takes = [p.name for p in parameters if p.name in known]
    for p in parameters:
        by_name = p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
        if (
            p.default is p.empty
            and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
            and not (by_name and p.name in known)
        ):
            raise TypeError(f"{name} needs {p.name!r}, which no row has (docs/reference/rows.md has all fields)")
    return takes


def _of_completion(completion: Completion, parsed: ParsedCompletion) -> dict[str, Any]:
    return {
        "completion": parsed.answer,
        "text": completion.text,
        "think": parsed.think,
        "finish_reason": completion.finish_reason,
        "token_ids": list(completion.token_ids),
    }


def _asked(group: RolloutGroup) -> str:
    return plain_text(group.messages[-1:])


def _of_groups(name: str, function: Callable[..., Any], takes: list[str], conversational: bool) -> ModelVerifier:
    """A verifier that is asked about a group at a time."""

    def grade_groups(window: Sequence[Ungraded]) -> list[list[Judgement]]:
        return [_grade_group(name, function, takes, conversational, ungraded) for ungraded in window]

    return ModelVerifier(name, {"rule": FUNCTION_VERSION}, lambda ctx: grade_groups)


def _grade_group(
    name: str, function: Callable[..., Any], takes: list[str], conversational: bool, ungraded: Ungraded
) -> list[Judgement]:
    group, completions, layout = ungraded
    if not completions:
        return []
    every = _columns(group, completions, conversational, layout)
    given = {key: every[key] if key in every else [getattr(group, key)] * len(completions) for key in takes}
    try:
        found = function(**given)
        # Arrays and tensors, on a GPU too.
        if hasattr(found, "tolist"):
            found = found.tolist()
        if not isinstance(found, list | tuple) or len(found) != len(completions):
            what = f"{len(found)} values" if isinstance(found, list | tuple) else f"a {type(found).__name__}"
            raise ValueError(f"{name} gave {what} for {len(completions)} completions: it must be a list of as many")
    except CosmoError:
        raise
    except Exception as error:
        return [raised(error)] * len(completions)
    return [_judgement(name, value) for value in found]


def _columns(
    group: RolloutGroup, completions: list[Completion], conversational: bool, layout: str
) -> dict[str, list[Any]]:
    parsed = [parse_completion(c.text, layout) for c in completions]
    rows = [_of_completion(c, p) for c, p in zip(completions, parsed, strict=True)]
    columns = {key: [row[key] for row in rows] for key in OF_COMPLETION}
    texts = [c.text for c in completions]
    if conversational:
        turns = [{"role": m.role, "content": plain_text([m])} for m in group.messages]
        columns["prompts"] = [turns] * len(texts)
        columns["completions"] = [[{"role": "assistant", "content": text}] for text in texts]
    else:
        columns["prompts"] = [_asked(group)] * len(texts)
        columns["completions"] = texts
    columns["completion_ids"] = columns["token_ids"]
    return columns


def _judgement(name: str, value: Any) -> Judgement:
    """What a function said as a judgement; an error where that is no finite number."""
    if value is None:
        return does_not_apply(f"{name} says that it does not apply")
    try:
        return Judgement(finite_value(value, name))
    except ValueError as error:
        return failed(str(error))
