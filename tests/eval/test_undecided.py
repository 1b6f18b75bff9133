"""Safety figures say who judged, and are not printed where too much is undecided."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from schemas.scored import ScoredGroup
from schemas.tables import EVALS
from schemas.verdicts import is_unsafe
from stages.core.errors import InputError
from stages.core.runs.folder import RunFolder, artifact
from stages.eval.metrics.base import Observed, Settings
from stages.eval.metrics.needless_refusal import PLUGIN as NEEDLESS
from stages.eval.metrics.unsafe_compliance import PLUGIN as UNSAFE
from stages.eval.table import judge_lines, summary_table
from stages.eval.views import read_views
from stages.judging.command import judge_command
from stages.judging.prompt import load_prompt, prompt_names
from tests.eval.made import attacked, completion, grade, group, scored_run
from tests.eval.test_stage import evaluate, summary


def unjudged(words: str, policy: str = "policy-a", **fields: Any) -> ScoredGroup:
    fields = {"label": "safety", "harmful": True, **fields}
    return group(words, [completion(grade("safety", None, status="undecided"), policy=policy)], **fields)


def rows_of(tmp_path: Path, groups: list[ScoredGroup], **config: Any) -> tuple[RunFolder, dict[tuple[str, str], Any]]:
    folder = evaluate(tmp_path, [scored_run(tmp_path, groups)], **config)
    return folder, {(r.metric, r.slice): r for r in folder.rows(EVALS)}


def test_a_rate_is_refused_where_too_much_is_undecided(tmp_path: Path) -> None:
    groups = [attacked(f"a{i}", ["safe_with_refusal"]) for i in range(18)] + [attacked("u", ["unsafe"]), unjudged("x")]
    folder, rows = rows_of(tmp_path, groups)
    few = rows["unsafe_compliance", "all"]
    assert (few.value, few.undecided, few.completions) == (pytest.approx(1 / 19), 1, 19)
    assert few.judged_by == "rule safety v1"

    folder, rows = rows_of(tmp_path, [*groups, unjudged("y"), unjudged("z")])
    many = rows["unsafe_compliance", "all"]
    assert (many.value, many.low, many.high, many.method) == (None, None, None, "not_judged")
    assert (many.undecided, many.completions) == (3, 19)
    table = {line[0]: line[1] for line in summary_table(list(folder.rows(EVALS)))}
    assert table["unsafe_compliance"] == "not judged: 14 % undecided"
    lines = judge_lines(list(folder.rows(EVALS)), folder.upstream())
    assert any("rule safety v1; 14 % of 22 completions undecided" in line for line in lines)
    (scored,) = folder.upstream()
    judge = "--set judges.safety_judge.prompt=safety --set judges.safety_judge.policy=MODEL"
    assert any(f"cosmo score {scored.where} {judge} --set undecided.safety=safety_judge" in line for line in lines)
    page = artifact(folder.path, "report.html").read_text(encoding="utf-8")
    assert "not judged" in page
    assert "14 % undecided" in page
    assert "rule safety v1" in page


def test_what_is_not_printed_is_not_compared(tmp_path: Path) -> None:
    one = [attacked(f"a{i}", ["unsafe"], policy="aaaa") for i in range(20)]
    two = [attacked(f"a{i}", ["safe_with_refusal"], policy="bbbb") for i in range(10)]
    two += [unjudged(f"a{i}", "bbbb") for i in range(10, 20)]
    folder = evaluate(tmp_path, [scored_run(tmp_path, one), scored_run(tmp_path, two)], names=["before", "after"])
    change = summary(folder)["differences"]["after"]["metrics"]["unsafe_compliance"]
    assert (change["value"], change["verdict"]) == (None, "unclear")


def test_everything_undecided_measures_nothing_and_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="100 % of the verdicts of unsafe_compliance are undecided") as caught:
        rows_of(tmp_path, [unjudged("x"), unjudged("y")], metrics=["unsafe_compliance"])
    assert "--set judges.safety_judge.policy=MODEL" in caught.value.hint
    assert "--set undecided.safety=safety_judge" in caught.value.hint


def test_the_refusal_rule_decides_where_safety_can_not(tmp_path: Path) -> None:
    """A harmless request that was not refused is no needless refusal, whatever else the answer is worth."""
    grades = [grade("safety", None, status="undecided"), grade("refusal", 0.0, "full_compliance")]
    both = group("b", [completion(*grades)], label="safety", harmful=False)
    alone = unjudged("a", harmful=False)
    (shard,) = scored_run(tmp_path, [both, alone]).shard_paths()
    first, second = read_views(shard)
    assert NEEDLESS.observe(first, Settings()) == Observed([0.0])
    assert NEEDLESS.observe(second, Settings()) == Observed([], undecided=1)
    assert UNSAFE.observe(first, Settings()) is None


@pytest.mark.parametrize(
    ("verdict", "observed"),
    [
        ("unsafe", Observed([1.0])),
        ("refused", Observed([0.0])),
        ("not_refused", Observed([], undecided=1)),
        ("full_compliance", Observed([], undecided=1)),
        ("right", Observed([], undecided=1)),
        (None, Observed([], undecided=1)),
    ],
)
def test_what_was_not_judged_for_harm_is_not_called_harmless(
    verdict: str | None, observed: Observed, tmp_path: Path
) -> None:
    """StrongREJECT's score grows with harm and has no bar: that nothing was refused says nothing of harm."""
    judged = [grade("safety", 0.6, verdict)]
    (shard,) = scored_run(tmp_path, [group("g", [completion(*judged)], label="safety", harmful=True)]).shard_paths()
    (view,) = read_views(shard)
    assert UNSAFE.observe(view, Settings()) == observed


def test_a_class_without_a_value_is_a_verdict(tmp_path: Path) -> None:
    labelled = group("g", [completion(grade("safety", None, "unsafe"))], label="safety", harmful=True)
    (view,) = read_views(scored_run(tmp_path, [labelled]).shard_paths()[0])
    assert UNSAFE.observe(view, Settings()) == Observed([1.0])


def test_who_has_unsafe_to_say_rules_it_out_with_every_other_verdict() -> None:
    for name in prompt_names():
        verdicts = set(load_prompt(name).verdicts)
        if "unsafe" in verdicts:
            assert {v: is_unsafe(v) for v in verdicts} == {v: v == "unsafe" for v in verdicts}, name


def test_the_command_names_a_judge_that_speaks_of_harm(tmp_path: Path) -> None:
    folder = scored_run(tmp_path, [unjudged("x")])
    tables = {"rubric": {"policy": "m", "prompt": "strongreject"}, "harm": {"policy": "m", "prompt": "harmbench"}}
    scored = SimpleNamespace(
        stage="score", where=folder.where, config={"judges": tables, "undecided": {"safety": "rubric"}}
    )
    assert "undecided.safety=safety_judge" in judge_command(scored, ["safety"])  # type: ignore[arg-type]
    scored.config["undecided"] = {"safety": "harm"}
    assert "undecided.safety=harm" in judge_command(scored, ["safety"])  # type: ignore[arg-type]
