"""A comparison on devices whose work is waiting: its order, its rounds, what is stored, and what is lost on the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from archsearch.errors import StoreError
from archsearch.regress.compared import compared_verdicts, comparisons
from archsearch.regress.device_runtimes import RETAKEN, CompareSettings
from archsearch.regress.events import damaged
from archsearch.regress.items import Places, resolve_suite
from archsearch.regress.notes import STUDY
from archsearch.regress.runtime_notes import COMPARED, UNCOMPARED, RuntimeNote
from archsearch.regress.runtimes import Compared, Sessions, compare_runtimes
from archsearch.regress.series import load_series
from archsearch.regress.suite import load_suite
from archsearch.store import Store
from profiler.devices import Device, LocalDevice
from profiler.errors import DeviceUnavailable
from profiler.runner import DeviceSession
from profiler.testing import FakeTransport, Fault, lose, waiting_agent
from tests.unit.archsearch.regress.test_night import SUITE, Told

VERSIONS = ("1.30.0", "1.31.1")
PAIRS = 4


class Bench:
    """Devices that wait, with two runtimes each."""

    def __init__(self, folder: Path, store: Store) -> None:
        self.folder, self.store = folder, store
        self.told, self.cancel = Told(), Event()
        self.faults: dict[str, list[Fault]] = {}
        self.refused: dict[str, str] = {}
        self.decode_ms = {"1.30.0": 1.0, "1.31.1": 1.0}
        self.ran = dict(zip(VERSIONS, VERSIONS, strict=True))
        (folder / "mine.yaml").write_text(SUITE, encoding="utf-8")
        places = Places(store=None, runs=folder / "runs")
        items = resolve_suite(load_suite(str(folder / "mine.yaml")), places=places, lowerings={}, seed=0)
        self.settings = CompareSettings(
            compared=1.8e9, suite="mine", runtimes=VERSIONS,
            items=tuple(one for one in items if one.name in ("one", "two")), quantities=("decode_ms",), seed=0,
            archsearch="0", pairs=PAIRS,
        )  # fmt: skip

    @contextmanager
    def opening(self, device: Device, versions: tuple[str, str], say: Callable[[str], None]) -> Iterator[Sessions]:
        say("is opened")
        if device.name in self.refused:
            raise DeviceUnavailable(self.refused[device.name], hint="another version")
        transport = FakeTransport(device.work_dir, self.faults.get(device.name, ()))
        agents = [
            replace(
                waiting_agent(0.01, decode_ms=self.decode_ms[version], onnxruntime=self.ran[version]),
                name=f"agent-{version}.py",
            )
            for version in versions
        ]
        with (
            DeviceSession(device, transport=transport, agent=agents[0], poll_s=0.02) as a,
            DeviceSession(device, transport=transport, agent=agents[1], poll_s=0.02) as b,
        ):
            yield a, b

    def run(self, *names: str, **changes: Any) -> Compared:
        devices = [
            LocalDevice.model_validate({
                "name": name, "transport": "local", "threads": 1, "work_dir": str(self.folder / name),
                "reconnect_s": 0.3,
            })
            for name in names or ("a",)
        ]  # fmt: skip
        return compare_runtimes(
            replace(self.settings, **changes), devices, store=self.store, telling=self.told, cancel=self.cancel,
            opening=self.opening,
        )  # fmt: skip

    def notes(self, device: str = "a") -> list[RuntimeNote]:
        """Of what is stored of a device, in order."""
        records = [record for record in self.store.measurements(STUDY) if record.device == device]
        return [note for record in records if (note := RuntimeNote.read(record.info["notes"])) is not None]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with Store.open(tmp_path / "study.db") as store:
        yield Bench(tmp_path, store)


def test_everything_is_measured_in_pairs_spread_over_the_session(bench: Bench):
    ended = bench.run()
    assert (ended.lost, ended.interrupted, ended.measured) == ({}, False, 2 * 2 * PAIRS)
    assert {(one.what, one.kind) for one in ended.verdicts} == {("one", "SAME"), ("two", "SAME")}
    notes = bench.notes()
    assert (bench.told.expected, bench.told.done) == (len(notes), len(notes))
    for first, second in zip(notes[::2], notes[1::2], strict=True):
        assert (first.item, first.pair) == (second.item, second.pair)
        assert {first.side, second.side} == {"a", "b"}
    rounds = [{note.item for note in notes[at : at + 4]} for at in range(0, len(notes), 4)]
    assert rounds == [{"one", "two"}] * PAIRS
    for name in ("one", "two"):
        firsts = "".join([note.side for note in notes if note.item == name][::2])
        assert firsts in ("abba", "baab"), "the Thue-Morse sequence"
    orders = {tuple(i.name for i in bench.settings.order("a", "pairs", at, bench.settings.items)) for at in range(20)}
    assert len(orders) == 2
    contents = Counter(
        (record.label.partition(" ")[0], record.key["content"]) for record in bench.store.measurements(STUDY)
    )
    assert list(contents.values()) == [2 * PAIRS] * 2, "the same graph and weights under both"
    assert load_series(bench.store) == [], "no night"
    [(_, _, begun)] = bench.store.events(STUDY, COMPARED)
    assert (begun["runtimes"], begun["devices"], begun["suite"]) == (list(VERSIONS), ["a"], "mine")
    assert [asked[0] for asked in begun["asked"]] == ["one", "two"]


def test_what_differs_is_measured_again(bench: Bench):
    bench.decode_ms["1.31.1"] = 1.2
    ended = bench.run(items=bench.settings.items[:1])
    assert [one.kind for one in ended.verdicts] == ["SLOWER"]
    stages = [note.stage for note in bench.notes()]
    assert stages == ["pairs"] * 8 + ["fresh pairs"] * 8
    assert bench.told.has("fresh pairs decide: one")
    assert bench.told.expected == bench.told.done == 16
    assert compared_verdicts(bench.store, bench.settings.compared) == list(ended.verdicts), "as the store has it"
    assert compared_verdicts(bench.store, bench.settings.compared + 1) == []


def test_one_lost_device_takes_nothing_from_the_others(bench: Bench):
    bench.refused["old"] = "there is no wheel"
    ended = bench.run("a", "old", items=bench.settings.items[:1])
    assert ended.lost == {"old": "there is no wheel (try: another version)"}
    assert {one.device for one in ended.verdicts} == {"a"}
    [(_, _, lost)] = bench.store.events(STUDY, UNCOMPARED)
    assert (lost["device"], lost["reason"]) == ("old", "there is no wheel (try: another version)")
    for at in ({}, {"compared": "x"}, {"compared": True}, {"compared": 10**400}):
        bench.store.add_event(STUDY, COMPARED, {"suite": "mine", "runtimes": ["1", "2"], **at})
        bench.store.add_event(STUDY, UNCOMPARED, {"device": "a", "reason": "x", **at})
    assert damaged(bench.store) == 8
    [kept] = comparisons(bench.store)
    assert (kept.compared, kept.suite, kept.runtimes) == (bench.settings.compared, "mine", VERSIONS)
    assert kept.lost == ended.lost


def test_a_device_that_is_lost_on_the_way_keeps_what_was_measured(bench: Bench):
    bench.faults["a"] = [Fault("fetch", lose(opens=1000), nth=6, times=None)]
    ended = bench.run()
    assert set(ended.lost) == {"a"}
    assert 0 < ended.measured < 2 * 2 * PAIRS
    assert {one.kind for one in ended.verdicts} == {"AMBIGUOUS"}
    assert len(bench.notes()) == ended.measured


def test_a_runtime_that_is_not_the_one_asked_for_is_not_judged(bench: Bench):
    bench.ran["1.31.1"] = "1.29.0"
    ended = bench.run()
    assert ended.lost == {"a": "onnxruntime 1.29.0 ran there in place of 1.31.1"}
    assert {one.kind for one in ended.verdicts} <= {"NO-DATA"}


def test_pairs_that_do_not_count_are_taken_again_but_not_for_ever(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    from archsearch.regress.taking import Taker

    take, seen = Taker.take, Counter[str]()

    def sometimes(self: Taker, measurer: Any, subject: Any, effort: Any) -> Any:
        found = take(self, measurer, subject, effort)
        seen[subject.name] += 1
        hot = subject.name == "two" or (subject.name == "one" and seen["one"] == 3)
        return replace(found, status="not_cooled", reason="hot") if hot else found

    monkeypatch.setattr(Taker, "take", sometimes)
    ended = bench.run()
    assert seen == {"one": 2 * (PAIRS + 1), "two": 2 * (PAIRS + RETAKEN)}
    kinds = {one.what: (one.kind, one.pairs, one.left_out) for one in ended.verdicts}
    assert kinds == {"one": ("SAME", PAIRS, 1), "two": ("NO-DATA", 0, PAIRS + RETAKEN)}
    assert bench.told.expected == bench.told.done


def test_what_one_runtime_cannot_run_is_given_up_soon(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    from archsearch.regress.taking import Taker

    take = Taker.take

    def without(self: Taker, measurer: Any, subject: Any, effort: Any) -> Any:
        found = take(self, measurer, subject, effort)
        bad = subject.notes["side"] == "b" and subject.name == "one"
        return replace(found, status="failed", reason="no such operator") if bad else found

    monkeypatch.setattr(Taker, "take", without)
    ended = bench.run()
    [one] = [verdict for verdict in ended.verdicts if verdict.what == "one"]
    assert (one.kind, one.pairs, one.left_out) == ("INVALID", 0, 2)
    assert "1.31.1 does not run what 1.30.0 runs: failed: no such operator" in one.why
    assert bench.told.expected == bench.told.done == 2 * (PAIRS + 2)


def test_stopping_keeps_what_is_there(bench: Bench):
    measured = bench.told.measured

    def stop_after_five(device: str) -> None:
        measured(device)
        if bench.told.done == 5:
            bench.cancel.set()

    bench.told.measured = stop_after_five  # type: ignore[method-assign]
    ended = bench.run()
    assert (ended.interrupted, ended.measured) == (True, 5)
    assert len(bench.notes()) == 5
    bench.cancel.clear()
    bench.told.measured = measured  # type: ignore[method-assign]
    begun_anew = bench.run(compared=1.9e9, items=bench.settings.items[:1])
    assert begun_anew.measured == 8


def test_a_store_that_takes_nothing_ends_it(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    def full(*_: Any, **__: Any) -> None:
        raise StoreError("the disk is full")

    monkeypatch.setattr(Store, "add_measurement", full)
    with pytest.raises(StoreError, match="the disk is full"):
        bench.run("a", "b")
