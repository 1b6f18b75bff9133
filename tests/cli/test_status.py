"""What `cosmo status` says of runs: what they are, where they come from, and that one bad run hides no other."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from cosmo_cli.inspection.status import table
from cosmo_cli.run_reports import RunReport, reports
from cosmo_cli.staleness import changes
from stages.core.config import build
from stages.core.errors import InputError
from stages.core.runner import Options, run_stage
from stages.core.stage_list import load_config, load_stage
from tests.support.cli import complaint, cosmo
from tests.support.toy import ToyConfig, ToyStage


def saved_line(run: Path) -> str:
    return str(json.loads((run / "report.json").read_text())["quality"]["line"])


def made(verb: str, values: dict[str, Any], inputs: list[Path], runs: Path, name: str = "") -> Path:
    config = build(load_config(verb), values, verb)
    return run_stage(load_stage(verb), config, inputs, options=Options(runs, name=name)).path


@pytest.fixture
def chain(tmp_path: Path) -> dict[str, Path]:
    """prepare, rollout and score of two prompts, the files dated against their order."""
    (tmp_path / "mine.jsonl").write_text('{"prompt": "1 + 1 ?", "answer": "2"}\n{"prompt": "2 + 2 ?", "answer": "4"}\n')
    runs = tmp_path / "runs"
    source = {"name": "jsonl", "path": str(tmp_path / "mine.jsonl")}
    prompts = made("prepare", {"sources": [source]}, [], runs)
    groups = made("rollout", {"engine": "fake", "samples": 2}, [prompts], runs, "first try")
    scored = made("score", {}, [groups], runs)
    for age, path in enumerate((scored, groups, prompts)):
        os.utime(path / "manifest.json", (1_000_000 + age, 1_000_000 + age))
    return {"prepare": prompts, "rollout": groups, "score": scored}


def test_each_run_says_what_it_is_and_stands_below_its_parents(chain: dict[str, Path], tmp_path: Path) -> None:
    found = reports([tmp_path / "runs"])
    assert [Path(r.path) for r in found] == list(chain.values())
    assert [r.state for r in found] == ["complete"] * 3
    assert [r.stage for r in found] == ["prepare", "rollout", "score"]
    assert [r.name for r in found] == ["", "first try", ""]
    assert [r.rows for r in found] == [2, 2, 2]
    sizes = [sum(p.stat().st_size for p in run.rglob("*.parquet")) for run in chain.values()]
    assert [r.size for r in found] == sizes
    assert [r.figures for r in found][1:] == [saved_line(run) for run in (chain["rollout"], chain["score"])]
    assert found[2].figures.startswith("reward ")
    assert {tuple(r.data) for r in found} == {(f"jsonl:{tmp_path / 'mine.jsonl'}",)}
    assert [list(map(Path, r.parents)) for r in found] == [[], [chain["prepare"]], [chain["rollout"]]]
    assert all(r.date.startswith("1970-01-12 ") for r in found)


def test_a_name_is_kept_and_identifies_nothing(chain: dict[str, Path], tmp_path: Path) -> None:
    again = made("rollout", {"engine": "fake", "samples": 2}, [chain["prepare"]], tmp_path / "runs", "another")
    assert again == chain["rollout"]
    assert [r.name for r in reports([again])] == ["first try"]


def test_the_model_is_the_one_at_the_beginning_of_the_policies(tmp_path: Path) -> None:
    def run(name: str, stage: str, policy: str, inputs: list[str]) -> None:
        folder = tmp_path / name
        folder.mkdir()
        manifest = {
            "stage": stage,
            "fingerprint": name.ljust(64, "0"),
            "table": None,
            "key": {},
            "shards": [],
            "inputs": [{"path": f"../{i}", "fingerprint": i.ljust(64, "0")} for i in inputs],
            "provenance": {"policy": policy} if policy else {},
        }
        (folder / "manifest.json").write_text(json.dumps(manifest))

    run("train-1", "train", "org/model", [])
    run("rollout-1", "rollout", str(tmp_path / "train-1" / "policy"), [])
    run("score-1", "score", "", ["rollout-1"])
    run("train-2", "train", "elsewhere/train-1", ["score-1"])
    found = {Path(r.path).name: r for r in reports([tmp_path])}
    assert {r.model for r in found.values()} == {"org/model"}
    assert list(found) == ["train-1", "rollout-1", "score-1", "train-2"]
    # As it was typed in another folder: the neighbour of that name is meant.
    assert [Path(p).name for p in found["train-2"].parents] == ["score-1", "train-1"]


@pytest.mark.parametrize(
    ("manifest", "reason"),
    [
        ("{", "is not valid JSON"),
        ('{"stage": "score"}', "is not a manifest of ours: it has no shards"),
        ("[]", ""),
        ('{"stage": "later", "fingerprint": "f", "table": null, "key": {}, "shards": [], "inputs": [], '
         '"provenance": {}}', "no stage 'later'"),
    ],
)  # fmt: skip
def test_a_damaged_run_is_a_line_with_its_reason_and_hides_no_other(
    chain: dict[str, Path], tmp_path: Path, manifest: str, reason: str
) -> None:
    broken = tmp_path / "runs" / "score-00000000"
    broken.mkdir()
    (broken / "manifest.json").write_text(manifest)
    done = cosmo("status", "--runs", "runs", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    states = {Path(r["path"]).name: r for r in json.loads(done.stdout)}
    assert [states[path.name]["state"] for path in chain.values()] == ["complete"] * 3
    bad = states[broken.name]
    assert bad["state"] in ("broken", "stale")
    assert len(bad["why"]) == 1
    assert reason in bad["why"][0]
    assert "\n" not in bad["why"][0]


def test_what_changed_is_named(chain: dict[str, Path], tmp_path: Path) -> None:
    source = tmp_path / "mine.jsonl"
    source.write_text(source.read_text().replace("2 + 2", "3 + 3"))
    found = {r.stage: r for r in reports([tmp_path / "runs"])}
    assert found["prepare"].state == "stale"
    assert any(reason.startswith("plan.") for reason in found["prepare"].why)
    assert list(changes({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}})) == ["a.c changed: 2 -> 3"]


def test_a_draw_is_not_made_again_and_one_of_other_prompts_is_seen(chain: dict[str, Path], tmp_path: Path) -> None:
    """Of the same prompts and settings it comes to what the manifest has, as long as that is what its name says."""
    before = reports([tmp_path / "runs"])
    (shard,) = (chain["prepare"] / "shards").iterdir()
    shard.write_bytes(bytes(shard.stat().st_size))
    assert reports([tmp_path / "runs"]) == before
    path = chain["rollout"] / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["shards"][0]["entries"].pop()
    path.write_text(json.dumps(manifest))
    found = {r.stage: r for r in reports([tmp_path / "runs"])}
    assert [why.partition(":")[0] for why in found["rollout"].why] == ["shards changed"]
    for values in (None, 7, ["plan"]):
        manifest["key"]["plan"] = values
        path.write_text(json.dumps(manifest))
        found = {r.stage: r for r in reports([tmp_path / "runs"])}
        assert found["rollout"].state == "stale", values


def test_incomplete_runs_name_a_few_shards(tmp_path: Path) -> None:
    run = run_stage(ToyStage(), ToyConfig(shards=9), [], options=Options(tmp_path)).path
    for n in range(7):
        (run / "shards" / f"{n:05d}.parquet").unlink()
    (report,) = reports([tmp_path])
    assert (report.state, report.shards_done, report.shards) == ("incomplete", 2, 9)
    assert report.why[:6] == [*(f"shard {n:05d} is not committed" for n in range(5)), "and 2 more"]


def test_no_run_is_an_error_that_says_where_it_looked(tmp_path: Path) -> None:
    message, hint = complaint(cosmo("status", "--runs", "nowhere", cwd=tmp_path))
    assert message == "cosmo status: no run folder in nowhere"
    assert "--runs" in hint
    with pytest.raises(InputError):
        reports([tmp_path])


def test_a_narrow_terminal_has_short_lines_and_a_wide_one_has_a_line_a_run() -> None:
    run = RunReport(
        "runs/a/rollout-7f3a9c21", "stale", ["config.seed changed: 1 -> 2"], "tiny try", "rollout",
        model="Qwen/Qwen2.5-VL-7B-Instruct", data=["builtin", "gsm8k:data/gsm8k"], parents=["runs/a/prepare-1a2b3c4d"],
        date="2026-11-25 10:11:12", rows=15_600, size=3_500_000, figures="16 tokens each, 0% truncated", shards=2,
        shards_done=2,
    )  # fmt: skip
    narrow = [line for line, _, _ in table([run], 80)]
    assert narrow == [
        "in runs/a",
        "run               state    rows     size  date         name",
        "rollout-7f3a9c21  stale  15,600  3.3 MiB  11-25 10:11  tiny try",
        "  model Qwen/Qwen2.5-VL-7B-Instruct; data builtin, gsm8k:data/gsm8k; from prepare-1a2b3c4d",
        "  16 tokens each, 0% truncated",
        "  config.seed changed: 1 -> 2",
    ]
    wide = [line for line, _, _ in table([run], 120)]
    assert len(wide) == 5
    assert wide[3] == "  16 tokens each, 0% truncated"
    piped = [line for line, _, _ in table([run], None)]
    assert piped[1].startswith("runs/a/rollout-7f3a9c21  stale")
    assert piped[1].endswith("prepare-1a2b3c4d  16 tokens each, 0% truncated")
    assert len(piped) == 3
