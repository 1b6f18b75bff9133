"""What a finished run came to: its stage's numbers, warnings and failures, and that nothing came out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from stages.core.atomic import read_json
from stages.core.errors import InputError
from stages.core.resources import Kind, Resources
from stages.core.runner import Options, result_json, run_stage
from stages.core.runs.folder import RunFolder
from stages.core.stage import Context, Plan, Quality, ShardWriter, Work
from tests.support.toy import ToyConfig, ToyStage


class Counting(ToyStage):
    """Says how many rows are on disk; fails or warns where a test asks for it."""

    says = Quality()

    def __init__(self) -> None:
        self.delivered: list[Path] = []

    def quality(self, folder: RunFolder) -> Quality:
        rows = folder.columns(["id"]).num_rows
        return Quality(f"{rows} ids", {"ids": rows}, self.says.warning, self.says.failure, self.says.hint)

    def deliver(self, config: Any, path: Path) -> None:
        self.delivered.append(path)


class Barren(ToyStage):
    """Rejects every sample."""

    def plan(self, ctx: Context) -> Plan:
        return Plan([{"shard": i} for i in range(2)], {"barren": 1})

    def open(self, ctx: Context) -> Work:
        def work(shard: dict[str, Any], writer: ShardWriter) -> None:
            for n, reason in enumerate(["odd", "odd", "worn", "lost", "lost", "lost", "late"]):
                writer.reject("toy", str(n), reason, "of no use")

        return work


def test_quality_is_said_of_a_run_made_and_of_one_found(tmp_path: Path) -> None:
    stage = Counting()
    for state in ("done", "cached"):
        result = run_stage(stage, ToyConfig(), [], options=Options(runs=tmp_path))
        assert result.state == state
        assert (result.quality.line, result.quality.numbers) == ("20 ids", {"ids": 20})
        assert result_json(result)["quality"]["numbers"] == {"ids": 20}
    assert read_json(result.path / "report.json")["quality"]["line"] == "20 ids"
    assert stage.delivered == [result.path] * 2


def test_it_is_asked_of_complete_runs_only(tmp_path: Path) -> None:
    stage = Counting()
    part = run_stage(stage, ToyConfig(), [], options=Options(runs=tmp_path, worker=(0, 2)))
    planned = run_stage(stage, ToyConfig(), [], options=Options(runs=tmp_path, dry_run=True))
    assert (part.quality, planned.quality, stage.delivered) == (Quality(), Quality(), [])


def test_a_failure_is_exit_code_3_each_time_and_delivers_nothing(tmp_path: Path) -> None:
    stage = Counting()
    stage.says = Quality(failure="no group had an advantage", hint="--set select.take=64")
    for _ in range(2):
        with pytest.raises(InputError) as caught:
            run_stage(stage, ToyConfig(), [], options=Options(runs=tmp_path))
        assert caught.value.message.endswith("no group had an advantage")
        assert (caught.value.hint, caught.value.code) == ("--set select.take=64", 3)
    assert stage.delivered == []
    assert RunFolder.open(next(tmp_path.iterdir())).complete
    accepted = run_stage(stage, ToyConfig(), [], options=Options(runs=tmp_path, accept_failure=True))
    assert accepted.quality.failure == "no group had an advantage"


def test_a_run_of_no_row_is_exit_code_3_and_names_the_reasons(tmp_path: Path) -> None:
    for worker in ((0, 2), (1, 2), (0, 1)):
        options = Options(runs=tmp_path, worker=worker)
        if worker == (0, 2):
            # Not before it is complete: the other worker may have rows.
            assert run_stage(Barren(), ToyConfig(), [], options=options).state == "waiting"
            continue
        with pytest.raises(InputError) as caught:
            run_stage(Barren(), ToyConfig(), [], options=options)
        assert "nothing came out of cosmo toy: every sample was rejected" in caught.value.message
        assert "(6 lost, 4 odd, 2 late, 2 for other reasons)" in caught.value.message
        assert caught.value.hint == f"cosmo show {next(tmp_path.iterdir())} --rejected"


def test_a_run_of_no_shard_is_exit_code_3(tmp_path: Path) -> None:
    class Empty(Barren):
        def plan(self, ctx: Context) -> Plan:
            return Plan([], {"empty": 1})

    with pytest.raises(InputError, match="nothing came out of cosmo toy: there was nothing to make rows of"):
        run_stage(Empty(), ToyConfig(), [], options=Options(runs=tmp_path))


def test_a_name_is_kept_in_the_manifest_and_is_no_part_of_the_key(tmp_path: Path) -> None:
    named = run_stage(ToyStage(), ToyConfig(), [], options=Options(runs=tmp_path / "a", name="first try"))
    plain = run_stage(ToyStage(), ToyConfig(), [], options=Options(runs=tmp_path / "b"))
    assert named.fingerprint == plain.fingerprint
    manifests = [json.loads((r.path / "manifest.json").read_text()) for r in (named, plain)]
    assert [m["provenance"].get("name") for m in manifests] == ["first try", None]
    assert manifests[0]["key"] == manifests[1]["key"]


def test_resources_keep_one_value_a_kind_and_drop_what_holds_a_device() -> None:
    model, notes = Kind[object]("model", on_device=True), Kind[object]("notes")
    resources = Resources()
    first = resources.get(model, "a", object)
    assert resources.get(model, "a", object) is first
    assert resources.peek(model, "b") is None
    second = resources.get(model, "b", object)
    assert resources.peek(model, "a") is None
    resources.put(notes, "a", first)
    resources.drop_devices()
    assert resources.peek(model, "b") is None is not second
    assert resources.peek(notes, "a") is first
    resources.drop(notes)
    assert resources.peek(notes, "a") is None
