"""Rows and drift: which numbers are shown, and when a measurement is thrown away."""

from __future__ import annotations

import pytest

from archsearch.drift import Drift
from archsearch.measurement import ADHOC, ANCHOR, CANDIDATE, WATCH
from archsearch.objectives import objectives
from archsearch.table import rows
from profiler.workloads import Point
from tests.unit.archsearch.samples import ANCHOR_LAYOUT, LAYOUT, measurement, result

SLOWER = {"times": {"ttft_ms": 5.0, "decode_ms": 1.1}}


def test_a_row_holds_the_numbers_of_its_measurement():
    [row] = rows([measurement(1)])
    assert row["ttft_ms"] == pytest.approx(5.0)
    assert row["prefill_tokens_per_s"] == pytest.approx(16 / 5e-3)
    assert row["decode_ms"] == pytest.approx(1.0)
    assert row["decode_tokens_per_s"] == pytest.approx(1000)
    assert row["decode_ms_low"] < row["decode_ms"] < row["decode_ms_high"]
    assert row["p95_underpowered"] is True
    assert (row["peak_rss_mib"], row["weights_mib"], row["load_ms"]) == (100.0, 2.0, 11.0)
    assert row["total_params"] == row["effective_params"] + row["embedding_params"]
    assert row["effective_params_per_mib"] == pytest.approx(row["effective_params"] / 100)
    assert (row["layout_id"], row["code"], row["anchor"]) == (LAYOUT.layout_id, "CCG", False)
    assert (row["status"], row["reason"], row["bytes_sent"]) == ("ok", "", 1000)
    assert set(objectives()) <= set(row)


def test_each_point_has_a_row_and_only_the_largest_the_peak():
    points = (Point(prompt=16, decode=4, batch=2), Point(prompt=16, decode=4))
    two, one = rows([measurement(1, points=points)])
    assert (two["batch"], one["batch"]) == (2, 1)
    assert two["peak_rss_mib"] == 100.0
    assert one["peak_rss_mib"] is None
    assert one["effective_params_per_mib"] is None
    assert two["decode_tokens_per_s"] == pytest.approx(2000)
    assert two["state_mib"] == pytest.approx(2 * one["state_mib"])


@pytest.mark.parametrize("status", ["timeout", "out_of_memory", "invalid", "failed", "not_cooled", "throttled"])
def test_a_failure_shows_no_measured_number(status: str):
    # Its result may hold samples; they are not to be trusted.
    [row] = rows([measurement(1, status=status, reason="why", result=result(status=status))])
    assert (row["status"], row["reason"]) == (status, "why")
    for name, objective in objectives().items():
        assert (row[name] is None) == objective.measured, name
    assert row["decode_ms_low"] is None
    assert row["ttft_ms_high"] is None


def test_a_time_known_so_badly_that_it_may_be_nothing_gives_a_rate_without_upper_end():
    [row] = rows([measurement(1, times={"noise": 0.9})])
    assert row["ttft_ms_low"] == 0
    assert row["prefill_tokens_per_s_low"] < row["prefill_tokens_per_s"]
    assert row["prefill_tokens_per_s_high"] is None


def test_bytes_that_are_not_known_are_not_zero():
    [attached] = rows([measurement(1, bytes_sent=0)])
    assert attached["bytes_sent"] is None
    [unmeasured] = rows([measurement(1, bytes_sent=0, status="infeasible", reason="too large")])
    assert unmeasured["bytes_sent"] == 0


def test_runs_that_watch_for_drift_are_no_rows():
    found = rows([measurement(1, ANCHOR), measurement(2), measurement(3, WATCH)])
    assert [row["anchor"] for row in found] == [True, False]


# Drift


def statuses(*measurements):
    drift = Drift(measurements)
    return [drift.status(m)[0] for m in measurements if m.role == CANDIDATE]


def test_candidates_between_two_equal_runs_of_the_anchor_stand():
    assert statuses(measurement(1, ANCHOR), measurement(2), measurement(3), measurement(4, WATCH)) == ["ok", "ok"]


def test_candidates_around_which_the_anchor_moved_are_thrown_away():
    found = [measurement(1, ANCHOR), measurement(2), measurement(3, WATCH, **SLOWER)]
    assert statuses(*found) == ["throttled"]
    [_, row] = rows(found)
    assert row["status"] == "throttled"
    assert row["reason"] == "the anchor's decode time at 16/4 moved by +10.0% around this measurement"
    assert row["decode_ms"] is None


def test_a_faster_anchor_is_drift_too_and_so_is_its_prefill():
    faster = {"times": {"ttft_ms": 4.5}}
    found = [measurement(1, ANCHOR), measurement(2), measurement(3, WATCH, **faster)]
    assert statuses(*found) == ["throttled"]
    assert "prefill time at 16/4 moved by -10.0%" in Drift(found).status(found[1])[1]


def test_only_the_stretch_in_which_it_moved_is_thrown_away():
    slower = {"times": {"decode_ms": 1.06}}
    found = [
        measurement(1, ANCHOR), measurement(2), measurement(3, WATCH), measurement(4), measurement(5, WATCH, **slower),
        measurement(6), measurement(7, WATCH, **slower),
    ]  # fmt: skip
    assert statuses(*found) == ["ok", "throttled", "ok"]
    # What was measured on either level is set side by side, and the difference of the levels is part of the noise.
    assert Drift(found).spread("local") == pytest.approx(0.06, abs=0.001)
    first = next(row for row in rows(found) if row["trial"] is not None and row["status"] == "ok")
    assert first["decode_ms_spread"] == pytest.approx(0.06, abs=0.001)
    assert "peak_rss_mib_spread" not in first


def test_what_was_measured_on_another_level_than_the_last_is_thrown_away():
    battery = {"times": {"decode_ms": 1.5}}
    found = [
        measurement(1, ANCHOR), measurement(2), measurement(3, WATCH), measurement(4), measurement(5, WATCH, **battery),
    ]  # fmt: skip
    assert statuses(*found) == ["ok", "throttled"], "one odd run is no level"
    found += [measurement(6), measurement(7, WATCH, **battery)]
    assert statuses(*found) == ["throttled", "throttled", "ok"]
    drift = Drift(found)
    assert drift.status(found[1])[1] == "the anchor's decode time at 16/4 moved by +50.0% since this measurement"
    assert drift.status(found[0])[0] == "throttled", "nor is the first anchor what others are to be related to"
    assert drift.spread("local") == 0, "nothing else is left"
    found += [measurement(8, ANCHOR, **battery), measurement(9), measurement(10, WATCH)]
    found += [measurement(11), measurement(12, WATCH)]
    assert statuses(*found) == ["ok", "throttled", "throttled", "throttled", "ok"], "it is back on its first level"


def test_a_slow_creep_is_a_change_of_level_in_the_end():
    found = [measurement(0, ANCHOR)]
    for stretch in range(1, 6):
        found += [measurement(2 * stretch - 1), measurement(2 * stretch, WATCH, times={"decode_ms": 1.029**stretch})]
    assert statuses(*found) == ["throttled", "ok", "ok", "ok", "ok"]


def test_the_order_of_storing_counts_not_the_order_of_the_list():
    found = [measurement(3, WATCH, **SLOWER), measurement(2), measurement(1, ANCHOR)]
    assert statuses(*found) == ["throttled"]


@pytest.mark.parametrize(
    ("change", "noise", "moved"), [(1.029, 0.001, False), (1.04, 0.001, True), (1.04, 0.03, False)]
)
def test_a_change_counts_above_the_limit_and_above_the_noise(change: float, noise: float, moved: bool):
    before = measurement(1, ANCHOR, times={"noise": noise})
    after = measurement(3, WATCH, times={"decode_ms": change, "noise": noise})
    assert (statuses(before, measurement(2), after) == ["throttled"]) == moved


def test_a_candidate_after_the_last_run_of_the_anchor_is_open():
    anchor, candidate, watch = measurement(1, ANCHOR), measurement(2), measurement(3, WATCH)
    assert not Drift([anchor, candidate, measurement(0, WATCH)]).closed(candidate)
    assert Drift([anchor, candidate, watch]).closed(candidate)
    assert Drift([candidate]).closed(candidate)  # no anchor is watched


def test_the_first_stretch_of_a_running_study_is_open_before_any_watch_run():
    anchor, candidate = measurement(1, ANCHOR), measurement(2)
    assert anchor.layout is not None
    watched = anchor.layout.layout_id
    assert not Drift([anchor, candidate], watched).closed(candidate)
    slower = measurement(3, WATCH, **SLOWER)
    assert Drift([anchor, candidate, slower], watched).status(candidate)[0] == "throttled"


def test_another_device_s_drift_is_its_own():
    other = {"device": "phone"}
    assert statuses(
        measurement(1, ANCHOR), measurement(1, ANCHOR, **other), measurement(2), measurement(2, **other),
        measurement(3, WATCH), measurement(3, WATCH, **other, **SLOWER),
    ) == ["ok", "throttled"]  # fmt: skip


def test_what_is_no_candidate_is_never_thrown_away():
    found = [measurement(1, ANCHOR), measurement(2, ADHOC), measurement(3, WATCH, **SLOWER)]
    assert Drift(found).status(found[1]) == ("ok", "")
    failed = measurement(2, status="timeout", reason="slow")
    assert Drift([found[0], failed, found[2]]).status(failed) == ("timeout", "slow")


def test_a_failed_run_of_the_anchor_bounds_nothing():
    broken = measurement(3, WATCH, status="failed", reason="died")
    assert statuses(measurement(1, ANCHOR), measurement(2), broken, measurement(4, WATCH, **SLOWER)) == ["throttled"]


def test_the_latest_drift_is_told_by_device():
    assert Drift([measurement(1, ANCHOR), measurement(3, WATCH)]).latest() == {"local": ""}
    assert "+10.0%" in Drift([measurement(1, ANCHOR), measurement(3, WATCH, **SLOWER)]).latest()["local"]
    assert ANCHOR_LAYOUT.layout_id != LAYOUT.layout_id
