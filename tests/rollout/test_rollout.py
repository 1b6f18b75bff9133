from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from schemas.identity import prompt_id
from schemas.prompts import PromptRow
from schemas.rollouts import RolloutGroup, Sampling
from schemas.tables import PROMPTS, ROLLOUTS
from schemas.values import Image, Message, text_message
from stages.core.config import build
from stages.core.errors import CosmoError, InputError, UnavailableError, UsageError
from stages.core.runner import Options, run_stage
from stages.core.runs.folder import RunFolder
from stages.core.runs.shards import ShardFile
from stages.core.stage import Quality, Resources
from stages.models.warm import POLICY
from stages.rollout.config import RolloutConfig
from stages.rollout.stage import STAGE
from tests.models.made import policy, prompt


def _row(messages: list[Message], images: list[Image], label: str = "general", **more: Any) -> PromptRow:
    key = prompt_id(label=label, messages=messages, images=images, answer=None)
    return PromptRow(id=key, label=label, source="made", task="made", messages=messages, images=images, **more)


def _write(path: Path, rows: list[PromptRow]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    file = ShardFile(path, PROMPTS)
    for row in rows:
        file.add(row)
    file.close()
    return path


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    """Two shards of prompts: words alone, one image, two images; two labels."""
    rows = [_row(*prompt(i, i % 3), label=("general", "safety")[i % 2]) for i in range(30)]
    _write(tmp_path / "in" / "00000.parquet", rows[:20])
    _write(tmp_path / "in" / "00001.parquet", rows[20:])
    return tmp_path / "in"


def _run(inputs: Path, runs: Path, warm: Resources | None = None, **values: Any) -> RunFolder:
    defaults = {"policy": "tiny:qwen2_5_vl", "samples": 3, "max_new_tokens": 8, "device": "cpu"}
    config = build(RolloutConfig, {**defaults, **values}, "rollout")
    resources = warm or Resources()
    if warm is None and config.policy == "tiny:qwen2_5_vl":
        resources.put(POLICY, policy(config.policy).ref.id, policy(config.policy))
    result = run_stage(STAGE, config, [inputs], options=Options(runs=runs), resources=resources)
    return RunFolder.open(result.path)


def _groups(folder: RunFolder) -> list[RolloutGroup]:
    return list(folder.rows(ROLLOUTS))


def _completions(groups: list[RolloutGroup]) -> dict[str, list[list[int]]]:
    return {g.id: [c.token_ids for c in g.completions] for g in groups}


def test_groups_hold_the_prompt_and_its_samples(prompts: Path, tmp_path: Path) -> None:
    folder = _run(prompts, tmp_path / "runs")
    given = list(RunFolder.open(prompts).rows(PROMPTS))
    groups = _groups(folder)
    processor = policy("tiny:qwen2_5_vl").processor
    assert [g.id for g in groups] == [r.id for r in given]
    for row, group in zip(given, groups, strict=True):
        for field in dataclasses.fields(PromptRow):
            assert getattr(group, field.name) == getattr(row, field.name)
        assert group.prompt_token_ids == processor.encode(row.messages, row.images).token_ids
        assert group.banned_token_ids == processor.banned_token_ids
        assert [c.index for c in group.completions] == [0, 1, 2]
        for completion in group.completions:
            assert completion.sampling == Sampling(1.0, 1.0, 0, 8, 0)
            assert completion.policy_id == policy("tiny:qwen2_5_vl").ref.id
            assert completion.engine == "transformers/1"
            assert completion.text == processor.decode(completion.token_ids)
            assert len(completion.logprobs) == len(completion.token_ids) > 0
            assert completion.finish_reason in ("stop", "length")
            assert completion.error is None


def test_shards_workers_and_selections_change_no_completion(prompts: Path, tmp_path: Path) -> None:
    whole = _completions(_groups(_run(prompts, tmp_path / "a")))
    assert _completions(_groups(_run(prompts, tmp_path / "b", shard_groups=7, batch_tokens=500))) == whole
    some = _completions(_groups(_run(prompts, tmp_path / "c", select={"take": 5, "draw": 1})))
    assert len(some) == 5
    assert some.items() <= whole.items()
    other = _completions(_groups(_run(prompts, tmp_path / "d", seed=1)))
    assert all(other[ident] != whole[ident] for ident in whole)

    config = build(RolloutConfig, {"policy": "tiny:qwen2_5_vl", "samples": 3, "max_new_tokens": 8,
                                   "shard_groups": 7, "device": "cpu"}, "rollout")  # fmt: skip
    states = []
    for worker in ((1, 2), (0, 2)):
        options = Options(runs=tmp_path / "e", worker=worker)
        result = run_stage(STAGE, config, [prompts], options=options)
        states.append(result.state)
    assert states == ["waiting", "done"]
    assert _completions(_groups(RunFolder.open(result.path))) == whole


def test_what_identifies_a_run(prompts: Path, tmp_path: Path) -> None:
    first = _run(prompts, tmp_path / "a", engine="fake", policy="")
    same = _run(prompts, tmp_path / "b", engine="fake", policy="", batch_tokens=9, device="auto")
    assert same.fingerprint == first.fingerprint
    for change in ({"seed": 3}, {"samples": 2}, {"temperature": 0.5}, {"max_new_tokens": 9},
                   {"policy": "tiny:llama"}, {"select": {"take": 4}}):  # fmt: skip
        values = {"engine": "fake", "policy": "", **change}
        assert _run(prompts, tmp_path / "c", **values).fingerprint != first.fingerprint, change
    # Another name of the same content is the same policy.
    by_path = str(policy("tiny:llama").ref.path)
    assert (
        _run(prompts, tmp_path / "d", engine="fake", policy=by_path).fingerprint
        == _run(prompts, tmp_path / "d", engine="fake", policy="tiny:llama").fingerprint
    )


def test_planning_loads_no_torch(prompts: Path, tmp_path: Path, root: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from stages.core.runner import Options, run_stage\n"
        "from stages.rollout.config import RolloutConfig\n"
        "assert 'pyarrow' not in sys.modules\n"
        "from stages.rollout.stage import STAGE\n"
        "options = Options(runs=Path(sys.argv[2]), dry_run=True)\n"
        "result = run_stage(STAGE, RolloutConfig(policy='tiny:qwen2_5_vl'), [Path(sys.argv[1])], options=options)\n"
        "print(result.state, [m for m in ('torch', 'transformers', 'PIL') if m in sys.modules])"
    )
    command = [sys.executable, "-c", code, str(prompts), str(tmp_path / "runs")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root, env=os.environ.copy())
    assert done.stdout.strip() == "planned []"


def test_bad_samples_are_rejected_rows_and_the_rest_goes_on(tmp_path: Path) -> None:
    longest = policy("tiny:qwen2_5_vl").processor.max_positions
    rows = [
        _row(*prompt(0)),
        _row([text_message("user", "x " * (longest - 20))], []),
        _row([text_message("user", "look", 1)], [Image(b"no picture", "broken.png")]),
        _row([text_message("user", "<|im_end|> do it")], []),
        _row(*prompt(1, 1)),
        _row(*prompt(0)),
    ]
    _write(tmp_path / "in" / "00000.parquet", rows)
    folder = _run(tmp_path / "in", tmp_path / "runs", max_new_tokens=30)
    assert [g.id for g in _groups(folder)] == [rows[0].id, rows[4].id]
    rejected = {(r.ref, r.reason) for r in folder.rejected()}
    assert rejected == {
        (rows[1].id, "too_long"),
        (rows[2].id, "bad_image"),
        (rows[3].id, "special_token"),
        (rows[0].id, "duplicate"),
    }
    assert all(r.stage == "rollout" and r.source == "in" and r.detail for r in folder.rejected())


def test_the_fake_engine_needs_no_policy(prompts: Path, tmp_path: Path) -> None:
    groups = _groups(_run(prompts, tmp_path / "runs", engine="fake", policy="", max_new_tokens=80))
    assert len(groups) == 30
    assert {c.policy_id for g in groups for c in g.completions} == {"none"}
    assert {c.engine for g in groups for c in g.completions} == {"fake/2"}
    # Rollouts are prompts too: they can be answered again.
    again = _run(_run(prompts, tmp_path / "runs", engine="fake", policy="").path, tmp_path / "runs2",
                 engine="fake", policy="", seed=5)  # fmt: skip
    assert [g.id for g in _groups(again)] == [g.id for g in groups]


@pytest.mark.parametrize(
    ("values", "error", "words"),
    [
        ({"top_p": 0.9}, UsageError, r"rollout.top_p = 0.9"),
        ({"top_k": 5}, UsageError, r"rollout.top_k = 5"),
        ({"engine": "fke"}, UsageError, "unknown engine 'fke'"),
        ({"policy": ""}, UsageError, "no policy"),
        ({"policy": "tiny:qwen"}, UsageError, "unknown backbone"),
        ({"policy": "/no/such/folder"}, UnavailableError, "no such model"),
        ({"select": {"labels": {"math": 1.0}}}, InputError, "no prompt of label 'math'"),
        ({"device": "cuda:7", "policy": "tiny:llama"}, UnavailableError, "cuda:7"),
    ],
)
def test_wrong_settings_are_said_before_any_work(
    prompts: Path, tmp_path: Path, values: dict[str, Any], error: type[CosmoError], words: str
) -> None:
    with pytest.raises(error, match=words) as caught:
        _run(prompts, tmp_path / "runs", **values)
    assert caught.value.hint
    assert not list(tmp_path.glob("runs/*/receipts/*"))


def test_truncated_sampling_is_possible_by_name_and_greedy_is_not_truncated(prompts: Path, tmp_path: Path) -> None:
    asked = _run(prompts, tmp_path / "a", top_p=0.9, allow_truncated_sampling=True, select={"take": 3})
    assert _groups(asked)[0].completions[0].sampling.top_p == 0.9
    greedy = _groups(_run(prompts, tmp_path / "b", temperature=0.0, top_p=0.9, top_k=3, select={"take": 3}))
    assert greedy[0].completions[0].sampling == Sampling(0.0, 1.0, 0, 8, 0)
    assert all(len({tuple(c.token_ids) for c in g.completions}) == 1 for g in greedy)


def test_a_stop_text_is_in_the_key_and_in_the_rows_and_changes_no_token_before_it(
    prompts: Path, tmp_path: Path
) -> None:
    fake = {"engine": "fake", "policy": "", "max_new_tokens": 60}
    plain, ended = _run(prompts, tmp_path / "a", **fake), _run(prompts, tmp_path / "b", **fake, stop=["think>", "zz"])
    assert plain.fingerprint != ended.fingerprint
    assert plain.fingerprint == _run(prompts, tmp_path / "c", **fake, stop=[]).fingerprint
    stopped = 0
    for before, after in zip(_groups(plain), _groups(ended), strict=True):
        for one, two in zip(before.completions, after.completions, strict=True):
            assert (one.sampling.stop, two.sampling.stop) == ([], ["think>", "zz"])
            assert one.token_ids[: len(two.token_ids)] == two.token_ids
            assert (one.stopped_by, one.generated, two.generated) == (None, None, None)
            stopped += two.stopped_by == "think>"
            assert (two.stopped_by is None) == ("think>" not in one.text)
            assert two.stopped_by is None or (two.text.endswith("think>") and two.finish_reason == "stop")
    assert stopped
    with pytest.raises(UsageError, match=r"rollout\.stop holds an empty text"):
        _run(prompts, tmp_path / "d", **fake, stop=["a", ""])


def test_a_run_of_nothing_but_errors_is_an_exit_code(prompts: Path, tmp_path: Path) -> None:
    import copy

    import torch

    lost = copy.copy(policy("tiny:qwen2_5_vl"))
    lost.model = copy.deepcopy(lost.model)
    with torch.no_grad():
        lost.model.lm_head.weight.fill_(torch.nan)
    warm = Resources()
    warm.put(POLICY, lost.ref.id, lost)
    with pytest.raises(CosmoError, match=r"no completion of 90 could be sampled: .* not finite"):
        _run(prompts, tmp_path / "runs", warm=warm)


def _failing(every: int, errors: tuple[str, ...] = ("out of memory",)) -> Any:
    """The fake engine's `sample` with the last completions of each prompt failed, up to `every`."""
    from stages.engines.base import SampledCompletion
    from stages.engines.fake import FakeEngine

    plain = FakeEngine.sample

    def sample(self: FakeEngine, requests: Any, sampling: Sampling) -> Iterator[tuple[str, list[SampledCompletion]]]:
        for number, (ident, samples) in enumerate(plain(self, requests, sampling)):
            lost = [SampledCompletion.failed(errors[number % len(errors)])] * min(every, len(samples))
            yield ident, [*samples[len(lost) :], *lost]

    return sample


def _quality(prompts: Path, runs: Path, **values: Any) -> Quality:
    fake = {"engine": "fake", "samples": 3, "max_new_tokens": 30}
    config = build(RolloutConfig, {**fake, **values}, "rollout")
    return run_stage(STAGE, config, [prompts], options=Options(runs=runs)).quality


def test_a_finished_run_says_how_many_how_long_and_how_fast(prompts: Path, tmp_path: Path) -> None:
    found = _quality(prompts, tmp_path / "runs", shard_groups=7)
    folder = RunFolder.open(next((tmp_path / "runs").glob("rollout-*")))
    done = [c for g in folder.rows(ROLLOUTS) for c in g.completions]
    lengths = [len(c.token_ids) for c in done]
    cut = sum(c.finish_reason == "length" for c in done) / len(done)
    seconds = sum(receipt.seconds for receipt in folder.receipts().values())
    assert 0 < cut < 1
    assert found.numbers == {
        "completions": 90, "failed": 0, "failed_reasons": {}, "mean_tokens": round(sum(lengths) / 90, 2),
        "truncated_share": round(cut, 4), "tokens_per_second": round(sum(lengths) / seconds),
    }  # fmt: skip
    assert found.line == (
        f"90 completions, {sum(lengths) / 90:.1f} tokens each, {cut:.0%} truncated,"
        f" {round(sum(lengths) / seconds)} tokens a second"
    )
    assert (found.warning, found.failure) == (None, None)
    # A cached run is told of in the same words.
    assert _quality(prompts, tmp_path / "runs", shard_groups=7) == found


def test_completions_that_failed_are_counted_by_reason_and_most_of_them_is_a_warning(
    prompts: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    from stages.engines.fake import FakeEngine

    monkeypatch.setattr(FakeEngine, "sample", _failing(1, ("out of memory", "out of memory", "timed out after 2 s")))
    few = _quality(prompts, tmp_path / "few")
    assert few.line.startswith("90 completions, 30 failed (20 out of memory, 10 timed out after 2 s), ")
    assert (few.warning, few.failure) == (None, None)
    monkeypatch.undo()
    monkeypatch.setattr(FakeEngine, "sample", _failing(2, tuple("abcde")))
    most = _quality(prompts, tmp_path / "most")
    assert most.warning == "60 of 90 completions failed: 12 a, 12 b, 12 c, 24 for other reasons"
    assert "--device cpu" in most.hint
    assert most.failure is None
    assert most.numbers["failed_reasons"] == {"a": 12, "b": 12, "c": 12}
    # A failed completion has no length: it neither shortens nor lengthens the mean.
    folder = RunFolder.open(next((tmp_path / "most").glob("rollout-*")))
    lengths = [len(c.token_ids) for g in folder.rows(ROLLOUTS) for c in g.completions if c.error is None]
    assert most.numbers["mean_tokens"] == round(sum(lengths) / len(lengths), 2)


def test_a_run_in_which_every_completion_failed_is_exit_code_3(prompts: Path, tmp_path: Path, monkeypatch: Any) -> None:
    from stages.engines.fake import FakeEngine

    monkeypatch.setattr(FakeEngine, "sample", _failing(3, ("HTTP 500", "HTTP 500", "no connection")))
    with pytest.raises(InputError, match="no completion of 90 could be sampled: 60 HTTP 500, 30 no connection") as bad:
        _quality(prompts, tmp_path / "runs")
    assert bad.value.code == 3
    # Nothing is committed: the same command tries again, here with an engine that is well.
    monkeypatch.undo()
    assert _quality(prompts, tmp_path / "runs").numbers["failed"] == 0


def test_rows_of_nothing_but_failed_completions_are_a_failure_too(prompts: Path, tmp_path: Path) -> None:
    """As a run from another version may hold them: the stage itself commits no such shard."""
    folder = _run(prompts, tmp_path / "runs", engine="fake", policy="")
    lost = [
        dataclasses.replace(g, completions=[dataclasses.replace(c, finish_reason="error", error="lost", token_ids=[])
                                            for c in g.completions])
        for g in folder.rows(ROLLOUTS)
    ]  # fmt: skip
    (tmp_path / "lost").mkdir()
    file = ShardFile(tmp_path / "lost" / "00000.parquet", ROLLOUTS)
    for group in lost:
        file.add(group)
    file.close()
    found = STAGE.quality(RunFolder.open(tmp_path / "lost"))
    assert found.failure == "no completion of 90 could be sampled: 90 lost"
    assert found.numbers["mean_tokens"] is None


def test_the_device_goes_to_the_engine_and_names_no_run(prompts: Path, tmp_path: Path, monkeypatch: Any) -> None:
    from stages.engines.fake import FakeEngine, FakePlugin

    devices = []
    monkeypatch.setattr(FakePlugin, "open", lambda self, ref, s, warm: devices.append(s.device) or FakeEngine())
    config = build(RolloutConfig, {"engine": "fake", "samples": 1}, "rollout")
    flags = {field.name: field.metadata["flag"] for field in dataclasses.fields(config) if "flag" in field.metadata}
    assert flags["device"] == "--device"
    first = _run(prompts, tmp_path / "a", engine="fake", policy="", device="cuda:3")
    assert devices == ["cuda:3"]
    assert _run(prompts, tmp_path / "b", engine="fake", policy="", device="cpu").fingerprint == first.fingerprint


def test_what_an_engine_has_to_say_is_said_once_a_process(prompts: Path, tmp_path: Path, monkeypatch: Any) -> None:
    from stages.core.stage import Silent
    from stages.engines.fake import FakeEngine

    lines: list[str] = []

    class Heard(Silent):
        def log(self, message: str) -> None:
            lines.append(message)

    monkeypatch.setattr(FakeEngine, "notice", lambda self: "each completion has a copy of its prompt")
    warm = Resources()
    for seed in (1, 2):
        config = build(RolloutConfig, {"engine": "fake", "samples": 1, "seed": seed}, "rollout")
        run_stage(STAGE, config, [prompts], options=Options(runs=tmp_path), resources=warm, progress=Heard())
    assert lines.count("each completion has a copy of its prompt") == 1


def test_failed_samples_are_kept_with_their_error(prompts: Path, tmp_path: Path, monkeypatch: Any) -> None:
    from stages.engines.base import SampledCompletion
    from stages.engines.fake import FakeEngine

    completion = FakeEngine.sample

    def sometimes(self: FakeEngine, requests: Any, sampling: Sampling) -> Iterator[tuple[str, list[SampledCompletion]]]:
        for ident, samples in completion(self, requests, sampling):
            yield ident, [SampledCompletion.failed("out of memory"), *samples[1:]]

    monkeypatch.setattr(FakeEngine, "sample", sometimes)
    groups = _groups(_run(prompts, tmp_path / "runs", engine="fake", policy=""))
    for group in groups:
        first = group.completions[0]
        assert (first.finish_reason, first.error, first.text) == ("error", "out of memory", "")
        assert group.completions[1].error is None


def test_an_input_that_changed_under_the_plan_is_noticed(prompts: Path, tmp_path: Path) -> None:
    from stages.rollout.prompts import fetch

    folder = RunFolder.open(prompts)
    rows = list(folder.rows(PROMPTS))
    entries = [(0, 1, 3, rows[23].id), (0, 0, 19, rows[19].id), (0, 0, 0, rows[0].id)]
    assert [p.id for _, p in fetch([folder], entries, Resources())] == [rows[23].id, rows[19].id, rows[0].id]
    with pytest.raises(InputError, match="row 4 of"):
        fetch([folder], [(0, 0, 4, rows[5].id)], Resources())
