"""Guided sampling: plain with one candidate, the best with an oracle, the same rows whatever is beside it."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from schemas.rollouts import GuidedStep, RolloutGroup
from schemas.tables import ROLLOUTS, STEPS_GUIDED
from stages.core.config import build
from stages.core.errors import InputError, UsageError
from stages.core.runner import Options, run_stage
from stages.core.runs.folder import RunFolder, further_rows
from stages.core.stage import Resources
from stages.models.load import load_value_model, save_policy
from stages.models.policy_ref import resolve_policy
from stages.models.value_model import add_router, router_weights
from stages.models.value_record import ValueRecord
from stages.models.warm import POLICY
from stages.rollout.config import RolloutConfig
from stages.rollout.methods import guided
from stages.rollout.methods.guide_table import GuideTable
from stages.rollout.methods.values import Values, route
from stages.rollout.stage import STAGE
from tests.models.made import policy, prompt
from tests.rollout.test_rollout import _row, _write

TINY = "tiny:qwen2_5_vl"
# An untrained policy ends no sentence: any token with an e in it stands for one.
ENDS = {"sentence": ["e"], "line": ["\n"], "tag": [">"]}


@pytest.fixture(autouse=True)
def short_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guided, "STEP_ENDS", ENDS)


def written(folder: Path, count: int) -> Path:
    rows = [_row(*prompt(i, i % 3), label=("general", "safety")[i % 2]) for i in range(count)]
    _write(folder / "00000.parquet", rows)
    return folder


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    return written(tmp_path / "in", 8)


@pytest.fixture(scope="module")
def value_run(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A value model of two dimensions with a head that was drawn, in a folder."""
    import torch

    record = ValueRecord(["answer", "safety"], "sentence", {"answer": 1}, {"general": {"answer": 1.0}})
    model = load_value_model(resolve_policy(TINY), record, device="cpu")
    torch.manual_seed(3)
    torch.nn.init.normal_(model.model.value_head.weight)
    folder = tmp_path_factory.mktemp("values") / "model"
    save_policy(model.model, model.processor, folder)
    return str(folder)


def run(inputs: Path, runs: Path, **values: Any) -> RunFolder:
    defaults = {"policy": TINY, "samples": 2, "max_new_tokens": 10, "device": "cpu"}
    config = build(RolloutConfig, {**defaults, **values}, "rollout")
    resources = Resources()
    resources.put(POLICY, policy(TINY).ref.id, policy(TINY))
    result = run_stage(STAGE, config, [inputs], options=Options(runs=runs), resources=resources)
    return RunFolder.open(result.path)


def texts(folder: RunFolder) -> list[list[tuple[Any, ...]]]:
    return [[(list(c.token_ids), c.finish_reason, c.stopped_by) for c in g.completions] for g in folder.rows(ROLLOUTS)]


def logprobs(folder: RunFolder) -> list[float]:
    return [value for g in folder.rows(ROLLOUTS) for c in g.completions for value in c.logprobs]


def choices(folder: RunFolder) -> list[GuidedStep]:
    return list(further_rows(folder, STEPS_GUIDED))


def by_name(folder: RunFolder) -> dict[tuple[str, int, int], GuidedStep]:
    return {(row.id, row.index, row.step): row for row in choices(folder)}


class Oracle(Values):
    """A rule as a value: the share of tokens with an even id, of whatever stands up to there."""

    def __init__(self, *given: object, add: float = 0.0) -> None:
        self.dimensions, self._add = ["even", "alike"], add

    def weights(self, asked: Any) -> list[float]:
        return [0.75, 0.25]

    def of(self, asked: Any, prefix: list[int], candidates: list[list[int]]) -> list[list[float]]:
        whole = [[*prefix, *ids] for ids in candidates]
        return [[sum(i % 2 == 0 for i in ids) / len(ids), 0.5 + self._add] for ids in whole]


def test_one_candidate_is_plain_sampling(prompts: Path, tmp_path: Path, value_run: str) -> None:
    plain = run(prompts, tmp_path / "plain")
    one = run(prompts, tmp_path / "one", guide={"values": value_run, "k": 1})
    assert texts(one) == texts(plain)
    # Which rows are decoded together moves a float's last bits, and no token.
    assert logprobs(one) == pytest.approx(logprobs(plain), abs=1e-5)
    assert all(c.guided for g in one.rows(ROLLOUTS) for c in g.completions)
    assert not any(c.guided for g in plain.rows(ROLLOUTS) for c in g.completions)
    assert len(choices(one)) > 16, "some completion has several steps"
    assert choices(plain) == []


def test_an_oracle_gets_the_best_candidate_every_time(
    prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guided, "ValueModels", Oracle)
    monkeypatch.setattr(guided, "sources", lambda guide: [])
    folder = run(prompts, tmp_path / "runs", guide={"values": "oracle", "k": 3})
    rows = choices(folder)
    groups: dict[str, RolloutGroup] = {g.id: g for g in folder.rows(ROLLOUTS)}
    whole: dict[tuple[str, int], list[int]] = {}
    strict = 0
    for row in rows:
        assert sum(row.weights) == pytest.approx(1.0)
        assert len(row.candidates) == 3
        before = whole.setdefault((row.id, row.index), [])
        assert row.from_token == len(before)
        totals = [0.75 * c.values[0] + 0.25 * c.values[1] for c in row.candidates]
        assert row.chosen == totals.index(max(totals)), "the best, and of equal ones the first"
        strict += max(totals) > min(totals)
        before += row.candidates[row.chosen].token_ids
    assert strict > len(rows) / 2
    for (ident, index), ids in whole.items():
        assert list(groups[ident].completions[index].token_ids) == ids, "the row of a completion is what was chosen"
    # A constant on a dimension moves all candidates alike.
    monkeypatch.setattr(guided, "ValueModels", lambda *given: Oracle(add=7.0))
    assert texts(run(prompts, tmp_path / "moved", guide={"values": "oracle", "k": 3})) == texts(folder)


def test_what_is_beside_a_prompt_changes_nothing(prompts: Path, tmp_path: Path, value_run: str) -> None:
    guide = {"values": value_run, "k": 3}
    whole = run(prompts, tmp_path / "a", guide=guide)
    parts = run(prompts, tmp_path / "b", guide=guide, shard_groups=3, batch_tokens=300)
    assert texts(parts) == texts(whole)
    assert by_name(parts) == by_name(whole)
    some = run(prompts, tmp_path / "c", guide=guide, select={"take": 2})
    kept = {g.id for g in some.rows(ROLLOUTS)}
    assert by_name(some) == {name: row for name, row in by_name(whole).items() if row.id in kept}


@pytest.mark.parametrize("more", [{}, {"beams": 2, "lookahead": 1}])
def test_a_run_cut_short_between_any_steps_comes_to_the_same_rows(
    tmp_path: Path, value_run: str, monkeypatch: pytest.MonkeyPatch, more: dict[str, Any]
) -> None:
    prompts = written(tmp_path / "in", 4)
    settings: dict[str, Any] = {"guide": {"values": value_run, "k": 2, **more}, "shard_groups": 1}
    whole = run(prompts, tmp_path / "whole", **settings)
    choose, rng, cuts = guided.Guide._choose, random.Random(5), 0

    class Killed(BaseException):
        """Like a signal: nothing catches it."""

    for _ in range(10):
        left = rng.randrange(len(choices(whole)) // (4 * more.get("beams", 1)))

        def dying(self: Any, *given: Any, **more: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                raise Killed
            return choose(self, *given, **more)

        monkeypatch.setattr(guided.Guide, "_choose", dying)
        try:
            run(prompts, tmp_path / "cut", **settings)
        except Killed:
            cuts += 1
    monkeypatch.setattr(guided.Guide, "_choose", choose)
    resumed = run(prompts, tmp_path / "cut", **settings)
    assert cuts >= 8
    assert (texts(resumed), logprobs(resumed)) == (texts(whole), logprobs(whole))
    assert choices(resumed) == choices(whole)


def test_random_picks_are_a_control(prompts: Path, tmp_path: Path) -> None:
    folder = run(prompts, tmp_path / "a", engine="fake", policy="", guide={"k": 4, "pick": "random"})
    rows = choices(folder)
    assert {row.chosen for row in rows} == {0, 1, 2, 3}
    assert all(row.weights == [] and row.candidates[0].values == [] for row in rows)
    assert texts(run(prompts, tmp_path / "b", engine="fake", policy="", guide={"k": 4, "pick": "random"})) == texts(
        folder
    )


def test_soft_picks_follow_the_values() -> None:
    from schemas.rollouts import Sampling

    table = GuideTable(values="x", k=2, pick="softmax", softness=0.5)
    guide = guided.Guide(table, None, None, Sampling(1.0, 1.0, 0, 8, 0))  # type: ignore[arg-type]
    picked = [guide._picked({0: 0.0, 1: 0.5}, ("p", i, 0)) for i in range(2000)]
    # exp(1) to 1.
    assert sum(picked) / 2000 == pytest.approx(0.731, abs=0.03)


def test_the_cost_is_counted(prompts: Path, tmp_path: Path, value_run: str) -> None:
    folder = run(prompts, tmp_path / "runs", guide={"values": value_run, "k": 3})
    rows = choices(folder)
    numbers = STAGE.quality(folder).numbers["guided"]
    assert numbers["choices"] == len(rows)
    assert numbers["sampled_tokens"] == sum(len(c.token_ids) for r in rows for c in r.candidates)
    assert numbers["kept_tokens"] == sum(len(c.token_ids) for g in folder.rows(ROLLOUTS) for c in g.completions)
    assert numbers["seconds"] > 0


def test_weights_are_of_the_label_or_as_given() -> None:
    routes = {"general": {"answer": 1.0}, "both": {"answer": 1.0, "safety": 3.0}, "other": {"value": 1.0}}
    names = ["answer", "safety"]
    label = GuideTable(values="x", k=2)
    assert route(label, names, routes, "general") == [1.0, 0.0]
    assert route(label, names, routes, "both") == [0.25, 0.75]
    assert route(label, names, routes, "other") == route(label, names, routes, "unheard of") == [0.5, 0.5]
    given = GuideTable(values="x", k=2, route={"safety": 3, "answer": 1.0})
    assert route(given, names, routes, "general") == [0.25, 0.75]


def test_a_learned_route_weighs_by_the_prompt(prompts: Path, tmp_path: Path, value_run: str) -> None:
    import torch

    record = ValueRecord(["answer", "safety"], "sentence", {"answer": 1}, {"general": {"answer": 1.0}})
    model = load_value_model(resolve_policy(value_run), record, device="cpu")
    torch.manual_seed(5)
    add_router(model.model, torch.randn(2, model.model.value_head.weight.shape[1]) * 0.3, torch.zeros(2))
    save_policy(model.model, model.processor, tmp_path / "routed")
    guide = {"k": 3, "values": str(tmp_path / "routed"), "route": "learned"}
    folder = run(prompts, tmp_path / "runs", guide=guide)
    images = {g.id: (g.messages, g.images) for g in folder.rows(ROLLOUTS)}
    for row in choices(folder):
        encoded = model.processor.encode(*images[row.id])
        expected = router_weights(model.model, model.processor, encoded.token_ids, encoded.image_inputs)
        assert row.weights == pytest.approx(expected)
        assert sum(row.weights) == pytest.approx(1.0)
        totals = [sum(w * v for w, v in zip(row.weights, c.values, strict=True)) for c in row.candidates]
        assert row.chosen == totals.index(max(totals))
    assert len({tuple(row.weights) for row in choices(folder)}) == len(images)
    one = run(prompts, tmp_path / "runs", guide={**guide, "values": {"safety": str(tmp_path / "routed")}})
    assert {tuple(row.weights) for row in choices(one)} == {(1.0,)}
    by_label = run(prompts, tmp_path / "runs", guide={**guide, "route": "label"})
    assert by_label.path != folder.path
    for more, what in (
        ({"values": value_run}, "has none"),
        ({"values": {"answer": value_run, "safety": str(tmp_path / "routed")}}, "wants one value model with a router"),
        ({"verifiers": ["step_support"]}, "weighs what a value model predicts, and no verifiers"),
    ):
        with pytest.raises(UsageError, match=what):
            run(prompts, tmp_path / "runs", guide={**guide, **more})


def test_what_can_not_guide_is_said(prompts: Path, tmp_path: Path, value_run: str) -> None:
    for guide, what in (
        ({"k": 4}, "names no value model"),
        ({"k": 4, "values": 3}, "is no train run and no table"),
        ({"k": 4, "values": value_run, "route": {"answer": 0.0}}, "no table of weights"),
        ({"k": 4, "values": TINY}, "is no value model"),
        ({"k": 4, "values": {"knowledge": value_run}}, "has no value of 'knowledge'"),
        ({"k": 4, "values": value_run, "step": "line"}, "learned at the ends of a sentence"),
        ({"k": 4, "values": value_run, "route": {"knowledge": 1.0}}, "weighs knowledge"),
    ):
        with pytest.raises(UsageError, match=what):
            run(prompts, tmp_path / "runs", guide=guide)
    with pytest.raises(UsageError, match="greedy sampler are all alike"):
        run(prompts, tmp_path / "runs", temperature=0.0, guide={"k": 4, "values": value_run})


def test_a_run_is_named_by_its_value_models_and_not_by_where_they_lie(
    prompts: Path, tmp_path: Path, value_run: str
) -> None:
    import shutil

    shutil.copytree(value_run, tmp_path / "copy")
    first = run(prompts, tmp_path / "a", guide={"values": value_run, "k": 2})
    assert run(prompts, tmp_path / "a", guide={"values": str(tmp_path / "copy"), "k": 2}).path == first.path
    one = run(prompts, tmp_path / "a", guide={"values": {"answer": value_run}, "k": 2})
    assert one.path != first.path
    assert {tuple(r.dimensions) for r in choices(one)} == {("answer",)}


def test_rl_refuses_what_was_guided_unless_asked(prompts: Path, tmp_path: Path) -> None:
    from dataclasses import fields

    from schemas.rollouts import Completion
    from schemas.scored import ScoredCompletion, ScoredGroup
    from stages.train.config import TrainConfig
    from stages.train.rl.batches import usable

    folder = run(prompts, tmp_path / "a", engine="fake", policy="", guide={"k": 2, "pick": "random"})
    group = next(iter(folder.rows(ROLLOUTS)))
    made = [ScoredCompletion(**{f.name: getattr(c, f.name) for f in fields(Completion)}) for c in group.completions]
    own = {f.name: getattr(group, f.name) for f in fields(RolloutGroup)} | {"completions": made}
    row = ScoredGroup(**own)
    with pytest.raises(InputError, match="chosen by value models"):
        list(usable([row], "made", TrainConfig(), lambda *_: None))
    assert list(usable([row], "made", TrainConfig(allow_guided=True), lambda *_: None)) == [row]


class Written(Values):
    """Stands for a value model of one dimension."""

    dimensions = ["answer"]  # noqa: RUF012

    def weights(self, asked: Any) -> list[float]:
        return [1.0]

    def of(self, asked: Any, prefix: list[int], candidates: list[list[int]]) -> list[list[float]]:
        return [[float(len(ids))] for ids in candidates]


def test_step_grades_are_values_and_weigh_as_the_route_says() -> None:
    """True, nothing said, false: 1, a half, 0; and the mean of all steps so far."""
    from types import SimpleNamespace

    from stages.rollout.methods.step_values import AllValues, StepValues
    from tests.score.made import group

    engine: Any = SimpleNamespace(decode=lambda ids: "".join(map(chr, ids)))
    row = group("x", question="how many stars ?", facts=["there are 4 stars"], key_facts=["there are 4 stars"])
    asked: Any = SimpleNamespace(prompt=row)
    said = [list(text.encode()) for text in ("there are 4 stars .", "let me see .", "there are 5 stars .")]
    alone = StepValues(GuideTable(verifiers=["step_support"], k=2), engine)
    assert (alone.dimensions, alone.weights(asked)) == (["step_support"], [1.0])
    assert alone.of(asked, [], said) == [[1.0], [0.5], [0.0]]
    assert alone.of(asked, list(b"there are 4 stars . "), said) == [[1.0], [1.0], [0.5]]
    table = GuideTable(values="x", verifiers=["step_support"], k=2, route={"answer": 1.0, "step_support": 3.0})
    both = AllValues(table, [Written(), StepValues(table, engine)])
    assert both.weights(asked) == [0.25, 0.75]
    assert both.of(asked, [], said) == [[19.0, 1.0], [12.0, 0.5], [19.0, 0.0]]
    with pytest.raises(UsageError, match="follows from no label"):
        GuideTable(values="x", verifiers=["step_support"], k=2)
    with pytest.raises(UsageError, match="answer grades no steps"):
        StepValues(GuideTable(verifiers=["answer"], k=2), engine)
    with pytest.raises(UsageError, match="weighs knowledge"):
        StepValues(GuideTable(verifiers=["step_support"], k=2, route={"knowledge": 1.0}), engine)


def test_a_verifier_guides_from_a_run_and_is_in_its_name(prompts: Path, tmp_path: Path) -> None:
    plain = run(prompts, tmp_path / "a", engine="fake", policy="", guide={"k": 3, "verifiers": ["step_support"]})
    rows = choices(plain)
    assert {tuple(row.dimensions) for row in rows} == {("step_support",)}
    for row in rows:
        values = [c.values[0] for c in row.candidates]
        assert row.chosen == values.index(max(values))
    drawn = run(prompts, tmp_path / "a", engine="fake", policy="", guide={"k": 3, "pick": "random"})
    assert drawn.path != plain.path
