"""Verdicts on stored nights: the causes that are named, and new series beside old ones."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from archsearch.cli.exits import INTERRUPTED, NO_DEVICE, NOTHING_MEASURED, OK, REGRESSION, CommandError
from archsearch.cli.regress import _told as told
from archsearch.cli.regress import exit_code
from archsearch.cli.regress_series import series_command
from archsearch.cli.regress_tables import summary
from archsearch.cli.regress_telling import Outlets
from archsearch.errors import StudyError
from archsearch.regress.accepting import accept, meant, pattern_text, since_when
from archsearch.regress.judged import current, judge_night, latest_verdicts
from archsearch.regress.night import Ended
from archsearch.regress.notes import STUDY
from archsearch.regress.series import load_series
from archsearch.regress.series_key import SeriesKey
from archsearch.store import Store
from reports.nights import FRESH_RUNS
from reports.verdict import Verdict
from reports.verdict_rows import verdict_row
from tests.unit.archsearch.regress.nights import block, conditions, lost, night, plan, write

GOOD = 15
"""Good nights before a series is judged."""


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of so many nights, whose decode times scatter by 0.5%."""
    file = tmp_path_factory.mktemp("learned") / "study.db"
    random = Random(7)
    with Store.open(file) as store:
        store.create_study(STUDY, {})
        for number in range(GOOD):
            plan(store, night(number))
            block(store, night(number), decode_ms=random.gauss(1, 0.005), anchor_ms=random.gauss(1, 0.005))
    return file


@pytest.fixture
def store(learned: Path, tmp_path: Path) -> Iterator[Store]:
    copy = tmp_path / "study.db"
    copy.write_bytes(learned.read_bytes())
    with Store.open(copy) as opened:
        yield opened


def verdict(store: Store, number: int = GOOD, *, anchor: bool = False, quantity: str = "decode_ms") -> Verdict:
    verdicts = judge_night(load_series(store), night(number))
    [found] = [one for one in verdicts if one.series.quantity == quantity and one.series.anchor == anchor]
    return found


def both(store: Store, number: int, *, anchor_ms: float = 1.0, **item: Any) -> None:
    """A night with fresh runs of all."""
    block(store, night(number), anchor_ms=anchor_ms, **item)
    for _ in range(FRESH_RUNS):
        write(store, night(number), part="confirmation", **item)
        write(store, night(number), part="confirmation", item="anchor", anchor=True, decode_ms=anchor_ms)


def test_nothing_changed(store: Store):
    block(store, night(GOOD), decode_ms=1.004)
    found = verdict(store)
    assert (found.kind, found.level) == ("SAME", "fine")
    assert exit_code([found], {}) == OK


def test_fewer_threads_are_slower_and_named(store: Store):
    block(store, night(GOOD), decode_ms=1.6, under=conditions(threads=1))
    for _ in range(FRESH_RUNS):
        assert verdict(store).wants_confirmation
        write(store, night(GOOD), part="confirmation", decode_ms=1.6, under=conditions(threads=1))
    found = verdict(store)
    assert (found.kind, found.level) == ("SLOWER", "WARN")
    assert "threads 2 -> 1" in found.why
    both(store, GOOD + 1, decode_ms=1.6, under=conditions(threads=1))
    found = verdict(store, GOOD + 1)
    assert (found.kind, found.level, found.since) == ("SLOWER", "FAIL", night(GOOD))
    assert exit_code([found], {}) == REGRESSION
    row = verdict_row(found)
    assert row["change_low"] < row["change"] < row["change_high"]
    assert row["change"] == pytest.approx(0.6, abs=0.02)
    assert (row["what"], row["workload"], row["precision"]) == ("tiny", "16/4", "int4")
    assert row["series"] == SeriesKey.parse(found.series.key).id


def test_fewer_threads_are_slower_though_the_anchor_has_fewer_too(store: Store):
    fewer = conditions(threads=1)
    for number in (GOOD, GOOD + 1):
        for part in ("before", "after", *["confirmation"] * FRESH_RUNS):
            write(store, night(number), part=part, item="anchor", anchor=True, decode_ms=1.6, under=fewer)
        for part in ("item", *["confirmation"] * FRESH_RUNS):
            write(store, night(number), part=part, decode_ms=1.6, under=fewer)
    for anchor in (False, True):
        found = verdict(store, GOOD + 1, anchor=anchor)
        assert (found.kind, found.level) == ("SLOWER", "FAIL")
        assert "threads 2 -> 1" in found.why
        assert ("the device's anchor moved by +59.8%, with other settings as well" in found.why) is not anchor


def test_the_anchor_moved_too(store: Store):
    both(store, GOOD, decode_ms=1.3, anchor_ms=1.3)
    assert verdict(store).kind == "device-wide"
    assert exit_code(judge_night(load_series(store), night(GOOD)), {}) == OK


def test_an_anchor_that_was_replaced_still_tells_of_its_nights(store: Store):
    for number in (GOOD, GOOD + 1, GOOD + 2):
        both(store, number, decode_ms=1.3, anchor_ms=1.3)
    last = GOOD + 3
    for part in ("before", "after"):
        write(store, night(last), part=part, item="another", anchor=True, identity="f" * 16)
    write(store, night(last), decode_ms=1.3)
    for _ in range(FRESH_RUNS):
        write(store, night(last), part="confirmation", decode_ms=1.3)
    found = verdict(store, last)
    assert (found.kind, found.level) == ("SLOWER", "WARN"), found.why
    [listed] = [one for one in latest_verdicts(load_series(store)) if one.series.key == found.series.key]
    assert (listed.kind, listed.level) == (found.kind, found.level), "the same in every command"


def test_a_night_from_the_future_is_not_the_last(store: Store, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(time, "time", lambda: night(GOOD))
    ahead = night(GOOD + 400)
    block(store, night(GOOD), decode_ms=1.6)
    block(store, ahead, decode_ms=1.0)
    [found] = [
        one
        for one in latest_verdicts(load_series(store))
        if not one.series.anchor and one.series.quantity == "decode_ms"
    ]
    assert found.time == night(GOOD)


def test_a_night_between_anchors_that_moved_says_nothing(store: Store):
    block(store, night(GOOD), decode_ms=1.5, after_ms=1.5)
    found = verdict(store)
    assert (found.kind, found.level) == ("NO-DATA", "WARN")
    assert "throttled" in found.why
    assert exit_code(judge_night(load_series(store), night(GOOD)), {}) == NOTHING_MEASURED


def test_a_wrong_output(store: Store):
    block(store, night(GOOD), status="invalid", reason="block short_conv is not what it should be")
    assert (verdict(store).kind, verdict(store).level) == ("INVALID", "FAIL")


def test_a_device_that_is_lost(store: Store):
    plan(store, night(GOOD))
    lost(store, night(GOOD), "local", "no answer")
    verdicts = judge_night(load_series(store), night(GOOD))
    assert {one.kind for one in verdicts} == {"NO-DATA"}
    assert all("no answer" in one.why for one in verdicts)
    assert exit_code(verdicts, {"local": "no answer"}) == NO_DEVICE
    assert summary(verdicts, {"local": "no answer"})[-1] == "WARN: 4 series: 4 NO-DATA; 0 FAIL, 4 WARN"


def test_a_clock_that_jumped_back(store: Store):
    both(store, -30, decode_ms=3.0)
    found = verdict(store, -30)
    assert (found.kind, found.level) == ("AMBIGUOUS", "WARN")
    assert "15 nights are dated after this one" in found.why


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"under": conditions(runtime_version="1.32.0")}, "onnxruntime 1.31.1 -> 1.32.0"),
        (
            {"under": conditions(runtime_version="1.32.0")},
            "compare them on purpose: archsearch regress run --compare-runtimes 1.31.1 1.32.0",
        ),
        ({"under": conditions(method="m-2")}, "agent m-1 -> m-2"),
        ({"identity": "another-model"}, "tiny is another model"),
        (
            {"under": conditions(device="0" * 16), "environment": {"cores": "8", "governor": "powersave"}},
            "the device is another: governor unknown -> powersave",
        ),
    ],
)
def test_a_new_series_tells_of_the_old_one_and_raises_no_alarm(store: Store, change: dict[str, Any], told: str):
    block(store, night(GOOD), decode_ms=1.5, **change)
    found = verdict(store)
    assert (found.kind, found.level) == ("AMBIGUOUS", "fine")
    assert told in found.why
    assert "the old one stood at" in found.why
    assert "+50" in found.why or "+49" in found.why
    assert len(current(load_series(store))) == 4
    assert len(latest_verdicts(load_series(store))) == len(load_series(store)) > 4


def test_only_two_runtimes_that_can_be_typed_are_to_be_compared(store: Store):
    block(store, night(GOOD), decode_ms=1.5, under=conditions(method="m-2"))
    assert "--compare-runtimes" not in verdict(store).why
    block(store, night(GOOD + 1), decode_ms=1.5, under=conditions(runtime_version="1.32.0; reboot"))
    why = verdict(store, GOOD + 1).why
    assert "1.32.0; reboot" in why
    assert "--compare-runtimes" not in why


def test_worst_first(store: Store):
    both(store, GOOD, decode_ms=1.6)
    assert judge_night(load_series(store), night(GOOD))[0].kind == "SLOWER"


def test_accepting_a_level(store: Store):
    for number in (GOOD, GOOD + 1):
        both(store, number, decode_ms=1.6)
    slower = verdict(store, GOOD + 1)
    assert slower.level == "FAIL"
    [series] = meant("local tiny* decode_ms", load_series(store))
    since = since_when(None, slower)
    assert since == night(GOOD)
    accept(store, series, since=since, reason=" wider ", pinned=None)
    found = verdict(store, GOOD + 1)
    assert found.level == "fine"
    assert found.accepted is not None
    assert found.accepted.reason == "wider"
    with pytest.raises(StudyError, match="with a reason"):
        accept(store, series, since=since, reason=" ", pinned=None)
    for pinned in (-3.0, 0.0, float("nan")):
        with pytest.raises(StudyError, match=r"--pin .*above zero") as caught:
            accept(store, series, since=since, reason="x", pinned=pinned)
        assert "--pin" in str(caught.value.hint)


def test_a_pinned_level(store: Store):
    [series] = meant("local tiny* decode_ms", load_series(store))
    accept(store, series, since=since_when("now", verdict(store, GOOD - 1)), reason="goal", pinned=0.5)
    accept(store, series, since=night(GOOD), reason="goal", pinned=0.5)
    both(store, GOOD, decode_ms=1.0)
    found = verdict(store)
    assert (found.kind, found.baseline) == ("SLOWER", pytest.approx(0.5))


def test_which_series_are_meant(store: Store):
    series = load_series(store)
    for one in series:
        assert meant(SeriesKey.parse(one.key).id, series) == [one]
        assert meant(pattern_text(SeriesKey.parse(one.key)), series) == [one]
    assert len(meant("*decode_ms", series)) == 2
    assert len(meant("tiny*", series)) == 2
    with pytest.raises(StudyError, match="there are local"):
        meant("nothing", series)
    with pytest.raises(StudyError, match="there are none"):
        meant("x", [])
    short = SeriesKey.parse(series[0].key).id[:2]
    with pytest.raises(StudyError, match=f"'{short}' is too short for an id, of which 3 digits are needed"):
        meant(short, series)


def test_the_list_of_nights_that_measured_nothing_is_no_empty_table(tmp_path: Path):
    with Store.open(tmp_path / "regress" / "study.db") as nights:
        nights.create_study(STUDY, {})
        plan(nights, night(0))
    with pytest.raises(CommandError, match="no night has measured anything yet"):
        series_command(every=False, output_format="json", store=None, runs=tmp_path)


@pytest.mark.parametrize("text", ["2027-01-15", "2027-01-15 04:00", " 2027-01-15T04:00:01 "])
def test_nights_as_people_write_them(store: Store, text: str):
    assert since_when(text, verdict(store, 0)) == pytest.approx(1.8e9, abs=2 * 86400)


@pytest.mark.parametrize("text", ["1999-01-01", "2099-01-01"])
def test_words_that_would_change_nothing_are_refused(store: Store, text: str):
    with pytest.raises(StudyError, match="has nights from 2027-01-15"):
        since_when(text, verdict(store, 0))


@pytest.mark.parametrize("text", ["yesterday", "", "2027-13-01"])
def test_what_is_no_night(store: Store, text: str):
    with pytest.raises(StudyError, match="no night"):
        since_when(text, verdict(store, 0))


@pytest.mark.parametrize("before", [True, False])
def test_a_night_that_was_stopped_is_told(before: bool, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    ended = Ended(lost={}, interrupted=True, measured=0)
    outlets = Outlets(junit=tmp_path / "junit.xml", github=True)
    with Store.open(tmp_path / "study.db") as nights:
        nights.create_study(STUDY, {})
        if before:
            block(nights, night(0))
        plan(nights, night(1))
        assert told(nights, night(1), ended, ["local"], "json", "", outlets) == INTERRUPTED
    out, err = capfd.readouterr()
    assert {row["kind"] for row in json.loads(out)} == ({"NO-DATA"} if before else set())
    assert "WARN: " in err
    assert "::warning title=archsearch%3A local%3A" in err
    text = (tmp_path / "junit.xml").read_text()
    assert ("the run was stopped before anything of it was measured" in text) is not before
