"""`cosmo gc`: what it lists, that it removes nothing else, and that what is left still counts as complete."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from schemas.tables import SCORED, STEPS
from stages.core.runs.folder import RunFolder
from tests.support.cli import complaint, cosmo
from tests.train.made import scored_group, train, write_shard

TINY = "tiny:llama"


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """Three turns, each from the policy of the one before: made once, copied by each test."""
    from stages.models.load import load_policy
    from stages.models.policy_ref import resolve_policy

    folder = tmp_path_factory.mktemp("kept")
    policy = load_policy(resolve_policy(TINY))
    groups = [scored_group(policy, i, images=False, rewards=[0.0, 1.0]) for i in range(3)]
    run = None
    for k, group in enumerate(groups):
        shard = write_shard(folder / f"{k}.parquet", SCORED, [group])
        start = str(run.path) if run else TINY
        run = train(shard, folder / "runs", policy=start, learning_rate=1e-3, updates_per_rollout=1)
    return folder / "runs"


@pytest.fixture
def runs(kept, tmp_path):
    """The same, with the policies' places as the copy has them."""
    shutil.copytree(kept, tmp_path / "runs")
    return tmp_path / "runs"


def in_order(runs: Path) -> list[Path]:
    """The training runs, the first turn first."""
    found = [RunFolder.open(path) for path in runs.glob("train-*")]
    return [run.path for run in sorted(found, key=lambda run: next(iter(run.rows(STEPS))).rollout)]


def listed(runs: Path, *args: str) -> list[tuple[str, str]]:
    done = cosmo("gc", "--runs", runs, "--json", *args, cwd=runs.parent)
    assert done.returncode == 0
    return [(item["what"], Path(item["path"]).name) for item in json.loads(done.stdout)]


def digest_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_only_what_training_went_on_from_can_go_and_nothing_goes_unasked(runs):
    first, second, last = in_order(runs)
    before = digest_of(runs)
    assert listed(runs) == sorted([("trainer state", first.name), ("trainer state", second.name)], key=lambda i: i[1])
    assert digest_of(runs) == before
    listed(runs, "--delete")
    assert listed(runs) == []
    assert not (first / "trainer").exists()
    assert (first / "policy").exists()
    assert (last / "trainer").exists()


def test_removed_weights_leave_complete_cached_runs(runs):
    first, _, last = in_order(runs)
    assert {what for what, _ in listed(runs, "--weights", "--delete")} == {"weights"}
    assert not (first / "policy").exists()
    assert (last / "policy").exists()
    assert listed(runs, "--weights") == []
    states = json.loads(cosmo("status", "--runs", runs, "--json", cwd=runs.parent).stdout)
    assert {state["state"] for state in states} <= {"complete", "stale"}
    assert not any("policy" in reason for state in states for reason in state["why"])


def test_what_an_unfinished_run_names_stays(runs):
    first, _, last = in_order(runs)
    shutil.copytree(last, runs / "train-unfinished")
    shutil.rmtree(runs / "train-unfinished" / "receipts")
    # Its policy is the second turn's.
    assert listed(runs, "--weights") == [("weights", first.name)]


def test_leftovers_of_a_complete_run_go_and_a_live_ones_stay(runs):
    last = in_order(runs)[-1]
    (last / "staging" / "00000.scratch").mkdir(parents=True)
    (last / "staging" / "00000.scratch" / "model.safetensors").write_bytes(bytes(1000))
    assert ("leftovers", last.name) in listed(runs)
    before = {name: data for name, data in digest_of(last).items() if not name.startswith("staging")}
    listed(runs, "--delete")
    assert digest_of(last) == before
    assert ("leftovers", last.name) not in listed(runs)


def test_abandoned_runs_go_whole_only_when_asked_and_old_enough(runs):
    _, second, last = in_order(runs)
    shutil.rmtree(last / "receipts")
    assert ("run", last.name) not in listed(runs)
    assert ("run", last.name) not in listed(runs, "--abandoned", "2")
    for path in last.rglob("*"):
        os.utime(path, (1_000_000_000, 1_000_000_000))
    assert ("run", last.name) in listed(runs, "--abandoned", "2", "--delete")
    assert not last.exists()
    assert second.exists()


def test_links_and_damaged_folders_are_nobodys_to_remove(runs, tmp_path):
    second = in_order(runs)[1]
    elsewhere = tmp_path / "elsewhere"
    second.rename(elsewhere)
    second.symlink_to(elsewhere)
    (runs / "broken").mkdir()
    (runs / "broken" / "manifest.json").write_text("{")
    before = digest_of(elsewhere)
    listed(runs, "--weights", "--abandoned", "0", "--delete")
    assert digest_of(elsewhere) == before
    assert (runs / "broken" / "manifest.json").exists()


def test_nothing_to_look_at_is_said(tmp_path):
    done = cosmo("gc", "--runs", tmp_path, cwd=tmp_path)
    assert done.returncode == 3
    assert "no run folder" in complaint(done)[0]


def test_a_person_reads_sizes_reasons_and_what_to_type(runs):
    first, *_ = in_order(runs)
    done = cosmo("gc", "--runs", runs, cwd=runs.parent)
    line = next(line for line in done.stdout.splitlines() if first.name in line)
    assert "MiB  trainer state" in line
    assert "went on from it" in line
    assert "add --delete" in done.stderr
