"""A public benchmark as data: where its rows lie, what may be done with them, and which figures it is known by.

One TOML file a benchmark, in `catalogue/` or anywhere else. `cosmo prepare bench:NAME` makes its rows and
`cosmo eval --pack` its figures. What each table means: docs/benchmarks.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from stages.core.config import option, section

PACKS = ("safety", "value", "capability", "instruction", "safework")
"""Groups of benchmarks that `--pack` takes together; safework is what SafeWork-R1 (arXiv:2507.18576) reports."""


@dataclass(frozen=True)
class Arm:
    """One of several ways in which a benchmark asks each of its records: with another image, in another wording."""

    name: str = option("", "What it is called; `@arm` in paths")
    files: list[str] = option([], "Files of this arm alone; those of [rows] if empty")
    part: str = option("", "List, split or CONFIG:SPLIT of this arm alone")
    each: str = option("", "Path to a list: one row for each entry, which is `@entry` in paths")
    map: dict[str, Any] = option({}, "What lies elsewhere than [rows.map] says")
    keep: dict[str, list[str]] = option({}, "Column = values that a record of this arm has, as in [rows]")
    unlisted: bool = option(False, "Options are in the image, and are not written below the question")


@dataclass(frozen=True)
class Rows:
    """How a benchmark's own files become rows."""

    dataset: str = option("", "The dataset plugin that reads them, in place of `files` and `map`")
    options: dict[str, Any] = option({}, "What that plugin is told")
    files: list[str] = option(
        [], "Files below the folder that is given, as patterns with {@arm}; every one that is there is read"
    )
    part: str = option("", "List, split or CONFIG:SPLIT, where a file or a hub id has several")
    label: str = option("general", "Whose reward formula, and so which verifiers, apply")
    task: str = option("", "Task of the rows; the benchmark's name, with `:ARM` where it has arms, if empty")
    map: dict[str, Any] = option(
        {},
        "Our name, or extra.COLUMN = where it lies: a path, a 'constant', a text with {paths} in it, a list of these, "
        "or { first = [...] }, of which the first that is there is meant",
    )
    rewrite: dict[str, dict[str, str]] = option({}, "Our name = { regular expression = what stands in its place }")
    values: dict[str, dict[str, str]] = option({}, "Our name = what the benchmark's values mean")
    numbered_from: int | None = option(None, "References are the numbers of options, counted from this")
    keep: dict[str, list[str]] = option(
        {}, "Column = values that a record must have one of, '' for a column that it lacks; all others are no rows"
    )
    images: str = option("", "Folder of the images below the one that is given")
    shuffle: bool = option(False, "Options are listed the right one first, and are put in an order by content")
    arms: list[Arm] = field(default_factory=list)


@dataclass(frozen=True)
class Published:
    """A figure that somebody published."""

    system: str = option("", "Whose figure")
    value: float = option(0.0, "The figure, in the unit of ours")
    source: str = option("", "Where it stands: a paper with its table, or the benchmark's repository")


@dataclass(frozen=True)
class Figure:
    """One figure of a benchmark: a share or a mean over its completions."""

    name: str = option("", "One word for tables and files")
    title: str = option("", "What a person reads")
    about: str = option("", "What is counted, in a sentence or two")
    grades: list[str] = option([], "Verifiers whose grade counts, the first that applies")
    verdicts: list[str] = option([], "Verdicts that count as 1, all others as 0; the grade's own value if empty")
    above: float | None = option(None, "A value above this counts as 1, every other as 0")
    worth: dict[str, float] = option({}, "Verdict = what it counts, where that is not the grade's own value")
    saw: str = option("", "Text in what the grade saw that counts as 1, anything else as 0")
    flipped: bool = option(False, "1 minus the grade's value counts, as where the figure is harm and the grade safety")
    undecided: list[str] = option([], "Verdicts, and reasons of a rule, that say nothing about this figure")
    where: dict[str, Any] = option({}, "Row field = value, or values, of the rows that it is about")
    better: str = option("higher", "Which way is good", choices=("higher", "lower", "neither"))
    headline: bool = option(True, "Whether the benchmark is known by it")
    rate: bool = option(True, "Whether values lie between 0 and 1")
    majority: bool = option(False, "A row counts as most of its completions do; else as their mean")
    together: str = option("", "Row field, or `extra.COLUMN`: rows that share it count as one, by their worst")
    positive: str = option("", "Reference that is the positive class of `score`, `yes` for one")
    score: str = option("", "With `positive`", choices=("", "precision", "recall", "f1", "said"))
    counted: str = option("", "Word after `k/n` in what the grade saw: k of n are counted, in place of completions")
    alike: dict[str, dict[str, int]] = option(
        {},
        "Row field = its values with how many rows the whole has of each: they count alike, as in a mean of means",
    )
    each_arm: bool = option(False, "What several arms ask counts once for each of them, and not once for all")
    slices: list[str] = option([], "Row fields to show it by; the benchmark's if empty")
    published: list[Published] = field(default_factory=list)


@dataclass(frozen=True)
class Judge:
    """Who has to judge the completions where no rule can."""

    verifier: str = option(
        "", "The verifier that a judge is put in place of; what it has no grade for is undecided in the figures of it"
    )
    prompt: str = option("", "The judge's prompt, of those that cosmo has, or a file")
    instead: bool = option(
        False, "The judge is asked of every completion, since the verifier's rule doesn't say where it can't tell"
    )


@dataclass(frozen=True)
class Benchmark:
    """One public benchmark, whole: its rows, its figures, and what may be done with it."""

    name: str
    """As in `bench:NAME`, and in the `source` of its rows."""
    title: str = option("", "Its name in the literature")
    about: str = option("", "What it asks, in one line")
    packs: list[str] = option([], "The packs it belongs to")
    paper: str = option("", "arXiv id, or another address")
    licence: str = option("", "Of its rows")
    may_train: bool = option(False, "Whether its licence and its authors allow training on it")
    size: int = option(0, "How many rows the whole has; 0 where that depends on what is asked of it")
    get: str = option("", "What to type, or where to go, for its files")
    seen: str = option("", "What of it the reading was tried on: real files, or files made in its layout")
    slices: list[str] = option([], "Row fields that its figures are shown by: category, task, or extra.COLUMN")
    rows: Rows = section(Rows, "How its files become rows")
    judge: Judge = section(Judge, "Who judges")
    figures: list[Figure] = field(default_factory=list)
    digest: str = ""
    """sha256 of its file."""
