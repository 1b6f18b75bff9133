"""What forks of one process can't show: the real command on damaged input, and a launcher of ranks that is killed."""

from __future__ import annotations

import random
import signal
import subprocess
import time
import uuid
from pathlib import Path

from tests.campaign.chain import PATIENCE, Faults, Said, contents, fresh, runs_in
from tests.campaign.damage import handed
from tests.campaign.kills import compare, forget
from tests.support.cli import COSMO, environment

MARK = "COSMO_CAMPAIGN"
"""A variable of the environment by which a command's processes are found, whoever started them."""


def confirmed(reference: Path, commands: dict[str, list[str]], count: int, rng: random.Random, faults: Faults) -> int:
    """Hand `count` damaged inputs to a fork and to a process of its own: both say the same; how many took them."""
    taken = 0
    runs, folder = runs_in(reference), reference.parent / "confirmed"
    for number in range(count):
        seed, name = rng.random(), f"confirmed {number}"
        _, forked = handed(name, folder, runs, random.Random(seed), faults)
        what, real = handed(name, folder, runs, random.Random(seed), faults, process)
        faults.look(what, real)
        taken += real.code == 0
        if (forked.code, _complaint(forked)) != (real.code, _complaint(real)):
            faults.found.append(f"{what}: a fork says {forked.err[-200:]!r}, a process {real.err[-200:]!r}")
    return taken


def process(words: list[str], folder: Path) -> Said:
    """`cosmo WORDS` in a process of its own."""
    done = subprocess.run(
        [*COSMO, *words], cwd=folder, env=environment(), stdin=subprocess.DEVNULL, capture_output=True,
        timeout=PATIENCE, check=False,
    )  # fmt: skip
    return Said(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))


def _complaint(said: Said) -> str:
    """The line that says what was wrong."""
    lines = [line for line in said.err.splitlines() if line.startswith("cosmo")]
    return lines[-1] if lines else ""


def ranks(reference: Path, commands: dict[str, list[str]], count: int, rng: random.Random, faults: Faults) -> int:
    """Kill `count` launchers of two ranks, then the same command again; how many died."""
    died = 0
    made = fresh(reference, "ranks")
    both = [[*commands[name], "--nproc", "2"] for name in ("train_sft", "train_rl")]
    # What two ranks make is not to the digit what one does.
    began = time.monotonic()
    for words in both:
        forget(made, "train", words)
        faults.look("ranks, whole", process(words, made), codes=(0,))
    lasts = (time.monotonic() - began) / len(both)
    expected = contents(made / "runs")
    for number in range(count):
        words, mark = both[number % 2], uuid.uuid4().hex
        folder = fresh(made, "killed ranks")
        forget(folder, "train", words)
        died += _killed(words, folder, mark, rng.random() * lasts) == -signal.SIGKILL
        what = f"ranks {number} of {words[1:4]}"
        if left := _left(mark):
            faults.found.append(f"{what}: {len(left)} processes outlive their launcher: {left[:3]}")
        faults.look(f"{what}, again", process(words, folder), codes=(0,))
        compare(what, folder, expected, faults)
    return died


def _killed(words: list[str], folder: Path, mark: str, seconds: float) -> int:
    """How a command ended that was killed so much later, if it was still going on."""
    with (folder / ".err").open("wb") as file:
        running = subprocess.Popen(
            [*COSMO, *words],
            cwd=folder,
            env=environment(**{MARK: mark}),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
        )
        try:
            return running.wait(seconds)
        except subprocess.TimeoutExpired:
            running.kill()
            return running.wait()


def _left(mark: str) -> list[str]:
    """The processes that bear the mark, once they had time to end."""
    until = time.monotonic() + PATIENCE
    while (found := _marked(mark)) and time.monotonic() < until:
        time.sleep(0.1)
    return found


def _marked(mark: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}".encode() in (path / "environ").read_bytes():
                found.append((path / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[:80])
        except OSError:
            continue  # it ended meanwhile, or is another user's
    return found
