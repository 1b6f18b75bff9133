"""What is frozen for good stays so, what is frozen for a while does not, and nobody counts it twice."""

from __future__ import annotations

import gc

import pytest

from stages.core.resources import freeze_objects, frozen_objects, thaw_objects


@pytest.fixture(autouse=True)
def thawed():
    thaw_objects()
    yield
    thaw_objects()


def test_for_a_while_means_until_then():
    with frozen_objects():
        assert gc.get_freeze_count() > 1000
        with frozen_objects():
            pass
        assert gc.get_freeze_count() > 1000
    assert gc.get_freeze_count() == 0


def test_for_good_outlasts_a_while_and_an_error_within():
    freeze_objects()
    with pytest.raises(ValueError), frozen_objects():
        raise ValueError
    assert gc.get_freeze_count() > 1000


def test_what_others_froze_stays_frozen():
    gc.freeze()
    with frozen_objects():
        pass
    assert gc.get_freeze_count() > 1000


def test_what_is_remembered_is_not_counted_again(monkeypatch):
    freeze_objects()
    counted = []
    monkeypatch.setattr(gc, "get_freeze_count", lambda: counted.append(1) or 1)
    freeze_objects()
    with frozen_objects():
        pass
    assert counted == []


def test_thawed_objects_are_collected_again():
    class Ring:
        def __init__(self):
            self.itself = self

        def __del__(self):
            gone.append(1)

    gone: list[int] = []
    Ring()
    freeze_objects()
    gc.collect()
    assert gone == []
    thaw_objects()
    gc.collect()
    assert gone == [1]
