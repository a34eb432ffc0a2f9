"""What studies said of their fronts: read off a study, kept, read back, and set beside nights of given numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from archsearch.regress.front_nights import front_verdicts
from archsearch.regress.fronts import keep_fronts, kept_fronts
from archsearch.regress.items import Item, Places, resolve_suite
from archsearch.regress.notes import FRONT, STUDY
from archsearch.regress.series import load_series
from archsearch.regress.suite import load_suite
from archsearch.store import Store
from profiler.workloads import Point
from reports.front_noise import UNKNOWN_NOISE
from reports.front_verdicts import FrontVerdict
from reports.nights import Night as OfSeries
from reports.nights import Run, number_of
from reports.study_fronts import Said, Scope, StudyFront
from reports.values import Value
from search_space.notation import resolve
from tests.unit.archsearch.lab import Lab
from tests.unit.archsearch.regress.nights import conditions, lost, night, plan, write

LAYOUTS = {
    layout.layout_id: layout
    for layout in (resolve(f"{code}:width=64,vocab=512,ffn=96,head_dim=16").layout for code in ("CG", "CGG", "GG"))
}
FAST, MIDDLE, SLOW = LAYOUTS
TIMES: Mapping[str, tuple[float, float]] = {FAST: (5.0, 1.0), MIDDLE: (6.0, 0.8), SLOW: (9.0, 1.6)}


def exact(number: float) -> Value:
    return Value(value=number, low=number, high=number)


def told(**options: Any) -> StudyFront:
    values = {
        layout: {"ttft_ms": exact(ttft_ms), "decode_ms": Value(value=decode_ms, low=0.5 * decode_ms, high=math.inf)}
        for layout, (ttft_ms, decode_ms) in TIMES.items()
    }
    said = tuple(Said(layout=one, title=one[:6], front="on", item=f"best {one[:6]}") for one in TIMES)
    defaults: dict[str, Any] = {
        "study": "search", "name": "best", "objectives": ("ttft_ms", "decode_ms"), "fixed": (), "across": "worst",
        "budgets": ("decode_ms<=4",), "precision": "int4", "said": said,
        "scopes": (
            Scope(values=values),
            Scope(devices=("local",), workload="16/4", conditions={"agent": "m-0"}, values=values),
        ),
    }  # fmt: skip
    return StudyFront(**defaults | options)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "study.db") as opened:
        opened.create_study(STUDY, {})
        yield opened


def a_night(store: Store, number: int, slower: Mapping[str, float] | None = None, **more: Any) -> None:
    """A block of all three; some are slower by a factor, or None for no number."""
    keep_fronts(store, night(number), [told()])
    write(store, night(number), part="before", item="anchor")
    for layout, (ttft_ms, decode_ms) in TIMES.items():
        factor = (slower or {}).get(layout, 1.0)
        write(
            store, night(number), item=f"best {layout[:6]}", of=LAYOUTS[layout], ttft_ms=ttft_ms * factor,
            decode_ms=decode_ms * factor, **more,
        )  # fmt: skip
    write(store, night(number), part="after", item="anchor")


def verdict(store: Store, number: int) -> FrontVerdict:
    [found] = front_verdicts(store, load_series(store), night(number))
    return found


def test_what_was_said_is_read_back(store: Store):
    one, two = told(), told(study="other", budgets=())
    keep_fronts(store, night(0), [one, two])
    keep_fronts(store, night(1), [two])
    assert kept_fronts(store, night(0)) == [one, two]
    assert kept_fronts(store, night(1)) == [two]
    assert kept_fronts(store, night(2)) == []


@pytest.mark.parametrize(
    "damage",
    [
        {"format": 2}, {"objectives": ["speed"]}, {"objectives": []}, {"objectives": None}, {"scopes": []},
        {"scopes": [{}]}, {"scopes": "x"}, {"layouts": [["a", "b"]]}, {"layouts": [["a", "b", "above", "d"]]},
        {"scopes": [{"devices": [], "workload": "", "conditions": {}, "values": {"a": {"ttft_ms": [None, 1, 2]}}}]},
        {"scopes": [{"devices": [], "workload": "", "conditions": [], "values": {}}]},
    ],
)  # fmt: skip
def test_what_is_damaged_or_newer_is_passed_over(store: Store, damage: Mapping[str, Any]):
    keep_fronts(store, night(0), [told()])
    [(_, _, event)] = store.events(STUDY, FRONT)
    store.add_event(STUDY, FRONT, {**event, "night": night(1), **damage})
    store.add_event(STUDY, FRONT, {})
    assert kept_fronts(store, night(1)) == []
    assert front_verdicts(store, load_series(store), night(1)) == []


def test_a_store_of_before_has_no_fronts(store: Store):
    write(store, night(0))
    assert front_verdicts(store, load_series(store), night(0)) == []


def test_moved_on_the_second_night_and_held_before(store: Store):
    for number in range(-3, 1):
        a_night(store, number)
    assert verdict(store, 0).kind == "HELD"
    a_night(store, 1, {FAST: 3.0})
    assert verdict(store, 1).kind == "AMBIGUOUS"
    a_night(store, 2, {FAST: 3.0})
    found = verdict(store, 2)
    assert found.kind == "MOVED"
    assert {one.move.what for one in found.findings if one.certain} == {"left", "swapped"}
    assert verdict(store, 0).kind == "HELD", "of that night, whatever came later"
    assert (found.device, found.workload, found.precision) == ("local", "16/4", "int4")
    assert "agent m-0 -> m-1" in found.notes[0]


def test_until_the_gate_knows_a_series_its_noise_is_taken_as_large(store: Store):
    a_night(store, 0)
    reading = verdict(store, 0).night.readings[FAST]["decode_ms"]
    assert reading.noise == pytest.approx(math.log1p(UNKNOWN_NOISE * 0.04))


def test_a_series_that_the_gate_knows_has_its_own_noise(store: Store):
    for number in range(15):
        a_night(store, number, dict.fromkeys(TIMES, 1 + 0.002 * (number % 3)))
    noise = verdict(store, 14).night.readings[FAST]["decode_ms"].noise
    assert noise == pytest.approx(math.log1p(0.04))


def test_another_runtime_begins_new_series_and_the_order_still_counts(store: Store):
    a_night(store, 0, {FAST: 3.0})
    a_night(store, 1, {FAST: 3.0}, under=conditions(runtime_version="1.32.0"))
    assert verdict(store, 1).kind == "DIFFERS", "nights never stood elsewhere"


def test_numbers_that_do_not_count_are_missing(store: Store):
    a_night(store, 0)
    a_night(store, 1, status="timeout", reason="it took too long")
    found = verdict(store, 1)
    assert found.kind == "NO-DATA"
    assert set(found.missing.values()) == {"it took too long"}
    plan(store, night(2))
    keep_fronts(store, night(2), [told()])
    lost(store, night(2), "local", "no answer")
    assert front_verdicts(store, load_series(store), night(2)) == [], "its plan asks for none of them"


def test_a_wrong_output_has_no_place(store: Store):
    a_night(store, 0)
    a_night(store, 1, status="invalid", reason="block short_conv is wrong")
    assert verdict(store, 1).kind == "NO-DATA"


def test_layouts_that_became_others_are_not_of_the_study(store: Store):
    a_night(store, 0, identity="another-layout")
    assert front_verdicts(store, load_series(store), night(0)) == []


def test_peak_memory_is_that_of_the_largest_point(store: Store):
    small, large = Point(prompt=8, decode=4), Point(prompt=16, decode=4)
    peaks = {layout: {"peak_rss_mib": exact(100.0), "decode_ms": exact(TIMES[layout][1])} for layout in TIMES}
    one = told(objectives=("decode_ms", "peak_rss_mib"), scopes=(Scope(values=peaks),))
    keep_fronts(store, night(0), [one])
    write(store, night(0), part="before", item="anchor")
    for layout in TIMES:
        write(
            store, night(0), item=f"best {layout[:6]}", of=LAYOUTS[layout], points=(small, large),
            quantities=("decode_ms", "peak_rss_mib"),
        )  # fmt: skip
    write(store, night(0), part="after", item="anchor")
    found = front_verdicts(store, load_series(store), night(0))
    assert [one.workload for one in found] == ["8/4", "16/4"]
    assert all(one.compared.layouts for one in found)


def test_a_fresh_run_counts_as_much_as_the_first():
    first = Run(value=Value(value=4.0, low=3.0, high=5.0))
    assert number_of(OfSeries(time=0.0, first=first)) == first.value
    fresh = Run(value=exact(1.0))
    assert number_of(OfSeries(time=0.0, first=first, confirmations=(fresh,))) == Value(value=2.0, low=1.5, high=2.5)
    assert number_of(OfSeries(time=0.0, first=first, confirmations=(Run(status="timeout"),))) == first.value
    assert number_of(OfSeries(time=0.0, first=Run(status="timeout"), confirmations=(fresh,))) is None


def suite(tmp_path: Path) -> list[Item]:
    lab = Lab(tmp_path)
    lab.add("a")
    lab.add("b", group="rack")
    lab.run(4)
    (tmp_path / "mine.yaml").write_text(
        'anchors: ["CG:width=64,vocab=512,ffn=96,head_dim=16"]\nworkloads: ["16/4"]\nprecisions: [fp32, int4]\n'
        "measure: [{study: s, neighbours: 2, name: best}]\n", encoding="utf-8",
    )  # fmt: skip
    places = Places(store=str(tmp_path / "study.db"), runs=tmp_path / "runs")
    return resolve_suite(load_suite(str(tmp_path / "mine.yaml")), places=places, lowerings={}, seed=0)


def test_a_suite_reads_off_its_study_what_it_says(tmp_path: Path):
    anchor, *items = suite(tmp_path)
    assert anchor.front is None
    [front] = {id(item.front): item.front for item in items}.values()
    assert front is not None
    assert (front.study, front.name, front.precision, front.objectives) == ("s", "best", "fp32", ("decode_ms",))
    assert [one.item for one in front.said] == [item.name for item in items[: len(front.said)]]
    combined, *places = front.scopes
    assert combined.devices == ()
    assert sorted(place.devices for place in places) == [("a",), ("b",)]
    assert all(set(place.values) == {one.layout for one in front.said} for place in places)
    assert all(place.conditions.keys() == {"onnxruntime", "agent", "device"} for place in places)
    with Store.open(tmp_path / "study.db") as store:
        store.create_study(STUDY, {})
        keep_fronts(store, 1.0, [front])
        assert kept_fronts(store, 1.0) == [replace(front, scopes=tuple(front.scopes))]
