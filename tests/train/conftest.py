"""Fixtures of the training tests."""

from __future__ import annotations

import os

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")


def _one_thread() -> None:
    """Small matrices gain nothing from more, and bits depend on it."""
    import torch

    torch.set_num_threads(1)


# Before the fixtures of a module train something, and again after a test that asked for more.
one_thread_a_module = pytest.fixture(_one_thread, autouse=True, scope="module")
one_thread = pytest.fixture(_one_thread, autouse=True)


@pytest.fixture(scope="session")
def policies():
    """Load a tiny backbone by name; a fresh copy each call."""
    from stages.models.load import load_policy
    from stages.models.policy_ref import resolve_policy

    return lambda name, **kwargs: load_policy(resolve_policy(f"tiny:{name}"), device="cpu", **kwargs)
