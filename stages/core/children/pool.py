"""Work in child processes that can be killed: what a stranger wrote may compute for ever or eat all memory.

It may do so inside C code, where no Python timeout reaches. So each job runs in a persistent child that is killed
when its time is up: one hanging job costs one timeout, and the next one gets a fresh child. A general process pool is
not used because its workers outlive a killed parent while they hang; here the child's own alarm ends it (`serve`).
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stages.core.errors import UnavailableError

_SERVE = Path(__file__).with_name("serve.py")
# Importing what the jobs need takes seconds, on a busy machine many.
_START_LIMIT_S = 120.0


class TimedOut(Exception):
    """A job that was not done within its time."""


class JobFailed(Exception):
    """A job that could not be done: the child said why, or died of it."""


_CLOCK_FACTOR = 40
"""Seconds on the clock for a second of processor time, on a machine as busy as any that still works."""


class Child:
    """One child process: a line of JSON in, a line of JSON out."""

    def __init__(self, jobs: Path, library: str) -> None:
        """Start it on a file of jobs (see `serve`), which needs a library by this name."""
        self._library = library
        # -P: the child's own folder is not on its import path, so our module names shadow nothing.
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(_SERVE), str(jobs)],
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

        The limit is one of processor time, and the child's own timer ends it; importing the library is not charged to
        a job.
        """
        if not self._ready:
            hello = self._read(_START_LIMIT_S)
            if "ready" not in hello:
                raise UnavailableError(
                    f"{self._library} can't be started: {hello.get('error')}", f"pip install '{self._library}'"
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

    A thread gets the child that it had before where that is idle: it may have prepared what is asked next.
    """

    def __init__(self, start: Callable[[], Child]) -> None:
        self._start = start
        self._idle: list[Child] = []
        self._owner = os.getpid()
        self._lock = threading.Lock()
        self._last = threading.local()

    def run(self, job: dict[str, Any], limit_s: float) -> dict[str, Any]:
        """One job, done by some child; TimedOut or JobFailed when it was not."""
        child = self._take() or self._start()
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
            # A fork of the process that started them must not talk into their pipes.
            if self._owner != os.getpid():
                self._owner, self._idle = os.getpid(), []
            if last in self._idle:
                self._idle.remove(last)
                return last
            return self._idle.pop() if self._idle else None

    def close(self) -> None:
        """End all idle children."""
        with self._lock:
            idle, self._idle = self._idle if self._owner == os.getpid() else [], []
        for child in idle:
            child.kill()
