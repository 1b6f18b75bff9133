"""A comparison that hangs costs one timeout, whatever it is stuck in, and leaves nothing behind."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from schemas.scored import ScoredCompletion
from stages.core.parallel_map import in_order
from stages.score.answers.algebra import math_pool
from stages.score.answers.algebra.math_pool import Child, JobFailed, Pool, TimedOut
from tests.score.made import grader, group, thought
from tests.support.cli import PATIENCE, ROOT

HANGS = "10^{10^{10^{10}}}"
"""math-verify asks for its value, in C code that no Python signal handler interrupts."""
STUCK = {"gold": "10", "candidate": f"${HANGS}$"}
EASY = {"gold": "x+1", "candidate": "$1+x$"}


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def wait_gone(pid: int) -> None:
    started = time.monotonic()
    while alive(pid):
        assert time.monotonic() - started < PATIENCE, f"process {pid} is still there"
        time.sleep(0.05)


def wait_busy(pid: int) -> None:
    """Until the process computes: for two tenths of a second of its own, however long that takes."""
    begun = used(pid)
    while alive(pid) and used(pid) - begun < 0.2:
        time.sleep(0.02)


def used(pid: int) -> float:
    """Seconds of a processor that a process has had."""
    times = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return sum(map(int, times)) / os.sysconf("SC_CLK_TCK")


@pytest.fixture
def pool() -> Any:
    pool = Pool()
    yield pool
    pool.close()


def test_a_child_is_kept_between_jobs(pool: Pool) -> None:
    assert pool.run(EASY, PATIENCE) == {"correct": True, "seen": "1+x"}
    first = pool._idle[0].pid
    assert pool.run({"gold": "x", "candidate": "$y$"}, PATIENCE)["correct"] is False
    assert [c.pid for c in pool._idle] == [first]


def test_a_hanging_job_is_killed_in_time_and_the_next_one_works(pool: Pool) -> None:
    pool.run(EASY, PATIENCE)
    stuck = pool._idle[0].pid
    with pytest.raises(TimedOut, match=r"no result within 0\.5 s"):
        pool.run(STUCK, 0.5)
    assert not alive(stuck)
    assert pool.run(EASY, PATIENCE)["correct"] is True


def test_the_limit_is_one_of_processor_time(pool: Pool) -> None:
    """A child that is given no processor for longer than its limit has used none of it."""
    pool.run(EASY, PATIENCE)
    child = pool._idle[0].pid
    os.kill(child, signal.SIGSTOP)
    waiting = threading.Timer(1.2, os.kill, (child, signal.SIGCONT))
    waiting.start()
    assert pool.run(EASY, 0.5)["correct"] is True
    waiting.join()
    assert [c.pid for c in pool._idle] == [child]


def test_a_child_that_dies_fails_its_own_job_only(pool: Pool) -> None:
    pool.run(EASY, PATIENCE)
    os.kill(pool._idle[0].pid, signal.SIGKILL)
    with pytest.raises(JobFailed, match="ended"):
        pool.run(EASY, PATIENCE)
    assert pool.run(EASY, PATIENCE)["correct"] is True


def test_one_hanging_answer_in_a_group_costs_one_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight samples, three of them the same hanging words; the other five are graded right."""
    asked, run = [], Pool.run

    def counted(self: Pool, job: dict[str, Any], limit_s: float) -> dict[str, Any]:
        asked.append(job["candidate"])
        assert limit_s == PATIENCE
        # Of all comparisons this one alone is never done in time, on any machine.
        return run(self, job, 1.0 if HANGS in job["candidate"] else limit_s)

    monkeypatch.setattr(Pool, "run", counted)
    equal = ("2 \\cdot 5", "\\sqrt{100}", "\\frac{20}{2}")
    good = [thought(f"\\boxed{{{text}}}") for text in equal]
    wrong = [thought("\\boxed{2 \\cdot 6}"), thought("\\boxed{y}")]
    texts = [*good, *[thought(f"$ {HANGS} $")] * 3, *wrong]
    groups = [group(*texts, label="math", answer="10", answer_kind="math")]
    monkeypatch.setattr(math_pool, "_limit_s", PATIENCE)
    (scored,) = in_order(grader().group, groups, workers=2)
    rewards = [c.reward for c in scored.completions]
    assert rewards == [1.0, 1.0, 1.0, None, None, None, 0.1, 0.1]
    assert [status(c) for c in scored.completions] == ["ok"] * 3 + ["timeout"] * 3 + ["ok"] * 2
    assert sum(HANGS in candidate for candidate in asked) == 1


def status(completion: ScoredCompletion) -> str:
    return next(g.status for g in completion.grades if g.name == "answer")


def test_hanging_jobs_do_not_starve_the_others(pool: Pool) -> None:
    """Four callers, one of them stuck: the other three go on meanwhile."""
    pool.run(EASY, PATIENCE)
    (child,) = pool._idle
    with ThreadPoolExecutor(4) as threads:
        # It takes the only idle child, and has it for as long as the test likes.
        stuck = threads.submit(pool.run, STUCK, PATIENCE)
        wait_busy(child.pid)
        easy = [threads.submit(pool.run, EASY, PATIENCE) for _ in range(30)]
        assert all(f.result()["correct"] for f in easy)
        assert not stuck.done()
        os.kill(child.pid, signal.SIGKILL)
        with pytest.raises(JobFailed, match="ended"):
            stuck.result()


def test_a_huge_number_does_not_eat_the_machine(pool: Pool) -> None:
    with pytest.raises((JobFailed, TimedOut)):
        # A power alone is compared by its size, without being worked out; a sum has to be.
        pool.run({"gold": "1", "candidate": "$2^{99999999999}+x$"}, 1.5)
    assert pool.run(EASY, PATIENCE)["correct"] is True


PARENT = """
import sys
from stages.score.answers.algebra.math_pool import Pool
pool = Pool()
pool.run({"gold": "x", "candidate": "$x$"}, 3000.0)
print(pool._idle[0].pid, flush=True)
if sys.argv[1] == "busy":
    pool.run({"gold": "10", "candidate": "$10^{10^{10^{10}}}$"}, float(sys.argv[2]))
else:
    sys.stdin.read()
"""


def start_parent(what: str, limit_s: float = PATIENCE) -> tuple[subprocess.Popen[str], int]:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, what, str(limit_s)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        # A shell that starts the tests in the background has them ignore SIGINT, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert parent.stdout is not None
    return parent, int(parent.stdout.readline())


@pytest.mark.parametrize("what", ["idle", "busy"])
def test_no_child_outlives_a_killed_parent(what: str) -> None:
    """Idle: its input ends. Busy in C code: the kernel's alarm ends it after the limit and a grace of 2 s."""
    parent, child = start_parent(what, 1.5)
    if what == "busy":
        wait_busy(child)
    parent.kill()
    parent.wait()
    wait_gone(child)


def test_ctrl_c_leaves_no_child() -> None:
    parent, child = start_parent("busy")
    wait_busy(child)
    parent.send_signal(signal.SIGINT)
    parent.wait(PATIENCE)
    wait_gone(child)


def _in_daemon(queue: Any) -> None:
    queue.put(Pool().run(EASY, PATIENCE)["correct"])


def test_it_works_in_a_spawned_daemon_process() -> None:
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=_in_daemon, args=(queue,), daemon=True)
    process.start()
    assert queue.get(timeout=PATIENCE) is True
    process.join(PATIENCE)
    assert process.exitcode == 0


def test_what_a_job_holds_is_no_answer() -> None:
    child = Child()
    try:
        odd = child.run({"gold": '"}\n{"correct": false', "candidate": "$x$"}, PATIENCE)
        assert odd.keys() & {"correct", "error"}
        assert child.run(EASY, PATIENCE)["correct"] is True
    finally:
        child.kill()
