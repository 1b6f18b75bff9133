"""The stage itself, through the real runner and real Parquet."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from schemas.rollouts import RolloutGroup
from schemas.scored import Grade, ScoredGroup, grade_of
from schemas.tables import ROLLOUTS
from schemas.values import Image
from stages.core.errors import InputError, UsageError
from stages.core.registry import load
from stages.core.runner import Options, run_stage
from stages.core.runs.folder import RunFolder
from stages.core.stage import Context, Resources, Silent
from stages.score.config import RewardTable, ScoreConfig
from stages.score.explain import explain_lines, find_groups
from stages.score.stage import STAGE
from tests.score.made import completion, grader, group, on_disk, score, scored, thought

REFUSED = "sorry , i can not help with that ."
FIELDS: list[tuple[str, dict[str, Any]]] = [
    ("general", {"answer": "7", "answer_kind": "number"}),
    ("knowledge", {"answer": "honey", "answer_kind": "text"}),
    ("safety", {"harmful": True, "hazards": ["vexol"], "unsafe_markers": ["step one"]}),
    ("instruction", {"instructions": [json.dumps({"kind": "one_word"})]}),
    ("math", {"answer": "x+1", "answer_kind": "math"}),
]
SAID = ["7", "honey", "warning : vexol is dangerous .", "step one", REFUSED, "$1+x$", ""]


def groups(count: int) -> list[RolloutGroup]:
    made = []
    for n in range(count):
        label, fields = FIELDS[n % len(FIELDS)]
        texts = [thought(SAID[(n + k) % len(SAID)]) for k in range(4)]
        made.append(
            group(*texts, label=label, question=f"question {n} ?", images=[Image(b"\x89PNG", "a.png")], **fields)
        )
    return made


def test_rows_come_out_in_order_with_everything_they_came_with(tmp_path: Path) -> None:
    rows = groups(23)
    upstream = on_disk(tmp_path, rows, per_shard=10)
    folder = score(tmp_path, upstream)
    assert [r.rows for r in folder.receipts().values()] == [10, 10, 3]
    found = scored(folder)
    assert [r.id for r in found] == [r.id for r in rows]
    as_rollouts = list(folder.rows(ROLLOUTS))
    for before, after in zip(RunFolder.open(upstream).rows(ROLLOUTS), as_rollouts, strict=True):
        assert before == after
    for row in found:
        assert row.reward_formula
        for sample in row.completions:
            assert {"format", "refusal"} <= {g.name for g in sample.grades}
            assert {t.name for t in sample.terms} <= {g.name for g in sample.grades}


def test_known_rewards(tmp_path: Path) -> None:
    (row,) = scored(score(tmp_path, on_disk(tmp_path, groups(1))))
    assert [c.reward for c in row.completions] == [2.0, 1.0, 1.0, 1.0]
    assert row.reward_formula == "sum: format*1 + answer*1"


def test_workers_change_nothing(tmp_path: Path) -> None:
    upstream = on_disk(tmp_path, groups(40), per_shard=20)
    one = score(tmp_path / "a", upstream, workers=1)
    four = score(tmp_path / "b", upstream, workers=4)
    assert one.fingerprint == four.fingerprint
    assert [p.read_bytes() for p in one.shard_paths()] == [p.read_bytes() for p in four.shard_paths()]


def test_a_sample_that_never_came_has_error_grades_and_no_reward(tmp_path: Path) -> None:
    row = groups(1)[0]
    lost = completion("", 1, finish_reason="error", error="the engine ran out of memory", token_ids=[], logprobs=[])
    rows = [dataclasses.replace(row, completions=[row.completions[0], lost])]
    (found,) = scored(score(tmp_path, on_disk(tmp_path, rows)))
    good, bad = found.completions
    assert good.reward == 2.0
    assert bad.reward is None
    assert {g.status for g in bad.grades} == {"error"}
    assert all("out of memory" in (g.reason or "") for g in bad.grades)
    assert [t.value for t in bad.terms] == [None, None]


def test_one_bad_row_does_not_stop_the_run(tmp_path: Path) -> None:
    rows = groups(10)
    rows[3] = dataclasses.replace(rows[3], instructions=["not json"])
    rows[5] = dataclasses.replace(rows[5], answer_kind="riddle")
    found = scored(score(tmp_path, on_disk(tmp_path, rows)))
    assert len(found) == 10
    for n, verifier in ((3, "instruction"), (5, "answer")):
        for sample in (c for c in found[n].completions if c.text != thought("")):
            judged = grade_of(sample, verifier)
            assert judged is not None
            assert (judged.status, judged.value, sample.reward) == ("error", None, None)
    assert all(c.reward is not None for n in (0, 1, 2, 4, 6) for c in found[n].completions)


def test_form_alone_is_never_rewarded(tmp_path: Path) -> None:
    rows = [group(thought("anything"), label="general"), group(thought("x"), label="safety")]
    for row in scored(score(tmp_path, on_disk(tmp_path, rows))):
        assert [c.reward for c in row.completions] == [None]
        assert [g.status for g in row.completions[0].grades] == ["ok", "not_applicable", "ok"]


def test_an_unknown_label_stops_it_before_any_row(tmp_path: Path) -> None:
    rows = [*groups(5), group(thought("x"), label="poetry")]
    upstream = on_disk(tmp_path, rows, per_shard=2)
    with pytest.raises(InputError, match="'poetry'") as caught:
        score(tmp_path, upstream)
    assert caught.value.code == 3
    (folder,) = tmp_path.glob("score-*")
    assert RunFolder.open(folder).receipts() == {}
    fixed = score(tmp_path, upstream, rewards={"poetry": RewardTable(terms={"refusal": 1.0})})
    assert scored(fixed)[-1].reward_formula == "sum: format*1 + refusal*1"


def test_what_is_in_the_fingerprint(tmp_path: Path) -> None:
    upstream = on_disk(tmp_path, groups(2))

    def fingerprint(**config: Any) -> str:
        options = Options(runs=tmp_path, dry_run=True)
        return run_stage(STAGE, ScoreConfig(**config), [upstream], options=options).fingerprint

    default = fingerprint()
    assert fingerprint(workers=3) == default
    same = RewardTable(terms={"safety": 1.0})
    assert fingerprint(rewards={"safety": same}) == default  # spelled out, and no other formula
    others = [
        fingerprint(rewards={"safety": RewardTable(terms={"safety": 2.0})}),
        fingerprint(format_weight=0.5),
        fingerprint(visual_weight=0.5),
        fingerprint(helpful_weight=0.5),
        fingerprint(also=[]),
        fingerprint(also=["refusal", "helpful"]),
        fingerprint(timeout_s=1.0),
        fingerprint(regrade=True),
    ]
    assert len({default, *others}) == len(others) + 1


def test_an_unknown_verifier_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="refusl"):
        score(tmp_path, on_disk(tmp_path, groups(1)), also=["refusl"])


def test_several_inputs(tmp_path: Path) -> None:
    rows = groups(6)
    first, second = on_disk(tmp_path, rows[:4], per_shard=3), on_disk(tmp_path, rows[4:])
    folder = score(tmp_path, first, second)
    assert folder.total == 3
    assert [r.id for r in scored(folder)] == [r.id for r in rows]


def with_grade(row: ScoredGroup, grade: Grade) -> ScoredGroup:
    """The group with this grade in place of the one of the same name, in every completion."""
    completions = [
        dataclasses.replace(c, grades=[grade if g.name == grade.name else g for g in c.grades]) for c in row.completions
    ]
    return dataclasses.replace(row, completions=completions)


NOW = load("verifier", "answer").version


def planted(value: float | None, version: int = NOW, status: str = "ok") -> Grade:
    """An answer grade that no rule would give, so that it shows whether the verifier ran."""
    return Grade(name="answer", version=version, value=value, status=status, verdict="planted")


@pytest.mark.parametrize(
    ("grade", "config", "kept"),
    [
        (planted(0.25), {}, True),
        (planted(None, status="not_applicable"), {}, True),
        (planted(0.25), {"regrade": True}, False),
        (planted(0.25, version=0), {}, False),
        (planted(None, status="timeout"), {}, False),
        (planted(None, status="error"), {}, False),
    ],
)
def test_scored_input_is_reweighed(tmp_path: Path, grade: Grade, config: dict[str, Any], kept: bool) -> None:
    """Settled grades of the same version are kept and only the sum is new; all others are made again."""
    once = scored(score(tmp_path, on_disk(tmp_path, groups(1))))
    upstream = on_disk(tmp_path, [with_grade(row, grade) for row in once])
    formulas = {"general": RewardTable(terms={"answer": 4.0}, combine="replace")}
    (row,) = scored(score(tmp_path, upstream, rewards=formulas, **config))
    assert row.reward_formula == "replace: answer*4"
    found = [grade_of(c, "answer") for c in row.completions]
    if kept:
        assert found == [grade] * 4
        assert [c.reward for c in row.completions] == [None if grade.value is None else 1.0] * 4
    else:
        assert [c.reward for c in row.completions] == [4.0, 0.0, 0.0, 0.0]
        assert {g.version for g in found if g is not None} == {NOW}


def test_only_missing_verifiers_run_and_earlier_grades_stay(tmp_path: Path) -> None:
    upstream = score(tmp_path, on_disk(tmp_path, groups(1))).path
    (row,) = scored(score(tmp_path, upstream, also=["helpful"]))
    assert [g.name for g in row.completions[0].grades] == ["format", "answer", "helpful", "refusal"]
    assert [t.name for t in row.completions[0].terms] == ["format", "answer"]


DESCRIBED = "<description> it is grelt </description><think> let me see . </think><answer> a star </answer>"


def test_a_labels_layout_says_what_is_judged() -> None:
    """An unsafe marker in a description is unsafe, and what is inside the answer's tags is the answer."""
    rewards = {
        label: RewardTable({of: 1.0}, layout="describe") for label, of in (("safety", "safety"), ("math", "answer"))
    }
    of_layout = grader(rewards=rewards, also=[])
    unsafe = group(DESCRIBED, label="safety", harmful=True, unsafe_markers=["it is grelt"])
    (graded,) = of_layout.group(unsafe).completions
    assert {g.name: g.verdict for g in graded.grades} == {"format": "well_formed", "safety": "unsafe"}
    (graded,) = of_layout.group(group(DESCRIBED, label="math", answer="a star", answer_kind="text")).completions
    assert [g.value for g in graded.grades] == [1.0, 1.0]
    # In the other layout it has text before its think block.
    (graded,) = (
        grader(also=[]).group(group(DESCRIBED, label="general", answer="a star", answer_kind="text")).completions
    )
    assert {g.name: g.verdict for g in graded.grades}["format"] == "malformed"


def test_grades_of_another_layout_are_not_kept() -> None:
    row = group(thought("a star"), label="general", answer="a star", answer_kind="text")
    once = grader(also=[]).group(row)
    anew = grader(rewards={"general": RewardTable({"answer": 1.0}, layout="describe")}, also=[]).group(once)
    assert [g.verdict for g in once.completions[0].grades] == ["well_formed", "correct"]
    assert [g.verdict for g in anew.completions[0].grades] == ["malformed", "correct"]
    back = grader(also=[]).group(anew)
    assert [g.verdict for g in back.completions[0].grades] == ["well_formed", "correct"]


def test_a_models_grades_go_by_a_completions_index_and_not_by_its_place() -> None:
    completions = [completion("a", 3), completion("b", 1)]
    row = group(label="general", answer="7", answer_kind="number", completions=completions)
    given = {n: Grade(name="answer", version=1, value=value, status="ok") for n, value in ((1, 0.25), (3, 0.75))}
    found = grader().group(row, {"answer": given})
    assert [(c.index, [g.value for g in c.grades if g.name == "answer"]) for c in found.completions] == [
        (3, [0.75]),
        (1, [0.25]),
    ]


def test_explain_grades_anew_where_asked_to(tmp_path: Path) -> None:
    (row,) = scored(score(tmp_path, on_disk(tmp_path, groups(1))))
    done = row.completions[0]
    other = [dataclasses.replace(g, value=0.125) if g.name == "answer" else g for g in done.grades]
    bent = dataclasses.replace(row, completions=[dataclasses.replace(done, grades=other)])
    folder = RunFolder.open(on_disk(tmp_path / "bent", [bent]))
    ctx = Context(ScoreConfig(), [folder], Silent(), Resources())
    values = [
        grade_of(find_groups([folder], row.id, grader(regrade=regrade), ctx)[0].completions[0], "answer")
        for regrade in (False, True)
    ]
    assert [g.value for g in values if g is not None] == [0.125, 1.0]


def test_explain_says_what_was_seen_and_why(tmp_path: Path) -> None:
    (row,) = scored(score(tmp_path, on_disk(tmp_path, groups(1))))
    text = "\n".join(line.text for line in explain_lines(row))
    for part in (
        row.id,
        "reward formula: sum: format*1 + answer*1",
        "reward 2 ",
        "saw '7'",
        "no number in the answer",
        "refusal v",
    ):
        assert part in text
