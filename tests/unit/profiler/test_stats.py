"""Intervals cover what they claim, and say so when they cannot."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.results import parse_result
from profiler.stats import (
    Interval,
    centre,
    error_of_pairs,
    found_twice,
    median_error,
    quantile,
    ratio_of_pairs,
    spread,
    summarise,
)
from tests.unit.profiler.samples import make_job, make_result, process, raw, rep

TIMES = st.floats(0.01, 1e6)
PROCESSES = st.lists(st.lists(TIMES, min_size=1, max_size=20), min_size=1, max_size=6)


def test_the_centre_is_the_mean_of_process_medians():
    interval = centre([[1, 2, 9], [4, 4, 4], [6, 6, 7]])
    assert interval.value == 4.0
    half = 4.302653 * statistics.stdev([2, 4, 6]) / math.sqrt(3)
    assert interval.high - interval.value == pytest.approx(half, rel=1e-6)
    assert interval.low == 0.0  # 4 - 4.97 is no time


def test_equal_medians_do_not_give_certainty():
    samples = [1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7, 1.8]
    interval = centre([samples, samples, samples])
    assert interval.high > interval.value > interval.low


def test_one_process_has_the_order_statistics_interval():
    samples = [float(i) for i in range(1, 101)]
    interval = centre([samples])
    assert (interval.low, interval.value, interval.high) == (40.0, 50.5, 61.0)  # ranks 40 and 61 of 100


def test_few_samples_of_one_process_give_their_range():
    assert centre([[3.0, 1.0, 2.0]]) == Interval(value=2.0, low=1.0, high=3.0)


def test_the_percentile_has_a_binomial_interval():
    interval = quantile([[float(i) for i in range(1, 201)]], 0.95)
    assert interval.value == pytest.approx(190.05)
    assert (interval.low, interval.high) == (184.0, 197.0)  # Binomial(200, 0.95): P(B < 184) = 2.4%, P(B >= 197) = 0.9%


def test_the_percentile_widens_with_disagreement_between_processes():
    calm = [float(i % 10 + 100) for i in range(200)]
    shifted = [value + 50 for value in calm]
    pooled, apart = quantile([calm + shifted], 0.95), quantile([calm, shifted], 0.95)
    assert apart.high - apart.low > pooled.high - pooled.low


def test_the_spread_is_between_processes():
    assert spread([[1, 1], [1.1, 1.1], [0.9, 0.9]]) == pytest.approx(0.2)
    assert spread([[5.0, 9.0]]) == 0.0


@given(PROCESSES)
def test_values_lie_inside_their_intervals(processes: list[list[float]]):
    for interval in (centre(processes), quantile(processes, 0.95)):
        assert 0 <= interval.low <= interval.value * (1 + 1e-12)
        assert interval.value <= interval.high * (1 + 1e-12)
        assert math.isfinite(interval.high)


@given(PROCESSES, st.sampled_from([0.001, 1000.0]))
def test_units_do_not_matter(processes: list[list[float]], factor: float):
    scaled = centre([[value * factor for value in samples] for samples in processes])
    expected = centre(processes).scaled(factor)
    for name in ("value", "low", "high"):
        assert getattr(scaled, name) == pytest.approx(getattr(expected, name), rel=1e-6, abs=1e-6 * expected.value)


@given(PROCESSES, st.randoms())
def test_order_does_not_matter(processes: list[list[float]], random):
    shuffled = [random.sample(samples, len(samples)) for samples in random.sample(processes, len(processes))]
    a, b = centre(processes), centre(shuffled)
    assert (a.value, a.low, a.high) == pytest.approx((b.value, b.low, b.high))


def coverage(draw, truth: float, estimate, runs: int) -> float:
    return sum(interval.low <= truth <= interval.high for interval in (estimate(draw()) for _ in range(runs))) / runs


def within_error(share: float, claimed: float, runs: int) -> bool:
    return share >= claimed - 3 * math.sqrt(claimed * (1 - claimed) / runs)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_intervals_of_the_centre_cover_the_truth(count: int):
    """Processes differ by 2%, steps by 3%: the t interval covers 95%, within the error of the simulation."""
    rng, runs = np.random.default_rng(5), 1500

    def draw() -> list[list[float]]:
        return [(10 * (1 + 0.02 * rng.normal()) * (1 + 0.03 * rng.normal(size=33))).tolist() for _ in range(count)]

    share = coverage(draw, 10.0, centre, runs)
    assert within_error(share, 0.95, runs), share
    assert share < 0.985, f"{share}: the interval is wider than it needs to be"


def test_intervals_of_one_process_cover_its_own_median():
    rng, runs = np.random.default_rng(6), 2000
    share = coverage(lambda: [rng.exponential(size=40).tolist()], math.log(2), centre, runs)
    assert within_error(share, 0.95, runs), share
    assert share < 0.985


def test_intervals_of_the_percentile_cover_it_when_powered():
    rng, runs = np.random.default_rng(7), 1500
    truth = -math.log(0.05)
    share = coverage(
        lambda: [rng.exponential(size=100).tolist(), rng.exponential(size=100).tolist()],
        truth,
        lambda processes: quantile(processes, 0.95),
        runs,
    )
    assert within_error(share, 0.95, runs), share


def test_the_median_s_error_is_that_of_a_simulation():
    rng = np.random.default_rng(8)
    samples = rng.normal(size=(400, 61))
    seen = np.median(samples, axis=1).std()
    claimed = np.mean([median_error(row.tolist()) for row in samples])
    assert claimed == pytest.approx(seen, rel=0.25)
    assert median_error([1.0]) == 0.0


def read(processes, **changes):
    return summarise(parse_result(raw(make_result(processes=processes, **changes)), make_job()))


def test_a_result_is_summarised_in_milliseconds():
    (summary,) = read(
        [process(i, [rep(5.0 + i, 1.0), rep(5.0 + i, 1.0), rep(99.0, 9.0, kept=False)]) for i in range(3)]
    )
    assert summary.ttft_ms.value == pytest.approx(6.0)
    assert summary.decode_ms.value == pytest.approx(1.0)
    assert summary.ttft_spread == pytest.approx(2 / 6)
    assert (summary.processes, summary.sequences, summary.discarded, summary.decode_samples) == (3, 6, 3, 24)
    assert summary.p95_underpowered
    assert summary.warm
    assert not summary.single_process


def test_one_process_is_flagged():
    (summary,) = read([process(0, [rep(), rep()])])
    assert summary.single_process


def test_130_samples_power_the_percentile():
    (summary,) = read([process(i, [rep()] * 11) for i in range(3)])
    assert summary.decode_samples == 132
    assert not summary.p95_underpowered


def test_a_result_without_samples_has_no_summary():
    assert read([], status="failed") == ()
    assert read([process(0, [rep(kept=False)])], status="failed") == ()


@given(st.lists(st.tuples(TIMES, TIMES), min_size=2, max_size=8), st.floats(0, 10))
def test_a_ratio_of_pairs_is_as_large_upwards_as_downwards(pairs: list[tuple[float, float]], least: float):
    ours, theirs = map(list, zip(*pairs, strict=True))
    ratio, other = ratio_of_pairs(ours, theirs, least_half=least), ratio_of_pairs(theirs, ours, least_half=least)
    assert ratio is not None
    assert other is not None
    assert ratio.value == pytest.approx(1 / other.value)
    assert ratio.high == pytest.approx(1 / other.low)
    assert math.log(ratio.high / ratio.low) >= 2 * least - 1e-6


def test_pairs_without_scatter_are_as_sure_as_their_runs():
    runs = [Interval(value=10.0, low=9.9, high=10.1)] * 4
    error = error_of_pairs(runs, runs)
    assert error == pytest.approx(0.01 * math.sqrt(8) / 4)
    ratio = ratio_of_pairs([10.0] * 4, [10.0] * 4, least_half=error)
    assert ratio is not None
    assert ratio.high == pytest.approx(math.exp(error))


@pytest.mark.parametrize("pairs", [4, 6])
def test_what_would_be_found_twice_is_found_so_often(pairs: int):
    """The change is computed of the true scatter, and looked for in simulated rounds."""
    scatter, least, rng = 0.03, 0.02, np.random.default_rng(7)
    half = 1.0 * scatter / math.sqrt(pairs) * {4: 3.182446, 6: 2.570582}[pairs]
    known = Interval(value=1.0, low=math.exp(-half), high=math.exp(half))
    change = found_twice(known, pairs, least)

    def finds() -> bool:
        ours = np.exp(math.log1p(change) + scatter * rng.standard_normal(pairs))
        ratio = ratio_of_pairs(list(ours), [1.0] * pairs)
        return ratio is not None and ratio.low > 1 and ratio.value >= 1 + least

    rate = statistics.fmean(finds() and finds() for _ in range(2000))
    assert rate == pytest.approx(0.95, abs=0.015)
    assert found_twice(known, pairs, 0.5) > 0.5, "what does not count is not found"
