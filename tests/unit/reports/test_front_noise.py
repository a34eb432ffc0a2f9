"""What a night's number is worth beside those of other layouts."""

from __future__ import annotations

import math

import pytest

from reports.front_noise import UNKNOWN_NOISE, NightNoise
from reports.nights import Acceptance, Series
from reports.study_fronts import FrontNight, Reading
from reports.verdicts import replay
from tests.unit.reports.fronts_of import FOUR, front, judged, night, slower
from tests.unit.reports.nightly import DAY, QUIET, nights, series


def readings(given: Series) -> list[Reading | None]:
    noise = NightNoise()
    return [noise.reading(verdict) for _, (verdict,) in replay([given])]


def test_a_series_that_is_not_known_yet_is_taken_as_noisy():
    first, *_, last = readings(series(*nights(QUIET)))
    assert first is not None
    assert last is not None
    assert first.noise == pytest.approx(math.log1p(UNKNOWN_NOISE * 0.04))
    assert last.noise == pytest.approx(math.log1p(0.04), abs=0.01), "it scatters by 1%"


def test_a_drift_that_the_baseline_follows_is_noise_beside_others():
    slow = [10.0 * 1.002**index for index in range(60)]
    (last,) = readings(series(*nights(slow)))[-1:]
    assert last is not None
    assert last.noise > 1.8 * math.log1p(0.04)
    assert (last.changed, last.pending) == (0, False)


def test_an_alarm_is_pending_until_it_is_established():
    found = readings(series(*nights([*QUIET, 12.0, 12.0, 12.0])))[-3:]
    assert [(one.changed, one.pending) for one in found if one] == [(1, True), (1, False), (1, False)]


def test_a_level_that_is_accepted_begins_anew():
    word = Acceptance(time=20 * DAY, reason="wider", by="me")
    (last,) = readings(series(*nights([*QUIET, *(12.0 * one / 10 for one in QUIET)]), acceptances=(word,)))[-1:]
    assert last is not None
    assert last.noise < 0.1, "the step between the two levels is no noise"


def test_a_night_without_a_number_has_no_reading():
    assert readings(series(*nights([*QUIET, None])))[-1] is None


def test_a_move_waits_for_an_alarm_to_be_established():
    worse = slower(FOUR, "middle", 2.0)

    def alarmed(number: int) -> FrontNight:
        plain = night(number, worse)
        mine = {
            name: Reading(value=one.value, noise=one.noise, pending=True)
            for name, one in plain.readings["middle"].items()
        }
        return FrontNight(time=plain.time, readings={**plain.readings, "middle": mine})

    before = [night(at, FOUR) for at in range(-4, 0)]
    assert judged(front(FOUR), [*before, alarmed(0), alarmed(1)]).kind == "AMBIGUOUS"
    assert judged(front(FOUR), [*before, alarmed(0), night(1, worse)]).kind == "MOVED"
