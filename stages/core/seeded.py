"""Orders that are drawn by a seed: by digest, so that they depend on content alone and are the same everywhere.

Each draw sorts by the sha256 of its parts joined by `|`, the seed first. The bytes that are hashed are part of what a
run is: other bytes would be another order, other batches and other figures.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import TypeVar

T = TypeVar("T")


def seeded_digest(*parts: object) -> bytes:
    """32 bytes that follow from the parts: sha256 of their texts, joined by `|`."""
    return hashlib.sha256("|".join(map(str, parts)).encode()).digest()


def seeded_order(items: Iterable[T], *seed: object, name: Callable[[T], object]) -> list[T]:
    """The items in the order that the seed draws; `name` is what tells an item, wherever it came in the input."""
    # The seed is hashed once: what each item adds goes on from there.
    begun = hashlib.sha256("|".join([*map(str, seed), ""]).encode())

    def digest_of(item: T) -> bytes:
        hashed = begun.copy()
        hashed.update(str(name(item)).encode())
        return hashed.digest()

    return sorted(items, key=digest_of)
