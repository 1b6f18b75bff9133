"""wandb (offline), trackio and MLflow themselves: two turns of training are one run, with completions."""

from __future__ import annotations

import json
import sqlite3

import pytest

from schemas.tables import SCORED
from stages.models.load import load_policy
from stages.models.policy_ref import resolve_policy
from stages.train.tracking.config import TrackConfig
from tests.train.made import scored_group, steps, train, write_shard

pytestmark = pytest.mark.usefixtures("places")


@pytest.fixture
def places(tmp_path, monkeypatch):
    """Everything stays in the test's folder, and nothing asks for a server."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    # The client without a server's database: its files are enough here.
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")


def two_turns(tmp_path, tracker: str):
    """The rows of two training runs, one of which goes on from the other, that a tracker followed."""
    policy = load_policy(resolve_policy("tiny:qwen2_5_vl"))
    groups = [scored_group(policy, i, rewards=[0.0, 0.2, 0.5, 1.0]) for i in range(4)]
    run, rows = None, []
    for k in range(2):
        shard = write_shard(tmp_path / f"{k}.parquet", SCORED, groups[2 * k : 2 * k + 2])
        run = train(
            shard, tmp_path / "runs", policy=str(run.path) if run else "tiny:qwen2_5_vl", learning_rate=1e-3,
            updates_per_rollout=2, report_to=[tracker],
            track=TrackConfig(project="tests", run_name="line", log_completions=2),
        )  # fmt: skip
        rows += steps(run)
    return rows


def rewards(rows):
    return [(i, pytest.approx(row.reward_mean)) for i, row in enumerate(rows, start=1)]


def test_trackio_has_one_run_of_all_turns(tmp_path):
    rows = two_turns(tmp_path, "trackio")
    with sqlite3.connect(tmp_path / "trackio" / "tests.db") as database:
        found = database.execute("select run_name, step, metrics from metrics order by id").fetchall()
    sent = [(name, step, json.loads(metrics)) for name, step, metrics in found]
    assert {name for name, _, _ in sent} == {"line"}
    assert [(step, m["train/reward"]) for _, step, m in sent if "train/reward" in m] == rewards(rows)
    tables = [(step, m["completions"]["_value"]) for _, step, m in sent if "completions" in m]
    assert [step for step, _ in tables] == [1, 3]
    assert [len(table) for _, table in tables] == [2, 2]
    assert tables[0][1][0]["images"][0]["_type"] == "trackio.image"


def test_wandb_has_one_run_of_all_turns_offline(tmp_path):
    import wandb
    from wandb.proto.wandb_internal_pb2 import Record

    rows = two_turns(tmp_path, "wandb")
    # Its own process writes the files, and ends a moment after a run is finished.
    wandb.teardown()
    files = sorted((tmp_path / "runs" / "trackers" / "wandb").glob("offline-run-*/run-*.wandb"))
    # A process that begins again writes a file of its own, under the same id: `wandb sync` puts them together.
    assert len({file.name for file in files}) == 1
    found = []
    for record in (Record.FromString(data) for file in files for data in wandb_records(file)):
        if record.WhichOneof("record_type") == "history":
            items = {item.key or "/".join(item.nested_key): item.value_json for item in record.history.item}
            found.append((record.history.step.num, items))
    assert [(step, float(items["train/reward"])) for step, items in found if "train/reward" in items] == rewards(rows)
    shown = [(step, items["completions/nrows"]) for step, items in found if "completions/nrows" in items]
    assert shown == [(1, "2"), (3, "2")]


def wandb_records(file):
    """The records of a transaction log: blocks of 32 KiB, each record in pieces of checksum, length and kind."""
    data, at, whole = file.read_bytes(), 7, b""
    while at + 7 <= len(data):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        # 1 is a whole record, 4 the last piece of one.
        if kind in (1, 4):
            yield whole
            whole = b""


def test_mlflow_has_one_run_of_all_turns(tmp_path):
    from mlflow import MlflowClient

    rows = two_turns(tmp_path, "mlflow")
    client = MlflowClient()
    (run,) = client.search_runs([client.get_experiment_by_name("tests").experiment_id])
    assert run.info.run_name == "line"
    found = client.get_metric_history(run.info.run_id, "train/reward")
    assert [(m.step, m.value) for m in found] == rewards(rows)
    table = json.loads((tmp_path / "mlruns").joinpath(*_artifact(run), "completions.json").read_text())
    assert len(table["data"]) == 4


def _artifact(run):
    return run.info.experiment_id, run.info.run_id, "artifacts"
