"""Changes of level in a series' history."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.change_points import LAST, SEGMENT, change_points
from tests.unit.reports.nightly import DAY, night, nights, series


def noisy(levels, deviation=0.01, seed=0):
    rng = random.Random(seed)
    return [level * (1 + rng.gauss(0, deviation)) for level in levels]


def test_a_step_is_found_with_its_levels():
    (point,) = change_points(series(*nights(noisy([10.0] * 30 + [11.0] * 30))))
    assert point.time == 30 * DAY
    assert point.before == pytest.approx(10.0, rel=0.01)
    assert point.after == pytest.approx(11.0, rel=0.01)
    assert point.effect == pytest.approx(0.1, abs=0.01)
    assert point.worse


def test_of_tokens_per_second_more_is_better():
    (point,) = change_points(series(*nights(noisy([10.0] * 30 + [11.0] * 30)), direction="max"))
    assert not point.worse


def test_there_and_back_are_two():
    found = change_points(series(*nights(noisy([10.0] * 25 + [12.0] * 20 + [10.0] * 25))))
    assert [point.time / DAY for point in found] == [25, 45]
    assert [point.worse for point in found] == [True, False]


@pytest.mark.parametrize("count", [0, 1, 2, 3 * SEGMENT - 1])
def test_a_short_series_has_none(count):
    assert change_points(series(*nights(([10.0, 20.0] * count)[:count]))) == ()


def test_a_single_night_is_none():
    assert change_points(series(*nights(noisy([10.0] * 30 + [15.0] + [10.0] * 30)))) == ()


def test_a_slow_drift_is_none():
    assert change_points(series(*nights(noisy([10.0 * 1.005**index for index in range(60)])))) == ()


def test_nights_without_a_number_and_later_ones_are_left_out():
    values = noisy([10.0] * 30 + [11.0] * 30)
    given = [*nights(values[:10]), night(10, None), night(11, 0.0), *nights(values[12:])]
    shifted = [*given[:12], *nights(values[12:], 12)]
    (point,) = change_points(series(*shifted))
    assert point.time == 30 * DAY
    assert change_points(series(*shifted), at=29 * DAY) == ()


def test_the_order_of_insertion_does_not_matter():
    whole = list(nights(noisy([10.0] * 30 + [11.0] * 30)))
    expected = change_points(series(*whole))
    random.Random(1).shuffle(whole)
    assert change_points(series(*whole)) == expected


@pytest.mark.parametrize("after", range(LAST, SEGMENT + 1))
@given(seed=st.integers(0, 2**32))
def test_a_step_of_the_last_week_is_on_its_night_where_it_is_seen(after, seed):
    found = change_points(series(*nights(noisy([10.0] * 40 + [13.0] * after, seed=seed))))
    assert [point.time / DAY for point in found] in ([], [40.0])
    assert found or after < 4


@given(later=st.integers(SEGMENT, 30), seed=st.integers(0, 2**32))
def test_a_step_with_a_week_behind_it_is_on_its_night(later, seed):
    (point,) = change_points(series(*nights(noisy([10.0] * 40 + [13.0] * later, seed=seed))))
    assert point.time == 40 * DAY


@given(value=st.floats(1e-9, 1e9), count=st.integers(0, 70))
def test_a_constant_series_has_none(value, count):
    assert change_points(series(*nights([value] * count))) == ()


@given(values=st.lists(st.floats(0.5, 2.0), max_size=50), exponent=st.integers(-9, 9))
def test_points_are_nights_in_order_and_a_week_apart_until_the_last(values, exponent):
    scale = 2.0**exponent
    found = change_points(series(*nights([scale * value for value in values])))
    places = [0.0, *(point.time / DAY for point in found)]
    assert all(b - a >= SEGMENT for a, b in pairwise(places))
    assert not found or len(values) - places[-1] >= LAST
    assert all(point.after != point.before for point in found)
