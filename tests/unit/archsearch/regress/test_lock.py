"""One night at a time in a store."""

from __future__ import annotations

import time
from pathlib import Path
from threading import Event, Timer

import pytest

from archsearch.regress import lock
from archsearch.regress.lock import NightAtWork, Stopped, only_night
from archsearch.store import Store


def other(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr("archsearch.store.owner_id", lambda: name)


def test_a_second_night_gives_up_at_once(store: Store, monkeypatch: pytest.MonkeyPatch):
    other(monkeypatch, "far-away:1:1")
    with only_night(store, wait_s=0, cancel=Event(), say=print):
        other(monkeypatch, "here:2:2")
        with pytest.raises(NightAtWork, match="far-away:1:1"), only_night(store, wait_s=0, cancel=Event(), say=print):
            pytest.fail("two at once")
        other(monkeypatch, "far-away:1:1")
    other(monkeypatch, "here:2:2")
    with only_night(store, wait_s=0, cancel=Event(), say=print):
        pass


def test_a_second_night_waits_and_says_so(store: Store, monkeypatch: pytest.MonkeyPatch):
    said: list[str] = []
    store.claim(lock._KEY, "night")
    own = lock.Store.claim

    def later(self: Store, key: str, job: str) -> object:
        other(monkeypatch, "here:2:2")
        return own(self, key, job)

    monkeypatch.setattr(Store, "claim", later)
    with pytest.raises(NightAtWork), only_night(store, wait_s=0.2, cancel=Event(), say=said.append, look_s=0.05):
        pytest.fail("two at once")
    assert len(said) == 1
    assert "waiting" in said[0]


def test_waiting_can_be_stopped(store: Store, monkeypatch: pytest.MonkeyPatch):
    other(monkeypatch, "far-away:1:1")
    store.claim(lock._KEY, "night")
    other(monkeypatch, "here:2:2")
    cancel = Event()
    Timer(0.2, cancel.set).start()
    with pytest.raises(Stopped), only_night(store, wait_s=60, cancel=cancel, say=print):
        pytest.fail("two at once")


def test_a_night_gives_signs_of_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(lock, "STALE_S", 0.3)
    beats: list[str] = []
    monkeypatch.setattr(Store, "beat", lambda self, key: beats.append(key))
    with Store.open(tmp_path / "study.db") as store, only_night(store, wait_s=0, cancel=Event(), say=print):
        time.sleep(0.3)
    assert beats
