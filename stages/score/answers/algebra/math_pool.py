"""Mathematical comparisons in child processes that can be killed.

math-verify hands text to a computer algebra system, which may compute for ever or eat all memory, also
inside C code where no Python timeout reaches (Math-Verify#65, AReaL#1426): see `stages.core.children.pool`.
"""

from __future__ import annotations

import atexit
from pathlib import Path

from stages.core.children import pool
from stages.core.children.pool import JobFailed, TimedOut

__all__ = ["POOL", "Child", "JobFailed", "Pool", "TimedOut", "limit_s", "set_limit"]


class Child(pool.Child):
    """One child process that compares mathematical answers."""

    def __init__(self) -> None:
        super().__init__(Path(__file__).with_name("math_worker.py"), "math-verify")


class Pool(pool.Pool):
    """Children on loan that compare mathematical answers."""

    def __init__(self) -> None:
        super().__init__(Child)


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
