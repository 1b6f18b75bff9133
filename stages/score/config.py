"""Settings of `score`."""

from __future__ import annotations

from dataclasses import dataclass

from stages.core.config import option


@dataclass(frozen=True)
class RecipeTable:
    """One label's reward recipe, as `[score.recipes.<label>]` gives it."""

    terms: dict[str, float] = option({}, "verifier = weight; what is added up")
    combine: str = option(
        "sum",
        "sum: format is added at format_weight; replace: the terms are all there is",
        choices=("sum", "replace"),
    )


@dataclass(frozen=True)
class ScoreConfig:
    """How completions are graded and what their reward is made of."""

    # Recipes reach the fingerprint as resolved text, defaults included; the table does not count again.
    recipes: dict[str, RecipeTable] = option(
        {}, "reward recipes by label, each in place of the default one for that label", affects=False
    )
    format_weight: float = option(1.0, "weight of `format` in recipes that add up", affects=False)
    also: list[str] = option(["refusal"], "verifiers to run on every row beside its recipe's; graded, not rewarded")
    timeout_s: float = option(5.0, "seconds one mathematical comparison may take before its child is killed", low=0.1)
    regrade: bool = option(
        False, "grade scored input anew, instead of running only verifiers it lacks", flag="--regrade"
    )
    workers: int = option(
        0, "groups graded at a time, each with its own child for mathematics; 0: one a core, at most 8",
        affects=False, flag="--workers", low=0, high=256,
    )  # fmt: skip
