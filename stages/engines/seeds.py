"""Which noise a sample gets: a function of its run's seed, its prompt and its place, and of nothing else."""

from __future__ import annotations

import hashlib


def sample_key(seed: int, prompt_id: str, index: int) -> int:
    """64 bits that name one sample's noise, as a signed integer."""
    hashed = hashlib.sha256(f"{seed}|{prompt_id}|{index}".encode()).digest()
    return int.from_bytes(hashed[:8], "big", signed=True)


# Some samplers read a seed as a signed, some as an unsigned number; these bits are the same in both.
_SEED_BITS = (1 << 31) - 1


def sampler_seed(seed: int, prompt_id: str, index: int, position: int = 0) -> int:
    """The same key for a sampler that makes its own noise: 31 bits.

    Its noise begins anew with each call: one that goes on at token `position` gets another seed, or the same noise
    would come twice in one completion.
    """
    return sample_key(seed, f"{prompt_id}|{position}" if position else prompt_id, index) & _SEED_BITS
