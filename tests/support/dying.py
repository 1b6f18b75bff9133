"""Processes that are killed in the midst of a commit: at each of its file operations, whatever else is under way."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from typing import Any

OPERATIONS = ("fsync", "link", "rename", "replace")


def killed_at(n: int, work: Callable[..., object], *args: Any) -> int | None:
    """Call `work` in a child process that ends by SIGKILL before the n-th file operation (from 0) outside its main
    thread. How many there were where it came to its end; None where it was killed."""
    context = multiprocessing.get_context("fork")
    said = context.Value("i", -1)
    child = context.Process(target=_count, args=(n, said, work, args))
    child.start()
    child.join()
    if child.exitcode == -signal.SIGKILL:
        return None
    assert child.exitcode == 0, child.exitcode
    return int(said.value)


def _count(n: int, said: Any, work: Callable[..., object], args: tuple[Any, ...]) -> None:
    lock = threading.Lock()
    said.value = 0

    def counted(plain: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            if threading.current_thread() is not threading.main_thread():
                with lock:
                    if said.value == n:
                        os.kill(os.getpid(), signal.SIGKILL)
                    said.value += 1
            return plain(*given, **named)

        return call

    for name in OPERATIONS:
        setattr(os, name, counted(getattr(os, name)))
    work(*args)
