"""What a process keeps warm: one value a kind, and what must be released by name is closed when it is let go of."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from stages.core.resources import Kind, Resources
from stages.engines.vllm.session import VllmSession


class Model:
    """Counts how often it was closed and put to sleep."""

    def __init__(self) -> None:
        self.closed = self.slept = 0

    def sleep(self) -> None:
        """Count."""
        self.slept += 1

    def close(self) -> None:
        """Count."""
        self.closed += 1


DEVICE: Kind[Model] = Kind("model", on_device=True)
HOST: Kind[Model] = Kind("index")
PLAIN: Kind[list[int]] = Kind("list", on_device=True)
JUDGE: Kind[Resources] = Kind("judge", on_device=True)


@pytest.mark.parametrize("let_go", [Resources.drop_devices, Resources.close, lambda kept: kept.drop(DEVICE)])
def test_what_is_dropped_is_closed_once_and_forgotten(let_go: Callable[[Resources], None]) -> None:
    kept = Resources()
    model = kept.get(DEVICE, "a", Model)
    let_go(kept)
    let_go(kept)
    assert model.closed == 1
    assert kept.peek(DEVICE, "a") is None


def test_only_what_holds_an_accelerator_is_in_the_way_of_other_processes() -> None:
    kept = Resources()
    host = kept.get(HOST, "a", Model)
    kept.put(PLAIN, "a", [1])
    kept.drop_devices()
    assert kept.peek(PLAIN, "a") is None
    assert kept.peek(HOST, "a") is host
    assert host.closed == 0


def test_what_can_sleep_does_so_and_stays() -> None:
    kept = Resources()
    model = kept.get(DEVICE, "a", Model)
    judge = kept.get(JUDGE, "float32", Resources).get(DEVICE, "a", Model)
    kept.put(PLAIN, "a", [1])
    kept.sleep()
    assert (model.slept, judge.slept, model.closed, judge.closed) == (1, 1, 0, 0)
    assert kept.peek(DEVICE, "a") is model


def test_what_can_sleep_stays_where_devices_are_lent_and_all_else_on_them_goes() -> None:
    kept = Resources()
    model, host = kept.get(DEVICE, "a", Model), kept.get(HOST, "a", Model)
    judge = kept.get(JUDGE, "float32", Resources)
    inner = judge.get(DEVICE, "a", Model)
    judge.put(PLAIN, "a", [1])
    kept.put(PLAIN, "a", [1])
    kept.lend_devices()
    assert (model.slept, inner.slept, model.closed, inner.closed) == (1, 1, 0, 0)
    assert (kept.peek(DEVICE, "a"), kept.peek(HOST, "a"), judge.peek(DEVICE, "a")) == (model, host, inner)
    assert kept.peek(PLAIN, "a") is None
    assert judge.peek(PLAIN, "a") is None


def test_what_a_judge_keeps_for_itself_is_closed_with_it() -> None:
    kept = Resources()
    model = kept.get(JUDGE, "float32", Resources).get(DEVICE, "a", Model)
    kept.drop_devices()
    assert model.closed == 1


def test_a_value_that_another_takes_the_place_of_stays_usable_to_its_holder() -> None:
    kept = Resources()
    first = kept.get(DEVICE, "a", Model)
    second = kept.get(DEVICE, "b", Model)
    assert (kept.get(DEVICE, "b", Model), first.closed, second.closed) == (second, 0, 0)


def test_a_vllm_is_closed_when_it_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    kept, closed = Resources(), []
    monkeypatch.setattr(VllmSession, "close", lambda session: closed.append(session))
    session = kept.get(Kind[VllmSession]("vllm", on_device=True), "", VllmSession)
    kept.drop_devices()
    assert closed == [session]
