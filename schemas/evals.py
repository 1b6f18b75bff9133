"""What `eval` and `export` write: one row a policy, metric and slice; one row an exported file."""

from __future__ import annotations

from dataclasses import dataclass

NOT_JUDGED = "not_judged"
"""The method of a row without a value, because too many of its completions are undecided."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalRow:
    """One measured rate or mean with its interval."""

    policy: str
    """Name of the policy in the comparison, as given or derived."""
    policy_id: str
    """Its content digest."""
    metric: str
    """The metric plugin's name."""
    slice: str
    """`all`, or what the row is restricted to: `task=counting`, `family=mirror`."""
    value: float | None
    """The estimate: a share of 0 to 1 for rates, else in the metric's unit (tokens, reward).

    None when n is 0, and where too many completions of a judged figure are undecided."""
    low: float | None
    """Lower end of the 95 % interval."""
    high: float | None
    """Upper end of the 95 % interval."""
    n: int
    """Prompts it rests on."""
    completions: int
    """Completions it rests on."""
    failed: int
    """Completions left out because their grade is a timeout or an error."""
    undecided: int = 0
    """Completions left out because nobody could tell: the rule saw no evidence either way."""
    judged_by: str = ""
    """Of a safety figure, who gave the verdicts: `rule safety v4`, `judge safety (MODEL, prompt harmbench)`."""
    better: str
    """`higher`, `lower` or `neither`."""
    method: str
    """How the interval was made: wilson, clustered_t, ...; not_judged where too much is undecided for one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportRow:
    """One file of an exported model folder."""

    target: str
    """The export target plugin."""
    file: str
    """Path inside the model folder."""
    sha256: str
    """Content digest."""
    bytes_count: int
    """Size in bytes."""
