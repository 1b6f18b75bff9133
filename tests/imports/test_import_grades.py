"""Verdicts of people and of other tools become grades: by name, with their value, and never where there was none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from schemas.scored import grade_of
from schemas.tables import EVALS
from stages.core.runs.folder import RunFolder
from stages.train.config import TrainConfig
from stages.train.supervised.pairs import as_texts, pair_entries
from tests.imports.made import (
    groups_of,
    imported,
    inspect_samples,
    lm_eval_rows,
    run,
    write_eval,
    write_jsonl,
    write_table,
)

SAFE, UNSAFE = "safe_without_risk", "unsafe"


def one_grade(tmp_path: Path, value: Any, **settings: Any) -> tuple[float | None, str | None] | None:
    rows = [{"prompt": "a", "completion": "b", "verdict": value}]
    path = write_jsonl(tmp_path / "rows.jsonl", rows)
    ((completion,),) = (g.completions for g in groups_of(imported(tmp_path / "runs", path, write="scored", **settings)))
    found = grade_of(completion, "people")
    return None if found is None else (found.value, found.verdict)


@pytest.mark.parametrize(
    "value, expected",
    [
        ("unsafe", (None, "unsafe")),
        (" unsafe ", (None, "unsafe")),
        ("correct", (1.0, "correct")),
        (True, (1.0, "true")),
        (False, (0.0, "false")),
        (4, (4.0, "4")),
        ("4", (4.0, "4")),
        (0.25, (0.25, None)),
        ("0.25", (0.25, None)),
        ("", None),
        (None, None),
        ({"a": 1}, None),
    ],
)
def test_a_verdict_is_a_grade(tmp_path: Path, value: Any, expected: Any) -> None:
    assert one_grade(tmp_path, value) == expected


def test_nan_is_no_grade(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "a", "completion": "b", "verdict": NaN, "score": Infinity}\n')
    ((completion,),) = (g.completions for g in groups_of(imported(tmp_path / "runs", path, write="scored")))
    assert completion.grades == []
    assert completion.reward is None


def test_verdicts_are_called_and_valued_as_told(tmp_path: Path) -> None:
    named = {"verdicts": {"2_full_refusal": "full_refusal", "7": "good"}, "values": {"full_refusal": 0.0, "good": 1.0}}
    assert one_grade(tmp_path, "2_full_refusal", **named) == (0.0, "full_refusal")
    assert one_grade(tmp_path, 7, **named) == (1.0, "good")


def test_judges_are_compared_by_eval(tmp_path: Path) -> None:
    """A judge's column against people's: what `eval` says is what one counts by hand, and score keeps both."""
    people = [SAFE, UNSAFE, UNSAFE, SAFE]
    judge = [SAFE, UNSAFE, SAFE, SAFE]
    rows = [
        {"prompt": f"q{n}", "completion": "Sorry, I can't help with that.", "human_label": p, "gpt": j, "harmful": True}
        for n, (p, j) in enumerate(zip(people, judge, strict=True))
    ]
    path = write_table(tmp_path / "rows.csv", rows)
    found = imported(
        tmp_path / "runs", path, write="scored", grades={"gpt": "gpt"}, judge_name="raters", label="safety"
    )
    assert {g.name for group in groups_of(found) for c in group.completions for g in c.grades} == {"gpt", "raters"}
    # As imported, and scored by rules on top: the file's grades stay.
    for folder in (found, run("score", tmp_path / "runs", [found.path])):
        measured = run("eval", tmp_path / "runs", [folder.path], verifier={"gold": "raters", "judge": "gpt"})
        figures = [r.value for r in measured.rows(EVALS) if r.metric == "verifier_accuracy" and r.slice == "all"]
        assert figures == [0.75]


def test_scores_of_tools_are_called_as_they_call_them(tmp_path: Path) -> None:
    log = imported(tmp_path / "runs", write_eval(tmp_path / "log.eval", inspect_samples("model-a")), write="scored")
    first = groups_of(log)[0]
    assert [(g.name, g.value, g.verdict) for c in first.completions for g in c.grades] == [
        ("match", 1.0, "correct"),
        ("match", 0.0, "incorrect"),
    ]
    path = write_jsonl(tmp_path / "m" / "samples_x.jsonl", lm_eval_rows("model-a"))
    grades = [g for c in groups_of(imported(tmp_path / "runs", path, write="scored"))[0].completions for g in c.grades]
    assert {(g.name, g.value) for g in grades} == {("exact_match", 1.0)}


PAIRS: dict[str, dict[str, Any]] = {
    "texts": {"prompt": "Is it red?", "chosen": "yes , red", "rejected": "a dog"},
    "turns": {
        "prompt": [{"role": "user", "content": "Is it red?"}],
        "chosen": [{"role": "assistant", "content": "yes , red"}],
        "rejected": [{"role": "assistant", "content": "a dog"}],
    },
    "whole conversations": {
        "chosen": [{"role": "user", "content": "Is it red?"}, {"role": "assistant", "content": "yes , red"}],
        "rejected": [{"role": "user", "content": "Is it red?"}, {"role": "assistant", "content": "a dog"}],
    },
    "from and value": {
        "conversations": [{"from": "human", "value": "Is it red?"}],
        "chosen": {"from": "gpt", "value": "yes , red"},
        "rejected": {"from": "gpt", "value": "a dog"},
    },
}


@pytest.mark.parametrize("name", PAIRS)
def test_preference_pairs_are_what_dpo_and_reward_read(tmp_path: Path, name: str) -> None:
    path = write_jsonl(tmp_path / "pairs.jsonl", [PAIRS[name]])
    folder = imported(tmp_path / "runs", path, write="scored")
    (group,) = groups_of(folder)
    assert [(c.text, c.reward, [(g.name, g.value) for g in c.grades]) for c in group.completions] == [
        ("yes , red", 1.0, [("preference", 1.0)]),
        ("a dog", 0.0, [("preference", 0.0)]),
    ]
    (pair,) = pair_entries([RunFolder.open(folder.path)], TrainConfig(objective="dpo"), lambda *why: None)
    texts = as_texts(pair, group)
    assert (texts.chosen, texts.rejected) == ("yes , red", "a dog")


def test_a_rating_can_be_the_reward(tmp_path: Path) -> None:
    rows = [{"prompt": "a", "completion": text, "rating": n} for n, text in enumerate(["bad", "fair", "good"])]
    path = write_jsonl(tmp_path / "rows.jsonl", rows)
    (group,) = groups_of(imported(tmp_path / "runs", path, write="scored", reward="rating"))
    assert [c.reward for c in group.completions] == [0.0, 1.0, 2.0]
    assert group.reward_formula == "sum: rating*1"


def test_numbered_completions_have_the_choices_made_between_them(tmp_path: Path) -> None:
    """PKU-SafeRLHF's columns: which one is better, which one safer, and what each one is."""
    row = {
        "prompt": "a",
        "response_0": "x",
        "response_1": "y",
        "is_response_0_safe": False,
        "is_response_1_safe": True,
        "better_response_id": 0,
        "safer_response_id": 1,
    }
    path = write_jsonl(tmp_path / "rows.jsonl", [row])
    (group,) = groups_of(imported(tmp_path / "runs", path, write="scored", reward="safer"))
    assert [(c.text, c.reward, {g.name: g.value for g in c.grades}) for c in group.completions] == [
        ("x", 0.0, {"better": 1.0, "safer": 0.0, "safe": 0.0}),
        ("y", 1.0, {"better": 0.0, "safer": 1.0, "safe": 1.0}),
    ]
