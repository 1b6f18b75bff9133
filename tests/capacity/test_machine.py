"""Machines by name, by flags, and this one."""

from __future__ import annotations

from pathlib import Path

import pytest

from stages.capacity.machine import described, existing, machine_named, this_machine
from stages.capacity.units import GIB
from stages.core.errors import UsageError

NOTHING = {"gpus": None, "gpu_gib": None, "host_gib": None, "disk_gib": None}


def test_a_name_says_cards_and_their_part_of_a_node():
    node = machine_named("8xh100")
    assert (node.gpus, node.gpu_bytes, node.host_bytes) == (8, 79 * GIB, 2000 * GIB)
    assert machine_named("H200").gpus == 1
    assert machine_named("2xa100").host_bytes == 500 * GIB
    # Not all of a card is for tensors.
    assert 0.9 * node.gpu_bytes < node.usable_gpu < 0.95 * node.gpu_bytes


@pytest.mark.parametrize("text", ["8xh99", "0xh100", "manyxh100", "x", "-1xh100"])
def test_a_name_that_is_none_is_refused_by_value(text):
    with pytest.raises(UsageError, match=r"is not N x CARD"):
        machine_named(text)


def test_flags_come_before_the_name(tmp_path: Path):
    machine = described("8xh100", tmp_path, **{**NOTHING, "gpus": 4, "gpu_gib": 40.0, "disk_gib": 1.0})
    assert (machine.gpus, machine.gpu_bytes, machine.host_bytes) == (4, 40 * GIB, 2000 * GIB)
    assert machine.disk_bytes == GIB


def test_this_machine_has_memory_and_disk_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    machine = this_machine(tmp_path / "not" / "yet")
    assert machine.gpus == 0
    assert machine.host_bytes > GIB
    assert machine.disk_bytes > 0
    assert existing(tmp_path / "not" / "yet") == tmp_path
    with pytest.raises(UsageError, match="how much memory"):
        described("", tmp_path, **{**NOTHING, "gpus": 2})
