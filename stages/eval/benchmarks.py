"""Figures of public benchmarks as metrics: each counts its own benchmark's rows, by the benchmark's own rule."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from schemas.prompts import extra_columns, source_name
from schemas.scored import Grade
from schemas.verdicts import CORRECT, is_unsafe
from stages.benchmarks.benchmark import Benchmark, Figure
from stages.benchmarks.catalogue import chosen
from stages.core.errors import InputError, UsageError
from stages.eval.metrics.base import FAILED, NOT_DECIDED, Failed, Metric, Observed, Settings, first_class, first_grade
from stages.eval.views import CompletionView, GroupView

if TYPE_CHECKING:
    from stages.eval.measure import Measured

_FIRST_ORDER = 1000
_FIELDS = ("label", "task", "source", "family", "harmful", "answer", "answer_kind", "risk", "category")
Sized = tuple[float, float]
"""What counts, and of how much."""
_MESSAGE = "a figure counts by the row fields {}, or extra.COLUMN"


def benchmark_metrics(packs: list[str]) -> dict[str, Metric]:
    """The figures of these packs by `benchmark.figure`, in the order of the packs."""
    found: dict[str, Metric] = {}
    for benchmark in chosen(packs):
        for figure in benchmark.figures:
            found[f"{benchmark.name}.{figure.name}"] = _metric(benchmark, figure, _FIRST_ORDER + len(found))
    return found


def _metric(benchmark: Benchmark, figure: Figure, order: int) -> Metric:
    paths = figure.slices or benchmark.slices
    _check(benchmark, figure, [*paths, *figure.where, *figure.alike, *([figure.together] if figure.together else [])])
    weighs = bool(figure.counted or figure.alike or figure.each_arm)
    is_ratio = weighs or figure.score in ("precision", "recall", "f1")
    counts = _counts(figure)

    def observe(group: GroupView, settings: Settings) -> Observed | None:
        if not is_row_of(group, benchmark) or not _is_about(group, figure):
            return None
        return _collected(group, figure, counts, is_ratio, benchmark.judge.verifier in figure.grades)

    return Metric(
        title=f"{benchmark.title}: {figure.title[:1].lower()}{figure.title[1:]}",
        version=1,
        better=figure.better,  # type: ignore[arg-type]  # checked by the option's choices
        rate=figure.rate,
        order=order,
        headline=figure.headline,
        observe=observe,
        judged_by=tuple(figure.grades),
        about=figure.about or f"{figure.title}: {', '.join(figure.grades)}",
        slices=lambda group: [f"{path}={value}" for path in paths for value in _values(group, path)],
        majority=figure.majority,
        unit=(lambda group: str(_value(group, figure.together))) if figure.together else None,
        ratio=is_ratio,
    )


def is_row_of(group: GroupView, benchmark: Benchmark) -> bool:
    """Whether a row is one of the benchmark's, whichever part or subset of it."""
    return source_name(group.source) == benchmark.name


def _check(benchmark: Benchmark, figure: Figure, paths: list[str]) -> None:
    for path in paths:
        if path not in _FIELDS and not path.startswith("extra."):
            raise UsageError(
                f"{benchmark.name}.{figure.name}: {path!r} is no row field", _MESSAGE.format(", ".join(_FIELDS))
            )


def _value(group: GroupView, path: str) -> Any:
    """What a row has in a field, or in a column of its source."""
    if not path.startswith("extra."):
        return getattr(group, path)
    return extra_columns(group.extra).get(path.removeprefix("extra."))


def _values(group: GroupView, path: str) -> list[Any]:
    """Of a list, as of the arms that ask a question, each entry; [] where there is nothing."""
    value = _value(group, path)
    return value if isinstance(value, list) else [] if value is None else [value]


def _is_about(group: GroupView, figure: Figure) -> bool:
    for path, wanted in figure.where.items():
        asked = wanted if isinstance(wanted, list) else [wanted]
        if not any(value in asked for value in _values(group, path)):
            return False
    return True


def _collected(
    group: GroupView,
    figure: Figure,
    counts: Callable[[GroupView, Grade], Sized],
    is_ratio: bool,
    is_judged: bool,
) -> Observed | None:
    """What each completion counts, of how much; None where the verifiers applied to none."""
    values: list[float] = []
    sizes: list[float] = []
    weight = _weight(group, figure)
    failed = undecided = 0
    for completion in group.completions:
        grade = _grade(completion, figure)
        if grade is None:
            # No rule speaks of such a row, and a judge would.
            undecided += is_judged
            continue
        if isinstance(grade, str):
            failed += grade == FAILED
            undecided += grade != FAILED
            continue
        value, size = counts(group, grade)
        values.append(value * weight)
        sizes.append(size * weight)
    if not values and not failed and not undecided:
        return None
    return Observed(values, failed, undecided, sizes if is_ratio else None)


def _weight(group: GroupView, figure: Figure) -> float:
    """How much a row counts beside others, where parts of a benchmark count alike whatever their sizes."""
    weight = float(len(_values(group, "extra.arms"))) if figure.each_arm else 1.0
    for path, sizes in figure.alike.items():
        value = _value(group, path)
        if value not in sizes:
            raise UsageError(f"{figure.name}.alike.{path} has no {value!r}", f"it has {', '.join(sizes)}")
        weight *= sum(sizes.values()) / len(sizes) / sizes[value]
    return weight


def _grade(completion: CompletionView, figure: Figure) -> Grade | Failed | None:
    # Of a completion that never came a grade would be one of nothing.
    if completion.finish_reason == "error":
        return FAILED
    found = (first_class if figure.verdicts else first_grade)(completion, *figure.grades)
    if isinstance(found, Grade) and (found.verdict in figure.undecided or found.reason in figure.undecided):
        return NOT_DECIDED
    if isinstance(found, Grade) and "safety" in figure.grades and figure.verdicts:
        # Judged by somebody else's question: `not_refused` is no word on harm, neither in this figure nor against it.
        return found if found.verdict in figure.verdicts or is_unsafe(found.verdict) is not None else NOT_DECIDED
    return found


def _counts(figure: Figure) -> Callable[[GroupView, Grade], Sized]:
    """The figure's rule, from a row and a grade that is ok."""
    if figure.counted:
        pattern = re.compile(rf"(\d+)/(\d+) {re.escape(figure.counted)}\b")

        def by_seen(group: GroupView, grade: Grade) -> Sized:
            found = pattern.search(grade.seen or "")
            return (float(found[1]), float(found[2])) if found else (0.0, 0.0)

        return by_seen
    if figure.score:
        return lambda group, grade: _scored(figure, group, grade)
    if figure.verdicts:
        return lambda group, grade: (float(grade.verdict in figure.verdicts), 1.0)
    if figure.saw:
        return lambda group, grade: (float(figure.saw in (grade.seen or "")), 1.0)
    bar = figure.above
    if bar is not None:
        return lambda group, grade: (float((grade.value or 0.0) > bar), 1.0)

    def by_value(group: GroupView, grade: Grade) -> Sized:
        value = figure.worth.get(grade.verdict or "", grade.value or 0.0)
        return (1.0 - value if figure.flipped else value), 1.0

    return by_value


def _scored(figure: Figure, group: GroupView, grade: Grade) -> Sized:
    """One completion's part of precision, recall, F1, or of how often the positive class is said.

    In a question of two classes a wrong answer is the other one: so POPE counts (arXiv:2305.10355), where whatever is
    not no is yes.
    """
    positive, right = group.answer == figure.positive, grade.verdict == CORRECT
    said = positive == right
    hit = float(positive and right)
    if figure.score == "said":
        return float(said), 1.0
    if figure.score == "precision":
        return hit, float(said)
    if figure.score == "recall":
        return hit, float(positive)
    return 2 * hit, float(said) + float(positive)


def keep_present(found: Measured, packs: list[str]) -> dict[str, Any]:
    """Drop the figures of benchmarks that have no rows here, and say what of each there is.

    What comes back is `benchmarks` of summary.json: by name its title, its size, how many of its rows each policy was
    asked, who has to judge it, and its figures with what was published; `missing` has those without rows, with what to
    type. InputError where no row is of any.
    """
    present: dict[str, Any] = {}
    missing: dict[str, Any] = {}
    benchmarks = chosen(packs)
    for benchmark in benchmarks:
        asked = {name: found.rows_of(name, benchmark.name) for name in found.policies}
        if not any(asked.values()):
            missing[benchmark.name] = {"title": benchmark.title, "get": benchmark.get}
            for figure in benchmark.figures:
                del found.metrics[f"{benchmark.name}.{figure.name}"]
            continue
        present[benchmark.name] = {
            "title": benchmark.title,
            "about": benchmark.about,
            "paper": benchmark.paper,
            "size": benchmark.size,
            "rows": asked,
            "judge": asdict(benchmark.judge),
            "grades": {f"{benchmark.name}.{f.name}": f.grades[0] for f in benchmark.figures},
            "figures": {f"{benchmark.name}.{f.name}": [asdict(p) for p in f.published] for f in benchmark.figures},
        }
    if not present:
        name = benchmarks[0].name
        raise InputError(
            f"no row is of {', '.join(packs)}",
            f"cosmo prepare bench:{name} --from FOLDER makes rows, and cosmo import FILE --prompts RUN takes replies",
        )
    return {"present": present, "missing": missing}
