"""The metrics as a plain table of strings, for the terminal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from schemas.evals import NOT_JUDGED, EvalRow
from schemas.prompts import source_name
from stages.judging.command import judge_command, judge_hint

if TYPE_CHECKING:
    from stages.core.runs.folder import RunFolder

ALL = "all"


def summary_table(rows: list[EvalRow], differences: dict[str, Any] | None = None) -> list[list[str]]:
    """Header and one line a metric: every policy's value with its interval, then what changed.

    `differences` is that part of summary.json: with it the last column holds the paired difference of the
    last policy from the first, its interval, and better, worse or unclear. Without it, the bare difference.
    """
    whole = [r for r in rows if r.slice == ALL]
    policies = list(dict.fromkeys(r.policy for r in whole))
    metrics = list(dict.fromkeys(r.metric for r in whole))
    by_key = {(r.policy, r.metric): r for r in whole}
    compared = len(policies) > 1
    table = [["metric", *policies, *([f"{policies[-1]} - {policies[0]}"] if compared else [])]]
    for metric in metrics:
        cells = [by_key.get((policy, metric)) for policy in policies]
        line = [metric, *(_measured(c) for c in cells)]
        if compared:
            paired = (differences or {}).get(policies[-1], {}).get("metrics", {}).get(metric)
            line.append(_paired(paired, cells[-1]) if paired else _plain(cells[0], cells[-1]))
        table.append(line)
    return table


def benchmark_lines(benchmarks: dict[str, Any]) -> list[str]:
    """Of benchmarks, how much of each was asked, what others published, and which have no rows here."""
    lines = []
    for name, one in benchmarks["present"].items():
        lines.append(f"{one['title']} ({name}): {asked_rows(one)}")
        lines += [
            f"  published {metric} {number(p['value'])}: {p['system']} ({p['source']})"
            for metric, figures in one["figures"].items()
            for p in figures
        ]
    if missing := benchmarks["missing"]:
        lines.append(f"no rows here of {', '.join(m['title'] for m in missing.values())}: cosmo list benchmark")
    return lines


def asked_rows(benchmark: dict[str, Any]) -> str:
    """How much of a benchmark was asked: `449 of 450 rows`."""
    whole = f" of {benchmark['size']:,}" if benchmark["size"] else ""
    return f"{max(benchmark['rows'].values()):,}{whole} rows"


def published_column(table: list[list[str]], benchmarks: dict[str, Any]) -> list[list[str]]:
    """The table with one column more: the figures that others published."""
    published = {metric: p for one in benchmarks["present"].values() for metric, p in one["figures"].items()}
    cells = [", ".join(number(p["value"]) for p in published.get(line[0], [])) for line in table[1:]]
    return [[*table[0], "published"], *([*line, cell] for line, cell in zip(table[1:], cells, strict=True))]


def judge_lines(
    rows: list[EvalRow], scored: Iterable[RunFolder], benchmarks: dict[str, Any] | None = None
) -> list[str]:
    """Who judged each safety figure, and how much is undecided; with what to type where that is too much."""
    # Policies that were judged alike are named in one line.
    lines: dict[tuple[str, str], list[str]] = {}
    for row in (r for r in rows if r.slice == ALL and r.judged_by):
        total = row.undecided + row.completions
        left = f"; {undecided_share(row)} of {total:,} completions undecided, and left out" if row.undecided else ""
        lines.setdefault((row.metric, row.judged_by + left), []).append(row.policy)
    # Figures that were judged alike, of the same policies, are one line.
    alike: dict[tuple[str, str], list[str]] = {}
    for (metric, by), names in lines.items():
        alike.setdefault((", ".join(names), by), []).append(metric)
    told = [f"{', '.join(metrics)} of {names}: judged by {by}" for (names, by), metrics in alike.items()]
    return told + [f"to judge them{of}: {command}" for of, command in judge_hints(rows, scored, benchmarks)]


def judge_hints(
    rows: list[EvalRow], scored: Iterable[RunFolder], benchmarks: dict[str, Any] | None = None
) -> list[tuple[str, str]]:
    """Of which benchmarks, and what to type for a judge of each run that holds their rows, where one is wanted."""
    asked: dict[tuple[str, str, bool], dict[str, str]] = {}
    known = benchmarks["present"] if benchmarks else {}
    judges = {m: (one["judge"], name) for name, one in known.items() for m in one["figures"]}
    for row in (r for r in rows if r.slice == ALL and r.method == NOT_JUDGED):
        judge, name = judges.get(row.metric, ({}, ""))
        grades = known[name]["grades"][row.metric] if name else "safety"
        by = judge.get("verifier") or grades, judge.get("prompt") or "", bool(judge.get("instead"))
        asked.setdefault(by, {}).update({name: known[name]["title"]} if name else {})
    folders = list(scored)
    found = []
    for (verifier, prompt, instead), named in asked.items():
        of = f" of {', '.join(named.values())}" if named else ""
        own = [folder for folder in folders if not named or _holds(folder, named)]
        # Some verifiers have no judge's prompt that asks what they ask.
        found += [(of, command) for command in judge_commands(own, verifier, prompt, instead) if command]
    return found


def _holds(folder: RunFolder, benchmarks: Iterable[str]) -> bool:
    """Whether a run has rows of one of these benchmarks."""
    sources = folder.columns(["source"]).column("source").unique().to_pylist()
    return not {source_name(str(source)) for source in sources}.isdisjoint(benchmarks)


def judge_commands(
    scored: Iterable[RunFolder], verifier: str = "safety", prompt: str = "", instead: bool = False
) -> list[str]:
    """What to type for a judge of what a rule left undecided in these runs, or in place of the rule; "" for none."""
    prompts = {verifier: prompt} if prompt else {}
    return [judge_hint(judge_command(folder, [verifier], prompts, instead)) for folder in scored]


def undecided_share(row: EvalRow) -> str:
    """`37 %`; of a few in thousands `0.2 %`."""
    percent = 100 * row.undecided / max(1, row.undecided + row.completions)
    return f"{percent:.0f} %" if percent >= 1 or not percent else f"{percent:.1f} %"


def _measured(row: EvalRow | None) -> str:
    """`0.412 [0.361, 0.465]`, a dash where nothing was measured, or why a figure is not printed."""
    if row is not None and row.method == NOT_JUDGED:
        return f"not judged: {undecided_share(row)} undecided"
    if row is None or row.value is None:
        return "-"
    return (
        number(row.value)
        + _interval(row.low, row.high)
        + (f" ({undecided_share(row)} undecided)" if row.undecided else "")
    )


def _paired(entry: dict[str, Any], after: EvalRow | None) -> str:
    if entry["value"] is None or after is None:
        return "-"
    like = after.value
    interval = _interval(entry["low"], entry["high"], "+", like)
    return f"{number(entry['value'], '+', like)}{interval} {entry['verdict']}"


def _plain(before: EvalRow | None, after: EvalRow | None) -> str:
    if before is None or after is None or before.value is None or after.value is None:
        return "-"
    return number(after.value - before.value, "+", after.value)


def _interval(low: float | None, high: float | None, sign: str = "", like: float | None = None) -> str:
    return "" if low is None or high is None else f" [{number(low, sign, like)}, {number(high, sign, like)}]"


def number(value: float, sign: str = "", like: float | None = None) -> str:
    """Three decimals for rates and small means, one for lengths and for differences of values `like` them."""
    small = abs(value if like is None else like) < 10
    return f"{value:{sign}.3f}" if small else f"{value:{sign}.1f}"
