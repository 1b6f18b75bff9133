"""From label to reward: the default table, a run's overrides, and the sum itself."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from schemas.scored import Grade, Term, counting
from schemas.terms import principal_mark, principal_of
from stages.core.config import build
from stages.core.errors import InputError, UsageError, did_you_mean
from stages.core.registry import is_known, names, short_name
from stages.judging.parsed import THINK
from stages.score.config import RewardTable, ScoreConfig

_DEFAULTS = Path(__file__).with_name("rewards.toml")
FORMAT = "format"
_LAYOUT = "; layout "


@dataclass(frozen=True, slots=True)
class RewardFormula:
    """A label's resolved reward formula."""

    terms: tuple[tuple[str, float], ...]
    """(verifier, weight), format first where it is added."""
    text: str
    """`sum: format*1 + safety*1`."""
    principal: str
    """The verifier of the label's task: without its value there is no reward."""
    layout: str = THINK
    """How the label's completions are taken apart."""


@cache
def _defaults() -> dict[str, Any]:
    return tomllib.loads(_DEFAULTS.read_text(encoding="utf-8"))


def resolve(config: ScoreConfig) -> dict[str, RewardFormula]:
    """Every known label's formula: the defaults, with the config's labels in their place.

    UsageError for a formula without terms or with a verifier that doesn't exist.
    """
    return {label: _formula(label, table, config) for label, table in sorted(_tables(config).items())}


def verifiers_named(config: ScoreConfig) -> dict[str, str]:
    """The verifiers that formulas, `also` and `undecided` name: what each is called in a grade, and as it was named.

    UsageError where two of them would be called the same.
    """
    found = {name: name for formula in resolve(config).values() for name, _ in formula.terms}
    typed = [name for table in _tables(config).values() for name in table.terms] + list(config.also)
    typed += config.undecided.values()
    for name in dict.fromkeys(typed):
        # A plugin from outside is typed as `FILE.py:NAME` and called NAME in grades; two of them must not share a
        # column.
        called = short_name(name)
        if called in found and called != name and (called in typed or found[called] != called):
            raise UsageError(
                f"{name} and {found[called]} are both called {called!r}", "rename one of the two functions"
            )
        found[called] = name
    return dict(sorted(found.items()))


def left_to(config: ScoreConfig) -> dict[str, str]:
    """Who is asked where a verifier is undecided, both as they are called in grades.

    UsageError for a verifier that doesn't exist, and for one that is left to another in turn.
    """
    found = {short_name(name): short_name(other) for name, other in config.undecided.items()}
    for name in (*config.undecided, *config.undecided.values()):
        _check_known(name, config, "[score.undecided]")
    for name, other in found.items():
        if other in found:
            raise UsageError(
                f"[score.undecided] leaves {name} to {other}, which is itself left to {found[other]}",
                f"name a judge that is not: undecided.{name} = 'NAME'",
            )
    return found


def _tables(config: ScoreConfig) -> dict[str, RewardTable]:
    tables = {label: build(RewardTable, table, f"rewards.{label}") for label, table in _defaults().items()}
    return tables | config.rewards


def _formula(label: str, table: RewardTable, config: ScoreConfig) -> RewardFormula:
    where = f"[score.rewards.{label}]"
    if not table.terms:
        raise UsageError(f"{where} has no terms", "name at least one verifier: terms = { answer = 1.0 }")
    for name in table.terms:
        _check_known(name, config, where)
    terms = {short_name(name): weight for name, weight in table.terms.items()}
    marked = short_name(table.principal) if table.principal else ""
    if marked and marked not in terms:
        raise UsageError(f"{where} principal = {marked!r} is none of its terms", f"its terms: {', '.join(terms)}")
    principal = marked or principal_of(terms)
    if table.combine == "sum":
        # COSMO-RL's four terms (arXiv:2510.04196, figure 1): format, visual focus, helpful, task-aware.
        shared = {"visual_focus": config.visual_weight, "helpful": config.helpful_weight}
        # Format first, so that a formula's text reads alike for all labels.
        terms = {FORMAT: config.format_weight} | terms
        terms |= {name: weight for name, weight in shared.items() if weight and name not in terms}
    for name, weight in terms.items():
        if not math.isfinite(weight):
            raise UsageError(f"{where} weighs {name} by {weight}", "a weight is a finite number")
    text = " + ".join(f"{name}*{weight:g}" for name, weight in terms.items())
    if marked:
        # Where it is not marked it follows from the terms, and adds nothing to what the formula says.
        text += principal_mark(marked)
    if table.layout != THINK:
        text += f"{_LAYOUT}{table.layout}"
    return RewardFormula(tuple(terms.items()), f"{table.combine}: {text}", principal, table.layout)


def layout_of(text: str) -> str:
    """The layout by which completions were taken apart that were scored under a formula of this text."""
    return text.rpartition(_LAYOUT)[2] if _LAYOUT in text else THINK


def _check_known(name: str, config: ScoreConfig, where: str) -> None:
    if name not in config.judges and not is_known("verifier", name):
        known = sorted({*names("verifier"), *config.judges})
        hint = f"{did_you_mean(name, known)} known: {', '.join(known)}"
        raise UsageError(f"{where} names an unknown verifier {name!r}", hint.lstrip())


def formula_for(formulas: Mapping[str, RewardFormula], label: str) -> RewardFormula:
    """The label's formula; InputError for a label that no formula covers."""
    if label not in formulas:
        raise InputError(
            f"no reward formula for the label {label!r}",
            f"known labels: {', '.join(formulas)}; add one: --set rewards.{label}.terms.answer=1.0",
        )
    return formulas[label]


def reward_of(formula: RewardFormula, grades: Mapping[str, Grade], where: str = "") -> tuple[list[Term], float | None]:
    """The formula's terms with their values, and the reward: sum of weight x value.

    A term that does not apply, or is undecided, is left out. The reward is None when a needed grade failed (timeout or
    error), so that a failure is never a zero, and when the principal term has no value, so that form, or the tone of an
    answer, is never rewarded alone.

    InputError for a value that is no finite number, and for a sum that is none; `where` names the completion.
    """
    terms = []
    total, failed, judged = 0.0, False, False
    # The principal term is looked at like any other: it only may not be missing.
    for name, weight in formula.terms:
        # Of a grade that was left to another verifier, that one's counts.
        grade = counting(grades, name) or grades[name]
        check_finite(grade, where)
        terms.append(Term(name, weight, grade.value))
        if grade.value is not None:
            total += weight * grade.value
            judged = judged or name == formula.principal
        else:
            failed = failed or grade.failed
    if not math.isfinite(total):
        raise InputError(f"{where}: its reward is {total}", f"make weights or grades smaller: {formula.text}")
    return terms, total if judged and not failed else None


def check_finite(grade: Grade, where: str) -> None:
    """InputError for a grade that cosmo did not write: verifiers run by this stage give finite values or errors."""
    if grade.value is not None and not math.isfinite(grade.value):
        raise InputError(
            f"{where}: the grade {grade.name} is {grade.value}", "grade it anew: cosmo score FOLDER --regrade"
        )
