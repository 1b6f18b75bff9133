"""The drift watch: each alarm has its own pathology, a healthy run raises none, and stopping costs nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.steps import LabelStat, StepRow, TermStat
from schemas.tables import SCORED, STEPS
from schemas.terms import COSMO_TERMS, by_cosmo_term, cosmo_term
from stages.core.errors import CosmoError, UsageError
from stages.core.runs.folder import RunFolder
from stages.core.stage import Silent
from stages.train.drift.alarms import ALARM_NAMES
from stages.train.drift.config import WatchConfig
from stages.train.drift.monitor import Watch, check
from tests.support.cli import complaint
from tests.support.forked import cosmo_forked
from tests.train.made import contents, scored_group, steps, train, write_shard

WINDOW = 6
CONFIG = WatchConfig(window=WINDOW, least=32)
HEALTHY: dict[str, Any] = {
    "refusal": 0.1, "unsafe": 0.2, "length": 60.0, "format": 0.95, "task": 0.6, "entropy": 0.8, "gap": 0.01,
}  # fmt: skip


def label_stat(label: str, n: int, values: dict[str, Any]) -> LabelStat:
    terms = [TermStat(name="format", mean=values["format"], completions=n)] if n else []
    terms += [TermStat(name="answer", mean=values["task"], completions=n)] if n else []
    return LabelStat(
        label=label,
        completions=n,
        refusal_rate=values["refusal"],
        unsafe_rate=values["unsafe"],
        length=values["length"],
        benign=n,
        harmful=n,
        terms=terms,
    )


def row(step: int, counts: dict[str, int] | None = None, by_label: dict[str, Any] | None = None, **now: Any) -> StepRow:
    """One step: the healthy numbers with changes, the same for each label unless told otherwise."""
    values = HEALTHY | now
    stats = [label_stat(k, n, values | (by_label or {}).get(k, {})) for k, n in (counts or {"a": 32, "b": 16}).items()]
    return StepRow(
        objective="rl",
        step=step,
        rollout=0,
        update=0,
        loss=0.0,
        learning_rate=1e-6,
        tokens=3000,
        groups=6,
        entropy=values["entropy"],
        sampler_gap=values["gap"],
        seconds=0.1,
        labels=stats,
    )


def judged(rows: list[StepRow], config: WatchConfig = CONFIG) -> list[list[str]]:
    """The alarms of each step."""
    watch = Watch(config)
    return [watch.judge(r, lambda said: None).alarms for r in rows]


def sliding(name: str, start: float, end: float, n: int = 30) -> list[StepRow]:
    """Healthy for a while, then one number walks away."""
    far = [start + (end - start) * i / n for i in range(n + 1)]
    return [row(s + 1, **{name: v}) for s, v in enumerate([start] * 10 + far + [end] * WINDOW)]


PATHOLOGIES = {
    "over_refusal": ("refusal", 0.1, 0.6),
    "over_compliance": ("unsafe", 0.2, 0.7),
    "length_collapse": ("length", 60.0, 8.0),
    "format_hacking": ("task", 0.6, 0.2),
    "entropy_collapse": ("entropy", 0.8, 0.01),
    "sampler_mismatch": ("gap", 0.01, 0.6),
}


@pytest.mark.parametrize("alarm", ALARM_NAMES)
def test_each_alarm_has_its_pathology_and_no_other(alarm: str) -> None:
    name, start, end = PATHOLOGIES[alarm]
    rows = sliding(name, start, end)
    seen = judged(rows)
    assert {a for alarms in seen for a in alarms} == {alarm}
    assert seen[-1] == [alarm]
    assert not any(seen[:WINDOW])
    # What goes the other way is no drift of this kind, and a limit of 0 switches the alarm off.
    other_way = sliding(name, start, start * (0.5 if end > start else 1.5))
    assert not any(judged(other_way))
    assert not any(judged(rows, replace(CONFIG, **{alarm: 0.0})))


def test_a_task_reward_that_falls_with_the_format_is_no_format_hacking() -> None:
    rows = [row(s, task=max(0.2, 0.6 - 0.01 * s), format=max(0.5, 0.95 - 0.01 * s)) for s in range(60)]
    assert not any(judged(rows))
    rising = [row(s, task=max(0.2, 0.6 - 0.01 * s), format=min(1.0, 0.4 + 0.02 * s)) for s in range(60)]
    assert judged(rising)[-1] == ["format_hacking"]


def test_too_little_evidence_raises_nothing() -> None:
    rows = [row(s, counts={"a": 5}, refusal=0.0 if s < 10 else 1.0) for s in range(40)]
    assert not any(judged(rows, replace(CONFIG, least=WINDOW * 5 + 1)))
    assert judged(rows, replace(CONFIG, least=WINDOW * 5))[-1] == ["over_refusal"]


rates = st.floats(0.0, 1.0)
numbers = st.fixed_dictionaries(
    {"refusal": rates, "unsafe": rates, "length": st.floats(0.5, 5000.0), "format": rates, "task": rates}
)


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(st.sampled_from("abc"), numbers, min_size=1),
    st.lists(st.lists(st.integers(0, 60), min_size=3, max_size=3), min_size=20, max_size=30),
    st.floats(1e-6, 10.0),
    st.floats(0.0, 0.19),
)
def test_constant_labels_never_raise_an_alarm_however_they_are_mixed(by_label, mixes, entropy, gap) -> None:
    rows = [
        row(s, {k: n for k, n in zip("abc", mix, strict=True) if k in by_label}, by_label, entropy=entropy, gap=gap)
        for s, mix in enumerate(mixes)
    ]
    assert not any(judged(rows))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(1.0, 100.0), min_size=20, max_size=30), st.sampled_from([0.125, 0.5, 4.0, 64.0]))
def test_lengths_and_entropies_have_no_unit(values, scale) -> None:
    plain = [row(s, length=v, entropy=v) for s, v in enumerate(values)]
    scaled = [row(s, length=v * scale, entropy=v * scale) for s, v in enumerate(values)]
    assert judged(plain) == judged(scaled)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(rates, rates, st.floats(1.0, 100.0)), min_size=25, max_size=40), st.data())
def test_runs_one_after_another_are_one_run(values, data) -> None:
    rows = [row(s, refusal=r, task=t, length=n) for s, (r, t, n) in enumerate(values)]
    cut = data.draw(st.integers(0, len(rows)))
    whole, first = Watch(CONFIG), Watch(CONFIG)
    at_once = [whole.judge(r, lambda said: None) for r in rows]
    parts = [first.judge(r, lambda said: None) for r in rows[:cut]]
    second = Watch.from_record(CONFIG, json.loads(json.dumps(first.record())) | {"events": []})
    parts += [second.judge(r, lambda said: None) for r in rows[cut:]]
    assert parts == at_once
    assert {**second.record(), "events": []} == {**whole.record(), "events": []}


def test_the_memory_is_bounded_and_an_alarm_is_said_once() -> None:
    said: list[str] = []
    watch = Watch(CONFIG)
    for s in range(100):
        watch.judge(row(s, refusal=0.1 if s < 20 else 0.9), said.append)
    early = len(json.dumps(watch.record()))
    for s in range(100, 1000):
        watch.judge(row(s, refusal=0.9), said.append)
    assert len(json.dumps(watch.record())) == early
    (line,) = said
    # 17 % of the window is past the change when the mean is 20 points up: 0.1 + 0.8 * 2/6.
    assert line == (
        "ALARM over_refusal at step 21: 36.7% of benign prompts refused, 10.0% at first (limit: 20 points more)"
    )


def test_the_four_terms() -> None:
    assert [cosmo_term(n) for n in ("format", "visual_focus", "helpful", "safety")] == list(COSMO_TERMS)
    stats = [TermStat(name=n, mean=m, completions=c) for n, m, c in (("safety", 0.5, 4), ("answer", 1.0, 2))]
    assert by_cosmo_term(stats) == {"task-aware": (4.0, 6)}


def test_an_unknown_alarm_is_named() -> None:
    with pytest.raises(UsageError, match="'over_refusl' is no alarm") as caught:
        check(WatchConfig(accept=["over_refusl"]))
    assert "over_refusal" in caught.value.hint


# Real runs. The made-up groups' stored log-probs are nothing like the policy's, so sampler_mismatch is true.
TINY = {"policy": "tiny:qwen2_5_vl", "learning_rate": 1e-3, "updates_per_rollout": 2, "checkpoint_steps": 0}


def watched(action: str, **more: Any) -> dict[str, Any]:
    return TINY | {"watch": WatchConfig(action=action, window=2, least=1, **more)}


class Said(Silent):
    """Keeps the lines and counts the steps."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.steps = 0

    def advance(self, n: int = 1, **numbers: float | str) -> None:
        self.steps += "loss" in numbers

    def log(self, message: str) -> None:
        self.lines.append(message)


@pytest.fixture(scope="module")
def shards(policies, tmp_path_factory):
    """Two rollouts of two labels."""
    import torch

    torch.set_num_threads(1)
    folder, policy = tmp_path_factory.mktemp("scored"), policies("qwen2_5_vl")
    rows = [scored_group(policy, i, images=False, label="safety" if i % 2 else "general") for i in range(8)]
    return [write_shard(folder / f"s{k}.parquet", SCORED, rows[k * 4 : k * 4 + 4]) for k in range(2)]


@pytest.fixture(scope="module")
def noted(shards, tmp_path_factory):
    """Both rollouts learned from, alarms noted."""
    progress = Said()
    run = train(shards, tmp_path_factory.mktemp("noted"), progress=progress, **watched("note"))
    return run, progress


def files(run: RunFolder) -> dict[str, bytes]:
    return contents(run) | {"watch.json": (run.path / "watch.json").read_bytes()}


def test_terms_by_label_are_in_the_rows(shards, noted) -> None:
    run, _ = noted
    rows = list(run.rows(STEPS))
    groups = [g for shard in shards for g in RunFolder.open(shard).rows(SCORED)]
    for label in ("general", "safety"):
        values = [t.value for g in groups if g.label == label for c in g.completions for t in c.terms]
        stats = [t for r in rows for s in r.labels if s.label == label for t in s.terms]
        assert {t.name for t in stats} == {"made"}
        assert sum(t.mean * t.completions for t in stats) == pytest.approx(sum(values))
        assert sum(t.completions for t in stats) == len(values)


def test_an_alarm_is_noted_in_rows_and_on_stderr(noted) -> None:
    run, progress = noted
    assert [r.alarms for r in steps(run)] == [[], ["sampler_mismatch"], ["sampler_mismatch"], ["sampler_mismatch"]]
    (line,) = [line for line in progress.lines if "ALARM" in line]
    assert line.startswith("ALARM sampler_mismatch at step 2: sampler and trainer are ")


def test_the_action_is_no_part_of_identity_and_the_limits_are(shards, noted, tmp_path) -> None:
    run, _ = noted
    said = Said()
    silent = train(shards, tmp_path, progress=said, **watched("off"))
    assert silent.fingerprint == run.fingerprint
    assert not [line for line in said.lines if "ALARM" in line]
    assert steps(silent) == steps(run)
    other = train(shards[:1], tmp_path, **watched("note", sampler_mismatch=0.0))
    assert other.fingerprint != train(shards[:1], tmp_path, **watched("note")).fingerprint
    assert all(r.alarms == [] for r in steps(other))


def test_one_run_over_two_rollouts_is_two_runs(shards, noted, tmp_path) -> None:
    run, _ = noted
    first = train(shards[:1], tmp_path, **watched("note"))
    second = train(shards[1:], tmp_path, **(watched("note") | {"policy": str(first.path)}))
    assert contents(second) == contents(run)
    assert steps(first) + steps(second) == steps(run)
    memory = [json.loads((r.path / "watch.json").read_text()) for r in (second, run)]
    assert memory[0] | {"events": []} == memory[1] | {"events": []}


def test_a_stop_between_rollouts_is_resumable_to_the_bit(shards, noted, tmp_path) -> None:
    run, _ = noted
    for steps_taken in (2, 0):
        progress = Said()
        with pytest.raises(CosmoError, match=r"stopped on sampler_mismatch at step 2: .*\(limit: 0.2\)$") as caught:
            train(shards, tmp_path, progress=progress, **watched("stop"))
        assert (caught.value.code, progress.steps) == (1, steps_taken)
        assert 'accept = ["sampler_mismatch"]' in caught.value.hint
        left = RunFolder.open(tmp_path / run.path.name)
        assert left.missing() == [0]
        assert list((left.path / "shards").iterdir()) == []
    resumed = train(shards, tmp_path, **watched("stop", accept=["sampler_mismatch"]))
    assert files(resumed) == files(run)
    assert steps(resumed) == steps(run)
    assert list((resumed.path / "staging").iterdir()) == []


def test_a_stop_after_the_last_rollout_leaves_a_whole_run(shards, tmp_path) -> None:
    for steps_taken in (2, 0):
        progress = Said()
        with pytest.raises(CosmoError, match=r"at step 2: .* \(what was trained is in .*train-.*\)$"):
            train(shards[:1], tmp_path, progress=progress, **watched("stop"))
        assert progress.steps == steps_taken
    (path,) = tmp_path.glob("train-*")
    assert RunFolder.open(path).complete
    assert (path / "policy" / "model.safetensors").is_file()
    assert (path / "report.json").is_file()
    plain = train(shards[:1], tmp_path / "plain", **watched("note"))
    assert files(plain) == files(RunFolder.open(path))
    assert train(shards[:1], tmp_path, **watched("note")).path == path


def test_interrupted_after_an_alarm_it_remembers(shards, noted, tmp_path) -> None:
    run, _ = noted

    class Stop(Exception):
        pass

    class AtThree(Said):
        def advance(self, n: int = 1, **numbers: float | str) -> None:
            super().advance(n, **numbers)
            if self.steps == 3:
                raise Stop

    with pytest.raises(Stop):
        train(shards, tmp_path, progress=AtThree(), **(watched("note") | {"checkpoint_steps": 1}))
    resumed = train(shards, tmp_path, **(watched("note") | {"checkpoint_steps": 1}))
    assert files(resumed) == files(run)


def test_typed_it_exits_with_one_and_one_line(shards, tmp_path) -> None:
    sets = ["watch.action=stop", "watch.window=1", "watch.least=1", "updates_per_rollout=1", "device=cpu"]
    words = [word for text in sets for word in ("--set", text)]
    done = cosmo_forked("train", shards[0], "--policy", "tiny:qwen2_5_vl", *words, "--quiet", cwd=tmp_path)
    assert done.returncode == 1
    said, hint = complaint(done)
    assert said.startswith("cosmo train: stopped on sampler_mismatch at step 1: sampler and trainer are ")
    assert 'action = "note"' in hint
