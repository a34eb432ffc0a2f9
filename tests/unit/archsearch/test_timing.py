"""Where a study's wall time went."""

from __future__ import annotations

import time
from pathlib import Path
from typing import get_args

import pytest

from archsearch import store as module
from archsearch.store import MeasurementRecord, Store
from archsearch.timing import DriverPhase, Seconds, break_down


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with Store.open(tmp_path / "study.db") as opened:
        opened.create_study("s", {})
        yield opened


def event(store: Store, monkeypatch: pytest.MonkeyPatch, at: float, kind: str, data: dict[str, object]) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(module.time, "time", lambda: at)
        store.add_event("s", kind, data)


def add(store: Store, at: float, agent: dict[str, float], driver: dict[str, float], **info: object) -> None:
    store.add_measurement(
        MeasurementRecord(
            job_id=f"j{at}", study="s", role="candidate", label="x", device="local", device_fingerprint="f",
            workload="w", precision="int4", key_hash=f"k{at}", key={}, method="m", status="ok", created_unix=at,
            info={"agent_seconds": agent, "driver_seconds": driver, **info},
        )
    )  # fmt: skip


def test_phases_are_summed_and_overhead_is_the_rest(store: Store, monkeypatch: pytest.MonkeyPatch):
    event(store, monkeypatch, 100, "run_started", {"devices": ["local"]})
    add(store, 110, {"load": 2, "timed": 5, "weights": 1, "total": 8}, {"send": 0.5, "wait": 8})
    add(store, 119, {"load": 2, "timed": 5, "waiting": 0.5, "total": 7.5}, {"wait": 7.5})
    event(store, monkeypatch, 120, "run_ended", {"driver": {"ask": 0.25}})
    report = break_down(store, "s")
    assert report.wall_s == pytest.approx(20)
    assert report.agent == {"load": 4, "timed": 10, "weights": 1, "waiting": 0.5}
    assert report.driver == {"send": 0.5, "ask": 0.25}
    assert report.rest_s == pytest.approx(20 - 15.5 - 0.75)
    assert report.overhead_s == pytest.approx(20 - 14.5)
    assert report.overhead_share == pytest.approx(5.5 / 20)
    assert sum(seconds for _, seconds, _ in report.lines()) == pytest.approx(report.wall_s)


def test_time_between_runs_does_not_count(store: Store, monkeypatch: pytest.MonkeyPatch):
    for start in (100, 1000):
        event(store, monkeypatch, start, "run_started", {"devices": ["local"]})
        event(store, monkeypatch, start + 10, "run_ended", {"driver": {}})
    assert break_down(store, "s").wall_s == pytest.approx(20)


def test_a_killed_run_counts_to_its_last_measurement(store: Store, monkeypatch: pytest.MonkeyPatch):
    event(store, monkeypatch, 100, "run_started", {"devices": ["local"]})
    add(store, 130, {"timed": 20}, {})
    event(store, monkeypatch, 1000, "run_started", {"devices": ["local"]})
    event(store, monkeypatch, 1010, "run_ended", {"driver": {}})
    assert break_down(store, "s").wall_s == pytest.approx(40)


def test_two_devices_have_twice_the_time(store: Store, monkeypatch: pytest.MonkeyPatch):
    # They measure at the same time: the work of both in one wall time would hide all overhead.
    event(store, monkeypatch, 100, "run_started", {"devices": ["a", "b"]})
    for at in (119, 119.5):
        add(store, at, {"timed": 15}, {})
    event(store, monkeypatch, 120, "run_ended", {"driver": {}})
    report = break_down(store, "s")
    assert report.wall_s == pytest.approx(20)
    assert report.device_s == pytest.approx(40)
    assert report.overhead_s == pytest.approx(10)
    assert report.overhead_share == pytest.approx(0.25)


def test_runs_at_the_same_time_are_told_apart(store: Store, monkeypatch: pytest.MonkeyPatch):
    # Two processes on one study: b begins while a is at work, and is killed after its measurement.
    event(store, monkeypatch, 100, "run_started", {"owner": "a", "devices": ["local"]})
    event(store, monkeypatch, 105, "run_started", {"owner": "b", "devices": ["local"]})
    add(store, 112, {"timed": 11}, {"ask": 0.5}, owner="a")
    add(store, 125, {"waiting": 7, "timed": 12}, {"send": 0.5}, owner="b")
    event(store, monkeypatch, 120, "run_ended", {"owner": "a", "driver": {"await": 6}})
    report = break_down(store, "s")
    assert report.runs == 2
    assert report.wall_s == pytest.approx(25)  # from 100 to 125 at least one was at work
    assert report.device_s == pytest.approx(20 + 20)
    assert report.rest_s == pytest.approx(40 - 11 - 19 - 1 - 6)
    assert report.overhead_s == pytest.approx(40 - 11 - 19 - 6)
    assert sum(seconds for _, seconds, _ in report.lines()) == pytest.approx(report.device_s)
    assert "25.0 s by the clock; 40.0 s summed over 2 runs" in report.summary()


def test_one_run_on_one_device_has_one_time(store: Store, monkeypatch: pytest.MonkeyPatch):
    event(store, monkeypatch, 100, "run_started", {"owner": "a", "devices": ["local"]})
    event(store, monkeypatch, 110, "run_ended", {"owner": "a", "driver": {}})
    assert break_down(store, "s").summary() == "10.0 s by the clock"


def test_an_agent_that_went_on_alone_has_its_time_counted(store: Store, monkeypatch: pytest.MonkeyPatch):
    # The first run is killed before it stored anything; the second finds its job when 8 of 10 seconds are over.
    event(store, monkeypatch, 100, "run_started", {"owner": "a", "devices": ["local"]})
    event(store, monkeypatch, 500, "run_started", {"owner": "b", "devices": ["local"]})
    add(store, 502, {"timed": 10, "total": 10}, {"wait": 2}, owner="b", unattended_s=8.0)
    event(store, monkeypatch, 503, "run_ended", {"owner": "b", "driver": {}})
    report = break_down(store, "s")
    assert (report.wall_s, report.device_s) == (pytest.approx(11), pytest.approx(11))
    assert report.overhead_share == pytest.approx(1 / 11)


def test_every_phase_that_is_booked_is_explained(store: Store, monkeypatch: pytest.MonkeyPatch):
    phases = [phase for phase in get_args(DriverPhase) if phase != "wait"]
    event(store, monkeypatch, 100, "run_started", {"devices": ["local"]})
    event(store, monkeypatch, 110, "run_ended", {"driver": dict.fromkeys(phases, 1.0)})
    explained = {phase: what for phase, _, what in break_down(store, "s").lines()}
    assert set(explained) >= {f"driver: {phase}" for phase in phases}
    assert all(explained.values())


def test_the_driver_books_what_a_block_takes_and_what_lies_between_laps():
    seconds = Seconds()
    with seconds.book("ask"):
        time.sleep(0.02)
    seconds.lap("claim")
    seconds.lap("send")
    seconds.add("await", 0.0)
    assert 0.02 <= seconds.by_phase["ask"] <= seconds.by_phase["claim"] < 1
    assert seconds.by_phase["send"] < 0.02
    assert "await" not in seconds.by_phase


def test_a_study_that_never_ran_took_no_time(store: Store):
    report = break_down(store, "s")
    assert (report.wall_s, report.overhead_s, report.overhead_share) == (0, 0, 0)
