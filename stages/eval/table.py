"""The metrics as a plain table of strings, for the terminal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from schemas.evals import NOT_JUDGED, EvalRow

ALL = "all"
GAP = "  "
"""Between columns of a turned table, and before its lines."""


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


@dataclass(frozen=True, slots=True)
class TurnedTable:
    """The metrics on their side: a part for each metric, and in it a line for each policy."""

    header: list[str]
    parts: list[tuple[str, list[list[str]]]]
    """By metric, lines of as many cells as the header has."""
    legend: list[str]
    """Where names are long, policies are numbered, and these lines say which is which; else empty."""
    unmeasured: list[str]
    """Metrics of which nothing was measured, and which have no part."""


def turned_table(
    rows: list[EvalRow], differences: dict[str, Any], benchmarks: dict[str, Any] | None, width: int
) -> TurnedTable:
    """For more policies than fit beside each other in `width` columns: a line for each policy of each metric.

    It has the value, its interval, the share undecided, and the paired difference from the first policy.
    """
    whole = [r for r in rows if r.slice == ALL]
    policies = list(dict.fromkeys(r.policy for r in whole))
    by_key = {(r.policy, r.metric): r for r in whole}
    published = _published(benchmarks) if benchmarks else {}
    header = ["policy", "value", "95 %", "undecided", f"against {policies[0]}"]
    parts = []
    metrics = list(dict.fromkeys(r.metric for r in whole))
    unmeasured = [m for m in metrics if not any(r.n or r.undecided for r in whole if r.metric == m)]
    for metric in (m for m in metrics if m not in unmeasured):
        lines = [_turned_line(by_key.get((policy, metric)), policy, metric, differences) for policy in policies]
        title = f"{metric}   (published: {published[metric]})" if published.get(metric) else metric
        parts.append((title, lines))
    # A column that says nothing of any policy is left out.
    used = [n for n in range(len(header)) if any(line[n] for _, lines in parts for line in lines)]
    header, parts = [header[n] for n in used], [(t, [[line[n] for n in used] for line in ls]) for t, ls in parts]
    widest = [max(len(line[n]) for _, lines in parts for line in [header, *lines]) for n in range(len(header))]
    if sum(widest) + len(GAP) * len(widest) <= width:
        return TurnedTable(header, parts, [], unmeasured)
    header[-1] = "against 1"
    numbered = [(title, [[str(n), *line[1:]] for n, line in enumerate(lines, 1)]) for title, lines in parts]
    return TurnedTable(header, numbered, [f"{n}: {name}" for n, name in enumerate(policies, 1)], unmeasured)


def _turned_line(row: EvalRow | None, policy: str, metric: str, differences: dict[str, Any]) -> list[str]:
    if row is None or (row.value is None and row.method != NOT_JUDGED):
        return [policy, "-", "", "", ""]
    paired = differences.get(policy, {}).get("metrics", {}).get(metric)
    return [
        policy,
        "not judged" if row.value is None else number(row.value),
        _interval(row.low, row.high).strip(),
        undecided_share(row) if row.undecided else "",
        _paired(paired, row) if paired else "",
    ]


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
    published = _published(benchmarks)
    return [[*table[0], "published"], *([*line, published.get(line[0], "")] for line in table[1:])]


def _published(benchmarks: dict[str, Any]) -> dict[str, str]:
    """By metric, what others published of it."""
    figures = {metric: p for one in benchmarks["present"].values() for metric, p in one["figures"].items()}
    return {metric: ", ".join(number(p["value"]) for p in own) for metric, own in figures.items()}


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
