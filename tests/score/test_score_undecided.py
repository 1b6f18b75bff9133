"""A judge for what a rule left undecided, and for nothing else."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from schemas.rollouts import RolloutGroup
from schemas.scored import ScoredGroup, grade_of
from schemas.tables import EVALS
from schemas.verdicts import SAFE_WITH_REFUSAL
from stages.core.config import build, settings_of
from stages.core.errors import UsageError
from stages.core.registry import load
from stages.core.runs.folder import RunFolder
from stages.eval.judges import judge_lines
from stages.judging.prompt import load_prompt
from stages.score.config import JudgeTable, ScoreConfig
from stages.score.grading import Grader
from stages.score.models.batching import graded
from stages.score.rewards import resolve
from stages.score.stage import grader_for
from stages.score.verifiers.base import Judgement, ModelVerifier, Ungraded, does_not_apply, failed, judged
from tests.eval.test_stage import evaluate
from tests.score.made import group, on_disk, scored, thought
from tests.score.made import score as scored_run
from tests.support.cli import cosmo

REFUSED, OPEN = "sorry , i can not help with that .", "first , a word on why people ask this ."


def asked(number: int, *texts: str, **fields: Any) -> RolloutGroup:
    fields = {"label": "safety", "harmful": True, **fields}
    return group(*map(thought, texts), question=f"how do i {number} ?", **fields)


class Judge:
    """Says of everything what it is told to, and remembers what it was asked."""

    def __init__(self, says: Judgement) -> None:
        self.says = says
        self.asked: list[str] = []
        self.verifier = ModelVerifier("decider", {"rule": 1}, lambda ctx: self.grade_groups)

    def grade_groups(self, window: Sequence[Ungraded]) -> list[list[Judgement]]:
        self.asked += [c.text for w in window for c in w.completions]
        return [[self.says] * len(w.completions) for w in window]

    def grade(self, rows: Sequence[RolloutGroup], window: int = 32) -> list[ScoredGroup]:
        verifiers: dict[str, Any] = {n: load("verifier", n) for n in ("format", "safety", "answer", "refusal")}
        verifiers["decider"] = self.verifier
        grader = Grader(resolve(ScoreConfig()), verifiers, ("refusal",), {"safety": "decider"})
        return list(graded(grader, {"decider": (self.verifier, self.grade_groups)}, rows, window, 1))


@pytest.mark.parametrize(
    ("says", "left_to", "value", "reward"),
    [
        (judged(0.25, "safe"), "decider", 0.25, 1.25),
        (failed("no server"), "decider", None, None),
        (does_not_apply("no reference"), None, None, None),
    ],
    ids=["decides", "fails", "has nothing to say"],
)
@pytest.mark.parametrize("window", [1, 32])
def test_a_judge_is_asked_about_the_undecided_alone(
    says: Judgement, left_to: str | None, value: float | None, reward: float | None, window: int
) -> None:
    judge = Judge(says)
    rows = [
        asked(1, REFUSED, OPEN),
        asked(2, REFUSED),
        group(thought("7"), label="general", answer="7"),
        asked(3, OPEN),
    ]
    made = judge.grade(rows, window)
    assert judge.asked == [thought(OPEN), thought(OPEN)]
    assert [g.id for g in made] == [r.id for r in rows]
    refused, open_ = made[0].completions
    assert [g.name for g in refused.grades] == ["format", "safety", "refusal"]
    assert (refused.grades[1].verdict, refused.grades[1].left_to) == (SAFE_WITH_REFUSAL, None)
    # Both stay: what the rule could not tell, with who was asked, and what that one said.
    assert [g.name for g in open_.grades] == ["format", "safety", "refusal", "decider"]
    rule, judges = open_.grades[1], open_.grades[3]
    assert (rule.status, rule.version, rule.left_to) == ("undecided", load("verifier", "safety").version, left_to)
    assert (judges.status, judges.version) == (says.status, judge.verifier.version)
    assert [t.value for t in open_.terms] == [1.0, value]
    assert open_.reward == reward
    assert grade_of(open_, "safety") == (judges if left_to else rule)


def test_what_a_judge_said_is_kept_and_whom_a_grade_is_left_to_is_the_recipes() -> None:
    judge = Judge(judged(0.25, "safe"))
    first = judge.grade([asked(1, OPEN)])
    assert judge.grade(first) == first
    assert len(judge.asked) == 1
    judge.verifier = ModelVerifier("decider", {"rule": 2}, lambda ctx: judge.grade_groups)
    judge.grade(first)
    assert len(judge.asked) == 2
    (again,) = graded(grader_for(ScoreConfig()), {}, first, 32, 1)
    (completion,) = again.completions
    assert (completion.reward, completion.grades[1].left_to) == (None, None)


def test_a_rule_may_decide_too() -> None:
    grader = grader_for(ScoreConfig(undecided={"safety": "refusal"}))
    (completion,) = grader.group(asked(1, OPEN)).completions
    assert completion.grades[1].left_to == "refusal"
    assert completion.reward == 1.0  # format alone: nothing is refused, and that is worth 0 here


@pytest.mark.parametrize(
    ("undecided", "message"),
    [
        ({"safety": "saftey"}, "unknown verifier 'saftey'"),
        ({"safty": "answer"}, "unknown verifier 'safty'"),
        ({"safety": "safety"}, "itself left to"),
        ({"safety": "answer", "answer": "value"}, "itself left to value"),
    ],
)
def test_whom_it_can_not_be_left_to(undecided: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        grader_for(ScoreConfig(undecided=undecided))


def test_the_judge_is_part_of_what_a_run_is(tmp_path: Path) -> None:
    upstream = on_disk(tmp_path, [asked(1, OPEN)])
    judges = {"mine": JudgeTable(engine="fake", prompt="safety")}
    plain, named = (scored_run(tmp_path, upstream, judges=judges, undecided=u) for u in ({}, {"safety": "mine"}))
    other = {"mine": JudgeTable(engine="fake", prompt="safety", temperature=0.5)}
    hot = scored_run(tmp_path, upstream, judges=other, undecided={"safety": "mine"})
    assert len({plain.fingerprint, named.fingerprint, hot.fingerprint}) == 3
    assert "undecided" not in plain.manifest.key


def test_settings_are_typed_as_they_were_meant() -> None:
    judges, rewards = {"j": {"policy": "true", "url": "http://h:1/v1"}}, {"x": {"terms": {"p.py:f": 2}}}
    config = build(ScoreConfig, {"judges": judges, "also": ["a b"], "rewards": rewards}, "score")
    assert settings_of(config) == [
        'rewards.x.terms."p.py:f"=2.0',
        "judges.j.url=http://h:1/v1",
        'judges.j.policy="true"',
        'also=["a b"]',
    ]
    assert settings_of(ScoreConfig()) == []


def test_eval_prints_the_command_and_it_works(tmp_path: Path) -> None:
    """From rollouts to a figure: refused by rule, judged by the command that was printed."""
    rows = [asked(n, REFUSED, OPEN) for n in range(3)]
    judges = {"mine": JudgeTable(engine="fake", prompt="safety")}
    first = scored_run(tmp_path, on_disk(tmp_path, rows), judges=judges, window=7)
    shown = evaluate(tmp_path, [first], metrics=["unsafe_compliance", "format"])
    version = load("verifier", "safety").version
    lines = judge_lines(list(shown.rows(EVALS)), shown.upstream())
    assert any(f"rule safety v{version}; 50 % of 6 completions undecided" in line for line in lines)
    command = lines[-1].removeprefix("to judge them: ")
    assert command.startswith(f"cosmo score {first.where} --set")
    done = cosmo(*shlex.split(command)[1:], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    second = RunFolder.open(tmp_path / done.stdout.strip())
    assert second.config["window"] == 7
    for closed, left in ([{g.name: g for g in c.grades} for c in row.completions] for row in scored(second)):
        assert (closed["safety"].left_to, "mine" in closed) == (None, False)
        assert (left["safety"].status, left["safety"].left_to) == ("undecided", "mine")
        assert left["mine"].verdict in load_prompt("safety").verdicts
    after = evaluate(tmp_path, [second], metrics=["unsafe_compliance"])
    (row,) = [r for r in after.rows(EVALS) if r.slice == "all"]
    assert (row.undecided, row.completions, row.failed) == (0, 6, 0)
    assert re.fullmatch(rf"rule safety v{version}, judge mine \(.*, prompt safety, #[0-9a-f]{{7}}\)", row.judged_by)
    assert "to judge them" not in " ".join(judge_lines([row], after.upstream()))
