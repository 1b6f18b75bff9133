"""The figures: which script gives each, against what target, and what comes of results, table and document."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from bench.timing import table

Result = Mapping[str, Any]
Picked = tuple[Any, Any, float]
"""What one figure is made of: ours, the peer's, their ratio."""


@dataclass(frozen=True)
class Script:
    """One file of this folder, run in a process of its own."""

    name: str
    peer: str = ""
    """The module it compares with; empty where cosmo's own dependencies are enough."""
    needs: str = ""
    """A folder, from the repository's root, without which there is nothing to measure on."""


@dataclass(frozen=True)
class Figure:
    """One line of the table."""

    name: str
    script: str
    pick: Callable[[Result], Picked]
    unit: str = ""
    at_least: float | None = None
    at_most: float | None = None
    times: str = ""
    """The figure that the target is a multiple of, where it is one."""


@dataclass(frozen=True)
class Line:
    """A figure with what was found, or why nothing was."""

    name: str
    ours: Any = None
    peer: Any = None
    ratio: float | None = None
    target: str = ""
    verdict: str = ""
    """met, missed, or empty where there is no target."""
    skipped: str = ""


def _of(ours: str, peer: str, ratio: str = "ratio") -> Callable[[Result], Picked]:
    """Picks three keys of a result; an empty one is nothing."""
    return lambda r: (r.get(ours), r.get(peer), r[ratio])


def _within(name: str, pick: Callable[[Result], Picked]) -> Callable[[Result], Picked]:
    return lambda r: pick(r[name])


def _beside(ours: str, peer: str) -> Callable[[Result], Picked]:
    """Picks two sides of one script and their ratio, which goes by ours."""
    return lambda r: (r[ours], r[peer], r["ratios"][ours])


_PREPARE = _of("ours_cpu", "peer_cpu")
SCRIPTS = (
    Script("train_vs_trl", "trl"),
    Script("rollout_vs_vllm", "vllm"),
    Script("rollout_vs_generate"),
    Script("score_vs_trl", "trl", "../shared/data"),
    Script("score_scaling", needs="../shared/data"),
    Script("prepare_vs_datasets"),
    Script("start_vs_typer"),
    Script("loop_vs_trl", "trl"),
    Script("loop_overhead"),
    Script("loop_memory"),
    Script("ranks_turn"),
    Script("token_columns"),
    Script("search_and_guidance", "bm25s"),
    Script("view_vs_duckdb", "duckdb"),
)
FIGURES = (
    Figure("train_vs_trl", "train_vs_trl", _of("ours", "trl"), "s/step", at_least=1.2, times="train_ideal"),
    Figure("train_ideal", "train_vs_trl", _of("", "", "ideal")),
    Figure("train_memory_vs_trl", "train_vs_trl", _within("memory", _of("ours_mib", "trl_mib")), "MiB", at_most=0.5),
    Figure("rollout_vs_vllm", "rollout_vs_vllm", _of("ours", "same"), "tokens/s", at_least=0.97),
    Figure("rollout_vs_generate", "rollout_vs_generate", _of("ours", "bare"), "tokens/s", at_least=2.0),
    Figure("score_vs_trl", "score_vs_trl", _within("math", _of("ours_4", "trl")), "completions/s", at_least=5.0),
    Figure("score_scaling", "score_scaling", _of("by_4", "by_1"), "completions/s"),
    Figure("prepare_vs_datasets", "prepare_vs_datasets", _within("images", _PREPARE), "CPU s", at_least=2.0),
    Figure("prepare_texts_vs_datasets", "prepare_vs_datasets", _within("texts", _PREPARE), "CPU s", at_least=2.0),
    Figure("start_vs_typer", "start_vs_typer", _of("ours_s", "peer_s"), "s", at_most=1.3),
    Figure("loop_vs_trl", "loop_vs_trl", _of("ours", "trl"), "CPU s/turn", at_least=7.0),
    Figure("loop_start_vs_trl", "loop_vs_trl", _within("start", _of("ours", "trl")), "CPU s", at_most=1.0),
    Figure("loop_memory_vs_trl", "loop_vs_trl", _within("memory", _of("ours", "trl")), "MiB"),
    Figure("loop_overhead", "loop_overhead", _of("overhead_s", "turn_s"), "s/turn", at_most=0.05),
    Figure("loop_memory", "loop_memory", _of("last_mib", "warm_mib"), "MiB", at_most=1.15),
    Figure("ranks_turn", "ranks_turn", _of("ours", "peer"), "s/turn"),
    Figure("score_memory", "token_columns", _of("long_mib", "short_mib"), "MiB", at_most=1.15),
    Figure("search_cost", "search_and_guidance", _beside("search", "plain"), "s/1000 tokens"),
    Figure("guidance_cost", "search_and_guidance", _beside("guided", "plain"), "s/1000 tokens"),
    Figure("view_open", "view_vs_duckdb", _within("open", _of("ours", "peer")), "s"),
    Figure("view_page", "view_vs_duckdb", _within("filtered", _of("ours", "peer")), "s", at_most=1.0),
    Figure("masks_cost", "search_and_guidance", _beside("masked", "whole"), "s/step", at_most=1.05),
)


def lines_of(results: Mapping[str, Result], skipped: Mapping[str, str]) -> list[Line]:
    """One line a figure, in order. A script is in `results`, or in `skipped` with the reason."""
    picked = {f.name: f.pick(results[f.script]) for f in FIGURES if f.script in results}
    return [
        _line(f, *picked[f.name], picked) if f.name in picked else Line(f.name, skipped=skipped[f.script])
        for f in FIGURES
    ]


def _line(figure: Figure, ours: Any, peer: Any, ratio: float, picked: Mapping[str, Picked]) -> Line:
    scale = picked[figure.times][2] if figure.times else 1.0
    target, met = "", None
    if figure.at_least is not None:
        target, met = f">= {figure.at_least * scale:.3g}", ratio >= figure.at_least * scale
    if figure.at_most is not None:
        target, met = f"<= {figure.at_most * scale:.3g}", ratio <= figure.at_most * scale
    return Line(figure.name, ours, peer, ratio, target, {None: "", True: "met", False: "missed"}[met])


def table_of(lines: list[Line]) -> str:
    """The table a person reads; what was skipped stands below it, with its reason."""
    units = {f.name: f.unit for f in FIGURES}
    rows = [
        (n.name, n.ours, n.peer, units[n.name], n.ratio, n.target, n.verdict or "-") for n in lines if not n.skipped
    ]
    head = ("figure", "ours", "peer", "unit", "ratio", "target", "")
    return "\n".join([table([head, *rows]), *(f"{n.name}: skipped, {n.skipped}" for n in lines if n.skipped)])


def document_of(lines: list[Line], results: Mapping[str, Result], machine: Mapping[str, Any]) -> dict[str, Any]:
    """bench.json: a key a figure, null where it was skipped; then targets, reasons, the whole results, the machine."""
    return {
        **{n.name: n.ratio for n in lines},
        "targets": {n.name: {"target": n.target, "verdict": n.verdict} for n in lines if n.target},
        "skipped": {n.name: n.skipped for n in lines if n.skipped},
        "results": dict(results),
        "machine": dict(machine),
    }
