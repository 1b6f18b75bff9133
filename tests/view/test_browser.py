"""The view in a real browser: hostile rows, keys, filters, tokens, and a run that goes on."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from schemas.tables import SCORED
from stages.core.runner import Options, run_stage
from stages.core.runs.noted import Note
from stages.judging.words import parse_words
from tests.eval.made import RowsConfig, RowsStage, completion, grade, group, scored_run, step, steps_run
from tests.support.browser import Browser, browser, found
from tests.support.cli import COSMO, environment
from tests.view.made import varied
from tests.view.test_pages import PAYLOADS

pytestmark = pytest.mark.skipif(found() is None, reason="no Chromium on this machine: pages were tried as text alone")


@contextmanager
def served(runs: Path, *options: str) -> Iterator[str]:
    """The address at which `cosmo view` shows these runs."""
    command = [*COSMO, "view", str(runs), "--port", "0", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment())
    try:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert address.startswith("http://127.0.0.1:"), process.stderr.read() if process.stderr else ""
        yield address
    finally:
        process.terminate()
        process.communicate()


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


def test_hostile_rows_run_nothing_and_ask_for_nothing(tab: Browser, tmp_path: Path) -> None:
    hostile = [
        group(
            f"{n} {text}",
            [
                completion(
                    replace(grade("safety", 1.0, text), reason=text), text=f"<think>{text}</think>{text}", reward=1.0
                )
            ],
            family=text,
            answer=text,
            reward_formula=text,
        )
        for n, text in enumerate(PAYLOADS)
    ]
    run = scored_run(tmp_path, hostile)
    with served(tmp_path) as address:
        tab.told.clear()
        tab.open(f"{address}run/{run.path.name}/")
        tab.value("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
        tab.wait("[...document.querySelectorAll('.tokens')].every((t) => t.childElementCount)")
        assert tab.value("document.title") == run.path.name
        assert tab.value("document.querySelectorAll('article').length") == len(PAYLOADS)
        # Words, every one of them.
        for n, text in enumerate(PAYLOADS):
            assert text in tab.value(f"document.querySelector('#row-{n}').textContent"), text
        assert [u for u in tab.asked() if not u.startswith((address, "data:"))] == []
        assert not [m for m in tab.told if m["method"] == "Page.javascriptDialogOpening"]


def test_reading_by_keys_filters_and_tokens(tab: Browser, tmp_path: Path) -> None:
    groups = varied(45)
    run = scored_run(tmp_path, groups)
    with served(tmp_path) as address:
        tab.open(address)
        assert tab.wait("document.querySelector('#find output').textContent") == "1 of 1"
        tab.open(f"{address}run/{run.path.name}/")
        tab.press("j")
        tab.press("j")
        assert tab.value("document.querySelector('.card.here').id") == "row-1"
        assert not tab.value("document.querySelector('.thinking').open")
        tab.press("t")
        assert tab.value("[...document.querySelectorAll('.thinking')].every((d) => d.open)")
        tab.value("document.querySelector('.strip').open = true")
        tab.wait("document.querySelector('.tokens span') !== null")
        assert tab.value("document.querySelector('.tokens span').title").endswith("nats, 60.7 %")
        tab.press("n")
        tab.wait("document.querySelector('.pager span')?.textContent === 'page 2 of 3'")
        tab.value("document.querySelector('select[name=label]').value = 'safety'")
        tab.value("document.querySelector('form.filters').requestSubmit()")
        tab.wait("new URLSearchParams(location.search).get('label') === 'safety'")
        assert tab.wait("document.querySelector('form.filters output')?.textContent") == "22 of 45 groups"


def test_a_word_is_said_and_taken_back(tab: Browser, tmp_path: Path) -> None:
    run = scored_run(tmp_path, varied(3)[1:])
    file, place = tmp_path / "words.jsonl", "document.querySelector('.say')"
    with served(tmp_path, "--who", "ana") as address:
        tab.open(f"{address}run/{run.path.name}/")
        tab.value(f"{place}.querySelector('[data-verdict=bad]').click()")
        tab.wait(f"{place}.querySelector('.said').textContent === 'ana: bad'")
        tab.value(f"{place}.querySelector('[data-verdict=good]').click()")
        tab.wait(f"{place}.querySelector('.said').textContent === 'ana: good'")
        tab.open(f"{address}run/{run.path.name}/")
        tab.value(f"{place}.querySelector('[data-verdict=good]').click()")
        tab.wait(f"{place}.querySelector('.said').textContent === ''")
        tab.value(f"{place}.querySelector('select').value = 'unsafe'")
        tab.value(f"{place}.querySelector('input').value = '<b>names a hazard</b>'")
        tab.value(f"{place}.querySelector('[data-more]').click()")
        tab.wait(f"{place}.querySelector('.said').textContent === 'ana: unsafe (<b>names a hazard</b>)'")
    assert [w.verdict for w in parse_words(file.read_text().split("\n"))] == ["bad", "good", "", "unsafe"]


def test_a_run_that_goes_on_is_followed(tab: Browser, tmp_path: Path) -> None:
    stage, config = RowsStage("score", SCORED, varied(40), per_shard=20), RowsConfig("", "live")
    half = run_stage(stage, config, [], options=Options(runs=tmp_path, worker=(0, 2)))
    with served(tmp_path) as address:
        tab.open(f"{address}run/{half.path.name}/")
        assert "1 of 2 shards" in tab.value("document.querySelector('#facts').innerText")
        assert tab.value("document.querySelector('#landed').hidden")
        tab.press("j")
        run_stage(stage, config, [], options=Options(runs=tmp_path, worker=(1, 2)))
        tab.wait("!document.querySelector('#landed').hidden")
        assert "40 rows" in tab.value("document.querySelector('#facts').innerText")
        # What is being read stays.
        assert tab.value("document.querySelector('.card.here').id") == "row-0"
        tab.value("document.querySelector('#landed a').click()")
        tab.wait("document.querySelector('form.filters output')?.textContent === '40 of 40 groups'")


def test_the_newest_training_is_followed_from_turn_to_turn(tab: Browser, tmp_path: Path) -> None:
    more = {"grad_norm": 1.0, "completion_length": 9.0, "ref_kl": 0.1, "truncated_fraction": 0.5}
    first = steps_run(tmp_path, [step(n, reward_mean=1.0, **more) for n in range(1, 5)])
    with served(tmp_path) as address:
        tab.open(address)
        tab.value("document.querySelector('#working a').click()")
        tab.wait("location.pathname.endsWith('/training')")
        assert tab.wait("document.querySelector('#title')?.textContent") == first.path.name
        tab.value("document.querySelector('#lineage summary').click()")
        tab.value("document.querySelectorAll('#curves details').forEach((fold) => { fold.open = true; })")
        folds = tab.value("document.querySelectorAll('#curves details').length")
        assert folds
        second = steps_run(tmp_path, [step(n, reward_mean=2.0, **more) for n in range(1, 9)])
        tab.wait(f"document.querySelector('#title').textContent === '{second.path.name}'")
        assert "8 optimizer steps" in tab.value("document.querySelector('#curves').innerText")
        # What was folded and opened stays so.
        assert not tab.value("document.querySelector('#lineage').open")
        assert tab.value("[...document.querySelectorAll('#curves details')].map((f) => f.open)") == [True] * folds


def test_the_list_of_runs_grows(tab: Browser, tmp_path: Path) -> None:
    steps_run(tmp_path, [step(1)])
    with served(tmp_path) as address:
        tab.open(address)
        assert tab.value("document.querySelector('.lead').textContent").startswith("1 in ")
        steps_run(tmp_path, [step(n) for n in range(1, 3)])
        tab.wait("document.querySelectorAll('.list tbody tr').length === 2")
        assert tab.value("document.querySelector('.lead').textContent").startswith("2 in ")


@pytest.mark.parametrize("width", [1400, 420])
@pytest.mark.parametrize("dark", [False, True])
def test_what_is_at_work_fits_its_page(tab: Browser, tmp_path: Path, width: int, dark: bool) -> None:
    steps_run(tmp_path, [step(n, reward_mean=1.0) for n in range(1, 5)])
    numbers = {"phase": "stage2 16/36", "": "reward 1.95 (general 1.77, instruction 2.22, jailbreak 1.95)  refused 1%"}
    Note("mini", 16, 36, "turns", numbers, time.time() - 9, time.time()).keep(tmp_path / "summary.progress.json")
    with served(tmp_path) as address:
        tab.resize(width, dark)
        for page in ("", "training"):
            tab.open(f"{address}{page}")
            assert "16 of 36 turns" in tab.value("document.querySelector('.working').innerText")
            assert tab.value("document.documentElement.scrollWidth <= innerWidth")
            # What the browser itself draws, as the bar's empty part, is dark as well.
            assert tab.value("document.querySelector('meta[name=color-scheme]').content") == "light dark"
