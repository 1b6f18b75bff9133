"""What of writing a run only its parts show: order, syncs, locks, who was first, and what is looked at again."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import threading
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from schemas.arrow import arrow_schema
from schemas.rollouts import Completion, RolloutGroup, Sampling
from schemas.tables import PROMPTS, ROLLOUTS
from schemas.values import text_message
from stages.core.atomic import json_bytes, read_json
from stages.core.errors import InputError, UnavailableError
from stages.core.runner import Options, Result, run_stage
from stages.core.runs import commit, upkeep
from stages.core.runs.commit import StagedShard, shard_lock
from stages.core.runs.folder import RunFolder
from stages.core.runs.shards import open_shard
from stages.core.runs.upkeep import prune_artifacts
from stages.core.stage import Context, Plan, ShardWriter, Work
from stages.core.storage import local
from stages.core.storage.local import make_folder
from tests.score.made import group, on_disk
from tests.support.cli import PATIENCE
from tests.support.toy import PromptReader, ToyConfig, ToyStage, toy_row


def run(runs: Path, config: ToyConfig | None = None, **options: Any) -> Result:
    return run_stage(ToyStage(), config or ToyConfig(), [], options=Options(runs=runs, **options))


def staged(folder: RunFolder, index: int, rows: int = 1) -> StagedShard:
    writer = StagedShard(folder, "toy", PROMPTS, index)
    writer.begin()
    for n in range(rows):
        writer.row(toy_row(index, n))
    return writer


def test_the_second_to_commit_a_shard_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    folder = RunFolder.open(run(tmp_path, worker=(1, 4)).path)
    first, second = staged(folder, 0, rows=2), staged(folder, 0, rows=3)
    assert first.commit() is True
    receipt = (folder.path / "receipts" / "00000.json").read_bytes()
    assert second.commit() is False
    assert (folder.path / "receipts" / "00000.json").read_bytes() == receipt
    assert len(list(folder.shard_rows(PROMPTS, 0))) == 2
    assert not first.root.exists()
    assert not second.root.exists()


def test_files_are_on_disk_before_the_receipt_and_the_receipt_before_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: set[int] = set()
    before: list[set[int]] = []
    fsync, link = os.fsync, os.link

    def noted(descriptor: int) -> None:
        fsync(descriptor)
        synced.add(os.fstat(descriptor).st_ino)

    def linked(aside: Path, final: Path) -> None:
        before.append({*synced})
        link(aside, final)

    monkeypatch.setattr(os, "fsync", noted)
    monkeypatch.setattr(os, "link", linked)
    path = run(tmp_path, ToyConfig(shards=1)).path
    receipt = RunFolder.open(path).receipt(0)
    assert receipt is not None
    files = [path / entry.path for entry in receipt.files]
    assert len(files) == 3
    # The manifest first, then the shard's receipt.
    _, known = before
    assert {file.stat().st_ino for file in (*files, path / "receipts" / "00000.json")} <= known


def test_a_death_between_config_and_manifest_leaves_no_run_without_its_config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(tmp_path / "whole").path

    def dies(path: Path, value: object) -> None:
        assert (path.name, (path.parent / "config.json").is_file()) == ("manifest.json", True)
        raise KeyboardInterrupt

    with monkeypatch.context() as bent:
        bent.setattr(local, "create_json", dies)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "runs")
    path = run(tmp_path / "runs").path
    for name in ("config.json", "manifest.json"):
        assert read_json(path / name) == read_json(whole / name)


def test_a_lock_is_of_one_shard_and_is_waited_for_where_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, got, asks = RunFolder.open(run(tmp_path).path), threading.Event(), threading.Event()
    flock = commit.fcntl.flock

    def noted(*given: Any) -> None:
        if threading.current_thread() is not threading.main_thread():
            asks.set()
        flock(*given)

    monkeypatch.setattr(commit.fcntl, "flock", noted)

    def waits() -> None:
        with shard_lock(folder, 0, wait=True) as locked:
            if locked:
                got.set()

    with shard_lock(folder, 0, wait=False) as locked:
        assert locked
        with shard_lock(folder, 0, wait=False) as again, shard_lock(folder, 1, wait=False) as other:
            assert (again, other) == (False, True)
        thread = threading.Thread(target=waits)
        thread.start()
        assert asks.wait(PATIENCE)
        # For a lock that is not waited for to say so.
        thread.join(0.2)
    thread.join(PATIENCE)
    assert got.is_set()


def test_a_reader_sees_what_others_did_since(tmp_path: Path) -> None:
    path = run(tmp_path).path
    reader = RunFolder.open(path)
    assert reader.missing() == []
    for name in ("notes", "more"):
        prune_artifacts(RunFolder.open(path), (name,))
    # What was pruned before stays so.
    receipt = reader.receipt(2)
    assert receipt is not None
    assert receipt.pruned == ("more", "notes")
    assert reader.missing() == []
    shard = path / "shards" / "00002.parquet"
    shard.write_bytes(shard.read_bytes()[:-1])
    assert reader.missing() == [2]


def test_a_death_in_pruning_leaves_a_complete_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = run(tmp_path).path

    def dies(*given: object, **more: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as bent:
        bent.setattr(upkeep.shutil, "rmtree", dies)
        with pytest.raises(KeyboardInterrupt):
            prune_artifacts(RunFolder.open(path), ("notes",))
    # Whatever of it is deleted by now is not missed, and the same call deletes the rest.
    (path / "notes" / "1.txt").unlink()
    assert RunFolder.open(path).complete
    prune_artifacts(RunFolder.open(path), ("notes",))
    assert not (path / "notes").exists()


class OtherDies(ToyStage):
    """The toy; while it makes its last shard, another process dies between shard 1's receipt and its renames."""

    def open(self, ctx: Context) -> Work:
        work = super().open(ctx)

        def disturbed(shard: dict[str, Any], writer: ShardWriter) -> None:
            work(shard, writer)
            if shard["shard"] == 3:
                assert ctx.scratch is not None
                path = ctx.scratch.parents[1]
                receipt = RunFolder.open(path).receipt(1)
                assert receipt is not None
                (path / receipt.staging / "shards").mkdir(parents=True)
                os.rename(path / "shards" / receipt.name, path / receipt.staging / "shards" / receipt.name)

        return disturbed


def test_what_another_process_had_staged_when_it_died_is_not_cleaned_away(tmp_path: Path) -> None:
    result = run_stage(OtherDies(), ToyConfig(), [], options=Options(runs=tmp_path))
    assert result.state == "done"
    assert (result.path / "shards" / "00001.parquet").is_file()
    assert len(list(RunFolder.open(result.path).rows(PROMPTS))) == 20
    assert not list((result.path / "staging").iterdir())


def test_half_a_report_of_a_dead_process_is_cleaned_though_nothing_is_staged(tmp_path: Path) -> None:
    path = run(tmp_path).path
    gone = subprocess.Popen(["true"])
    gone.wait()
    half = path / f".report.json.{gone.pid}"
    half.write_text("half of i")
    assert run(tmp_path).state == "cached"
    assert not half.exists()


def test_what_is_staged_wins_over_what_an_earlier_commit_left_at_its_name(tmp_path: Path) -> None:
    path = run(tmp_path).path
    receipt = RunFolder.open(path).receipt(1)
    assert receipt is not None
    (path / receipt.staging / "notes").mkdir(parents=True)
    os.rename(path / "notes" / "1.txt", path / receipt.staging / "notes" / "1.txt")
    (path / "notes" / "1.txt").write_text("olds")
    assert RunFolder.open(path).artifact("notes/1.txt").read_text() == "note"
    assert run(tmp_path).state == "cached"
    assert (path / "notes" / "1.txt").read_text() == "note"


def test_a_dry_run_says_how_much_is_done(tmp_path: Path) -> None:
    run(tmp_path, worker=(0, 2))
    planned = run(tmp_path, dry_run=True)
    assert (planned.state, planned.shards_done, planned.shards) == ("planned", 2, 4)


class Told(ToyStage):
    """The toy, which knows something worth recording."""

    def plan(self, ctx: Context) -> Plan:
        plan = super().plan(ctx)
        return Plan(plan.shards, plan.key, plan.rejected, {"host": "a"})


def test_a_name_is_kept_beside_what_the_stage_records(tmp_path: Path) -> None:
    path = run_stage(Told(), ToyConfig(), [], options=Options(runs=tmp_path, name="first try")).path
    assert RunFolder.open(path).manifest.provenance == {"host": "a", "name": "first try"}


class RolloutReader(PromptReader):
    name, reads = "narrow", (ROLLOUTS,)


def test_a_wider_row_is_read_as_a_narrower_one_and_never_the_other_way(tmp_path: Path) -> None:
    rows: list[RolloutGroup] = [group("one"), group("two", question="and this ?")]
    wide, narrow = on_disk(tmp_path / "wide", rows), run(tmp_path / "narrow").path
    read = run_stage(PromptReader(), ToyConfig(), [wide], options=Options(runs=tmp_path)).path
    assert [row.id for row in RunFolder.open(read).rows(PROMPTS)] == [row.id for row in rows]
    with pytest.raises(InputError, match="holds prompts, and cosmo narrow reads rollouts"):
        run_stage(RolloutReader(), ToyConfig(), [narrow], options=Options(runs=tmp_path))


def test_a_shard_of_an_older_cosmo_says_so(tmp_path: Path) -> None:
    schema = arrow_schema(PROMPTS).remove(0)
    older = schema.with_metadata({**(schema.metadata or {}), b"cosmo.version": b"1"})
    pq.write_table(older.empty_table(), tmp_path / "old.parquet")
    with pytest.raises(InputError) as refused:
        open_shard(tmp_path / "old.parquet", PROMPTS)
    assert refused.value.hint == "another version of cosmo wrote it (prompts v1): rerun its stage with this one"
    with pytest.raises(InputError) as refused:
        open_shard(tmp_path / "old.parquet", ROLLOUTS)
    assert "right stage" in refused.value.hint


def test_row_groups_and_reading_are_bounded_by_the_length_of_completions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ids and log-probs count towards a flush as images do, and long rows are read fewer at a time."""
    from stages.core.runs import shards

    monkeypatch.setattr(shards, "ROW_GROUP_BYTES", 4000)
    monkeypatch.setattr(shards, "READ_BYTES", 4000)
    sampling = Sampling(temperature=1.0, top_p=1.0, top_k=0, max_new_tokens=9, seed=0)

    def long(n: int, length: int) -> RolloutGroup:
        done = Completion(
            index=0, text="", token_ids=list(range(length)), logprobs=[-0.125] * length,
            finish_reason="stop", sampling=sampling, policy_id="p", engine="e",
        )  # fmt: skip
        return RolloutGroup(
            id=str(n), label="l", source="s", task="t", messages=[text_message("user", "q")], completions=[done]
        )

    for length, groups in ((1, 1), (100, 3), (600, 12)):
        path = tmp_path / f"{length}.parquet"
        file = shards.ShardFile(path, ROLLOUTS)
        rows = [long(n, length) for n in range(12)]
        for row in rows:
            file.add(row)
        file.close()
        made = pq.ParquetFile(path)
        assert made.num_row_groups == groups
        assert list(shards.read_rows(path, ROLLOUTS)) == rows
        again = shards.ShardFile(tmp_path / f"{length}-again.parquet", ROLLOUTS)
        again.add_table(made.read())
        again.close()
        assert again.path.read_bytes() == path.read_bytes()
    assert shards._rows_at_once(made) < 12


@pytest.mark.parametrize(
    "value",
    [
        {"a": [1, 2, 3], "b": {"c": [], "d": {}, "e": [[1, True], (2.5, None)], "é\n": 'x "y"'}, "f": [{"g": []}]},
        {"n": {1: [1, {"a": 2}], None: "x"}, "empty": ""},
        *([], {}, [[]], "text", 1e300, [False, 1], [10**30]),
    ],
)
def test_small_files_are_json_as_python_indents_it(value: Any) -> None:
    assert json_bytes(value).decode() == json.dumps(value, indent=1, ensure_ascii=False)


def test_a_run_folder_for_which_there_is_no_room_is_what_the_machine_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*given: object, **named: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "mkdir", full)
    with pytest.raises(UnavailableError, match=r"can't write to .*: No space left on device") as caught:
        make_folder(tmp_path / "run")
    assert "--runs" in caught.value.hint
