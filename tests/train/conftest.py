"""Fixtures of the training tests."""

from __future__ import annotations

import os

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")


@pytest.fixture(autouse=True)
def one_thread():
    """Small matrices gain nothing from more, and other tests run beside these."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def policies():
    """Load a tiny backbone by name; a fresh copy each call."""
    from stages.models.identity import resolve_policy
    from stages.models.load import load_policy

    return lambda name, **kwargs: load_policy(resolve_policy(f"tiny:{name}"), device="cpu", **kwargs)
