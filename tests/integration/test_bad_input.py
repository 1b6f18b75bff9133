"""Bad input: an exit code, one clear line that names the value, a hint; no traceback, nothing lost."""

from __future__ import annotations

import io
import json
import os
import resource
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image as Pillow

from schemas.tables import PROMPTS
from stages.core.errors import UNAVAILABLE
from stages.core.runs.folder import RunFolder
from tests.support.cli import COSMO, complaint, cosmo, environment, ok

FAKE = ["--engine", "fake", "--policy", "tiny:qwen2_5_vl", "--samples", "2", "--set", "shard_groups=4"]


def png(side: int = 16) -> bytes:
    stream = io.BytesIO()
    Pillow.new("RGB", (side, side), "blue").save(stream, "PNG")
    return stream.getvalue()


def write_jsonl(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows))
    return path


def good(n: int, **more: Any) -> dict[str, Any]:
    return {"prompt": f"how many is {n} and {n * 7} ?", "answer": str(n * 8), "label": "general", **more}


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("prompts")
    write_jsonl(place / "data.jsonl", [good(n) for n in range(12)])
    return ok("prepare", "jsonl:data.jsonl", "--set", "shard_rows=4", "--set", "near_duplicates=0.0", cwd=place)


def rejected(folder: Path) -> dict[str, str]:
    return {r.reason: r.detail for r in RunFolder.open(folder).rejected()}


# -- samples: a bad one is a row with its reason, the others go on ---------------------------------------------


def test_bad_images_are_rows_with_their_reason(tmp_path: Path) -> None:
    (tmp_path / "good.png").write_bytes(png())
    (tmp_path / "suffix.jpg").write_bytes(png(20))
    (tmp_path / "cut.png").write_bytes(png(64)[:60])
    (tmp_path / "words.png").write_text("not a picture")
    (tmp_path / "heavy.png").write_bytes(png() + b"\0" * 300_000)
    names = ["good.png", "suffix.jpg", "cut.png", "words.png", "heavy.png", "gone.png"]
    write_jsonl(tmp_path / "d.jsonl", [good(n, image=name) for n, name in enumerate(names)])
    folder = ok(
        "prepare",
        "jsonl:d.jsonl",
        "--set",
        "max_image_bytes=100000",
        "--set",
        "near_duplicates=0.0",
        cwd=tmp_path,
    )
    rows = list(RunFolder.open(folder).rows(PROMPTS))
    assert len(rows) == 2
    why = rejected(folder)
    assert {"truncated_image", "too_large", "missing_image"} <= set(why)
    assert "gone.png" in why["missing_image"]
    assert len(rows) + len(list(RunFolder.open(folder).rejected())) == len(names)


def test_malformed_lines_and_wrong_types_are_rows_with_their_line(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "d.jsonl", [good(1), "{not json", {"answer": "5"}, {**good(3), "prompt": 7}, good(9)])
    folder = ok("prepare", "jsonl:d.jsonl", "--set", "near_duplicates=0.0", cwd=tmp_path)
    run = RunFolder.open(folder)
    assert len(list(run.rows(PROMPTS))) == 2
    refs = sorted(r.ref for r in run.rejected())
    assert [r.split()[-1] for r in refs] == ["2", "3", "4"]


# -- runs: an exit code --------------------------------------------------------------------------------------


def test_missing_empty_and_unusable_sources(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("")
    for source, code, word in (
        ("jsonl:gone.jsonl", 3, "gone.jsonl"),
        ("jsonl:empty.jsonl", 3, "empty.jsonl"),
        ("jsnol:gone.jsonl", 2, "jsnol"),
        ("gsm8k:.", 3, "."),
    ):
        done = cosmo("prepare", source, cwd=tmp_path)
        message, _ = complaint(done)
        assert done.returncode == code, done.stderr
        assert word in message
    assert "did you mean 'jsonl'?" in complaint(cosmo("prepare", "jsnol:x", cwd=tmp_path))[1]


def test_unknown_keys_flags_plugins_and_values(prompts: Path, tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text("[rollout]\nsampels = 4\n")
    (tmp_path / "broken.toml").write_text("[rollout\n")
    cases: list[tuple[list[object], int, str, str]] = [
        (["rollout", prompts, "--config", "r.toml"], 2, "sampels", "samples"),
        (["rollout", prompts, "--config", "broken.toml"], 3, "broken.toml", ""),
        (["rollout", prompts, "--config", "none.toml"], 3, "none.toml", ""),
        (["rollout", prompts, "--set", "temprature=1"], 2, "temprature", "temperature"),
        (["rollout", prompts, "--set", "temperature"], 2, "temperature", "key=value"),
        (["rollout", prompts, "--sampels", "3"], 2, "--sampels", ""),
        (["rollout", prompts, "--engine", "fak"], 2, "fak", "fake"),
        (["rollout", prompts, "--samples", "many"], 2, "many", ""),
        (["rollout", prompts, "--worker", "3/3"], 2, "3/3", "0/3"),
        (["rollout", prompts, "--engine", "fake", "--set", "top_p=0.5"], 2, "top_p", ""),
        (["list", "verifer"], 2, "verifer", "verifier"),
        (["run", "none.toml"], 3, "none.toml", ""),
    ]
    for command, code, word, hint in cases:
        done = cosmo(*command, cwd=tmp_path)
        message, hinted = complaint(done)
        assert done.returncode == code, (command, done.stderr)
        assert word in message, (command, message)
        assert hint in hinted, (command, hinted)


def test_no_such_model(prompts: Path, tmp_path: Path) -> None:
    """And nobody is asked for it: what knocks at the hub stays in the queue of this socket."""
    with socket.create_server(("127.0.0.1", 0)) as hub:
        hub.setblocking(False)
        endpoint = f"http://127.0.0.1:{hub.getsockname()[1]}"
        # Only what could be a hub's name is looked for there, and not by who works offline.
        for spec, offline in (("nobody/no-such-model", "1"), ("./no/such/folder", "0"), ("tiny:qwen9", "0")):
            more = {"HF_ENDPOINT": endpoint, "HF_HUB_OFFLINE": offline}
            done = cosmo("rollout", prompts, "--policy", spec, cwd=tmp_path, **more)
            message, _ = complaint(done)
            assert done.returncode in (2, 4), done.stderr
            assert spec.split(":")[-1] in message
            with pytest.raises(BlockingIOError):
                hub.accept()


def test_unknown_label_is_an_error_and_not_a_reward(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "d.jsonl", [good(1, label="astrology")])
    groups = ok("rollout", ok("prepare", "jsonl:d.jsonl", cwd=tmp_path), *FAKE, cwd=tmp_path)
    done = cosmo("score", groups, cwd=tmp_path)
    assert done.returncode == 3
    assert "astrology" in complaint(done)[0]


def test_incomplete_upstream(prompts: Path, tmp_path: Path) -> None:
    part = cosmo("rollout", prompts, *FAKE, "--worker", "0/3", "--runs", tmp_path / "runs", cwd=tmp_path)
    assert (part.returncode, part.stdout) == (0, "")
    groups = next((tmp_path / "runs").iterdir())
    done = cosmo("score", groups, cwd=tmp_path)
    assert done.returncode == 3
    message, hint = complaint(done)
    assert "incomplete" in message
    assert "cosmo rollout" in hint
    assert cosmo("score", groups, "--partial", cwd=tmp_path).returncode == 0


def test_corrupt_shard_missing_column_and_wrong_table(prompts: Path, tmp_path: Path) -> None:
    groups = ok("rollout", prompts, *FAKE, cwd=tmp_path)
    shard = groups / "shards" / "00000.parquet"
    whole = shard.read_bytes()
    shard.write_bytes(whole[: len(whole) // 2] + b"\0" * (len(whole) - len(whole) // 2))
    done = cosmo("score", groups, cwd=tmp_path)
    assert done.returncode == 3
    assert "00000.parquet" in complaint(done)[0]
    shard.write_bytes(whole)
    table = pq.read_table(prompts / "shards" / "00000.parquet")
    pq.write_table(table.drop_columns(["label"]), tmp_path / "nolabel.parquet")
    wrong = table.set_column(table.column_names.index("label"), "label", pa.array([1] * table.num_rows))
    pq.write_table(wrong, tmp_path / "wrong.parquet")
    for name in ("nolabel.parquet", "wrong.parquet"):
        done = cosmo("rollout", tmp_path / name, *FAKE, cwd=tmp_path)
        assert done.returncode == 3
        message, _ = complaint(done)
        assert "label" in message
        assert name in message
    done = cosmo("score", prompts, cwd=tmp_path)
    assert done.returncode == 3
    assert "reads" in complaint(done)[0]


# -- the machine ---------------------------------------------------------------------------------------------


def test_no_room_on_disk_then_the_same_command_goes_on(tmp_path: Path) -> None:
    """A file-size limit stands in for a full disk: the kernel refuses the write in the same place."""
    big = "word " * 400
    write_jsonl(tmp_path / "d.jsonl", [good(n, prompt=f"{n} {os.urandom(900).hex()} {big}") for n in range(300)])
    command = ["prepare", "jsonl:d.jsonl", "--set", "near_duplicates=0.0", "--runs", str(tmp_path / "runs")]

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    done = subprocess.run(
        [*COSMO, *command],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        preexec_fn=limit,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == UNAVAILABLE
    complaint(done)
    assert not list((tmp_path / "runs").rglob("shards/*.parquet"))
    folder = ok(*command, cwd=tmp_path)
    assert len(list(RunFolder.open(folder).rows(PROMPTS))) == 300


def test_a_place_that_cannot_be_written(prompts: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for place in ("/proc/cosmo-runs", tmp_path / "file" / "runs"):
        done = cosmo("rollout", prompts, *FAKE, "--runs", place, cwd=tmp_path)
        assert done.returncode == 4, done.stderr
        message, hint = complaint(done)
        assert str(place) in message
        assert "--runs" in hint


# Ctrl-C when the second shard is written and not yet committed: a moment that no test can wait for.
INTERRUPTED = """
import os, signal, sys
from stages.core.storage.local import LocalWriter
commit = LocalWriter.commit
def pressed(self, root, receipt):
    if receipt.index == 1:
        os.kill(os.getpid(), signal.SIGINT)
    return commit(self, root, receipt)
LocalWriter.commit = pressed
from cosmo_cli.app import main
sys.exit(main(sys.argv[1:]))
"""


def test_ctrl_c_leaves_the_shards_done_so_far(tmp_path: Path) -> None:
    command = ["prepare", "builtin", "--limit", "150", "--runs", "runs", "--set", "shard_rows=50"]
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, *command],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        # A shell that starts the tests in the background has them ignore SIGINT, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    out, err = process.communicate()
    assert process.returncode == 130, err
    assert out == ""
    assert "Traceback" not in err
    assert err.strip().splitlines()[-2:] == [
        "cosmo prepare: interrupted",
        "  hint: the same command goes on where it stopped",
    ]
    folder = next((tmp_path / "runs").iterdir())
    assert not list((folder / "staging").glob("*/shards/*"))
    before = {p.name: p.stat().st_mtime_ns for p in (folder / "shards").iterdir()}
    assert list(before) == ["00000.parquet"]
    ok(*command, cwd=tmp_path)
    assert {n: (folder / "shards" / n).stat().st_mtime_ns for n in before} == before


def test_a_closed_pipe_is_141_and_silent(prompts: Path, tmp_path: Path) -> None:
    script = f'"$@" show {prompts} -n 12 | head -c 1 >/dev/null; echo ${{PIPESTATUS[0]}}'
    done = subprocess.run(
        ["bash", "-c", script, "bash", *COSMO],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() in ("141", "0")
    assert done.stderr == ""
    reader, writer = os.pipe()
    os.close(reader)
    closed = subprocess.run(
        [*COSMO, "show", str(prompts)],
        cwd=tmp_path,
        env=environment(),
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(writer)
    assert (closed.returncode, closed.stderr) == (141, "")
