"""From base.toml and variants.toml to one recipe a variant and seed."""

from __future__ import annotations

import copy
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cosmo_cli.recipe.schema import START
from cosmo_cli.recipe.steps import toml_value
from stages.core.plugins.references import relative_to

HERE = Path(__file__).parent
_WORDS = ("about", "against", "expected", "drop")
VERIFIER = "@verifier"
"""Stands in a recipe for the seed's own trained verifier."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One line of the comparison."""

    name: str
    about: str
    """What is different, in one line."""
    against: str
    """The variant it is compared with; "" for its own start only."""
    expected: str
    """What the papers lead one to expect; written before the runs."""
    recipe: dict[str, Any]
    """The whole recipe, but for its seed."""

    @property
    def needs_verifier(self) -> bool:
        """Whether a verifier has to be trained first."""
        return VERIFIER in toml_value(self.recipe)


def variants(folder: Path = HERE) -> list[Variant]:
    """Every variant, in the file's order."""
    base = relative_to(tomllib.loads((folder / "base.toml").read_text(encoding="utf-8")), folder.absolute())
    tables = relative_to(tomllib.loads((folder / "variants.toml").read_text(encoding="utf-8")), folder.absolute())
    return [_variant(name, table, base) for name, table in tables.items()]


def _variant(name: str, table: dict[str, Any], base: dict[str, Any]) -> Variant:
    recipe = copy.deepcopy(base)
    changes = {k: v for k, v in table.items() if k not in _WORDS}
    for phase, change in changes.pop("phases", {}).items():
        # KeyError names a phase that base.toml does not have.
        _lay_over({p["name"]: p for p in recipe["phases"]}[phase], change)
    _lay_over(recipe, changes)
    dropped = table.get("drop", [])
    recipe["phases"] = [p for p in recipe["phases"] if p["name"] not in dropped]
    recipe["name"] = name
    return Variant(name, table["about"], table.get("against", ""), table["expected"], recipe)


def _lay_over(below: dict[str, Any], above: dict[str, Any]) -> None:
    """Tables are merged, but for label weights, which only make sense together; all else is replaced."""
    for key, value in above.items():
        if isinstance(value, dict) and isinstance(below.get(key), dict) and key != "labels":
            _lay_over(below[key], value)
        else:
            below[key] = value


def start(variant: Variant) -> Variant:
    """The variant up to the end of its supervised start, which variants of one model and data share."""
    recipe = copy.deepcopy(variant.recipe)
    recipe["phases"] = [p for p in recipe["phases"] if p.get("objective") == "sft"]
    evaluate, there = recipe["evaluate"], (START, *(p["name"] for p in recipe["phases"]))
    evaluate["after"] = {name: place for name, place in evaluate["after"].items() if place in there}
    if "own" in evaluate:
        evaluate["own"] = {name: own for name, own in evaluate["own"].items() if name in evaluate["after"]}
    # The start is the same whatever rewards come after it.
    recipe.pop("score", None)
    recipe["name"] = f"start_{recipe['policy'].partition(':')[2] or Path(recipe['policy']).name}"
    return Variant(recipe["name"], "supervised start", "", "", recipe)


def recipe_text(variant: Variant, seed: int, verifier: str = "") -> str:
    """The recipe as TOML that `cosmo run` takes; its figures go to a file of its own."""
    recipe = {**variant.recipe, "seed": seed, "summary": f"{variant.name}.json"}
    text = "".join(f"{key} = {toml_value(value)}\n" for key, value in recipe.items())
    return text.replace(VERIFIER, verifier)
