"""What an instruction check is: a function of a completion and the instruction's arguments that says whether it obeys.

A row's instruction is a JSON object: the check's id under `kind`, and its arguments.

    {"kind": "rhyme:couplets", "least": 2}

A file of checks is a family, `stages/judging/instructions/<family>.py`:

    \"""Rhyme: checks of verse.\"""

    from stages.judging.instructions.base import Checks, Count

    def couplets(completion: str, least: Count) -> bool:
        \"""At least so many pairs of lines that end alike.\"""
        ...

    PLUGIN = Checks(version=1, checks={"rhyme:couplets": couplets})

The first parameter is the completion: what follows the think block. One called `prompt` gets the last user turn's
words. Every other one is an argument: its annotation says what it must be, its default that it may be left out.
`cosmo prepare` refuses a row whose instruction has no check, lacks an argument or has a wrong one.
"""

from __future__ import annotations

import inspect
import math
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from stages.core.errors import did_you_mean

Rule = Callable[..., bool]


@dataclass(frozen=True, slots=True)
class Least:
    """The smallest number that an argument may be."""

    number: int


Count = Annotated[int, Least(1)]
"""A whole number from 1: how many, or which one."""


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of a check."""

    name: str
    needs: str
    """What it must be, in words: `a whole number from 1`."""
    read: Callable[[Any], Any]
    """A JSON value as the check takes it; ValueError where it is something else."""
    required: bool

    def value(self, given: Any) -> Any:
        """The value as the check takes it; ValueError names argument and value."""
        try:
            return self.read(given)
        except ValueError:
            shown = repr(given)
            raise ValueError(f"{self.name} is {shown[:60]}, and must be {self.needs}") from None


@dataclass(frozen=True)
class Check:
    """One check: its id, upstream's `group:name` where there is an upstream, and its function."""

    id: str
    rule: Rule
    arguments: tuple[Argument, ...] = field(init=False)
    asks_prompt: bool = field(init=False)

    def __post_init__(self) -> None:
        arguments, asks_prompt = _signature(self.id, self.rule)
        # The class is frozen, and its own `__setattr__` raises.
        object.__setattr__(self, "arguments", arguments)
        object.__setattr__(self, "asks_prompt", asks_prompt)

    @property
    def summary(self) -> str:
        """What it asks for, in one line, with its arguments."""
        first = (self.rule.__doc__ or "").strip().partition("\n")[0]
        names = ", ".join(a.name if a.required else f"[{a.name}]" for a in self.arguments)
        return f"{first} ({names})" if names else first

    def given(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments as the function takes them; ValueError for one that is missing, unknown or no such value.

        A null counts as left out: benchmarks' files give every kind the same keys.
        """
        known = {a.name: a for a in self.arguments}
        told = {name: value for name, value in values.items() if value is not None}
        for name in told:
            if name not in known:
                takes = f"takes {', '.join(known)}" if known else "takes no arguments"
                raise ValueError(f"{self.id} {takes}, and has {name!r}. {did_you_mean(name, known)}".rstrip(". "))
        if missing := [a for a in self.arguments if a.required and a.name not in told]:
            raise ValueError(f"{self.id} needs {', '.join(f'{a.name} ({a.needs})' for a in missing)}")
        try:
            return {name: known[name].value(value) for name, value in told.items()}
        except ValueError as error:
            raise ValueError(f"{self.id}: {error}") from None

    def obeys(self, completion: str, given: Mapping[str, Any], prompt: str = "") -> bool:
        """Whether a completion obeys under arguments as `given` gives them. TypeError where the rule gives no bool."""
        found = self.rule(completion, **given, **({"prompt": prompt} if self.asks_prompt else {}))
        if not isinstance(found, bool):
            raise TypeError(f"{self.id} gave {found!r:.60}, a {type(found).__name__}: a check gives True or False")
        return found


@dataclass(frozen=True)
class Checks:
    """A family of checks: the PLUGIN of a file."""

    version: int
    """Raised whenever one of them could say something else."""
    checks: Mapping[str, Rule | Check]
    """By id; a function becomes a `Check`."""

    def __post_init__(self) -> None:
        made = {i: rule if isinstance(rule, Check) else Check(i, rule) for i, rule in self.checks.items()}
        object.__setattr__(self, "checks", made)

    def __getitem__(self, check_id: str) -> Check:
        """The check of an id; KeyError where the family has none."""
        found = self.checks[check_id]
        assert isinstance(found, Check)
        return found

    @property
    def members(self) -> dict[str, str]:
        """Each check's id and what it asks for, for lists."""
        return {check_id: self[check_id].summary for check_id in self.checks}


def _signature(check_id: str, rule: Rule) -> tuple[tuple[Argument, ...], bool]:
    """The arguments that a rule takes beside the completion, and whether it asks for the prompt, too."""
    parameters = list(inspect.signature(rule).parameters.values())
    if not parameters or any(p.kind not in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) for p in parameters[1:]):
        raise TypeError(f"{check_id} must take the completion, and its arguments by name")
    hints = typing.get_type_hints(rule, include_extras=True)
    asks_prompt = any(p.name == "prompt" for p in parameters[1:])
    arguments = []
    for parameter in parameters[1:]:
        if parameter.name != "prompt":
            needs, read = _reader(check_id, parameter.name, hints.get(parameter.name, Any))
            arguments.append(Argument(parameter.name, needs, read, parameter.default is parameter.empty))
    return tuple(arguments), asks_prompt


def _reader(check_id: str, name: str, hint: Any) -> tuple[str, Callable[[Any], Any]]:
    """What an annotation asks for, in words, and what reads it."""
    least = None
    if typing.get_origin(hint) is Annotated:
        hint, *more = typing.get_args(hint)
        least = next((m.number for m in more if isinstance(m, Least)), None)
    if typing.get_origin(hint) is Literal:
        words = typing.get_args(hint)
        return f"one of {', '.join(map(repr, words))}", lambda value: _one_of(value, words)
    if hint not in _READERS:
        raise TypeError(f"{check_id}: {name} is a {hint}; known are int, float, str, bool, list[str], Literal")
    needs, read = _READERS[hint]
    if least is None:
        return needs, read
    return f"{needs} from {least}", lambda value: _from(read(value), least)


def _whole(value: Any) -> int:
    # IFBench's files write 5.0; True is an int in Python.
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value != int(value):
        raise ValueError
    return int(value)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError
    return value


def _texts(value: Any) -> list[str]:
    if not isinstance(value, list) or not value or not all(isinstance(v, str) for v in value):
        raise ValueError
    return value


def _one_of(value: Any, words: tuple[Any, ...]) -> Any:
    if value not in words:
        raise ValueError
    return value


def _from(value: Any, least: int) -> Any:
    if value < least:
        raise ValueError
    return value


_READERS: dict[Any, tuple[str, Callable[[Any], Any]]] = {
    int: ("a whole number", _whole),
    float: ("a number", _number),
    str: ("a text", _text),
    bool: ("true or false", _flag),
    list[str]: ("a list of texts", _texts),
    Any: ("any value", lambda value: value),
}
