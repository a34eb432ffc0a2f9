"""Devices that are not what they were, not like the others, or wrong: whole studies over devices that wait."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from archsearch.cli.show import print_study
from archsearch.measurement import ANCHOR, CANDIDATE
from archsearch.sampling import Sampler
from archsearch.store import Store
from archsearch.study import Ended
from profiler.errors import ConnectionLost
from profiler.testing import FakeTransport, Fault, answer, lose
from tests.unit.archsearch.lab import Lab, by_device

RIGHT, WRONG = (1.0, -1.0, 0.5, 2.0), (-0.3, 1.4, 1.1, -0.2)

Change = Callable[[dict[str, Any]], None]


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    monkeypatch.setattr("archsearch.measuring.RERUN_AFTER_S", (0.1, 0.1))
    return Lab(tmp_path)


def changed(*changes: Change) -> Callable[[bytes], bytes]:
    """A result, or what a device says of itself, with changes."""

    def change(raw: bytes) -> bytes:
        data = json.loads(raw)
        for each in changes:
            each(data)
        return json.dumps(data).encode()

    return change


def samples(values: tuple[float, ...]) -> Change:
    """Logits that a device computed."""

    def change(data: dict[str, Any]) -> None:
        for process in data["processes"]:
            for point in process.get("points", ()):
                point["logits"] = {"finite": True, "tokens": [1], "sample": list(values), "rms": 1.0}

    return change


def decoding(ms: float) -> Change:
    """Times of decode steps."""

    def change(data: dict[str, Any]) -> None:
        for process in data.get("processes", ()):
            for point in process.get("points", ()):
                for repeat in point["repeats"]:
                    repeat["decode_ns"] = [int(ms * 1e6)] * len(repeat["decode_ns"])

    return change


def out_of_memory(data: dict[str, Any]) -> None:
    """A job that was over its limit."""
    data.update(status="out_of_memory", reason="over its limit", processes=[])


def decode_ms(ended: Ended) -> dict[tuple[str, int], float]:
    """The candidates' times that are ok, by device and trial."""
    return {
        (row["unit"], row["trial"]): round(row["decode_ms"], 3)
        for row in ended.measured.rows() if row["trial"] is not None and row["status"] == "ok"
    }  # fmt: skip


def shown(lab: Lab, capsys: pytest.CaptureFixture[str], **options: Any) -> tuple[list[dict[str, Any]], str]:
    """The ranked rows of `archsearch show`, and what it says of them."""
    capsys.readouterr()
    with Store.open(lab.folder / "study.db", create=False) as store:
        print_study(store, "s", output_format="json", **options)
    said = capsys.readouterr()
    return json.loads(said.out), said.err


def heard(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The values that the sampler is told from now on."""
    told: list[float] = []
    real = Sampler.tell

    def tell(self: Sampler, asked: Any, values: Any, violations: Any) -> None:
        told.extend(values)
        real(self, asked, values, violations)

    monkeypatch.setattr(Sampler, "tell", tell)
    return told


def test_other_threads_are_another_series(lab: Lab):
    lab.add("a", decode_ms=2.0)
    lab.run(3)
    lab.add("a", decode_ms=1.0, threads=2)
    ended = lab.run(4)
    assert lab.log.has("a: measured under other conditions before (threads 1, now 2): its anchors and 3 candidates")
    assert decode_ms(ended) == {("a", trial): 1.0 for trial in range(4)}, "all at two threads, none at one"
    past = [row for row in ended.measured.rows() if row["status"] == "superseded"]
    assert len(past) == 4, "three candidates and the anchor"
    assert past[0]["reason"] == "measured under other conditions: threads 1, now 2"
    lab.add("a", decode_ms=2.0)  # one thread once more: all of it is known, and the anchor is watched again
    assert decode_ms(lab.run(4)) == {("a", trial): 2.0 for trial in range(4)}


def test_a_device_that_becomes_another_on_the_way_measures_its_anchors_again(lab: Lab):
    def governor(name: str, ms: float) -> Callable[[bytes], bytes]:
        return changed(decoding(ms), lambda data: data.get("environment", data).update(governor=name))

    lab.add("a").faults += [
        Fault("info", answer(governor("performance", 1)), times=1),
        Fault("info", answer(governor("powersave", 3)), times=None),
        Fault("fetch", answer(governor("performance", 1)), times=4),
        Fault("fetch", answer(governor("powersave", 3)), times=None),
    ]
    ended = lab.run(5)
    assert lab.log.has("the device is not what it was (governor: performance -> powersave): a series of its own begins")
    assert decode_ms(ended) == {("a", trial): 3.0 for trial in range(5)}
    anchors = [row for row in ended.measured.rows() if row["anchor"] and row["status"] == "ok"]
    assert [row["decode_ms"] for row in anchors] == [3.0]


def test_a_device_that_changes_again_and_again_is_left_out(lab: Lab):
    turn = count()

    def restless(raw: bytes) -> bytes:
        return changed(lambda data: data.get("environment", data).update(governor=f"governor {next(turn)}"))(raw)

    lab.add("a").faults += [Fault("info", answer(restless), times=None), Fault("fetch", answer(restless), times=None)]
    ended = lab.run(2)
    assert "it became another device 4 times while it measured" in ended.devices_lost["a"]


def test_what_was_measured_before_a_device_slowed_down_for_good_is_measured_again(lab: Lab):
    turn = count(1)

    def battery(raw: bytes) -> bytes:
        return changed(decoding(1.0 if next(turn) <= 6 else 1.5))(raw)

    lab.add("a").faults.append(Fault("fetch", answer(battery), times=None))
    ended = lab.run(8)
    assert decode_ms(ended) == {("a", trial): 1.5 for trial in range(8)}
    assert lab.log.has("4 candidates were measured before a device changed: they are measured again")
    anchor = [row for row in ended.measured.rows() if row["anchor"] and row["status"] == "ok"][-1]
    assert anchor["decode_ms"] == 1.5


def test_where_the_anchor_cannot_run_nothing_is_ranked_and_nobody_else_is_kept_from_it(
    lab: Lab, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    told: list[float] = []
    real = Sampler.tell
    monkeypatch.setattr(
        Sampler, "tell", lambda self, asked, values, *a: (told.extend(values), real(self, asked, values, *a))[1]
    )
    lab.add("a")
    lab.add("b", decode_ms=300.0).faults.append(Fault("fetch", answer(changed(out_of_memory)), nth=1))
    lab.run(4)
    rows, said = shown(lab, capsys)
    assert {row["device"] for row in rows if row["rank"]} == {"a"}
    assert "ranked without b: CG, which candidates are related to, has no numbers there (out_of_memory: over" in said
    assert told == [1.0] * 4, "the search goes by the devices that count"
    _, alone = shown(lab, capsys, across="b")
    assert "ranked without" not in alone


def test_an_anchor_that_failed_is_tried_by_the_next_run(lab: Lab, capsys: pytest.CaptureFixture[str]):
    lab.add("a")
    b = lab.add("b", decode_ms=30.0)
    b.faults.append(Fault("fetch", answer(b"{}"), times=3))
    lab.run(2)
    b.faults.clear()
    lab.run(3)
    rows, said = shown(lab, capsys)
    assert {row["device"] for row in rows if row["rank"]} == {"a", "b"}
    assert "ranked without" not in said


def test_what_a_device_failed_is_tried_by_the_next_run(lab: Lab):
    lab.add("a")
    b = lab.add("b")
    b.faults.append(Fault("fetch", answer(b"{}"), nth=3, times=None))
    ended = lab.run(4)
    assert "its agent failed 2 tasks in a row" in ended.devices_lost["b"]
    assert ended.missing == {"a": 0, "b": 3}
    b.faults.clear()
    again = lab.run(4)
    assert again.missing == {"a": 0, "b": 0}
    assert {trial for unit, trial in decode_ms(again) if unit == "b"} == {0, 1, 2, 3}


def test_the_odd_one_of_a_group_is_found_whoever_answers_first(lab: Lab):
    lab.add("odd", group="p", decode_ms=2.0)
    lab.add("a", group="p", seconds=0.3)
    lab.add("b", group="p", seconds=0.3)
    ended = lab.run(6)
    assert set(ended.devices_lost) == {"odd"}
    assert set(decode_ms(ended).values()) == {1.0}
    assert ended.missing == {"p": 0}
    anchors = {row["unit"]: row["status"] for row in ended.measured.rows() if row["anchor"]}
    assert anchors == {"odd": "unlike", "a": "ok", "b": "ok"}, "it is no reference either"


def test_one_that_was_left_out_as_odd_stays_out(lab: Lab):
    lab.add("a", group="p")
    lab.add("b", group="p", decode_ms=2.0, seconds=0.2)
    first = lab.run(4)
    assert "b" in first.devices_lost
    assert "which is the odd one is not known" in first.devices_lost["b"]
    again = lab.run(10)
    assert "b" in again.devices_lost
    assert set(decode_ms(again).values()) == {1.0}


def test_a_wrong_device_is_left_out_and_does_not_switch_the_search_off(
    lab: Lab, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    told = heard(monkeypatch)
    for name in "abc":
        values = WRONG if name == "c" else RIGHT
        lab.add(name).faults.append(Fault("fetch", answer(changed(samples(values))), times=None))
    ended = lab.run(4)
    assert set(ended.devices_lost) == {"c"}
    assert re.match("its outputs are not those of [ab]:", ended.devices_lost["c"])
    assert len(told) == 4
    rows, said = shown(lab, capsys)
    assert {row["device"] for row in rows if row["rank"]} == {"a", "b"}
    assert "ranked without c: its outputs are not those of" in said
    assert "--across c" not in said, "its own numbers are of something else"


def test_of_two_that_differ_neither_is_believed(lab: Lab):
    for name, values in (("a", RIGHT), ("b", WRONG)):
        lab.add(name).faults.append(Fault("fetch", answer(changed(samples(values))), times=None))
    ended = lab.run(3)
    assert set(ended.devices_lost) == {"a", "b"}
    assert "which of them is right is not known" in ended.devices_lost["a"]
    assert decode_ms(ended) == {}


def test_a_wrong_device_of_a_group_is_convicted_by_those_of_others(lab: Lab):
    for name in "abc":
        values = WRONG if name == "b" else RIGHT
        lab.add(name, group=None if name == "c" else "p", seconds=0.1).faults.append(
            Fault("fetch", answer(changed(samples(values))), times=None)
        )
    ended = lab.run(4)
    assert set(ended.devices_lost) == {"b"}
    assert ended.missing == {"p": 0, "c": 0}
    assert {unit for unit, _ in decode_ms(ended)} == {"a", "c"}


def test_a_candidate_that_costs_one_device_after_the_other_is_given_up(lab: Lab):
    def breaks(transport: FakeTransport, call: Any, act: Callable[[], Any]) -> Any:
        if list(Path(transport.work_dir).glob("jobs/0-*")):
            transport.break_link(opens=10**6)
            raise ConnectionLost("it restarted")
        return act()

    for name in "abcd":
        lab.add(name, group="p", seconds=0.1).faults.append(Fault("start", breaks, times=None))
    ended = lab.run(6)
    assert len(ended.devices_lost) == 2
    assert lab.log.has("failed: devices were lost over it")
    assert {trial for _, trial in decode_ms(ended)} == {1, 2, 3, 4, 5}


def test_a_group_that_is_named_later_has_what_its_devices_measured(lab: Lab, capsys: pytest.CaptureFixture[str]):
    lab.add("a")
    lab.run(3)
    lab.add("a", group="g")
    ended = lab.run(4)
    assert by_device(ended) == {"a": 4}, "what is known is not measured again"
    assert ended.missing == {"g": 0}
    rows, _ = shown(lab, capsys)
    assert {row["device"] for row in rows} == {"g"}


def test_a_device_that_the_last_run_was_without_keeps_nothing_from_being_ranked(
    lab: Lab, capsys: pytest.CaptureFixture[str]
):
    lab.add("a")
    lab.add("b")
    lab.run(3)
    del lab.devices["b"]
    lab.run(5)
    rows, said = shown(lab, capsys)
    assert len({row["layout_id"] for row in rows if row["rank"] and not row["anchor"]}) == 5
    assert "ranked without b: it lacks 2 of 5 candidates (the last run was without it); by its own" in said


def test_a_device_lost_before_its_first_candidate_is_told(lab: Lab, capsys: pytest.CaptureFixture[str]):
    lab.add("a")
    lab.add("b").faults.append(Fault("start", lose(opens=10**6), nth=2))
    ended = lab.run(3)
    assert by_device(ended, ANCHOR) == {"a": 1, "b": 1}
    assert by_device(ended, CANDIDATE) == {"a": 3}
    _, said = shown(lab, capsys)
    assert "ranked without b: it lacks 3 of 3 candidates (the device is out of reach)" in said
