"""Work ahead in threads: order, memory, errors."""

from __future__ import annotations

import time
from typing import Any

import pytest

from stages.core.errors import InputError
from stages.core.parallel_map import in_order


def test_in_order_keeps_order_and_reads_little_ahead() -> None:
    taken: list[int] = []

    def items() -> Any:
        for n in range(100):
            taken.append(n)
            yield n

    def slow_when_even(n: int) -> int:
        time.sleep(0.002 * (n % 2 == 0))
        return n * n

    done = []
    for value in in_order(slow_when_even, items(), workers=4):
        done.append(value)
        assert len(taken) - len(done) <= 8 * 4
    assert done == [n * n for n in range(100)]


def test_in_order_passes_errors_on() -> None:
    def fails_at_5(n: int) -> int:
        if n == 5:
            raise InputError("bad")
        return n

    with pytest.raises(InputError):
        list(in_order(fails_at_5, range(100), workers=4))
