"""The whole stage through the runner: rows, summary.json, names, pairing, caching."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from schemas.tables import EVALS
from stages.core.config import build
from stages.core.errors import InputError, UsageError
from stages.core.runner import Options, run_stage
from stages.core.runs.folder import RunFolder
from stages.eval.config import EvalConfig
from stages.eval.stage import STAGE
from stages.eval.table import summary_table
from tests.eval.made import answered, attacked, completion, grade, group, scored_run, step, steps_run


def evaluate(runs: Path, folders: list[RunFolder], **values: Any) -> RunFolder:
    config = build(EvalConfig, values, "eval")
    result = run_stage(STAGE, config, [f.path for f in folders], options=Options(runs=runs))
    return RunFolder.open(result.path)


def summary(folder: RunFolder) -> Any:
    return json.loads((folder.path / "summary.json").read_text())


@pytest.fixture
def pair(tmp_path: Path) -> list[RunFolder]:
    """Two policies on 40 common prompts: a is right on 10, b on 20 of them, and on 5 that a was not asked."""
    a = [answered(f"q{i}", [i < 10], policy="aaaa", task=f"t{i % 2}") for i in range(40)]
    b = [answered(f"q{i}", [i < 20], policy="bbbb", task=f"t{i % 2}") for i in range(45)]
    b += [attacked("attack", ["unsafe", "safe_with_refusal"], policy="bbbb", family="mirror")]
    return [scored_run(tmp_path, a, per_shard=7), scored_run(tmp_path, b)]


def test_rows_and_summary_agree_with_the_truth(tmp_path: Path, pair: list[RunFolder]) -> None:
    folder = evaluate(tmp_path, pair, names=["before", "after"])
    rows = {(r.policy, r.metric, r.slice): r for r in folder.rows(EVALS)}
    before, after = rows["before", "capability", "all"], rows["after", "capability", "all"]
    assert (before.value, before.n, before.completions, before.method) == (0.25, 40, 40, "wilson")
    assert (after.value, after.n, after.policy_id) == (20 / 45, 45, "bbbb")
    assert rows["after", "capability", "task=t0"].value == pytest.approx(10 / 23)
    assert rows["after", "unsafe_compliance", "family=mirror"].value == 0.5
    assert rows["before", "unsafe_compliance", "all"].value is None
    assert ("before", "unsafe_compliance", "label=safety") not in rows
    found = summary(folder)
    assert found["policies"]["before"]["capability"]["value"] == 0.25
    assert found["policies"]["after"]["capability"]["completions"] == 45
    assert found["policy_ids"] == {"before": "aaaa", "after": "bbbb"}


def test_differences_are_paired_on_common_prompts(tmp_path: Path, pair: list[RunFolder]) -> None:
    found = summary(evaluate(tmp_path, pair, names=["before", "after"]))["differences"]["after"]
    assert found["against"] == "before"
    change = found["metrics"]["capability"]
    assert (change["n"], change["value"], change["verdict"]) == (40, 0.25, "better")
    assert 0 < change["low"] < 0.25 < change["high"] < 0.5
    assert found["metrics"]["unsafe_compliance"]["value"] is None


def test_several_completions_use_clustered_intervals_and_pool_folders(tmp_path: Path) -> None:
    first = scored_run(tmp_path, [answered(f"q{i}", [True, False], policy="aaaa") for i in range(10)])
    second = scored_run(tmp_path, [answered(f"q{i}", [True, True], policy="aaaa") for i in range(5)])
    rows = {(r.metric, r.slice): r for r in evaluate(tmp_path, [first, second], names=["p", "p"]).rows(EVALS)}
    found = rows["capability", "all"]
    # Prompts weigh alike: five have mean 3/4 over four samples, five 1/2 over two.
    assert found.value == pytest.approx((5 * 0.75 + 5 * 0.5) / 10)
    assert (found.n, found.completions, found.method) == (10, 30, "wilson_clustered")
    assert rows["completion_length", "all"].method == "clustered_t"


def test_failed_grades_are_counted_and_left_out(tmp_path: Path) -> None:
    groups = [answered(f"q{i}", [True]) for i in range(3)]
    groups += [group(f"bad{i}", [completion(grade("answer", None, status="error"))], answer="two") for i in range(2)]
    folder = evaluate(tmp_path, [scored_run(tmp_path, groups)])
    row = next(r for r in folder.rows(EVALS) if r.metric == "capability" and r.slice == "all")
    assert (row.value, row.n, row.failed) == (1.0, 3, 2)


def test_a_mixed_folder_is_split_by_policy(tmp_path: Path) -> None:
    def both(i: int) -> Any:
        return group(
            f"q{i}",
            [
                completion(grade("answer", 1.0), policy="aaaa"),
                completion(grade("answer", float(i % 2)), index=1, policy="bbbb"),
            ],
            answer="two",
        )

    found = summary(evaluate(tmp_path, [scored_run(tmp_path, [both(i) for i in range(8)])], names=["a", "b"]))
    assert found["policies"]["a"]["capability"]["value"] == 1.0
    assert found["policies"]["b"]["capability"]["value"] == 0.5


def test_names_that_fit_nothing_are_usage_errors(tmp_path: Path, pair: list[RunFolder]) -> None:
    with pytest.raises(UsageError, match="3 names for 2 policies"):
        evaluate(tmp_path, pair, names=["a", "b", "c"])
    with pytest.raises(UsageError, match="given to two policies"):
        evaluate(tmp_path, pair, names=["same", "same"])
    with pytest.raises(UsageError, match="twice"):
        evaluate(tmp_path, [pair[0], pair[0]])
    with pytest.raises(UsageError, match="unknown metric 'capabilty'"):
        evaluate(tmp_path, pair, metrics=["capabilty"])


def test_no_completions_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing came out"):
        scored_run(tmp_path, [])
    empty = RunFolder.open(next(tmp_path.glob("score-*")))
    with pytest.raises(InputError, match="no completions"):
        evaluate(tmp_path, [empty])


def test_only_chosen_metrics(tmp_path: Path, pair: list[RunFolder]) -> None:
    folder = evaluate(tmp_path, pair[:1], metrics=["completion_length"])
    assert {r.metric for r in folder.rows(EVALS)} == {"completion_length"}


def test_training_runs_are_part_of_the_identity(tmp_path: Path, pair: list[RunFolder]) -> None:
    steps = steps_run(tmp_path, [step(n, reward_mean=0.1 * n) for n in range(1, 6)])
    without, with_steps = evaluate(tmp_path, pair), evaluate(tmp_path, pair, training=[str(steps.path)])
    assert without.fingerprint != with_steps.fingerprint
    assert "Reinforcement learning" in (with_steps.path / "report.html").read_text()
    with pytest.raises(InputError, match="not training steps"):
        evaluate(tmp_path, pair, training=[str(pair[0].path)])


def test_same_command_gives_the_same_bytes(tmp_path: Path, pair: list[RunFolder]) -> None:
    first = evaluate(tmp_path / "one", pair)
    second = evaluate(tmp_path / "two", pair)
    for name in ("report.html", "summary.json"):
        assert (first.path / name).read_bytes() == (second.path / name).read_bytes()


def test_report_is_delivered_fresh_and_cached(tmp_path: Path, pair: list[RunFolder]) -> None:
    target = tmp_path / "out" / "page.html"
    folder = evaluate(tmp_path, pair, report=str(target))
    assert target.read_bytes() == (folder.path / "report.html").read_bytes()
    target.unlink()
    STAGE.deliver(build(EvalConfig, {"report": str(target)}, "eval"), folder.path)
    assert target.exists()


def test_summary_table_shows_before_and_after(tmp_path: Path, pair: list[RunFolder]) -> None:
    folder = evaluate(tmp_path, pair, names=["before", "after"])
    rows = list(folder.rows(EVALS))
    table = summary_table(rows, summary(folder)["differences"])
    assert table[0] == ["metric", "before", "after", "after - before"]
    line = next(line for line in table if line[0] == "capability")
    assert line[1].startswith("0.250 [0.14")
    assert line[3].startswith("+0.250 [+0.")
    assert line[3].endswith("better")
    assert next(line for line in table if line[0] == "unsafe_compliance")[1] == "-"
    assert summary_table(rows)[1][3] == "+0.194"
    assert {len(line) for line in table} == {4}
