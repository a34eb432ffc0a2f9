"""Front membership, tiers and contributions against brute force."""

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from reports import fronts
from reports.errors import RankingError

level = st.integers(0, 4).map(float)


@st.composite
def costs(draw, max_rows=8):
    m = draw(st.integers(1, 3))
    n = draw(st.integers(1, max_rows))
    values = np.array(draw(st.lists(st.lists(level, min_size=m, max_size=m), min_size=n, max_size=n)))
    width = np.array(draw(st.lists(st.lists(st.integers(0, 2), min_size=m, max_size=m), min_size=n, max_size=n)))
    return values, values - width, values + width


def dominates(a, b):
    return all(x <= y for x, y in zip(a, b, strict=True)) and any(x < y for x, y in zip(a, b, strict=True))


@given(costs())
def test_membership_is_what_the_definition_says(sets):
    values, lows, highs = sets
    expected = []
    for i in range(len(values)):
        others = [j for j in range(len(values)) if j != i]
        if any(dominates(highs[j], lows[i]) for j in others):
            expected.append("dominated")
        elif any(dominates(values[j], values[i]) for j in others):
            expected.append("uncertain")
        else:
            expected.append("on")
    assert fronts.membership(values, lows, highs) == expected
    assert "on" in expected


@given(costs())
def test_exact_values_are_never_uncertain(sets):
    values, _, _ = sets
    assert "uncertain" not in fronts.membership(values, values, values)


@given(costs())
def test_tier_one_is_the_front_and_every_later_row_is_beaten_by_the_tier_before(sets):
    values, lows, highs = sets
    tiers = fronts.tiers(values)
    assert [tier == 1 for tier in tiers] == [kind == "on" for kind in fronts.membership(values, lows, highs)]
    for i, tier in enumerate(tiers):
        assert not any(dominates(values[j], values[i]) for j, other in enumerate(tiers) if other >= tier)
        if tier > 1:
            assert any(dominates(values[j], values[i]) for j, other in enumerate(tiers) if other == tier - 1)


def test_overlapping_intervals_make_a_beaten_row_uncertain_and_clear_ones_make_it_dominated():
    values = np.array([[10.0, 5.0], [10.5, 5.0], [12.0, 5.0]])
    spread = np.array([[0.4, 0.0]] * 3)
    assert fronts.membership(values, values - spread, values + spread) == ["on", "uncertain", "dominated"]


def test_a_difference_below_the_resolution_saves_nobody():
    values = np.array([[10.0, -300e6], [20.0, -301e6], [21.0, -310e6]])
    assert fronts.membership(values, values, values) == ["on", "on", "on"]
    assert fronts.membership(values, values, values, [0.0, 0.02]) == ["on", "dominated", "on"]
    assert fronts.tiers(values, [0.0, 0.02]) == [1, 2, 1]


def test_nobody_is_beaten_by_a_difference_below_the_resolution():
    values = np.array([[10.0, -300e6], [10.0, -301e6]])
    assert fronts.membership(values, values, values, [0.0, 0.02]) == ["on", "on"]
    assert fronts.membership(values, values, values) == ["dominated", "on"]


def test_rows_that_beat_each_other_in_a_ring_share_a_tier():
    values = np.array([[10.0, 10.6, 10.9], [10.6, 10.9, 10.0], [10.9, 10.0, 10.6], [20.0, 20.0, 20.0]])
    assert fronts.tiers(values, [0.07] * 3) == [1, 1, 1, 2]


@given(costs(), st.lists(st.sampled_from([0.0, 0.02, 0.5]), min_size=3, max_size=3))
def test_every_row_gets_a_tier_whatever_the_resolutions(sets, resolutions):
    values, _, _ = sets
    tiers = fronts.tiers(values, resolutions[: values.shape[1]])
    assert set(tiers) == set(range(1, max(tiers) + 1))


@given(costs(max_rows=6))
def test_contributions_are_hypervolume_lost_without_the_row(sets):
    values, _, _ = sets
    if values.shape[1] == 1:
        return
    unit = fronts.normalised(values)
    tiers = fronts.tiers(values)
    found = fronts.contributions(unit, tiers)
    for i, tier in enumerate(tiers):
        mates = [unit[j] for j, other in enumerate(tiers) if other == tier and j != i]
        assert found[i] == pytest.approx(_volume([*mates, unit[i]]) - _volume(mates), abs=1e-9)


def _volume(points):
    """Hypervolume by counting the cells of the grid that the points' own coordinates span."""
    if not points:
        return 0.0
    points = np.array(points)
    axes = [np.unique(np.append(points[:, k], fronts.REFERENCE)) for k in range(points.shape[1])]
    total = 0.0
    for cell in np.ndindex(*[len(axis) - 1 for axis in axes]):
        low = np.array([axis[i] for axis, i in zip(axes, cell, strict=True)])
        high = np.array([axis[i + 1] for axis, i in zip(axes, cell, strict=True)])
        if np.any(np.all(points <= low, axis=1)):
            total += float(np.prod(high - low))
    return total


number = st.one_of(
    level, st.sampled_from([0.0, -0.0, math.inf, -math.inf]), st.integers(-4, 4).map(float), st.floats(-1e6, 1e6)
)


@st.composite
def any_costs(draw, rows=6):
    m = draw(st.integers(1, 3))
    of_rows = st.lists(st.lists(number, min_size=m, max_size=m), min_size=1, max_size=rows)
    resolutions = draw(st.lists(st.sampled_from([0.0, 0.0, 0.125, 0.5]), min_size=m, max_size=m))
    return np.array(draw(of_rows)), np.array(draw(of_rows)), resolutions


def larger(a, b):
    """What the resolution is a share of; beside an infinite end nothing is small."""
    found = max(abs(a), abs(b))
    return found if math.isfinite(found) else 0.0


@given(any_costs())
def test_who_dominates_whom_is_what_the_definition_says_of_any_numbers(sets):
    attack, defence, resolutions = sets
    beats = fronts.dominates(attack, defence, resolutions)
    assert beats.shape == (len(attack), len(defence))
    for a, row in zip(attack, beats, strict=True):
        for b, found in zip(defence, row, strict=True):
            pairs = list(zip(a, b, resolutions, strict=True))
            assume(not any(r and _on_the_edge(x, y, r) for x, y, r in pairs))  # where rounding decides
            expected = all(x <= y + r * larger(x, y) for x, y, r in pairs) and any(
                x < y - r * larger(x, y) for x, y, r in pairs
            )
            assert found == expected


def _on_the_edge(x, y, r):
    if not math.isfinite(x) or not math.isfinite(y) or x == y:
        return False
    distance = abs(abs(x - y) - r * larger(x, y))
    return 0 < distance < 1e-12 * larger(x, y)


@pytest.mark.parametrize("rows", [300, 700])
def test_more_rows_than_are_compared_at_once_are_compared_as_few_are(rows):
    values = np.random.default_rng(rows).integers(0, 9, (rows, 2)).astype(float)
    beats = fronts.dominates(values, values)
    for at in range(0, rows, 50):
        assert [bool(x) for x in beats[at]] == [dominates(values[at], other) for other in values]
    among = list(range(0, rows, 3))
    assert [fronts.tiers_until(beats, among)[at] for at in among][-1] == fronts.tiers(values[among])[-1]


@given(costs())
def test_one_row_alone_has_the_membership_that_it_has_among_all(sets):
    values, lows, highs = sets
    everybody = fronts.membership(values, lows, highs)
    assert [fronts.membership_of(at, values, lows, highs) for at in range(len(values))] == everybody


def test_too_many_objectives_are_refused_in_words():
    with pytest.raises(RankingError, match="6 objectives"):
        fronts.contributions(np.zeros((2, 6)), [1, 1])
