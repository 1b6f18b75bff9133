"""Threads that work ahead of whoever takes the results, in order and with little in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")


def in_order(
    do: Callable[[A], B], items: Iterable[A], workers: int, quick: Callable[[A], bool] = lambda item: False
) -> Iterator[B]:
    """`do` over the items in their order, up to `workers` at a time, with few of them in memory.

    For work that waits for child processes, or that leaves Python while it computes, as decoding images does. The
    items are taken in the caller's thread, where what is `quick` is done at once: handing it on would take longer.
    """
    if workers <= 1:
        yield from map(do, items)
        return
    with ThreadPoolExecutor(workers, thread_name_prefix="cosmo") as pool:
        ahead: deque[Future[B]] = deque()
        try:
            for item in items:
                if quick(item):
                    if not ahead:
                        yield do(item)
                        continue
                    future: Future[B] = Future()
                    future.set_result(do(item))
                    ahead.append(future)
                else:
                    ahead.append(pool.submit(do, item))
                # Results come out in order, so a slow item holds up those behind it: some of these are done meanwhile,
                # and the bound keeps memory flat.
                if len(ahead) >= 8 * workers:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            # After an error, or where the caller takes no more: leaving the pool waits for everything that is not
            # cancelled.
            for future in ahead:
                future.cancel()
