"""A comparison that hangs costs one timeout, whatever it is stuck in, and leaves nothing behind."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from schemas.scored import ScoredCompletion
from stages.core.parallel_map import in_order
from stages.score.answers import math_pool
from stages.score.answers.math_pool import Child, JobFailed, Pool, TimedOut
from tests.score.made import grader, group, thought

ROOT = Path(__file__).resolve().parents[2]
HANGS = "10^{10^{10^{10}}}"
"""math-verify asks for its value, in C code that no Python signal handler interrupts."""
EASY = {"gold": "x+1", "candidate": "$1+x$"}


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def wait_gone(pid: int, seconds: float) -> float:
    started = time.monotonic()
    while alive(pid) and time.monotonic() - started < seconds:
        time.sleep(0.05)
    assert not alive(pid), f"process {pid} is still there after {seconds} s"
    return time.monotonic() - started


@pytest.fixture
def pool() -> Any:
    pool = Pool()
    yield pool
    pool.close()


def test_a_child_is_kept_between_jobs(pool: Pool) -> None:
    assert pool.run(EASY, 10.0) == {"correct": True, "seen": "1+x"}
    first = pool._idle[0].pid
    assert pool.run({"gold": "x", "candidate": "$y$"}, 10.0)["correct"] is False
    assert [c.pid for c in pool._idle] == [first]


def test_a_hanging_job_is_killed_in_time_and_the_next_one_works(pool: Pool) -> None:
    pool.run(EASY, 10.0)
    stuck = pool._idle[0].pid
    started = time.monotonic()
    with pytest.raises(TimedOut, match=r"no result within 0\.5 s"):
        pool.run({"gold": "10", "candidate": f"${HANGS}$"}, 0.5)
    assert time.monotonic() - started < 2.0
    assert not alive(stuck)
    assert pool.run(EASY, 10.0)["correct"] is True


def test_a_child_that_dies_fails_its_own_job_only(pool: Pool) -> None:
    pool.run(EASY, 10.0)
    os.kill(pool._idle[0].pid, signal.SIGKILL)
    with pytest.raises(JobFailed, match="ended"):
        pool.run(EASY, 10.0)
    assert pool.run(EASY, 10.0)["correct"] is True


def test_one_hanging_answer_in_a_group_costs_one_timeout() -> None:
    """Eight samples, three of them the same hanging words; the other five are graded right."""
    equal = ("2 \\cdot 5", "\\sqrt{100}", "\\frac{20}{2}")
    good = [thought(f"\\boxed{{{text}}}") for text in equal]
    wrong = [thought("\\boxed{2 \\cdot 6}"), thought("\\boxed{y}")]
    texts = [*good, *[thought(f"$ {HANGS} $")] * 3, *wrong]
    groups = [group(*texts, label="math", answer="10", answer_kind="math")]
    limit = 1.5
    math_pool.set_limit(limit)
    started = time.monotonic()
    (scored,) = in_order(grader().group, groups, workers=2)
    seconds = time.monotonic() - started
    rewards = [c.reward for c in scored.completions]
    assert rewards == [1.0, 1.0, 1.0, None, None, None, 0.1, 0.1]
    assert [status(c) for c in scored.completions] == ["ok"] * 3 + ["timeout"] * 3 + ["ok"] * 2
    # One timeout, and at most two starts of a child on a busy machine.
    assert limit <= seconds < limit + 20


def status(completion: ScoredCompletion) -> str:
    return next(g.status for g in completion.grades if g.name == "answer")


def test_hanging_jobs_do_not_starve_the_others(pool: Pool) -> None:
    """Four callers, one of them stuck: the other three go on at their own pace meanwhile."""
    with ThreadPoolExecutor(4) as threads:
        for _ in threads.map(lambda _: pool.run(EASY, 30.0), range(4)):
            pass
        started = time.monotonic()
        stuck = threads.submit(pool.run, {"gold": "10", "candidate": f"${HANGS}$"}, 3.0)
        easy = [threads.submit(pool.run, EASY, 3.0) for _ in range(30)]
        assert all(f.result()["correct"] for f in easy)
        assert time.monotonic() - started < 3.0
        assert not stuck.done()
        with pytest.raises(TimedOut):
            stuck.result()


def test_a_huge_number_does_not_eat_the_machine(pool: Pool) -> None:
    with pytest.raises((JobFailed, TimedOut)):
        pool.run({"gold": "1", "candidate": "$2^{99999999999}$"}, 1.5)
    assert pool.run(EASY, 10.0)["correct"] is True


PARENT = """
import sys
from stages.score.answers.math_pool import Child
child = Child()
child.run({"gold": "x", "candidate": "$x$"}, 30.0)
print(child.pid, flush=True)
if sys.argv[1] == "busy":
    child.run({"gold": "10", "candidate": "$10^{10^{10^{10}}}$"}, 1.5)
else:
    sys.stdin.read()
"""


def start_parent(what: str) -> tuple[subprocess.Popen[str], int]:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, what],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert parent.stdout is not None
    return parent, int(parent.stdout.readline())


@pytest.mark.parametrize(("what", "seconds"), [("idle", 3.0), ("busy", 7.0)])
def test_no_child_outlives_a_killed_parent(what: str, seconds: float) -> None:
    """Idle: its input ends. Busy in C code: the kernel's alarm ends it after the limit and a grace of 2 s."""
    parent, child = start_parent(what)
    time.sleep(0.5)
    assert alive(child)
    parent.kill()
    parent.wait()
    wait_gone(child, seconds)


def test_ctrl_c_leaves_no_child() -> None:
    parent, child = start_parent("busy")
    time.sleep(0.3)
    parent.send_signal(signal.SIGINT)
    parent.wait(10)
    wait_gone(child, 8.0)


def _in_daemon(queue: Any) -> None:
    queue.put(Pool().run(EASY, 30.0)["correct"])


def test_it_works_in_a_spawned_daemon_process() -> None:
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=_in_daemon, args=(queue,), daemon=True)
    process.start()
    assert queue.get(timeout=60) is True
    process.join(30)
    assert process.exitcode == 0


def test_what_a_job_holds_is_no_answer() -> None:
    child = Child()
    try:
        odd = child.run({"gold": '"}\n{"correct": false', "candidate": "$x$"}, 10.0)
        assert odd.keys() & {"correct", "error"}
        assert child.run(EASY, 10.0)["correct"] is True
    finally:
        child.kill()
