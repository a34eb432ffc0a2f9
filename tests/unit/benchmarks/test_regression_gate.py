"""The simulated noise is what it is said to be, and the table comes out the same every time."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest

import regression_gate
import regression_noise


@pytest.mark.parametrize("kind", [kind for kind in regression_noise.KINDS if kind != "spiky"])
def test_nights_have_the_stated_deviation(kind):
    drawn = regression_noise.sample(kind, 0.02, series=4000, nights=60, seed=1)
    assert math.sqrt(drawn.first.var(axis=1).mean()) == pytest.approx(0.02, rel=0.08)


def test_fresh_runs_share_the_day_and_not_the_rest():
    drawn = regression_noise.sample("independent", 0.02, series=2000, nights=60, seed=1)
    for one, other in combinations((drawn.first, *drawn.fresh), 2):
        assert np.corrcoef(one.ravel(), other.ravel())[0, 1] == pytest.approx(regression_noise.DAY, abs=0.01)
        assert (one - other).std() == pytest.approx(drawn.within * 2**0.5, rel=0.02)


@pytest.mark.parametrize(("kind", "lag_one"), [("independent", 0.0), ("correlated", 0.8 * 0.7), ("bimodal", 0.0)])
def test_days_are_correlated_as_stated(kind, lag_one):
    first = regression_noise.sample(kind, 0.01, series=4000, nights=60, seed=1).first
    centred = first - first.mean(axis=0)
    found = (centred[:, 1:] * centred[:, :-1]).mean() / centred.var()
    assert found == pytest.approx(lag_one, abs=0.02) or kind == "bimodal"


def test_spikes_are_as_frequent_as_stated():
    drawn = regression_noise.sample("spiky", 1e-4, series=1000, nights=60, seed=1)
    hit = drawn.first > 0.05
    assert hit.mean() == pytest.approx(regression_noise.SPIKES, rel=0.1)
    stays = drawn.fresh[0] > 0.05
    assert stays[hit].mean() == pytest.approx(regression_noise.PERSISTENCE, abs=0.05)
    assert (drawn.fresh[1] > 0.05)[stays].mean() == pytest.approx(regression_noise.PERSISTENCE, abs=0.05)
    assert not (drawn.fresh[1] > 0.05)[~stays].any()


def test_a_row_is_the_same_every_time_and_holds_what_it_must():
    rows = [regression_gate.cell("independent", 0.01, series=12, nights=60, seed=3) for _ in range(2)]
    assert rows[0] == rows[1]
    assert rows[0].false_fail == 0
    assert rows[0].steps[1:] == (1, 1)
    assert rows[0].false_points == 0
    assert rows[0].points_found > 0.8
    assert "100.0%" in regression_gate.line("independent", 0.01, rows[0])


def test_the_old_rule_is_as_it_was():
    rule = regression_gate.MadRule()
    quiet = [rule.night(level, level) for level in [0.0, 0.01, -0.01] * 6]
    assert not any(quiet)
    assert [rule.night(0.2, fresh) for fresh in (0.2, 0.0, 0.2, 0.2)] == [False, False, False, True]
