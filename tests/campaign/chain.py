"""The commands that a campaign works on: every stage on the built-in world, small enough for seconds, and a recipe."""

from __future__ import annotations

import io
import os
import shutil
import signal
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from stages.core.file_digest import file_sha256

CLOSED_PIPE = 141
PATIENCE = 300
"""Seconds that a command may take: the machine may be busy, and a pipe without a writer is waited for without end."""
RECIPE = """
name = "campaign"
seed = 5
policy = "tiny:llama"
[prepare]
images = "without"
[[prepare.sources]]
name = "builtin"
train = 60
test = 20
[rollout]
samples = 3
max_new_tokens = 8
[train]
report_to = ["tensorboard"]
checkpoint_steps = 1
[[phases]]
name = "sft"
objective = "sft"
[phases.train]
steps = 3
batch_size = 4
learning_rate = 1e-3
[[phases]]
name = "rl"
iterations = 2
prompts = 4
[phases.train]
updates_per_rollout = 2
drop_flat_groups = false
[evaluate]
after = { final = "rl" }
"""
LINES = "\n".join(f'{{"prompt": "{n} + {n} ?", "answer": "{2 * n}", "label": "general"}}' for n in range(12)) + "\n"
COMPLETIONS = "".join(
    f'{{"prompt": "{n} + {n} ?", "answer": "{2 * n}", "completions": ["{2 * n}", "{n}"]}}\n' for n in range(6)
)


@dataclass(frozen=True, slots=True)
class Said:
    """How a command in a fork ended."""

    code: int
    """Its exit code, or minus the number of the signal that ended it."""
    out: str
    err: str

    @property
    def path(self) -> str:
        """The run folder that it printed."""
        return self.out.strip()


def call(words: list[str], folder: Path, before: Callable[[], object] | None = None) -> Said:
    """`cosmo WORDS` in a fork of this process, which has everything imported; `before` runs in it first."""
    out, err = folder / ".out", folder / ".err"
    child = os.fork()
    if child == 0:
        code = 70
        try:
            code = _called(words, folder, out, err, before)
        except SystemExit as error:
            code = int(error.code or 0)
        except BaseException as error:
            # By its path: the streams may be closed.
            with err.open("a", encoding="utf-8") as file:
                file.write(f"Traceback of the campaign: {error!r}\n")
        finally:
            # Whatever happens, this is a copy of the campaign, and may not go on as one.
            os._exit(code)
    _, status = os.waitpid(child, 0)
    texts = [path.read_text(encoding="utf-8", errors="replace") if path.exists() else "" for path in (out, err)]
    return Said(os.waitstatus_to_exitcode(status), *texts)


def _called(words: list[str], folder: Path, out: Path, err: Path, before: Callable[[], object] | None) -> int:
    os.chdir(folder)
    for number, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_CREAT | os.O_TRUNC | os.O_WRONLY), number)
    sys.stdin, sys.stdout, sys.stderr = io.StringIO(), os.fdopen(1, "w"), os.fdopen(2, "w")
    signal.alarm(PATIENCE)
    if before is not None:
        before()
    from cosmo_cli.app import main
    from cosmo_cli.process import open_streams

    # As a process begins.
    open_streams()
    code = main(words)
    for stream in (sys.stdout, sys.stderr):
        # The command has flushed them and said what became of it.
        with suppress(OSError):
            stream.flush()
    return code


def commands(folder: Path) -> dict[str, list[str]]:
    """Each stage's command by its name, on what those before it printed; run once here, so that all are done."""
    (folder / "rows.jsonl").write_text(LINES)
    (folder / "recipe.toml").write_text(RECIPE)
    (folder / "completions.jsonl").write_text(COMPLETIONS)
    made: dict[str, list[str]] = {}

    def add(name: str, *words: object) -> str:
        made[name] = [*map(str, words), "--runs", "runs"]
        said = call(made[name], folder)
        assert said.code == 0, (name, said)
        return said.path

    tiny = ("--device", "cpu")
    prompts = add("prepare", "prepare", "jsonl:rows.jsonl")
    world = add("prepare_world", "prepare", "-c", "recipe.toml")
    sampled = add("rollout", "rollout", world, "--policy", "tiny:llama", "--samples", 2, *tiny,
                  "--set", "max_new_tokens=6", "--set", "shard_groups=8", "--set", "select.take=12",
                  "--set", "select.labels={general=1.0}")  # fmt: skip
    faked = add("rollout_fake", "rollout", prompts, "--engine", "fake", "--samples", 3, "--set", "shard_groups=4")
    scored = add("score", "score", faked)
    add("score_world", "score", sampled)
    imported = add("import", "import", "completions.jsonl", "--tokenizer", "tiny:llama")
    graded = add("score_imported", "score", imported)
    start = add("train_sft", "train", world, "--objective", "sft", "--policy", "tiny:llama", "--steps", 3,
                "--batch-size", 4, "--learning-rate", "1e-3", *tiny, "--set", "select.split=train",
                "--set", "checkpoint_steps=1")  # fmt: skip
    add("train_rl", "train", graded, "--policy", "tiny:llama", "--learning-rate", "1e-3", "--updates", 2, *tiny,
        "--set", "drop_flat_groups=false", "--set", "checkpoint_steps=1")  # fmt: skip
    add("eval", "eval", scored)
    add("export", "export", start)
    add("run", "run", "recipe.toml")
    return made


def fresh(reference: Path, name: str) -> Path:
    """A copy of the finished chain beside it, in the place of the one before of that name."""
    folder = reference.parent / name
    shutil.rmtree(folder, ignore_errors=True)
    return shutil.copytree(reference, folder, symlinks=True)


def runs_in(folder: Path) -> list[Path]:
    """The run folders of a chain, in order."""
    return sorted(p for p in (folder / "runs").iterdir() if (p / "manifest.json").is_file())


def contents(runs: Path) -> dict[str, Any]:
    """What counts of all runs in a folder: rows without wall times, and every weight."""
    found: dict[str, Any] = {}
    for path in sorted(runs.rglob("*")):
        inside = path.relative_to(runs)
        # Rows of a run that is no longer complete don't count; what trackers keep is theirs.
        if not path.is_file() or inside.parts[0] == "trackers" or "staging" in inside.parts:
            continue
        if path.suffix == ".parquet":
            found[str(inside)] = _timeless(pq.read_table(path).to_pylist())
        elif path.suffix == ".safetensors":
            found[str(inside)] = file_sha256(path)
    return found


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _timeless(v) for k, v in value.items() if k not in ("seconds", "shard_seconds")}
    return [_timeless(v) for v in value] if isinstance(value, list) else value


def staged(runs: Path) -> list[str]:
    """What is left in the staging folders."""
    return [str(p.relative_to(runs)) for p in runs.glob("*/staging/*")]


@dataclass(slots=True)
class Faults:
    """What a campaign found, by kind."""

    found: list[str]

    def look(self, what: str, said: Said, codes: tuple[int, ...] = (0, 2, 3, 4), quiet: bool = False) -> None:
        """Note a command that ended otherwise than a person may expect; `quiet`: where it can't give a reason."""
        if said.code not in codes:
            self.found.append(f"{what}: exit {said.code}: {said.err[-300:]}")
        for sign in ("Traceback", "looks like a bug"):
            if sign in said.err or sign in said.out:
                self.found.append(f"{what}: {sign}: {said.err[-500:]}")
        if said.code not in (0, CLOSED_PIPE, *range(-64, 0)) and "hint:" not in said.err and not quiet:
            self.found.append(f"{what}: no hint: {said.err[-300:]}")

    def strays(self, what: str, folder: Path, before: set[str]) -> None:
        """Note what a command made in a folder beside what was there, its output, and run folders."""
        if new := sorted({p.name for p in folder.iterdir()} - {*before, "runs", ".out", ".err"}):
            self.found.append(f"{what}: written outside: {new}")


def quiet(work: Callable[[], Any]) -> Any:
    """What `work` returns; what it prints is dropped."""
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        return work()
