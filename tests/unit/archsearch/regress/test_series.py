"""What makes two measurements nights of one series, and what a night is that is not whole."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archsearch.regress.notes import STUDY, Note
from archsearch.regress.series import load_series
from archsearch.regress.series_key import SeriesKey
from archsearch.store import Store
from profiler.workloads import Point
from reports.nights import Run, Series
from tests.unit.archsearch.regress.nights import block, conditions, lost, night, plan, write


@pytest.fixture
def nights(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "study.db") as store:
        store.create_study(STUDY, {})
        yield store


def of(store: Store, quantity: str = "decode_ms", *, anchor: bool = False, **key: Any) -> list[Series]:
    found = [one for one in load_series(store) if one.quantity == quantity and one.anchor == anchor]
    keys = {one.key: SeriesKey.parse(one.key) for one in found}
    return [one for one in found if all(getattr(keys[one.key], name) == value for name, value in key.items())]


def runs(series: Series) -> list[Run]:
    return [one.first for one in series.nights]


def test_an_empty_store_has_no_series(nights: Store):
    assert load_series(nights) == []


def test_two_nights_of_one_thing_are_one_series(nights: Store):
    block(nights, night(0), decode_ms=1.0)
    block(nights, night(1), decode_ms=1.1)
    [series] = of(nights)
    assert [one.time for one in series.nights] == [night(0), night(1)]
    values = [run.value for run in runs(series)]
    assert [value and value.value for value in values] == pytest.approx([1.0, 1.1])
    assert all(value and value.low < value.value < value.high for value in values)
    assert (series.device, series.label, series.direction) == ("local", "tiny 16/4 int4", "min")
    assert [one.quantity for one in load_series(nights) if one.anchor] == ["ttft_ms", "decode_ms"]


@pytest.mark.parametrize(
    "change",
    [
        {"under": conditions(runtime_version="1.32.0")},
        {"under": conditions(method="m-2")},
        {"under": conditions(device="0" * 16)},
        {"identity": "another"},
        {"item": "renamed"},
        {"device": "another"},
        {"points": (Point(prompt=16, decode=8),)},
        {"points": (Point(prompt=16, decode=4, batch=2),)},
        {"points": (Point(prompt=16, decode=4, chunk=8),)},
    ],
)
def test_what_separates_series(nights: Store, change: dict[str, Any]):
    block(nights, night(0))
    block(nights, night(1), **change)
    assert [len(one.nights) for one in of(nights)] == [1, 1]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"under": conditions(threads=1)}, ("threads", "2", "1")),
        ({"under": conditions(cores=[0, 1])}, ("cores", "all", "0,1")),
        ({"lowerings": {"swa-1caf185b": "standard"}}, ("lowering of swa", None, "standard")),
        ({"environment": {"kernel": "6.2"}}, ("kernel", "6.1", "6.2")),
        ({"environment": {"cores": "4"}}, ("core count", "8", "4")),
    ],
)
def test_what_a_series_is_measured_with_is_told_and_separates_nothing(
    nights: Store, change: dict[str, Any], told: tuple[str, str | None, str]
):
    block(nights, night(0))
    block(nights, night(1), **change)
    [series] = of(nights)
    name, before, now = told
    assert [one.environment.get(name) for one in series.nights] == [before, now]


def test_of_several_points_each_is_a_series_and_the_largest_alone_has_the_peak(nights: Store):
    points = (Point(prompt=16, decode=4), Point(prompt=64, decode=4))
    block(nights, night(0), points=points, quantities=("decode_ms", "peak_rss_mib"))
    write(nights, night(0), points=points, quantities=("peak_rss_mib",), status="failed", item="broken")
    assert len(of(nights)) == 2
    assert [SeriesKey.parse(one.key).point for one in of(nights, "peak_rss_mib")] == [(1, 64, 4)] * 2


def test_a_block_over_which_the_anchor_moved_does_not_count_and_the_next_round_does(nights: Store):
    block(nights, night(0), anchor_ms=1.0, after_ms=1.2, decode_ms=1.3)
    [series] = of(nights)
    [run] = runs(series)
    assert (run.status, run.value) == ("throttled", None)
    assert "the anchor's decode time at 16/4 moved by +20.0%" in run.reason
    [anchor] = of(nights, anchor=True)
    assert runs(anchor)[0].status == "throttled"
    block(nights, night(0), round=1, anchor_ms=1.2, decode_ms=1.4)
    [run] = runs(of(nights)[0])
    assert run.value is not None
    assert run.value.value == pytest.approx(1.4)


def test_a_later_round_that_was_broken_off_takes_nothing_from_one_that_counts(nights: Store):
    block(nights, night(0), decode_ms=1.4)
    write(nights, night(0), part="before", item="anchor", round=1)
    write(nights, night(0), round=1, decode_ms=9.0)
    [run] = runs(of(nights)[0])
    assert run.value is not None
    assert run.value.value == pytest.approx(1.4)


@pytest.mark.parametrize("kept", [1, 2])
def test_a_run_that_died_at_any_instant_leaves_a_night_without_numbers(nights: Store, kept: int):
    block(nights, night(0))
    plan(nights, night(1))
    write(nights, night(1), part="before", item="anchor")
    if kept > 1:
        write(nights, night(1))
    [series] = of(nights)
    first, second = runs(series)
    assert first.status == "ok"
    assert second.status == "missing"
    assert "the run ended before" in second.reason


def test_a_device_that_became_another_within_a_block(nights: Store):
    write(nights, night(0), part="before", item="anchor")
    write(nights, night(0))
    write(nights, night(0), part="after", item="anchor", under=conditions(device="0" * 16))
    [run] = runs(of(nights)[0])
    assert run.status == "throttled"
    assert "became another" in run.reason


def test_a_lost_device_is_a_night_without_a_number_with_the_reason(nights: Store):
    for device in ("local", "phone"):
        block(nights, night(0), device=device)
    plan(nights, night(1), "local", "phone")
    block(nights, night(1))
    lost(nights, night(1), "phone", "the cable is out")
    [here], [phone] = of(nights, device="local"), of(nights, device="phone")
    assert [run.status for run in runs(here)] == ["ok", "ok"]
    assert runs(phone)[1] == Run(status="lost", reason="the cable is out")


def test_what_is_no_longer_asked_for_is_not_missed(nights: Store):
    block(nights, night(0))
    plan(nights, night(1), items=())
    assert len(of(nights)[0].nights) == 1


def test_of_series_that_followed_each_other_the_latest_is_missed(nights: Store):
    block(nights, night(0))
    block(nights, night(1), under=conditions(runtime_version="1.32.0"))
    plan(nights, night(2))
    old, new = of(nights)
    assert (len(old.nights), len(new.nights)) == (1, 2)


def test_fresh_runs_belong_to_their_night_in_their_order(nights: Store):
    block(nights, night(0), decode_ms=1.0)
    for decode_ms in (1.5, 1.25):
        write(nights, night(0), part="confirmation", decode_ms=decode_ms)
        write(nights, night(0), part="confirmation", item="anchor", anchor=True)
    for series, values in ((of(nights)[0], [1.5, 1.25]), (of(nights, anchor=True)[0], [1.0, 1.0])):
        [one] = series.nights
        assert [run.value.value for run in one.confirmations if run.value] == pytest.approx(values, rel=1e-3)


def test_until_a_night(nights: Store):
    for number in range(3):
        plan(nights, night(number))
        block(nights, night(number))
    assert all(len(one.nights) == 2 for one in load_series(nights, until=night(1)))


def test_a_note_that_is_none_is_passed_over(nights: Store):
    block(nights, night(0))
    assert Note.read({}) is None
    good = Note(
        night=1.0, suite="s", item="i", identity="x", anchor=False, part="item", round=0, quantities=("a",),
        minimum_effect=0.04, archsearch="1", fresh_runs=2,
    )  # fmt: skip
    assert Note.read(good.to_json()) == good
    for damage in (
        {"part": "x"},
        {"night": None},
        {"quantities": "a"},
        {"minimum_effect": 0},
        {"round": "one"},
        {"fresh_runs": 0},
    ):
        assert Note.read({**good.to_json(), **damage}) is None


def test_nights_from_before_a_second_fresh_run_was_asked_for_are_decided_by_one():
    made = Note(
        night=1.0, suite="s", item="i", identity="x", anchor=False, part="item", round=0, quantities=("a",),
        minimum_effect=0.04, archsearch="1", fresh_runs=2,
    ).to_json()  # fmt: skip
    del made["fresh_runs"]
    note = Note.read(made)
    assert note is not None
    assert note.fresh_runs == 1


texts = st.text(max_size=8)


@given(texts, texts, st.booleans(), st.integers(1, 9))
def test_a_key_is_read_back(device: str, item: str, anchor: bool, prompt: int):
    key = SeriesKey(
        device=device, item=item, anchor=anchor, precision="int4", point=(1, prompt, 4), quantity="decode_ms",
        identity="x", points=((1, prompt, 4), (2, 1, 1)), seed=0, fingerprint="f", runtime_version="1", method="m",
    )  # fmt: skip
    assert SeriesKey.parse(key.text) == key
    assert len(key.id) == 10
