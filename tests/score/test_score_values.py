"""What a verifier may give as a value, from the function that checks it to the commands that meet a bad one."""

from __future__ import annotations

import math
import shutil
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from schemas.arrow import to_table
from schemas.rollouts import RolloutGroup
from schemas.scored import Grade, ScoredCompletion, ScoredGroup, grade_of
from schemas.tables import SCORED
from stages.core.config import build
from stages.core.errors import InputError, UsageError
from stages.core.registry import load
from stages.core.runs.folder import RunFolder
from stages.eval.views import read_views
from stages.judging.parsed import parse_completion
from stages.score.config import ScoreConfig
from stages.score.verifiers.base import (
    Judgement,
    ModelVerifier,
    Ungraded,
    Verifier,
    does_not_apply,
    failed,
    finite_value,
    judged,
)
from tests.score.made import group, on_disk, score, scored, thought
from tests.support.cli import ROOT, complaint, cosmo

GOOD = [
    (1, 1.0), (True, 1.0), (False, 0.0), (0.25, 0.25), (-3, -3.0), (np.float32(0.5), 0.5), (np.float64(2.0), 2.0),
    (np.bool_(True), 1.0), (np.int64(7), 7.0), (np.array(0.5), 0.5), (torch.tensor(0.5), 0.5),
    (torch.tensor(2), 2.0), (torch.tensor(True), 1.0), (torch.tensor(0.5, dtype=torch.bfloat16), 0.5),
    (torch.tensor(1.5, requires_grad=True), 1.5),
]  # fmt: skip


class Hostile:
    """Fails at being looked at, too."""

    ndim = 0

    def item(self) -> float:
        raise RuntimeError

    def __repr__(self) -> str:
        raise RuntimeError


BAD: list[tuple[Any, str]] = [
    (math.nan, "nan"), (math.inf, "inf"), (-math.inf, "-inf"), (10**400, "finite"), ("0.5", "'0.5', a str"),
    (Decimal("0.5"), "Decimal"), (Fraction(1, 2), "Fraction"), ([0.5], "list"), (None, "NoneType"), (1j, "complex"),
    (np.array([0.5]), "ndarray"), (np.float32("nan"), "nan"), (np.str_("1"), "str_"), (torch.tensor(math.nan), "nan"),
    (torch.tensor([1.0, 2.0]), "Tensor"), (torch.tensor(0.5, device="meta"), "Tensor"), (Hostile(), "Hostile"),
    ({"score": 1}, "dict"), ("x" * 5000, "xxx ..."),
]  # fmt: skip


@pytest.mark.parametrize(("value", "expected"), GOOD)
def test_numbers_and_what_holds_one_are_floats(value: Any, expected: float) -> None:
    found = finite_value(value, "mine")
    assert type(found) is float
    assert found == expected


@pytest.mark.parametrize(("value", "said"), BAD, ids=[said for _, said in BAD])
def test_anything_else_names_itself_and_its_verifier(value: Any, said: str) -> None:
    with pytest.raises(ValueError, match="mine gave") as caught:
        finite_value(value, "mine")
    assert said in str(caught.value)
    assert len(str(caught.value)) < 200


def rule(given: Any) -> Verifier:
    def judge(group: RolloutGroup, completion: Any, parsed: Any) -> Any:
        return given

    return Verifier(version=3, judge=judge)


def graded(verifier: Verifier) -> Grade:
    row = group(thought("7"))
    return verifier.grade(row, row.completions[0], parse_completion(row.completions[0].text))


@pytest.mark.parametrize(("value", "said"), BAD, ids=[said for _, said in BAD])
def test_a_rules_bad_value_is_an_error_grade_that_a_row_holds(value: Any, said: str) -> None:
    found = graded(rule(Judgement(value, "high", "because", "x")))
    assert (found.value, found.status, found.verdict, found.version) == (None, "error", None, 3)
    assert found.reason is not None
    assert "test_score_values gave" in found.reason
    assert said in found.reason


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (0.5, "0.5, a float, and not a Judgement"),
        (None, "None, a NoneType, and not a Judgement"),
        ((1.0, "fine"), "a tuple, and not a Judgement"),
        (judged(1.0, 7), "the verdict 7, a int"),  # type: ignore[arg-type]
        (judged(1.0, "ok", b"bytes"), "the reason b'bytes'"),  # type: ignore[arg-type]
        (judged(1.0, "ok", None, "\ud83d"), "the seen"),
        (failed("why", "broken"), "the status 'broken'"),
    ],
)
def test_a_rules_other_rubbish_is_an_error_grade(given: Any, said: str) -> None:
    found = graded(rule(given))
    assert (found.value, found.status) == (None, "error")
    assert found.reason is not None
    assert said in found.reason


def test_a_value_that_comes_with_a_failure_is_dropped() -> None:
    assert graded(rule(Judgement(1.0, None, "no", None, "not_applicable"))).value is None
    assert graded(rule(does_not_apply("no"))).status == "not_applicable"


@pytest.mark.parametrize("value", [math.nan, "0.5", torch.tensor([1.0, 2.0]), None])
def test_a_model_verifiers_bad_value_is_the_grade_of_its_own_completion_alone(value: Any) -> None:
    verifier = ModelVerifier("mine", {"rule": 1}, lambda ctx: lambda window: [])
    row = group(thought("7"), thought("8"))
    (grades,) = verifier.grades(
        lambda window: [[judged(value, "a"), judged(0.5, "b")]], [Ungraded(row, row.completions)]
    )
    assert [(g.status, g.value) for g in grades] == [("error", None), ("ok", 0.5)]
    assert "mine gave" in str(grades[0].reason)


@pytest.mark.parametrize("weight", [math.nan, math.inf])
@pytest.mark.parametrize("where", ["term", "format_weight", "helpful_weight"])
def test_a_weight_is_finite(tmp_path: Path, weight: float, where: str) -> None:
    values = {"rewards": {"general": {"terms": {"answer": weight}}}} if where == "term" else {where: weight}
    with pytest.raises(UsageError, match=r"weighs (answer|format|helpful) by (nan|inf)"):
        score(
            tmp_path, on_disk(tmp_path, [group(thought("7"), answer="7")]), **vars(build(ScoreConfig, values, "score"))
        )


def foreign(value: float, *, reward: float | None = None, name: str = "answer") -> ScoredGroup:
    """A scored row that another program wrote."""
    row = group(thought("7"), thought("8"), answer="7", answer_kind="number")
    made = []
    for sample in row.completions:
        bad = sample.index == 1
        # A grade of this version is kept, and so looked at.
        version = load("verifier", "answer").version
        grades = [Grade(name=name, version=version, value=value if bad else 1.0, status="ok")]
        fields = {f: getattr(sample, f) for f in sample.__dataclass_fields__}
        made.append(ScoredCompletion(**fields, grades=grades, reward=reward if bad else 1.0))
    fields = {f: getattr(row, f) for f in row.__dataclass_fields__ if f != "completions"}
    return ScoredGroup(**fields, completions=made, reward_formula="sum: format*1 + answer*1")


@pytest.mark.parametrize("name", ["answer", "a_verifier_of_theirs"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_reweighing_refuses_a_strangers_nan(tmp_path: Path, value: float, name: str) -> None:
    row = foreign(value, name=name)
    upstream = on_disk(tmp_path, [row])
    with pytest.raises(InputError) as caught:
        score(tmp_path, upstream)
    assert f"prompt {row.id}, completion 1: the grade {name} is {value}" in caught.value.message
    assert "--regrade" in caught.value.hint
    (again,) = scored(score(tmp_path, upstream, regrade=True))
    assert [c.reward for c in again.completions] == [2.0, 1.0]


def test_a_reward_beyond_numbers_is_refused(tmp_path: Path) -> None:
    config = build(ScoreConfig, {"rewards": {"general": {"terms": {"answer": 1e300}}}}, "score")
    row = foreign(1e300)
    with pytest.raises(InputError, match="completion 1: its reward is inf"):
        score(tmp_path, on_disk(tmp_path, [row]), **vars(config))


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (foreign(math.nan, reward=1.0), "the grade answer is nan"),
        (foreign(1.0, reward=-math.inf), "the reward is -inf"),
    ],
)
def test_eval_refuses_a_strangers_nan(tmp_path: Path, row: ScoredGroup, said: str) -> None:
    folder = on_disk(tmp_path, [row])
    done = cosmo("eval", folder, cwd=tmp_path)
    message, hint = complaint(done)
    assert done.returncode == 3
    assert f"prompt {row.id}, completion 1: {said}" in message
    assert "--regrade" in hint


def test_the_commands_outlive_a_bad_verifier(tmp_path: Path) -> None:
    """score keeps the rows with their reasons, no reward is made of them, and eval measures what can be measured."""
    for name in ("cosmo_cli", "stages", "schemas"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "stages" / "score" / "verifiers" / "rubbish.py").write_text(
        '"""Rubbish: another kind of it for every completion."""\n'
        "from decimal import Decimal\nimport torch\n"
        "from stages.score.verifiers.base import Judgement, Verifier, judged\n"
        "GIVEN = [float('nan'), float('inf'), '0.5', Decimal(1), [1.0], torch.ones(2), None, torch.tensor(0.5)]\n"
        "def judge(group, completion, parsed):\n    return judged(GIVEN[completion.index], 'given')\n"
        "PLUGIN = Verifier(version=1, judge=judge)\n"
    )
    upstream = on_disk(tmp_path, [group(*[thought("7")] * 8, question=f"{n} ?", answer="7") for n in range(3)])
    terms = "rewards.general.terms={rubbish=1.0}"
    done = cosmo("score", upstream, "--set", terms, cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    folder = RunFolder.open(tmp_path / done.stdout.strip())
    for row in scored(folder):
        assert [c.reward for c in row.completions] == [None] * 7 + [1.5]
        reasons = [str(grade.reason) for c in row.completions if (grade := grade_of(c, "rubbish"))]
        shown = ["gave nan", "gave inf", "'0.5', a str", "a Decimal", "a list", "a Tensor", "a NoneType"]
        assert all("rubbish gave" in r and s in r for s, r in zip(shown, reasons, strict=False))
    done = cosmo("eval", folder.path, cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    (shard,) = folder.shard_paths()
    assert all(c.reward is None or math.isfinite(c.reward) for view in read_views(shard) for c in view.completions)
    assert to_table(SCORED, scored(folder)).num_rows == 3
