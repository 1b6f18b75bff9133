"""What is frozen for good stays so, what is frozen for a while does not, and nobody counts it twice."""

from __future__ import annotations

import gc

import pytest

from stages.models import collector


@pytest.fixture(autouse=True)
def thawed():
    collector.thaw()
    yield
    collector.thaw()


def test_for_a_while_means_until_then():
    with collector.frozen():
        assert gc.get_freeze_count() > 1000
        with collector.frozen():
            pass
        assert gc.get_freeze_count() > 1000
    assert gc.get_freeze_count() == 0


def test_for_good_outlasts_a_while_and_an_error_within():
    collector.freeze()
    with pytest.raises(ValueError), collector.frozen():
        raise ValueError
    assert gc.get_freeze_count() > 1000


def test_what_others_froze_stays_frozen():
    gc.freeze()
    with collector.frozen():
        pass
    assert gc.get_freeze_count() > 1000


def test_what_is_remembered_is_not_counted_again(monkeypatch):
    collector.freeze()
    counted = []
    monkeypatch.setattr(gc, "get_freeze_count", lambda: counted.append(1) or 1)
    collector.freeze()
    with collector.frozen():
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
    collector.freeze()
    gc.collect()
    assert gone == []
    collector.thaw()
    gc.collect()
    assert gone == [1]
