"""Settings of a study against their baseline rows: which rows are paired, and McNemar's exact p."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from schemas.tables import EVALS
from stages.core.config import build
from stages.core.errors import InputError
from stages.core.runner import Options, run_stage
from stages.core.runs.folder import RunFolder, artifact
from stages.eval.config import EvalConfig
from stages.eval.intervals import mcnemar
from stages.eval.paired import paired_table
from stages.eval.stage import STAGE
from tests.eval.made import answered, scored_run

# Of task counting 8 prompts got better in the setting, 1 got worse, 3 stayed; of colours, which comes first by name, 2
# stayed. Worked out by hand: 2 * (1 + 9) / 2**9.
COUNTING = [(False, True)] * 8 + [(True, False)] + [(True, True)] * 2 + [(False, False)]
COLOURS = [(True, True), (False, False)]


def study(runs: Path) -> RunFolder:
    groups = []
    for task, pairs in (("counting", COUNTING), ("colours", COLOURS)):
        for i, (before, after) in enumerate(pairs):
            parent = answered(f"{task} {i}", [before], task=task)
            groups += [
                parent,
                answered(f"{task} {i} notes", [after], task=task, family="notes", parent_id=parent.id),
                # Of another setting that nobody asked about, and worse on every prompt.
                answered(f"{task} {i} look", [False], task=task, family="look", parent_id=parent.id),
            ]
    # A row whose baseline was not measured has nothing to be compared with.
    groups.append(answered("lonely", [True], task="counting", family="notes", parent_id="0" * 32))
    return scored_run(runs, groups)


def evaluate(runs: Path, **config) -> tuple[dict, Path]:
    values = build(EvalConfig, {"metrics": ["capability"], "sample": 0, **config}, "eval")
    result = run_stage(STAGE, values, [study(runs).path], options=Options(runs=runs))
    return json.loads(artifact(result.path, "summary.json").read_text()), result.path


def test_each_row_is_paired_with_its_parent_task_by_task(tmp_path: Path) -> None:
    summary, path = evaluate(tmp_path, paired=["notes"])
    found = {one["task"]: one for one in summary["paired"]}
    assert list(found) == ["all", "colours", "counting"]
    one = found["counting"]
    assert (one["n"], one["up"], one["down"], one["p"]) == (12, 8, 1, pytest.approx(2 * 10 / 2**9))
    assert (one["before"], one["after"]) == (pytest.approx(3 / 12), pytest.approx(10 / 12))
    assert one["difference"] == pytest.approx(7 / 12)
    assert 0 < one["low"] < one["difference"] < one["high"]
    assert (found["colours"]["difference"], found["colours"]["p"]) == (0.0, 1.0)
    assert (found["all"]["n"], found["all"]["up"]) == (14, 8)
    page = artifact(path, "report.html").read_text()
    assert 'id="paired"' in page
    assert "0.039" in page
    assert paired_table(summary["paired"])[1][:5] == [one["policy"], "capability", "all", "notes", "14"]


def test_without_it_nothing_is_paired_and_rows_stay(tmp_path: Path) -> None:
    asked, with_it = evaluate(tmp_path, paired=["notes"])
    plain, without = evaluate(tmp_path)
    assert "paired" not in plain
    assert {**asked, "paired": None} == {**plain, "paired": None}
    rows = [list(RunFolder.open(path).rows(EVALS)) for path in (with_it, without)]
    assert rows[0] == rows[1] != []
    assert 'id="paired"' not in artifact(without, "report.html").read_text()


def test_a_family_without_a_measured_baseline_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'notez'"):
        evaluate(tmp_path, paired=["notes", "notez"])


@pytest.mark.parametrize(
    ("up", "down", "p"),
    [
        (0, 0, 1.0),
        (1, 0, 1.0),
        (3, 3, 1.0),
        (5, 0, 2 / 32),
        (0, 5, 2 / 32),
        (6, 1, 2 * 8 / 128),
        (10, 2, 2 * 79 / 4096),
    ],
)
def test_mcnemar_is_the_binomial_counted_out(up: int, down: int, p: float) -> None:
    assert mcnemar(up, down) == pytest.approx(p)
