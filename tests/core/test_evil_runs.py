"""Run folders from strangers: nothing is written outside of them, and each is refused in one line."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stages.core.errors import CosmoError, InputError
from stages.core.runner import Options, run_stage
from stages.core.runs.folder import RunFolder
from stages.core.storage.location import BucketFolder, LocalLocation, locate
from tests.core.test_commit import tree
from tests.support.cli import complaint, cosmo, ok
from tests.support.toy import PromptReader, ToyConfig, ToyStage

Record = dict[str, Any]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return run_stage(ToyStage(), ToyConfig(), [], options=Options(runs=tmp_path / "runs")).path


def edited(run: Path, name: str, change: Callable[[Record], Any]) -> None:
    """A JSON file of the run with something done to it; a change may return another value altogether."""
    path = run / name
    record = json.loads(path.read_text())
    changed = change(record)
    path.write_text(json.dumps(record if changed is None else changed))


def put(*way: Any) -> Callable[[Record], None]:
    """Sets the value at the end of the way."""

    def change(record: Record) -> None:
        target: Any = record
        for step in way[:-2]:
            target = target[step]
        target[way[-2]] = way[-1]

    return change


def without(name: str) -> Callable[[Record], None]:
    def change(record: Record) -> None:
        del record[name]

    return change


def twice(record: Record) -> None:
    record["files"].append(copy.deepcopy(record["files"][0]))


RECEIPTS = {
    "a path that leads out": put("files", 0, "path", "../../PLANTED"),
    "an absolute path": put("files", 0, "path", "/tmp/PLANTED"),
    "a path with a way out in its middle": put("files", 0, "path", "notes/../../../PLANTED"),
    "a path of the runner's": put("files", 0, "path", "receipts/00002.json"),
    "the manifest": put("files", 0, "path", "manifest.json"),
    "a hidden path": put("files", 0, "path", ".git/hooks"),
    "an empty part": put("files", 0, "path", "notes//x"),
    "a control character": put("files", 0, "path", "notes/\x1b]52;c"),
    "another shard's file": put("files", 2, "path", "shards/00000.parquet"),
    "a path that is no text": put("files", 0, "path", 3),
    "a file twice": twice,
    "no shard": lambda record: record["files"].pop(),
    "staging that leads out": put("staging", "staging/../../x"),
    "staging deep below": put("staging", "staging/a/b/c/d"),
    "staging elsewhere": put("staging", "logs/x"),
    "staging that is its parent": put("staging", "staging/.."),
    "staging that is no text": put("staging", None),
    "another index": put("index", 2),
    "an index that is true": put("index", True),
    "a digest of words": put("files", 0, "sha256", "none"),
    "a size below 0": put("files", 0, "bytes", -1),
    "rows as text": put("rows", "5"),
    "rows that are no number": put("rows", float("nan")),
    "seconds without end": put("seconds", float("inf")),
    "seconds too many to count": put("seconds", 10**400),
    "rejected as a list": put("rejected", []),
    "rejected counted in words": put("rejected", {"odd": "two"}),
    "the shard pruned": put("pruned", ["shards"]),
    "pruned as a text": put("pruned", "notes"),
    "a list": lambda record: [record],
    "nothing": lambda record: {},
    "files that are texts": put("files", ["notes/1.txt"]),
    "no files": without("files"),
}


@pytest.mark.parametrize("wrong", RECEIPTS)
def test_a_wrong_receipt_is_refused_and_moves_nothing(wrong: str, run: Path, tmp_path: Path) -> None:
    edited(run, "receipts/00001.json", RECEIPTS[wrong])
    # What a receipt that was believed would move.
    for name in ("staging/a/b/c/d", "staging/x"):
        (run / name).mkdir(parents=True)
    (run / "PLANTED").write_text("OWNED")
    before = tree(tmp_path)
    for look in (
        lambda: RunFolder.open(run).receipts(),
        lambda: RunFolder.open(run).missing(),
        lambda: RunFolder.open(run).shard_paths(),
        lambda: RunFolder.open(run).artifact("notes"),
        lambda: list(RunFolder.open(run).rejected()),
        lambda: run_stage(PromptReader(), ToyConfig(), [run], options=Options(runs=tmp_path / "down")),
        # Not even who made it may go on with it.
        lambda: run_stage(ToyStage(), ToyConfig(), [], options=Options(runs=tmp_path / "runs")),
    ):
        with pytest.raises(InputError, match=r"receipts/00001\.json is not a receipt of ours") as caught:
            look()
        assert "\n" not in caught.value.message
        assert "\x1b" not in caught.value.message
        assert caught.value.hint
    assert tree(tmp_path) == before


MANIFESTS = {
    "a stage that is a module path": put("stage", "../evil"),
    "a stage that is a number": put("stage", 1),
    "a fingerprint with a way out": put("fingerprint", "../../x"),
    "shards that are texts": put("shards", ["x"]),
    "shards as a number": put("shards", 10**9),
    "inputs as a table": put("inputs", {}),
    "an input without a path": put("inputs", [{"fingerprint": "f" * 64}]),
    "a key that is a list": put("key", []),
    "a table that is a number": put("table", 7),
    "a list": lambda record: [record],
    "no shards": without("shards"),
}


@pytest.mark.parametrize("wrong", MANIFESTS)
def test_a_wrong_manifest_is_refused(wrong: str, run: Path) -> None:
    edited(run, "manifest.json", MANIFESTS[wrong])
    with pytest.raises(InputError, match=r"manifest\.json is not a manifest of ours") as caught:
        RunFolder.open(run)
    assert "\n" not in caught.value.message


def test_rows_of_a_later_version_are_refused_by_name(run: Path) -> None:
    edited(run, "manifest.json", put("table_version", 99))
    with pytest.raises(InputError, match="prompts rows in version 99, and this cosmo knows version"):
        RunFolder.open(run)


@pytest.mark.parametrize("name", ["manifest.json", "receipts/00001.json"])
@pytest.mark.parametrize("content", [b"[" * 100_000, b"\xff\xfe", b"{", b"", b'{"rows": ' + b"9" * 5000 + b"}"])
def test_what_is_no_json_is_refused_by_name(name: str, content: bytes, run: Path) -> None:
    (run / name).write_bytes(content)
    with pytest.raises(InputError, match="is not valid JSON") as caught:
        RunFolder.open(run).missing()
    assert name in caught.value.message


def test_a_config_that_is_no_table_is_refused(run: Path) -> None:
    (run / "config.json").write_text("[]")
    with pytest.raises(InputError, match=r"config\.json is not a config"):
        RunFolder.open(run).config  # noqa: B018


def read_all(run: Path) -> None:
    folder = RunFolder.open(run)
    folder.missing()
    list(folder.rejected())
    folder.shard_paths()
    folder.artifact("notes")


@pytest.mark.parametrize("linked", ["staging", "shards", "receipts", "rejected", "notes", "shards/00001.parquet",
                                    "receipts/00001.json", "manifest.json", "logs"])  # fmt: skip
def test_no_link_is_followed(linked: str, run: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "deep").mkdir(parents=True)
    (elsewhere / "deep" / "file").write_text("precious")
    target = elsewhere / Path(linked).name
    if (run / linked).exists():
        os.rename(run / linked, target)
    (run / linked).symlink_to(target if target.exists() else elsewhere)
    if linked == "staging":
        (run / linked).unlink()
        (run / linked).symlink_to(elsewhere)
        # What cleaning would have emptied, and a lock would have cut.
        (elsewhere / "00001.lock").write_text("precious")
    before = tree(tmp_path)
    # A shard is missing, so that its maker has something to do.
    if linked not in ("receipts", "receipts/00001.json"):
        os.remove(run / "receipts" / "00003.json")
        before = tree(tmp_path)
    with pytest.raises(CosmoError, match="is a link"):
        run_stage(ToyStage(), ToyConfig(), [], options=Options(runs=tmp_path / "runs"))
    assert tree(elsewhere) == {k.removeprefix("elsewhere/"): v for k, v in before.items() if k.startswith("elsewhere/")}
    if linked not in ("staging", "logs"):
        with pytest.raises(InputError, match="is a link"):
            read_all(run)


def test_a_linked_staging_of_a_complete_run_is_not_emptied(run: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "deep").mkdir(parents=True)
    (elsewhere / "deep" / "file").write_text("precious")
    (run / "staging").rmdir()
    (run / "staging").symlink_to(elsewhere)
    with pytest.raises(InputError, match="is a link"):
        run_stage(ToyStage(), ToyConfig(), [], options=Options(runs=tmp_path / "runs"))
    assert (elsewhere / "deep" / "file").read_text() == "precious"


def test_a_folder_that_says_it_is_a_mirror_sends_nobody_to_a_bucket(run: Path) -> None:
    (run.parent / ".remote.json").write_text(json.dumps({"url": "s3://somebody/elses"}))
    assert locate(run) == LocalLocation(run)
    assert RunFolder.open(run).complete
    for content in ("[]", "{", '{"url": 3}', '{"url": "s3://"}'):
        (run.parent / ".remote.json").write_text(content)
        assert locate(run) == LocalLocation(run)
    place = BucketFolder("bucket", "x")
    assert locate(place.open_mirror() / "toy-1") != LocalLocation(place.mirror / "toy-1")


def test_show_status_and_score_refuse_it_and_write_nothing(tmp_path: Path) -> None:
    """RELIABILITY 1, as it was found: a receipt that plants a file above the run, and one whose staging is a link."""
    (tmp_path / "p.jsonl").write_text('{"prompt": "one ?", "label": "general"}\n')
    prompts = ok("prepare", "jsonl:p.jsonl", "--runs", "made", cwd=tmp_path)
    groups = ok("rollout", prompts, "--engine", "fake", "--samples", "2", "--runs", "evil", cwd=tmp_path)
    staged = groups / "staging" / "a" / "b" / "c" / "d"
    staged.mkdir(parents=True)
    (groups / "staging" / "a" / "b" / "PLANTED").write_text("OWNED")
    edited(groups, "receipts/00000.json", put("staging", "staging/a/b/c/d"))
    edited(groups, "receipts/00000.json", lambda r: r["files"].append({**r["files"][0], "path": "../../PLANTED"}))
    before = tree(tmp_path)
    for command in (["show", groups], ["show", groups, "--rejected"], ["score", groups, "--runs", "scored"]):
        done = cosmo(*command, cwd=tmp_path)
        assert done.returncode == 3, done.stderr
        message, hint = complaint(done)
        assert "receipts/00000.json is not a receipt of ours" in message
        assert "trust" in hint
    done = cosmo("status", "evil", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    [report] = json.loads(done.stdout)
    assert report["state"] == "broken"
    assert "is not a receipt of ours" in report["why"][0]
    assert tree(tmp_path) == before
