"""The report in a real browser: its filters, and figures of interventions that stay where they are drawn."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from stages.core.config import build
from stages.core.runner import Options, run_stage
from stages.eval.config import EvalConfig
from stages.eval.report import page
from stages.eval.report.interventions import EVALUATED, Kind, Part, Tally
from stages.eval.stage import STAGE
from tests.eval.made import answered, attacked, scored_run
from tests.support.browser import Browser, browser, found

pytestmark = pytest.mark.skipif(found() is None, reason="no Chromium on this machine")


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


def test_cards_are_found_by_reward_and_by_what_policies_make_of_them(tab: Browser, tmp_path: Path) -> None:
    before = [answered("one", [True, True]), answered("two", [True, False]), answered("three", [False, False])]
    after = [
        answered("one", [True, True], policy="b"),
        answered("two", [True, True], policy="b"),
        answered("three", [False, False], policy="b"),
    ]
    # No rewards here, and another verdict.
    before.append(attacked("four", ["unsafe"]))
    after.append(attacked("four", ["safe_with_warning"], policy="b"))
    folders = [scored_run(tmp_path, before), scored_run(tmp_path, after)]
    config = build(EvalConfig, {"names": ["before", "after"]}, "eval")
    result = run_stage(STAGE, config, [f.path for f in folders], options=Options(runs=tmp_path))

    def shown(**wanted: str) -> set[str]:
        for name, value in {"least": "", "most": "", "differ": "", **wanted}.items():
            tab.value(f"document.querySelector('.filters [name={name}]').value = '{value}'")
        tab.value("document.querySelector('.filters').dispatchEvent(new Event('input'))")
        return set(
            tab.value("[...document.querySelectorAll('.card:not([hidden]) .turn')].map((t) => t.textContent.trim())")
        )

    tab.open((result.path / "report.html").as_uri())
    assert shown() == {"one", "two", "three", "four"}
    assert shown(least="0.9") == {"one", "two"}
    assert shown(most="0.5") == {"two", "three"}
    assert shown(least="0.4", most="0.6") == {"two"}
    assert shown(least="none") == {"one", "two", "three", "four"}
    assert shown(differ="1") == {"two", "four"}
    assert shown(differ="1", least="0.9") == {"two"}


@pytest.mark.parametrize("width", [1400, 420])
@pytest.mark.parametrize("dark", [False, True])
def test_interventions_fit_their_figures(
    tab: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, width: int, dark: bool
) -> None:
    labels = {"w" * 300: Tally(1_234_567, 1_234_567), "general": Tally(5, 1)}
    kinds = [Kind(f"Edited by {name}", "edit", "said otherwise", Tally(9, 3), labels) for name in ("ann", "m" * 300)]
    part = Part(EVALUATED, {kind.name: kind for kind in kinds})
    render = page.render
    monkeypatch.setattr(page, "render", lambda found: render(dataclasses.replace(found, interventions=[part])))
    config = build(EvalConfig, {}, "eval")
    result = run_stage(
        STAGE, config, [scored_run(tmp_path, [answered("one", [True])]).path], options=Options(runs=tmp_path)
    )
    tab.resize(width, dark)
    tab.open((result.path / "report.html").as_uri())
    assert tab.value("document.documentElement.scrollWidth <= innerWidth")
    assert tab.value("document.querySelectorAll('#interventions figure').length") == 3
    # No name lies on the numbers beside it, no drawing leaves its figure, and bars are seen on their ground.
    gaps = """[...document.querySelectorAll('#interventions g')].map((bar) =>
        bar.querySelector('.value').getBBox().x - bar.querySelector('svg').width.baseVal.value)"""
    assert min(tab.value(gaps)) > 0
    assert tab.value("getComputedStyle(document.querySelector('#interventions g svg')).overflow") == "hidden"
    beyond = """[...document.querySelectorAll('#interventions figure')].flatMap((figure) =>
        [...figure.querySelectorAll('.value, rect')].map((drawn) =>
        drawn.getBoundingClientRect().right - figure.getBoundingClientRect().right))"""
    assert max(tab.value(beyond)) < 0
    bars = set(tab.value("[...document.querySelectorAll('#interventions .bar')].map((r) => getComputedStyle(r).fill)"))
    ground = tab.value("getComputedStyle(document.querySelector('figure')).backgroundColor")
    assert bars.isdisjoint({ground, "rgb(0, 0, 0)"})
