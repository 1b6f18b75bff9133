"""Settings that must hold before anything else is imported."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

os.environ.setdefault("TERM", "dumb")
os.environ.setdefault("NO_COLOR", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Several test processes share few cores; one thread each also makes float sums repeatable.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Where a test asks for more threads, they sleep while they wait, as the command has it (`cosmo_cli.process`): on
# cores that others use they would spin their time away.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "20000")

settings.register_profile("cosmo", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("cosmo")

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The addresses that anything tries to connect to, in vain."""
    tried: list[object] = []

    def refuse(_: socket.socket, address: object) -> None:
        tried.append(address)
        raise ConnectionRefusedError(f"no connections in this test: {address}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    return tried


@pytest.fixture
def root() -> Path:
    """The repository."""
    return ROOT
