"""A night on devices whose work is waiting: its order, its rounds, its fresh runs, and what is lost on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from archsearch.errors import StoreError
from archsearch.measuring import Measurer
from archsearch.regress.device_night import AGAIN_AT_MOST, NIGHT_PROTOCOL, NightSettings
from archsearch.regress.items import Places, resolve_suite
from archsearch.regress.judged import judge_night
from archsearch.regress.night import Ended, begin_night, run_night
from archsearch.regress.notes import STUDY
from archsearch.regress.series import load_series
from archsearch.regress.suite import load_suite
from archsearch.store import MeasurementRecord, Store
from profiler.installed import AgentFile
from profiler.runner import DeviceSession
from profiler.testing import Fault, lose
from reports.nights import FRESH_RUNS
from reports.verdict import Verdict
from tests.e2e.regress_nights import add_earlier
from tests.unit.archsearch.lab import Lab, Log

SUITE = """
anchors: ["CG:width=64,vocab=512,ffn=96,head_dim=16"]
workloads: ["16/4"]
measure:
  - {layout: "CC:width=64,vocab=512,ffn=96", name: one}
  - {layout: "GG:width=64,vocab=512,ffn=96,head_dim=16", name: two}
  - {layout: "CCC:width=64,vocab=512,ffn=96", name: three}
"""
Change = Callable[[MeasurementRecord], MeasurementRecord]


class Told(Log):
    """Who is told of a night, and remembers."""

    def __init__(self) -> None:
        super().__init__()
        self.expected = self.done = 0

    def expect(self, device: str, measurements: int) -> None:
        self.expected += measurements

    def measured(self, device: str) -> None:
        self.done += 1


class Nights:
    """Nights of one suite on the devices of a lab."""

    def __init__(self, folder: Path, store: Store) -> None:
        self.store = store
        self.lab = Lab(folder)
        self.told = Told()
        self.cancel = Event()
        (folder / "mine.yaml").write_text(SUITE, encoding="utf-8")
        places = Places(store=None, runs=folder / "runs")
        items = resolve_suite(load_suite(str(folder / "mine.yaml")), places=places, lowerings={}, seed=0)
        self.settings = NightSettings(
            night=1.8e9, suite="mine", items=tuple(items), quantities=("decode_ms",), seed=0, archsearch="0", pause_s=0
        )

    def run(self, **changes: Any) -> Ended:
        self.settings = replace(self.settings, **changes)
        with ExitStack() as stack:
            measurers = []
            for device, transport, agent in self.lab.devices.values():
                as_agent: AgentFile = agent
                session = DeviceSession(device, transport=transport, agent=as_agent, poll_s=0.02)
                stack.enter_context(session)
                measurers.append(
                    Measurer(
                        session, self.store, study=STUDY, protocol=NIGHT_PROTOCOL, cancel=self.cancel,
                        say=self.told.say,
                    )
                )  # fmt: skip
            begin_night(self.store, self.settings, list(self.lab.devices))
            return run_night(
                self.settings, measurers, store=self.store, telling=self.told, cancel=self.cancel
            )  # fmt: skip

    def verdicts(self) -> list[Verdict]:
        return judge_night(load_series(self.store), self.settings.night)

    def parts(self, device: str = "a") -> list[str]:
        """What was measured on a device, in order."""
        mine = [record.info["notes"] for record in self.store.measurements(STUDY) if record.device == device]
        return [
            f"{note['item']} {note['part']} {note['round']}" for note in mine if note["night"] == self.settings.night
        ]


@pytest.fixture
def nights(tmp_path: Path) -> Iterator[Nights]:
    with Store.open(tmp_path / "study.db") as store:
        found = Nights(tmp_path, store)
        found.lab.add("a")
        yield found


def test_the_anchor_comes_first_and_last_and_the_rest_in_an_order_of_the_night(nights: Nights):
    ended = nights.run()
    assert (ended.lost, ended.interrupted, ended.measured) == ({}, False, 5)
    first, *between, last = nights.parts()
    assert first.endswith("before 0")
    assert last.endswith("after 0")
    assert sorted(between) == ["one item 0", "three item 0", "two item 0"]
    assert (nights.told.expected, nights.told.done) == (5, 5)
    orders = {
        tuple(item.name for item in replace(nights.settings, night=float(night)).order("a")) for night in range(20)
    }
    assert len(orders) > 3
    assert len({tuple(item.name for item in nights.settings.order("a")) for _ in range(5)}) == 1
    assert {verdict.kind for verdict in nights.verdicts()} == {"AMBIGUOUS"}


def test_a_device_that_moved_is_device_wide_after_fresh_runs_of_all(nights: Nights):
    nights.run()
    add_earlier(nights.store, 15)
    nights.lab.add("a", decode_ms=1.5)
    nights.run(night=1.8e9 + 86_400)
    assert [part.split()[-2] for part in nights.parts()][5:] == ["confirmation"] * 4 * FRESH_RUNS
    assert {verdict.kind for verdict in nights.verdicts()} == {"device-wide"}
    assert not any(verdict.wants_confirmation for verdict in nights.verdicts())
    assert nights.told.has("a: an alarm; fresh runs decide: one, two, three")
    assert nights.told.has("a: it stands; another fresh run decides: one, two, three")


def test_a_block_over_which_the_anchor_moved_is_measured_again_at_most_twice(
    nights: Nights, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("archsearch.regress.rounds.moved", lambda before, after: "the anchor's decode time moved")
    nights.run()
    assert len(nights.parts()) == 5 * (AGAIN_AT_MOST + 1)
    assert nights.told.has("nothing of this night counts")
    assert {verdict.kind for verdict in nights.verdicts()} == {"NO-DATA"}
    assert all("the anchor's decode time moved around this measurement" in one.why for one in nights.verdicts())


def test_a_lost_device_hides_nothing_of_the_others(nights: Nights):
    nights.lab.add("b")
    nights.run()
    transport = nights.lab.add("b", reconnect_s=0.1)
    transport.faults.append(Fault("submit", lose(opens=1000), nth=3))
    ended = nights.run(night=1.8e9 + 86_400)
    assert list(ended.lost) == ["b"]
    by_device = {device: {one.kind for one in nights.verdicts() if one.series.device == device} for device in "ab"}
    assert by_device == {"a": {"AMBIGUOUS"}, "b": {"NO-DATA"}}
    assert all(ended.lost["b"] in one.why for one in nights.verdicts() if one.series.device == "b")


def test_stopping_keeps_what_is_there(nights: Nights):
    nights.told.measured = lambda device: nights.cancel.set()  # type: ignore[method-assign]
    ended = nights.run()
    assert (ended.interrupted, ended.measured) == (True, 1)
    assert len(nights.parts()) == 1


def test_a_store_that_cannot_be_written_ends_the_night(nights: Nights, monkeypatch: pytest.MonkeyPatch):
    nights.lab.add("b")

    def full(*_: Any, **__: Any) -> bool:
        raise StoreError("the disk is full")

    monkeypatch.setattr(Store, "add_measurement", full)
    with pytest.raises(StoreError, match="full"):
        nights.run()
