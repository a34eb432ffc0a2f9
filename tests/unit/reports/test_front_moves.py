"""Did a front move? Noise never says so on its own, and two nights must agree."""

from __future__ import annotations

import json
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.errors import UnknownNameError
from reports.front_rows import front_cells, front_lines, front_row, layout_cells, wanted_first
from reports.front_verdicts import FrontKind
from reports.study_fronts import Scope
from tests.unit.reports.fronts_of import FOUR, Numbers, front, judged, night, slower

IDS = st.sampled_from([f"layout{at}" for at in range(6)])
NUMBERS = st.dictionaries(
    IDS, st.tuples(st.floats(1, 100), st.floats(0.1, 10), st.floats(1e7, 1e9)), min_size=2, max_size=6
)  # fmt: skip

QUIET = [night(at, FOUR) for at in range(-4, 0)]
"""As many nights as it takes to know where they stood."""


def moves(told: object, *nights: object) -> list[tuple[str, str, str]]:
    found = judged(told, nights).findings  # type: ignore[arg-type]
    return [(one.move.what, one.move.layout, one.move.other) for one in found]


@given(NUMBERS, st.floats(0, 0.5))
def test_the_same_numbers_have_held(numbers: Numbers, noise: float):
    verdict = judged(front(numbers), [night(at, numbers, noise=noise) for at in range(3)])
    assert verdict.kind == "HELD"
    assert verdict.held[0] == verdict.held[1]


@given(NUMBERS, st.floats(0.1, 10), st.floats(0.1, 10))
def test_a_device_that_is_slower_in_everything_has_held(numbers: Numbers, prefill: float, decode: float):
    there = {one: (a * prefill, b * decode, params) for one, (a, b, params) in numbers.items()}
    assert judged(front(numbers), [night(at, there) for at in range(2)]).kind == "HELD"


@given(NUMBERS, st.integers(0, 2**32))
def test_what_differs_by_less_than_noise_has_held(numbers: Numbers, seed: int):
    drawn = random.Random(seed)
    disturbed = {
        one: (a * drawn.uniform(0.98, 1.02), b * drawn.uniform(0.98, 1.02), params)
        for one, (a, b, params) in numbers.items()
    }
    assert judged(front(numbers), [night(at, disturbed) for at in range(2)]).kind == "HELD"


@given(NUMBERS, NUMBERS, st.randoms())
def test_the_order_of_layouts_and_nights_is_nothing(numbers: Numbers, tonight: Numbers, shuffle: random.Random):
    def mixed(some: Numbers) -> Numbers:
        names = list(some)
        shuffle.shuffle(names)
        return {name: some[name] for name in names}

    one = judged(front(numbers), [night(0, numbers), night(1, tonight), night(2, tonight)])
    other = judged(
        front(mixed(numbers)), [night(2, mixed(tonight)), night(0, mixed(numbers)), night(1, mixed(tonight))]
    )
    assert one.kind == other.kind
    assert {finding.move.key for finding in one.findings} == {finding.move.key for finding in other.findings}
    assert one.compared.tonight == other.compared.tonight


def test_a_layout_that_is_clearly_dominated_is_moved_on_the_second_night():
    told, worse = front(FOUR), slower(FOUR, "middle", 2.0)
    first = judged(told, [*QUIET, night(1, worse)])
    assert first.kind == "AMBIGUOUS"
    assert "one night; the next decides" in front_lines([first])[0]
    second = judged(told, [*QUIET, night(1, worse), night(2, worse)])
    assert second.kind == "MOVED"
    [left] = [one for one in second.findings if one.move.what == "left"]
    assert (left.move.layout, left.move.other, left.nights, left.since) == ("middle", "large", 2, night(1, FOUR).time)
    assert left.move.tonight["decode_ms"] == pytest.approx(2.8 / 2 - 1)
    assert left.move.study["decode_ms"] == pytest.approx(1.4 / 2 - 1)
    assert second.compared.tonight["middle"] == "dominated"
    assert second.held == (2, 3)
    assert judged(told, [night(0, worse), night(1, worse), night(2, FOUR)]).kind == "HELD", "it went back"
    assert judged(told, [night(0, worse), night(1, FOUR), night(2, worse)]).kind == "AMBIGUOUS", "two in a row"


def test_what_was_never_otherwise_is_no_move():
    told, worse = front(FOUR), slower(FOUR, "middle", 2.0)
    always = judged(told, [night(at, worse) for at in range(20)])
    assert always.kind == "DIFFERS"
    [line] = front_lines([always])
    assert "middle is not on the front" in line
    assert "the study's one measurement may have been off" in line
    drifted = [slower(FOUR, "middle", 1 + at / 20) for at in range(21)]
    noisy = [night(at, some, noise=0.04 if at > 10 else 0.3) for at, some in enumerate(drifted)]
    assert judged(told, noisy).kind == "MOVED", "nights before the first that shows it stood elsewhere"
    quieter = [night(at, slower(FOUR, "middle", 1.6), noise=0.3 if at < 10 else 0.04) for at in range(14)]
    assert judged(told, quieter).kind == "DIFFERS", "only the noise became less"


def test_a_layout_that_got_faster_comes_on_to_the_front():
    better = slower(FOUR, "poor", 0.4)
    found = moves(front(FOUR), night(0, better), night(1, better))
    assert ("came", "poor", "middle") in found
    assert ("swapped", "large", "poor") in found
    assert not any(what == "left" and layout == "small" for what, layout, _ in found)


def test_two_that_changed_places_in_one_objective():
    swapped: Numbers = {**FOUR, "middle": (14.0, 2.4, 1.5e8)}
    [found] = moves(front(FOUR), night(0, swapped), night(1, swapped))
    assert found == ("swapped", "middle", "large")
    assert moves(front(FOUR), night(0, swapped, noise=0.5), night(1, swapped, noise=0.5)) == []


def test_more_parameters_keep_a_slow_layout_on_the_front():
    worse = slower(FOUR, "large", 3.0)
    assert "left" not in [what for what, *_ in moves(front(FOUR), night(0, worse), night(1, worse))]


def test_missing_numbers_neither_count_nor_end_what_was():
    told, worse = front(FOUR), slower(FOUR, "middle", 2.0)
    gone = {name: row for name, row in worse.items() if name != "middle"}
    between = night(1, gone, missing={"middle": "out of memory"})
    one = judged(told, [night(0, worse), between])
    assert (one.kind, dict(one.missing)) == ("HELD", {"middle": "out of memory"})
    assert "without middle: out of memory" in front_lines([one])[0]
    assert judged(told, [*QUIET[1:], night(0, worse), between, night(2, worse)]).kind == "DIFFERS", (
        "three nights before"
    )
    assert judged(told, [*QUIET[1:], night(-9, FOUR), night(0, worse), between, night(2, worse)]).kind == "MOVED"
    still = judged(told, [*QUIET, night(1, worse), night(2, worse), night(3, gone)])
    assert still.kind == "MOVED", "nobody saw it go back"
    assert "last seen" in front_lines([still])[0]


def test_one_layout_has_no_order():
    alone = judged(front(FOUR), [night(0, {"small": FOUR["small"]}, missing={"large": "lost"})])
    assert alone.kind == "NO-DATA"
    assert alone.missing["large"] == "lost"
    assert alone.missing["middle"] == "has no ttft_ms, decode_ms tonight"
    assert judged(front({**FOUR}, objectives=("load_ms",)), [night(0, FOUR)]).kind == "NO-DATA"
    assert judged(front(FOUR), [night(0, {})]).kind == "NO-DATA"


def test_a_confirmed_change_of_a_series_makes_a_small_swing_count():
    told, worse = front(FOUR, half=0.0), slower(FOUR, "middle", 1.6)
    known = [night(at, worse, noise=0.12) for at in range(2)]
    for one in known:
        for name, reading in one.readings["middle"].items():
            one.readings["middle"][name] = type(reading)(value=reading.value, noise=0.0, changed=1)  # type: ignore[index]
    assert ("left", "middle", "large") in moves(told, *known)


def test_which_values_of_a_study_count():
    values = front(FOUR).scopes[0].values
    here = Scope(devices=("board",), workload="256/32", conditions={"onnxruntime": "1.30"}, values=values)
    long = Scope(devices=("board",), workload="1024/32", values=values)
    both = front(FOUR, scopes=(Scope(values=values), here, long))
    assert both.scope("board", "256/32") == (here, "")
    assert "other workloads" in both.scope("board", "16/4")[1]
    assert "did not measure on this device" in both.scope("phone", "256/32")[1]
    one = front(FOUR, scopes=(Scope(values=values), here))
    assert one.scope("board", "16/4") == (here, "the study's workload is 256/32")


def test_what_a_reader_must_know():
    values = front(FOUR).scopes[0].values
    there = Scope(devices=("board",), workload="256/32", conditions={"onnxruntime": "1.30"}, values=values)
    told = front(FOUR, scopes=(Scope(), there), budgets=("decode_ms<=1.5", "odd<=?"), precision="fp32")
    tonight = night(0, FOUR, device_wide=("decode_ms",), conditions={"onnxruntime": "1.31"})
    notes = "; ".join(judged(told, [tonight]).notes)
    assert "the device moved tonight (decode_ms)" in notes
    assert "onnxruntime 1.30 -> 1.31, precision fp32 -> int4" in notes
    assert "large is outside decode_ms<=1.5" in notes
    assert "middle is outside" not in notes


def test_rows_are_json_and_the_order_is_what_wants_a_look():
    worse = slower(FOUR, "middle", 2.0)
    infinite = front(FOUR, half=math.inf)
    some = [
        judged(front(FOUR), [night(0, FOUR)]),
        judged(front(FOUR), [*QUIET, night(1, worse), night(2, worse)]),
        judged(front(FOUR), [night(1, worse), night(2, worse)]),
        judged(front(FOUR), [night(0, {})]),
        judged(infinite, [night(0, FOUR)]),
    ]
    assert [str(one.kind) for one in wanted_first(some)] == ["MOVED", "NO-DATA", "DIFFERS", "HELD", "HELD"]
    for one in some:
        row = json.loads(json.dumps(front_row(one), allow_nan=False))
        assert {"study", "device", "kind", "moves", "layouts", "notes", "night_unix"} <= set(row)
        assert len(row["layouts"]) == 4
        assert len(front_cells(one)) == 8
        heads, cells = layout_cells(one)
        assert {len(cell) for cell in cells} == {len(heads)}
    assert front_row(some[1])["kind"] == FrontKind.MOVED


def test_an_objective_that_nobody_knows():
    with pytest.raises(UnknownNameError):
        judged(front(FOUR, objectives=("speed",)), [night(0, FOUR)])
