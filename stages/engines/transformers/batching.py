"""Which samples are drawn together: prompts of like length, bounded by the positions that a batch holds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from stages.engines.base import SampleRequest


@dataclass(slots=True)
class Share:
    """Some of a prompt's samples: all of them, unless they do not fit at once."""

    request: SampleRequest
    indices: list[int]


def batches(
    requests: Iterable[SampleRequest],
    new_tokens: int,
    budget: int,
    parts: Callable[[list[SampleRequest]], list[list[SampleRequest]]] = lambda whole: [whole],
) -> Iterator[list[Share]]:
    """Prompts by falling length, as many together as `budget` positions (rows x (prompt + completion)) hold.

    `parts` says which prompts may meet at all: a model may not take all images in one forward.
    """
    for part in parts(list(requests)):
        yield from _of_one_part(part, new_tokens, budget)


def _of_one_part(requests: list[SampleRequest], new_tokens: int, budget: int) -> Iterator[list[Share]]:
    batch: list[Share] = []
    rows, width = 0, 0
    # Longest first: what runs out of memory does so at once, and neighbours need little padding. Ids decide ties, so
    # that batches do not depend on the order of requests.
    measured = [(-len(r.token_ids) - r.longest(new_tokens), r.id, r) for r in requests]
    for negative, _, request in sorted(measured, key=lambda found: found[:2]):
        most = max(1, budget // max(1, -negative))
        for start in range(0, request.n, most):
            share = Share(request, list(range(start, min(start + most, request.n))))
            if batch and (rows + len(share.indices)) * width > budget:
                yield batch
                batch, rows = [], 0
            if not batch:
                width = -negative
            batch.append(share)
            rows += len(share.indices)
    if batch:
        yield batch


def halves(batch: list[Share]) -> list[list[Share]]:
    """The batch in two: by prompts, or by samples where it holds one prompt; [] when it is a single sample."""
    if len(batch) > 1:
        middle = len(batch) // 2
        return [batch[:middle], batch[middle:]]
    request, indices = batch[0].request, batch[0].indices
    if len(indices) == 1:
        return []
    middle = len(indices) // 2
    return [[Share(request, indices[:middle])], [Share(request, indices[middle:])]]
