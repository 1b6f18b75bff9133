"""Configs: strict, with did-you-mean; what affects rows is in the key."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import pytest

from stages.core.config import as_dict, assign, build, key_of, option, parse_assignment, section
from stages.core.errors import UsageError
from stages.core.stage_list import STAGES, load_config


@dataclass(frozen=True)
class Inner:
    take: int = option(0, "How many", low=0)
    labels: dict[str, float] = option({}, "Weights")
    tried: int = option(0, "Attempts", affects=False)


@dataclass(frozen=True)
class Outer:
    policy: str = option("tiny", "Model")
    temperature: float = option(1.0, "Temperature", low=0.0, high=5.0)
    mode: str = option("fast", "Mode", choices=("fast", "exact"))
    batch: int = option(8, "Batch", affects=False)
    names: list[str] = option([], "Names")
    limit: int | None = option(None, "Limit")
    also: list[str] = option(["refusal"], "More")
    select: Inner = section(Inner, "Selection")
    tables: dict[str, Inner] = option({}, "By name")


def test_nested_values_and_int_to_float() -> None:
    config = build(Outer, {"temperature": 1, "select": {"take": 3, "labels": {"a": 1}}, "limit": 4}, "outer")
    assert (config.temperature, config.select.take, config.limit) == (1.0, 3, 4)
    assert isinstance(config.select.labels["a"], float)


@pytest.mark.parametrize(
    ("values", "message", "hint"),
    [
        ({"temprature": 1.0}, "unknown key 'temprature' in [outer]", "did you mean 'temperature'?"),
        ({"temperature": "hot"}, "outer.temperature = 'hot' is a str", "it must be a float"),
        ({"temperature": True}, "outer.temperature = True is a bool", "it must be a float"),
        ({"temperature": 9.0}, "outer.temperature = 9.0 is too large", "the largest is 5.0"),
        (
            {"mode": "fats"},
            "outer.mode = 'fats' is not a choice",
            "did you mean 'fast'? choices: fast, exact",
        ),
        ({"names": ["a", 3]}, "outer.names[1] = 3 is a int", "it must be a str"),
        ({"select": {"takes": 1}}, "unknown key 'takes' in [outer.select]", "did you mean 'take'?"),
    ],
)
def test_bad_values_name_themselves(values: dict[str, Any], message: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        build(Outer, values, "outer")
    assert (caught.value.message, caught.value.hint) == (message, hint)


def test_key_leaves_out_what_cannot_change_rows() -> None:
    one, two = build(Outer, {"batch": 1}, "o"), build(Outer, {"batch": 2}, "o")
    assert key_of(one) == key_of(two)
    assert as_dict(one) != as_dict(two)


def test_a_field_at_its_default_is_not_in_the_key() -> None:
    assert key_of(build(Outer, {}, "o")) == {}
    assert key_of(build(Outer, {"temperature": 1, "names": [], "select": {"take": 0}}, "o")) == {}
    assert key_of(build(Outer, {"temperature": 0.5}, "o")) == {"temperature": 0.5}


def test_a_section_is_in_the_key_with_what_it_sets_alone() -> None:
    assert key_of(build(Outer, {"select": {"take": 3}}, "o")) == {"select": {"take": 3}}
    assert key_of(build(Outer, {"select": {"labels": {"a": 1}}}, "o")) == {"select": {"labels": {"a": 1.0}}}
    # Tried is in the section, and cannot change rows.
    assert key_of(build(Outer, {"select": {"tried": 3}}, "o")) == {}


def test_an_empty_list_in_place_of_a_default_one_is_in_the_key() -> None:
    assert key_of(build(Outer, {"also": []}, "o")) == {"also": []}
    assert key_of(build(Outer, {"also": ["refusal"]}, "o")) == {}


def test_tables_in_a_table_are_in_the_key_by_name() -> None:
    assert key_of(build(Outer, {"tables": {"a": {}}}, "o")) == {"tables": {"a": {}}}
    assert key_of(build(Outer, {"tables": {"a": {"take": 1}}}, "o")) == {"tables": {"a": {"take": 1}}}


def test_every_section_of_a_stage_begins_at_its_own_defaults() -> None:
    """Else a value that is the class's default, and not the section's, would vanish from the key."""
    for verb in STAGES:
        config = load_config(verb)()
        for field in dataclasses.fields(config):
            value = getattr(config, field.name)
            if dataclasses.is_dataclass(value):
                assert value == type(value)(), f"{verb}.{field.name}"


def test_a_config_rebuilds_from_its_own_dict() -> None:
    config = build(Outer, {"select": {"labels": {"x": 0.5}}, "names": ["n"]}, "o")
    assert build(Outer, as_dict(config), "o") == config


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("a=3", ["a"], 3),
        ("a.b=0.5", ["a", "b"], 0.5),
        ("a=[1, 2]", ["a"], [1, 2]),
        ("a={x = 1.0}", ["a"], {"x": 1.0}),
        ("policy=Qwen/Qwen2.5-VL-7B-Instruct", ["policy"], "Qwen/Qwen2.5-VL-7B-Instruct"),
        ("a='runs/x'", ["a"], "runs/x"),
        ("note=a=b", ["note"], "a=b"),
    ],
)
def test_assignments(text: str, path: list[str], value: Any) -> None:
    assert parse_assignment(text) == (path, value)


def test_assign_goes_into_tables_and_not_through_values() -> None:
    values: dict[str, Any] = {"a": 1}
    assign(values, ["b", "c"], 2)
    assert values == {"a": 1, "b": {"c": 2}}
    with pytest.raises(UsageError, match="'a' is not a table"):
        assign(values, ["a", "c"], 2)
    with pytest.raises(UsageError, match="has no '='"):
        parse_assignment("oops")
