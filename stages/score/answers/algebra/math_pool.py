"""Mathematical comparisons in child processes that can be killed.

math-verify hands text to a computer algebra system, which may compute for ever or eat all memory, also
inside C code where no Python timeout reaches (Math-Verify#65, AReaL#1426). So each comparison runs in a
persistent child that is killed when its time is up: one hanging answer costs one timeout, and the next one
gets a fresh child. A general process pool is not used because its workers outlive a killed parent while
they hang; here the child's own alarm ends it (see `math_worker`).
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from stages.core.errors import UnavailableError

_CHILD = Path(__file__).with_name("math_worker.py")
# Importing sympy and the parser takes seconds, on a busy machine many.
_START_LIMIT_S = 120.0


class TimedOut(Exception):
    """A job that was not done within its time."""


class JobFailed(Exception):
    """A job that could not be done: the child said why, or died of it."""


_CLOCK_FACTOR = 40
"""Seconds on the clock for a second of processor time, on a machine as busy as any that still works."""


class Child:
    """One child process: a line of JSON in, a line of JSON out."""

    def __init__(self) -> None:
        # -P: the child's own folder is not on its import path, so our module names shadow nothing.
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(_CHILD)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            # Unbuffered: `poll` and `os.read` below look at the pipe itself, and would not see what a buffered reader
            # holds back.
            bufsize=0,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        # `poll` and not `select`, which can't take file numbers from 1024 on: a process with many shards open has such.
        self._poll = select.poll()
        self._poll.register(self._stdout, select.POLLIN | select.POLLHUP)
        self._ready = False

    @property
    def pid(self) -> int:
        """The process id of the child."""
        return self._process.pid

    def run(self, job: dict[str, Any], limit_s: float) -> dict[str, Any]:
        """The child's answer to a job; TimedOut, or JobFailed when the child died. Either way, kill it then.

        The limit is one of processor time, and the child's own timer ends it; importing the algebra system is not
        charged to a job.
        """
        if not self._ready:
            hello = self._read(_START_LIMIT_S)
            if "ready" not in hello:
                raise UnavailableError(
                    f"math-verify can't be started: {hello.get('error')}", "pip install 'math-verify'"
                )
            self._ready = True
        # A child that has died shows in the read, which knows its exit code.
        with contextlib.suppress(BrokenPipeError):
            self._stdin.write(json.dumps({**job, "limit_s": limit_s}).encode() + b"\n")
        try:
            # A child that waits uses no processor time, and would wait for ever.
            return self._read(limit_s * _CLOCK_FACTOR)
        except (TimedOut, JobFailed):
            if self._process.poll() in (None, -signal.SIGPROF):
                raise TimedOut(f"no result within {limit_s:g} s") from None
            raise

    def _read(self, limit_s: float) -> dict[str, Any]:
        deadline = time.monotonic() + limit_s
        received = b""
        # The protocol is one line a job, so nothing of the next answer can be behind the line end.
        while not received.endswith(b"\n"):
            left = deadline - time.monotonic()
            if left <= 0 or not self._poll.poll(left * 1000):
                raise TimedOut(f"no result within {limit_s:g} s")
            piece = os.read(self._stdout.fileno(), 65536)
            if not piece:
                raise JobFailed(f"the child process ended with code {self._process.wait()}")
            received += piece
        return dict(json.loads(received))

    def kill(self) -> None:
        """End the process at once and collect it."""
        self._process.kill()
        self._process.wait()
        self._stdin.close()
        self._stdout.close()


class Pool:
    """Children on loan: a caller takes an idle one or starts one; there are as many as callers at a time.

    A thread gets the child that it had before where that is idle: it has read the group's reference already.
    """

    def __init__(self) -> None:
        self._idle: list[Child] = []
        self._lock = threading.Lock()
        self._last = threading.local()

    def run(self, job: dict[str, Any], limit_s: float) -> dict[str, Any]:
        """One job, done by some child; TimedOut or JobFailed when it was not."""
        child = self._take() or Child()
        try:
            answer = child.run(job, limit_s)
        except BaseException:
            # Also after Ctrl-C: the child may still be busy, and its answer would go to the next job.
            child.kill()
            raise
        with self._lock:
            self._idle.append(child)
        self._last.child = child
        if "error" in answer:
            raise JobFailed(answer["error"])
        return answer

    def _take(self) -> Child | None:
        last = getattr(self._last, "child", None)
        with self._lock:
            if last in self._idle:
                self._idle.remove(last)
                return last
            return self._idle.pop() if self._idle else None

    def close(self) -> None:
        """End all idle children."""
        with self._lock:
            idle, self._idle = self._idle, []
        for child in idle:
            child.kill()


_limit_s = 5.0


def limit_s() -> float:
    """How long one comparison may take, in seconds."""
    return _limit_s


def set_limit(seconds: float) -> None:
    """Set by the stage from its config, before any row is graded."""
    global _limit_s
    _limit_s = seconds


POOL = Pool()
atexit.register(POOL.close)
