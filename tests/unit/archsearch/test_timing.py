"""Where a study's wall time went."""

from __future__ import annotations

from pathlib import Path

import pytest

from archsearch import store as module
from archsearch.store import MeasurementRecord, Store
from archsearch.timing import break_down


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with Store.open(tmp_path / "study.db") as opened:
        opened.create_study("s", {})
        yield opened


def event(store: Store, monkeypatch: pytest.MonkeyPatch, at: float, kind: str, data: dict[str, object]) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(module.time, "time", lambda: at)
        store.add_event("s", kind, data)


def add(store: Store, at: float, agent: dict[str, float], driver: dict[str, float]) -> None:
    store.add_measurement(
        MeasurementRecord(
            job_id=f"j{at}", study="s", role="candidate", label="x", device="local", device_fingerprint="f",
            workload="w", precision="int4", key_hash=f"k{at}", key={}, method="m", status="ok", created_unix=at,
            info={"agent_seconds": agent, "driver_seconds": driver},
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


def test_a_study_that_never_ran_took_no_time(store: Store):
    report = break_down(store, "s")
    assert (report.wall_s, report.overhead_s, report.overhead_share) == (0, 0, 0)
