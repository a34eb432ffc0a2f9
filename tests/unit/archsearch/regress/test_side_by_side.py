"""Devices at work at the same time: who is lost, who stops, and what ends all."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event

import pytest

from archsearch.errors import StoreError
from archsearch.measuring import Interrupted
from archsearch.regress.side_by_side import side_by_side
from profiler.errors import DeviceUnavailable, ProfilerError, TransportError


def raising(error: BaseException, *, after: Event | None = None) -> Callable[[], None]:
    def work() -> None:
        if after is not None:
            assert after.wait(10)
        raise error

    return work


def until(cancel: Event) -> Callable[[], None]:
    """Works on until it is stopped."""
    return raising(Interrupted(), after=cancel)


class Side:
    """What came of it."""

    def __init__(self) -> None:
        self.cancel = Event()
        self.lost: dict[str, str] = {}

    def lose(self, name: str, error: ProfilerError) -> None:
        self.lost[name] = str(error)

    def run(self, *, lost: Callable[[str, ProfilerError], None] | None = None, **work: Callable[[], None]) -> bool:
        losing = (TransportError, DeviceUnavailable)
        return side_by_side(work, cancel=self.cancel, losing=losing, lost=lost or self.lose)


def test_one_that_is_lost_takes_nothing_from_the_others():
    side, done = Side(), []
    assert not side.run(a=raising(TransportError("cable")), b=lambda: done.append("b"))
    assert (side.lost, done, side.cancel.is_set()) == ({"a": "cable"}, ["b"], False)


def test_stopped_is_told():
    side = Side()
    assert side.run(a=raising(Interrupted()), b=lambda: None)
    assert not side.lost


def test_any_other_error_stops_all_and_is_raised_once_none_works():
    side = Side()
    with pytest.raises(ZeroDivisionError):
        side.run(a=raising(ZeroDivisionError()), b=until(side.cancel))
    assert side.cancel.is_set()


def test_a_loss_that_cannot_be_kept_stops_all_too():
    def full(_name: str, _error: ProfilerError) -> None:
        raise StoreError("disk full")

    side = Side()
    with pytest.raises(StoreError, match="disk full"):
        side.run(a=raising(DeviceUnavailable("gone")), b=until(side.cancel), lost=full)


def test_what_ends_while_all_are_stopped_is_no_loss():
    side = Side()
    side.cancel.set()
    assert side.run(a=raising(TransportError("cable")))
    assert not side.lost
