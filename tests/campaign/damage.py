"""Damaged input: files that people hand in and run folders, each with something done to its bytes or to its JSON."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.campaign.chain import LINES, Faults, Said, call, runs_in
from tests.support import bombs

ODD: tuple[Any, ...] = (
    None, True, -1, 0, 2**63, 10**30, 1e308, float("nan"), "", "x" * 3000, "../../x", "/etc/passwd", "\x00", "\ud800",
    "\x1b]0;t\x07", "\u202e", [], {}, [[]], {"a": {"a": {}}}, ["x"] * 50, "{{ 7*7 }}", "%s%n",
)  # fmt: skip
Run = Callable[[list[str], Path], Said]
"""Runs a command in a folder."""
_JSON = ("manifest.json", "config.json", "report.json", "receipts/00000.json")


def damaged(reference: Path, commands: dict[str, list[str]], count: int, rng: random.Random, faults: Faults) -> int:
    """Try `count` damaged inputs; how many commands took them without complaint."""
    taken = 0
    runs, folder = runs_in(reference), reference.parent / "damaged"
    for number in range(count):
        what, said = handed(f"damage {number}", folder, runs, rng, faults)
        taken += said.code == 0
        faults.look(what, said)
    return taken


def handed(
    what: str, folder: Path, runs: list[Path], rng: random.Random, faults: Faults, run: Run = call
) -> tuple[str, Said]:
    """Make a damaged input in a folder of its own and hand it to its command: what it was, and what was said of it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    damage, words = one(folder, runs, rng)
    before = {p.name for p in folder.iterdir()}
    said = run(words, folder)
    faults.strays(f"{what}, {damage}", folder, before)
    return f"{what}, {damage}: cosmo {' '.join(words)[:80]}", said


def one(folder: Path, runs: list[Path], rng: random.Random) -> tuple[str, list[str]]:
    """A damaged input in an empty folder: what it is, and the command to hand it to."""
    if rng.random() < 0.5:
        return _file(folder, rng)
    return _run(folder, rng.choice(runs), rng)


def _file(folder: Path, rng: random.Random) -> tuple[str, list[str]]:
    """A JSON Lines file or a recipe with something wrong in it, or a small file that stands for gigabytes."""
    kind = rng.choice((*("jsonl", "toml", "import") * 3, "bomb"))
    if kind == "bomb":
        name = rng.choice(sorted(bombs.PARQUET))
        (folder / "rows.parquet").write_bytes(bombs.content(name))
        verb, source = rng.choice((("prepare", "parquet:"), ("prepare", ""), ("import", "")))
        return f"{kind} ({name})", [verb, f"{source}rows.parquet", "--runs", "runs"]
    if kind == "toml":
        text = 'name = "x"\nseed = 1\n[prepare]\nsources = ["builtin"]\n[rollout]\nsamples = 2\n'
        (folder / "r.toml").write_bytes(changed_bytes(text.encode(), rng))
        return kind, [rng.choice(("config", "plan", "run")), "r.toml", *(["--dry-run"] if rng.random() < 0.3 else [])]
    if rng.random() < 0.5:
        data = changed_bytes(LINES.encode(), rng)
    else:
        rows = [json.loads(line) for line in LINES.splitlines()[:4]]
        change(rng.choice(rows), rng)
        data = "\n".join(json.dumps(row) for row in rows).encode()
    (folder / "rows.jsonl").write_bytes(data)
    words = ["prepare", "jsonl:rows.jsonl"] if kind == "jsonl" else ["import", "rows.jsonl"]
    return kind, [*words, "--runs", "runs"]


def _run(folder: Path, run: Path, rng: random.Random) -> tuple[str, list[str]]:
    """A run folder of a stranger: a small file or a shard of it changed, and a command that reads it."""
    there = folder / "theirs"
    shutil.copytree(run, there, symlinks=True)
    path = damage_run(there, rng)
    verb = rng.choice(("show", "status", "gc", "score", "rollout", "train", "eval", "export"))
    words = {
        "show": [
            "show",
            "theirs",
            *rng.choice(([], ["--rejected"], ["--json"], ["--query", "select count(*) from rows"])),
        ],
        "status": ["status", "theirs"],
        "gc": ["gc", "theirs", "--weights"],
        "rollout": ["rollout", "theirs", "--engine", "fake", "--samples", "1", "--runs", "runs"],
        "train": ["train", "theirs", "--policy", "tiny:llama", "--runs", "runs", "--dry-run"],
    }.get(verb, [verb, "theirs", "--runs", "runs"])
    return f"{path.relative_to(there)} of a {run.name.partition('-')[0]} run", words


def damage_run(there: Path, rng: random.Random) -> Path:
    """Change a small file or a shard of a run folder; the file."""
    shards = sorted(there.glob("shards/*.parquet"))
    if shards and rng.random() < 0.1:
        path = rng.choice(shards)
        path.write_bytes(bombs.content(rng.choice(sorted(bombs.PARQUET))))
    elif shards and rng.random() < 0.3:
        path = rng.choice(shards)
        path.write_bytes(changed_bytes(path.read_bytes(), rng))
    else:
        path = there / rng.choice([name for name in _JSON if (there / name).is_file()])
        if rng.random() < 0.5:
            path.write_bytes(changed_bytes(path.read_bytes(), rng))
        else:
            record = json.loads(path.read_text())
            change(record, rng)
            path.write_text(json.dumps(record))
    return path


def changed_bytes(data: bytes, rng: random.Random) -> bytes:
    """The bytes with some lost, doubled, changed or put in."""
    found = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(found) + 1)
        match rng.randrange(5):
            case 0:
                del found[at:]
            case 1:
                found[at : at + 1] = bytes([rng.randrange(256)])
            case 2:
                found[at:at] = rng.choice((b"\x00", b"\xff\xfe", b"[" * 9000, b"\xef\xbb\xbf", b'"', b"}", b"\r"))
            case 3:
                del found[at : at + rng.randint(1, 40)]
            case _:
                found[at:at] = found[max(0, at - 40) : at]
    return bytes(found)


def change(record: Any, rng: random.Random) -> None:
    """Put something odd at a random place of a JSON value, or take something away."""
    target = record
    while True:
        keys = list(target) if isinstance(target, dict) else list(range(len(target)))
        if not keys:
            return
        key = rng.choice(keys)
        inner = target[key]
        if isinstance(inner, dict | list) and inner and rng.random() < 0.7:
            target = inner
            continue
        if rng.random() < 0.15:
            del target[key]
        else:
            target[key] = rng.choice(ODD)
        return
