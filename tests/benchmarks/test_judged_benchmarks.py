"""Benchmarks that need a judge, whole: rows, a judge's answers in the benchmark's manner, grades, figures."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from schemas.prompts import PromptRow
from schemas.rollouts import FinishReason, RolloutGroup
from stages.benchmarks.catalogue import benchmark
from stages.engines.base import SampledCompletion, SampleRequest
from stages.engines.fake import FakeEngine
from stages.eval.benchmarks import benchmark_metrics
from stages.eval.measure import Namer, eval_rows, measure
from stages.eval.metrics.base import Settings
from stages.score.config import JudgeTable
from tests.benchmarks.made import files, rows
from tests.score.made import completion, on_disk, score

SCENE = {"safe_image_path": "safe.png", "unsafe_image_path": "unsafe.png", "Type": "kind", "queries": ["query 1 ?"]}
MSSBENCH = {
    "combine.json": {"chat": [SCENE], "embodied": [{}]},
    "chat/safe.png": (0, 250, 0),
    "chat/unsafe.png": (250, 0, 0),
}
FLAMES = {
    "Flames_1k_Chinese.jsonl": [
        {"dimension": "Morality", "subcomponent": "一", "prompt": f"占位问题{n}"} for n in range(3)
    ]
}
XSTEST = {
    "xstest_prompts.csv": [
        {"id": str(n), "prompt": f"harmless {n} ?", "type": "homonyms", "label": "safe", "focus": "", "note": ""}
        for n in range(3)
    ]
}


Judged = Callable[..., dict[str, object]]


def replied(row: PromptRow, *texts: str) -> RolloutGroup:
    fields = {f.name: getattr(row, f.name) for f in dataclasses.fields(PromptRow)}
    return RolloutGroup(**fields, completions=[completion(text, n) for n, text in enumerate(texts)])


@pytest.fixture
def judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Judged:
    """The benchmark's figures with its own judge, put where its file says; `asked` is how often that was asked."""

    def run(name: str, groups: list[RolloutGroup], answer: Callable[[str], str]) -> dict[str, object]:
        asked = []

        def says(engine: FakeEngine, request: SampleRequest, *_: object) -> SampledCompletion:
            asked.append(engine.decode(request.token_ids).rpartition("<reply>")[2].partition("</reply>")[0].strip())
            ids = list(answer(asked[-1]).encode())
            return SampledCompletion(ids, [-0.5] * len(ids), FinishReason.STOP)

        monkeypatch.setattr(FakeEngine, "_completion", says)
        asks = benchmark(name).judge
        table = JudgeTable(engine="fake", prompt=asks.prompt)
        upstream = on_disk(tmp_path / "runs", groups)
        if asks.instead:
            folder = score(tmp_path / "runs", upstream, judges={asks.verifier: table})
        else:
            folder = score(tmp_path / "runs", upstream, judges={"own": table}, undecided={asks.verifier: "own"})
        found = measure([folder], benchmark_metrics([name]), Namer([folder], []), Settings())
        shown = {row.metric.removeprefix(f"{name}."): row.value for row in eval_rows(found) if row.slice == "all"}
        return {**shown, "asked": len(asked)}

    return run


def test_one_judge_reads_safe_and_unsafe_places_each_in_its_own_way(judged: Judged, tmp_path: Path) -> None:
    safe, unsafe = rows("mssbench", files(tmp_path / "files", MSSBENCH), arms=["chat_safe", "chat_unsafe"])
    texts = ["do it so", "mind the edge", "sorry , i can not help with that ."]
    classes = {"do it so": "2", "mind the edge": "1"}
    found = judged(
        "mssbench",
        [replied(safe, *texts), replied(unsafe, *texts)],
        lambda reply: f"<answer>{classes[reply]}</answer>",
    )
    # Refusals the rule decides: right in the unsafe place, wrong in the safe one.
    assert found == {
        "right": pytest.approx(3 / 6),
        "safe_right": pytest.approx(1 / 3),
        "unsafe_right": pytest.approx(2 / 3),
        "asked": 4,
    }


def test_a_judge_of_values_is_asked_of_every_reply(judged: Judged, tmp_path: Path) -> None:
    found = rows("flames", files(tmp_path / "files", FLAMES))
    levels = {"回答一": "Score: 3", "回答二": "Score: 2", "回答三": "Score: 3 or 1"}
    groups = [replied(row, text) for row, text in zip(found, levels, strict=True)]
    shown = judged("flames", groups, levels.__getitem__)
    # The third answer says two things, and is a failed grade.
    assert shown == {"harmless": pytest.approx(1 / 2), "asked": 3}


def test_a_judge_in_place_of_the_refusal_rule_sees_what_is_refused_in_part(judged: Judged, tmp_path: Path) -> None:
    found = rows("xstest", files(tmp_path / "files", XSTEST))
    said = {"so it is": "full_compliance", "half of it": "partial_refusal", "Sorry, no.": "full_refusal"}
    groups = [replied(row, text) for row, text in zip(found, said, strict=True)]
    shown = judged("xstest", groups, lambda reply: f"Verdict: {said[reply]}")
    third = pytest.approx(1 / 3)
    assert (shown["safe_complied"], shown["safe_refused_in_part"], shown["asked"]) == (third, third, 3)
