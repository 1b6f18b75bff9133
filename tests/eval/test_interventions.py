"""What the report says of guided and edited completions: rows of the real stages, hostile names, and nothing else."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest

from schemas.rollouts import GuidedCandidate, GuidedStep
from schemas.tables import PROMPTS, ROLLOUTS, SCORED, STEPS, STEPS_GUIDED
from stages.core.config import build
from stages.core.runner import Options, run_stage
from stages.core.runs.folder import RunFolder, further_rows
from stages.eval.report import interventions as found_in
from stages.eval.report.figures import MOST_BARS
from stages.eval.report.figures import interventions as figures_of
from stages.eval.report.interventions import EVALUATED, LEARNED, Kind, Part, Tally, interventions
from stages.rollout.methods import guided
from stages.rollout.methods.values import Values
from stages.score.config import ScoreConfig
from stages.score.stage import STAGE as SCORE
from tests.edit.made import edit, prompts, rollout, write
from tests.eval.made import RowsConfig, RowsStage, answered, scored_run, step
from tests.eval.test_report import HOSTILE, Page, report

# An untrained policy ends no sentence: any token with an e in it stands for one.
ENDS = {"sentence": ["e"], "line": ["\n"], "tag": [">"]}


class Even(Values):
    """A rule as a value, under a name that is a stranger's: the share of tokens with an even id."""

    def __init__(self, *given: object) -> None:
        self.dimensions = [HOSTILE]

    def weights(self, asked: Any) -> list[float]:
        return [1.0]

    def of(self, asked: Any, prefix: list[int], candidates: list[list[int]]) -> list[list[float]]:
        return [[sum(i % 2 == 0 for i in ids) / len(ids)] for ids in candidates]


@pytest.fixture(autouse=True)
def short_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guided, "STEP_ENDS", ENDS)
    monkeypatch.setattr(guided, "ValueModels", Even)
    monkeypatch.setattr(guided, "sources", lambda guide: [])


def score(rollout: RunFolder, runs: Path) -> RunFolder:
    """`cosmo score` on it; an untrained policy's completions all get a reward from their form."""
    config = build(ScoreConfig, {"rewards": {"general": {"terms": {"format": 1.0}}}}, "score")
    return RunFolder.open(run_stage(SCORE, config, [rollout.path], options=Options(runs=runs)).path)


def two_labels(folder: Path) -> Path:
    """Prompts, every other one of a label of its own."""
    rows = list(RunFolder.open(prompts(folder / "plain")).rows(PROMPTS))
    other = [dataclasses.replace(row, label="value") if n % 2 else row for n, row in enumerate(rows)]
    return write(folder / "mixed" / "00000.parquet", PROMPTS, other)


def guided_rollout(runs: Path, inputs: Path, **guide: Any) -> RunFolder:
    return rollout(inputs, runs, guide={"values": "made", "k": 3, **guide})


@pytest.mark.parametrize("beams", [1, 2])
def test_a_guided_completion_is_changed_where_its_firsts_do_not_lead_to_it(tmp_path: Path, beams: int) -> None:
    drawn = guided_rollout(tmp_path, two_labels(tmp_path / "in"), beams=beams)
    (part,) = interventions([score(drawn, tmp_path)], [])
    (kind,) = part.kinds.values()
    assert (part.title, kind.name) == (EVALUATED, f"Guided by {HOSTILE}")
    completions = {(g.id, c.index): list(c.token_ids) for g in drawn.rows(ROLLOUTS) for c in g.completions}
    steps = list(further_rows(drawn, STEPS_GUIDED))
    if beams == 1:
        kept = [s.candidates[s.chosen].token_ids == s.candidates[0].token_ids for s in steps]
        assert (kind.made.all, kind.made.changed) == (len(steps), kept.count(False))
        others = {(s.id, s.index) for s, first in zip(steps, kept, strict=True) if not first}
        assert sum(t.changed for t in kind.labels.values()) == len(others)
    # Whoever begins otherwise than with the first candidate is surely changed.
    begins = {(s.id, s.index): list(s.candidates[0].token_ids) for s in steps if s.step == 0}
    surely = sum(completions[name][: len(ids)] != ids for name, ids in begins.items())
    assert {label: tally.all for label, tally in kind.labels.items()} == {"general": 6, "value": 6}
    assert 0 < surely <= sum(tally.changed for tally in kind.labels.values()) <= 12


def test_a_choice_for_the_first_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Even, "of", lambda self, asked, prefix, candidates: [[0.5] for _ in candidates])
    (part,) = interventions([score(guided_rollout(tmp_path, prompts(tmp_path / "in")), tmp_path)], [])
    (kind,) = part.kinds.values()
    assert kind.made.all > 12
    assert (kind.made.changed, kind.labels) == (0, {"general": Tally(12, 0)})


def test_beams_are_followed_to_what_their_first_candidate_became() -> None:
    def choice(number: int, beam: int, at: int, *candidates: tuple[list[int], int | None]) -> GuidedStep:
        made = [GuidedCandidate(token_ids=ids, beam=became) for ids, became in candidates]
        return GuidedStep(id="a", index=0, step=number, from_token=at, beam=beam, candidates=made, chosen=0)

    steps = [
        choice(0, 0, 0, ([1, 2], 1), ([3], 0)),
        choice(1, 0, 1, ([4], 1), ([5], None)),
        choice(1, 1, 2, ([6], 0), ([7], None)),
    ]
    choices = {(s.step, s.beam): found_in._choice(s) for s in steps}
    assert found_in._of_firsts([1, 2, 6], choices)
    assert not found_in._of_firsts([3, 4], choices)
    assert not found_in._of_firsts([1, 2, 7], choices)


def edited_runs(runs: Path, by: str) -> RunFolder:
    """A scored rollout, two of whose completions were edited and sampled on: the new one's scored run."""
    before = score(rollout(prompts(runs / "in"), runs), runs)
    drawn = list(before.rows(SCORED))
    texts = [group.completions[0].text for group in drawn[:2]]
    changes = [
        {"id": drawn[0].id, "index": 0, "after": f"<think> {texts[0]} </think> two", "by": by},
        {"id": drawn[1].id, "index": 0, "after": texts[1], "by": by},
    ]
    return score(rollout(edit([before.path], runs, changes).path, runs), runs)


def test_edits_are_counted_by_who_made_them_with_the_rewards_before_and_after(tmp_path: Path) -> None:
    after = edited_runs(tmp_path, HOSTILE)
    (part,) = interventions([after], [])
    (kind,) = part.kinds.values()
    assert kind.name == f"Edited by {HOSTILE}"
    # One of the two put nothing in another's place; each was sampled on three times.
    assert (kind.made, kind.labels) == (Tally(2, 1), {"general": Tally(6, 3)})
    rewards = {g.parent_id: [c.reward for c in g.completions] for g in after.rows(SCORED)}
    assert sorted(mean for _, mean in kind.rewards) == sorted(sum(r) / len(r) for r in rewards.values())
    assert {old for old, _ in kind.rewards} == {0.0}
    assert max(mean for _, mean in kind.rewards) > 0


def test_what_training_was_given_is_told_apart(tmp_path: Path) -> None:
    pairs = edited_runs(tmp_path, "ann")
    trainer = RowsStage("train", STEPS, [step(1)])
    trainer.reads = (SCORED,)  # type: ignore[misc]
    made = run_stage(trainer, RowsConfig(), [pairs.path], options=Options(runs=tmp_path))
    trained = RunFolder.open(made.path)
    measured = scored_run(tmp_path, [answered("q", [True])])
    (part,) = interventions([measured], [trained])
    assert (part.title, list(part.kinds)) == (LEARNED, ["Edited by ann"])
    (both,) = interventions([pairs], [trained])
    assert both.title == EVALUATED, "what is measured is not told twice"


def test_a_rollout_that_is_gone_is_said(tmp_path: Path) -> None:
    drawn = guided_rollout(tmp_path, prompts(tmp_path / "in"))
    scored = score(drawn, tmp_path)
    shutil.rmtree(drawn.path)
    (part,) = interventions([scored], [])
    assert (part.kinds, part.untold) == ({}, 12)
    assert "12 guided completions have no choices here" in report(tmp_path, [scored])


def test_the_figures_are_escaped_and_only_there_where_somebody_intervened(tmp_path: Path) -> None:
    drawn = score(guided_rollout(tmp_path, two_labels(tmp_path / "in")), tmp_path)
    text = report(tmp_path, [drawn, edited_runs(tmp_path, HOSTILE)], names=["guided", "edited"])
    page = Page(text)
    assert page.open == []
    assert page.count("section", id="interventions") == page.count("a", href="#interventions") == 1
    assert page.count("script") == 1
    assert not any(name.startswith("on") or name == "style" for _, attrs in page.tags for name in attrs)
    labels = [label for t, a in page.tags if t == "svg" and "hanged" in (label := a.get("aria-label") or "")]
    assert any("general" in label and "value" in label for label in labels)
    assert sum(words.startswith("Guided by <script>") for words in page.words) >= 2
    plain = Page(report(tmp_path, [scored_run(tmp_path, [answered("q", [True])])]))
    assert plain.count("section", id="interventions") == plain.count("a", href="#interventions") == 0


def test_a_strangers_many_names_fill_no_page() -> None:
    kinds = {f"{n}": Kind("x" * 5000 + str(n), "edit", "", Tally(n, 0), {"y" * 5000: Tally(1, 1)}) for n in range(100)}
    (part,) = figures_of([Part(EVALUATED, kinds)])
    assert len(part["panels"]) == 1 + MOST_BARS
    assert "88 more kinds" in part["note"]
    assert sum(len(panel.title) + len(panel.plot) for panel in part["panels"]) < 40_000
