"""The whole chain as a user types it: pipes, kills, workers, caching."""

from __future__ import annotations

import random
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from schemas.arrow import to_record
from schemas.tables import SCORED, TABLES
from stages.core.runs.folder import RunFolder
from tests.support import preloaded
from tests.support.cli import COSMO, cosmo, environment, ok

TINY = ["--policy", "tiny:qwen2_5_vl", "--samples", "3", "--max-new-tokens", "10", "--set", "shard_groups=4"]
PREPARE = ["prepare", "builtin", "--limit", "24", "--set", "shard_rows=6"]
TRAIN = ["--objective", "rl", "--set", "updates_per_rollout=3", "--set", "checkpoint_steps=1"]


def rows_of(path: Path) -> list[dict[str, Any]]:
    """All rows, without what may differ between two runs: wall time."""
    folder = RunFolder.open(path)
    rows = [to_record(r) for r in folder.rows(TABLES[folder.table or ""])]
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


def weights_of(path: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted((path / "policy").glob("*.safetensors"))}


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One uninterrupted run of every stage."""
    place = tmp_path_factory.mktemp("chain")
    made = {"place": place, "prepare": ok(*PREPARE, cwd=place)}
    made["rollout"] = ok("rollout", made["prepare"], *TINY, cwd=place)
    made["score"] = ok("score", made["rollout"], cwd=place)
    made["train"] = ok("train", made["score"], *TRAIN, cwd=place)
    made["eval"] = ok("eval", made["score"], cwd=place)
    made["export"] = ok("export", made["train"], cwd=place)
    return made


def commands(chain: dict[str, Path]) -> dict[str, list[str]]:
    return {
        "prepare": PREPARE,
        "rollout": ["rollout", str(chain["prepare"]), *TINY],
        "score": ["score", str(chain["rollout"])],
        "train": ["train", str(chain["score"]), *TRAIN],
        "eval": ["eval", str(chain["score"])],
        "export": ["export", str(chain["train"])],
    }


def test_every_row_is_accounted_for(chain: dict[str, Path]) -> None:
    prompts = rows_of(chain["prepare"])
    assert len(prompts) == 24
    groups = list(RunFolder.open(chain["score"]).rows(SCORED))
    assert {g.id for g in groups} == {p["id"] for p in prompts}
    assert all(len(g.completions) == 3 for g in groups)
    assert all(c.grades and c.reward is not None for g in groups for c in g.completions)
    assert (chain["train"] / "policy" / "model.safetensors").is_file()
    assert (chain["eval"] / "report.html").is_file()
    assert (chain["export"] / "model" / "README.md").is_file()


@pytest.mark.parametrize("verb", ["prepare", "rollout", "score", "train", "eval", "export"])
def test_others_read_every_shard(verb: str, chain: dict[str, Path], tmp_path: Path) -> None:
    """datasets, DuckDB and pandas agree with our reader on every table, with no code of ours."""
    import datasets
    import duckdb
    import pandas

    ours = [to_record(r) for r in RunFolder.open(chain[verb]).rows(TABLES[RunFolder.open(chain[verb]).table or ""])]
    shards = str(chain[verb] / "shards" / "*.parquet")
    loaded = datasets.load_dataset("parquet", data_files=shards, cache_dir=str(tmp_path))["train"]
    assert loaded.column_names == list(ours[0])
    assert len(loaded) == len(ours)
    [(counted,)] = duckdb.sql(f"select count(*) from '{shards}'").fetchall()
    assert counted == len(ours)
    frame = pandas.concat([pandas.read_parquet(p) for p in sorted((chain[verb] / "shards").glob("*.parquet"))])
    assert list(frame.columns) == list(ours[0])
    plain = [name for name in ours[0] if all(isinstance(row[name], str | int) for row in ours)]
    for name in plain:
        expected = [row[name] for row in ours]
        assert loaded[name] == expected
        assert frame[name].tolist() == expected
        assert sorted(v for (v,) in duckdb.sql(f"select \"{name}\" from '{shards}'").fetchall()) == sorted(expected)
    if "images" in ours[0]:
        sizes = [len(row["images"]) for row in loaded]
        assert sum(sizes) > 0
        assert sizes == [len(row["images"]) for row in ours]
        assert all(image.size[0] > 0 for row in loaded for image in row["images"])
    if verb in ("rollout", "score"):
        [(tokens,)] = duckdb.sql(
            f"select sum(len(c.token_ids)) from (select unnest(completions) as c from '{shards}')"
        ).fetchall()
        assert tokens == sum(len(c["token_ids"]) for row in ours for c in row["completions"])


@pytest.mark.parametrize("verb", ["prepare", "rollout", "score", "train", "eval", "export"])
def test_sigkill_at_random_moments_then_the_same_command(verb: str, chain: dict[str, Path], tmp_path: Path) -> None:
    rng = random.Random(verb)
    command = [*commands(chain)[verb], "--runs", tmp_path / "runs"]
    until_work = 0.0
    for attempt in range(3):
        began = time.monotonic()
        process = preloaded.Started(*command, cwd=tmp_path)
        # Aim the kills at the work and not at imports: the first start tells how long it takes to get there, however
        # fast or slow the machine is. What comes out is the same wherever a kill falls.
        while attempt == 0 and process.poll() is None and not list(tmp_path.glob("runs/*/staging/*")):
            time.sleep(0.02)
        until_work = until_work or time.monotonic() - began
        time.sleep(rng.uniform(0.0, 1.0) * until_work + (until_work if attempt else 0.0))
        process.kill()
    path = preloaded.ok(*command, cwd=tmp_path)
    assert path.name == chain[verb].name
    assert rows_of(path) == rows_of(chain[verb])
    assert weights_of(path) == weights_of(chain[verb])
    assert not list((path / "staging").iterdir())


@pytest.mark.parametrize("verb", ["prepare", "rollout", "score"])
def test_two_workers_on_one_plan(verb: str, chain: dict[str, Path], tmp_path: Path) -> None:
    command = [*commands(chain)[verb], "--runs", tmp_path / "runs", "--worker"]
    workers = [preloaded.Started(*command, f"{i}/2", cwd=tmp_path) for i in range(2)]
    assert [w.wait() for w in workers] == [0, 0]
    path = next((tmp_path / "runs").iterdir())
    assert rows_of(path) == rows_of(chain[verb])


def test_cached_answers_come_from_disk(chain: dict[str, Path]) -> None:
    for verb, command in commands(chain).items():
        done = cosmo(*command, cwd=chain["place"])
        assert done.stdout.strip() == str(chain[verb].relative_to(chain["place"])), done.stderr
        assert "cached" in done.stderr


def test_the_pipe(chain: dict[str, Path], tmp_path: Path) -> None:
    links = [
        " ".join(PREPARE),
        "rollout " + " ".join(TINY),
        "score",
        "train " + " ".join(TRAIN),
    ]
    script = " | ".join(f"cosmo {link}" for link in links)
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", script],
        cwd=tmp_path,
        env=environment(PATH=preloaded.path()),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"runs/{chain['train'].name}\n"
    assert weights_of(tmp_path / done.stdout.strip()) == weights_of(chain["train"])


def test_a_failing_first_link_stops_the_rest_with_one_line_each(tmp_path: Path) -> None:
    script = "cosmo prepare jsonl:gone.jsonl | cosmo rollout --policy tiny:llama | cosmo score | cosmo train"
    shell = f'cosmo() {{ {" ".join(COSMO)} "$@"; }}\n{script}'
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", shell],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 3
    assert done.stdout == ""
    said = [line for line in done.stderr.splitlines() if line.startswith("cosmo ")]
    assert sorted(line.split(":")[0] for line in said) == [
        "cosmo prepare",
        "cosmo rollout",
        "cosmo score",
        "cosmo train",
    ]
    assert "gone.jsonl" in next(line for line in said if line.startswith("cosmo prepare"))
    assert len(done.stderr.strip().splitlines()) == 8


def test_status_says_why(chain: dict[str, Path], tmp_path: Path) -> None:
    import json
    import shutil

    shutil.copytree(chain["place"] / "runs", tmp_path / "runs")
    states = json.loads(cosmo("status", "--json", cwd=tmp_path).stdout)
    assert [s["state"] for s in states] == ["complete"] * 6, states
    groups = tmp_path / "runs" / chain["rollout"].name
    (groups / "receipts" / "00001.json").unlink()
    shutil.rmtree(tmp_path / "runs" / chain["train"].name)
    states = {Path(s["path"]).name: s for s in json.loads(cosmo("status", "--json", cwd=tmp_path).stdout)}
    assert states[groups.name]["state"] == "incomplete"
    assert "shard 00001" in states[groups.name]["why"][0]
    export = states[chain["export"].name]
    assert export["state"] == "stale"
    assert "is gone" in export["why"][0]


def test_show_names_images(chain: dict[str, Path]) -> None:
    text = cosmo("show", chain["score"], "-n", "24", "--all", cwd=chain["place"]).stdout
    assert "<PNG " in text
    assert "grades[0]" in text
    assert len(text) < 200_000
    assert "<PNG " in cosmo("show", chain["score"], "-n", "24", cwd=chain["place"]).stdout
