"""From raw samples to numbers with 95% intervals.

Times of one process are alike; those of another process differ by more (memory layout, placement), so processes and not
iterations are the independent observations.

Centre: m_i = median of process i; the value is the mean of the m_i.
Interval: value ± max(t, w) with
    t = t_{0.975, k-1} * s / sqrt(k), s the standard deviation of the k process medians (Student; k >= 2);
    w = 1.96 * sqrt(sum se_i^2) / k, se_i the standard error of the median within process i. It keeps equal medians from
        giving an interval of width 0.
    An agent that repeats until the interval is narrow stops early on lucky draws: simulated, 92% to 98% of the
    intervals then cover the truth, by how much processes differ, against 95% for a fixed number of processes.
One process: the order-statistics interval of its median, flagged `single_process`; it says nothing of other processes.
p95: quantile of all samples together, with the binomial order-statistics interval, widened to the t interval of the
    processes' own p95. Below 130 samples it is `underpowered` (MLPerf's early stopping at 99% confidence).
Every function takes and returns the unit it is given; `summarise` turns nanoseconds into milliseconds.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

from profiler.results import Result

SUMMARY_VERSION = 1
"""Of what is made of samples here and kept in summaries of results (`profiler.summary`): raise it with every change
that another number can come of. Kept summaries of another version are not read."""

P95_SAMPLES = 130
CONFIDENCE = 0.95
_LARGEST = 700.0
"""Of a logarithm whose number is finite."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A value with its 95% interval, low <= value <= high."""

    value: float
    low: float
    high: float

    @property
    def relative_half_width(self) -> float:
        """Half the width over the value."""
        return (self.high - self.low) / 2 / self.value if self.value else math.inf

    def overlaps(self, other: Interval) -> bool:
        """Whether the two have a point in common."""
        return self.low <= other.high and other.low <= self.high

    def scaled(self, factor: float) -> Interval:
        """The same in another unit."""
        return Interval(value=self.value * factor, low=self.low * factor, high=self.high * factor)


@dataclass(frozen=True, slots=True, kw_only=True)
class PointSummary:
    """What was learned of one point.

    Attributes:
        point: Index into the job's points.
        ttft_ms: Prefill to first token.
        decode_ms: p50 of one decode step.
        decode_ms_p95: Its 95th percentile.
        p95_underpowered: Fewer than 130 decode samples are behind the percentile.
        single_process: All samples are of one process; the intervals are too narrow for comparisons.
        decode_spread: (largest - smallest process median) / value, of the decode step.
        ttft_spread: The same of the first token.
        processes: Processes with samples.
        sequences: Timed sequences kept.
        discarded: Timed sequences dropped because others used the device.
        decode_samples: Decode steps behind the numbers.
        warm: Whether warm-up was seen to end in every process.
    """

    point: int
    ttft_ms: Interval
    decode_ms: Interval
    decode_ms_p95: Interval
    p95_underpowered: bool
    single_process: bool
    decode_spread: float
    ttft_spread: float
    processes: int
    sequences: int
    discarded: int
    decode_samples: int
    warm: bool


def summarise(result: Result) -> tuple[PointSummary, ...]:
    """Summaries of every point of a result that has kept samples, in order of the points."""
    indices = sorted({samples.point for process in result.timing for samples in process.points})
    return tuple(summary for index in indices if (summary := _summarise_point(result, index)) is not None)


def medians(result: Result, point: int, what: Literal["ttft", "decode"]) -> list[float]:
    """The median of each process, in milliseconds, in the order of the processes: what is compared pair by pair."""
    found = []
    for process in result.timing:
        for samples in process.points:
            if samples.point == point:
                kept = [rep for rep in samples.repeats if rep.kept]
                times = (
                    [rep.ttft_ns for rep in kept] if what == "ttft" else [ns for rep in kept for ns in rep.decode_ns]
                )
                found.append(statistics.median(times) / 1e6)
    return found


def ratio_of_pairs(ours: Sequence[float], theirs: Sequence[float], *, least_half: float = 0.0) -> Interval | None:
    """Geometric mean of the ratios ours / theirs of paired runs, with the 95% t interval of their logarithms.

    Two runs of one pair saw the same state of the device: what moved both does not move their ratio. Fewer than two
    pairs say nothing of that: None.

    Args:
        ours: Positive values, one for each pair.
        theirs: The others' in the same order.
        least_half: Half width of the interval, in logarithms, below which it is not believed (`error_of_pairs`).
    """
    logs = [math.log(a / b) for a, b in zip(ours, theirs, strict=True)]
    if len(logs) < 2:
        return None
    middle = statistics.fmean(logs)
    half = max(_student(len(logs) - 1) * statistics.stdev(logs) / math.sqrt(len(logs)), least_half)
    half = min(half, _LARGEST - abs(middle))
    return Interval(value=math.exp(middle), low=math.exp(middle - half), high=math.exp(middle + half))


def error_of_pairs(ours: Sequence[Interval], theirs: Sequence[Interval]) -> float:
    """Half width, in logarithms, that the runs' own intervals give the mean of k pairs: h * sqrt(2 / k).

    h is the median of the runs' relative half widths: the w of the module for ratios, of which a run with an outlier
    makes nothing else. It keeps equal ratios from giving certainty; what runs really differ by is in the t interval.
    """
    return statistics.median(one.relative_half_width for one in (*ours, *theirs)) * math.sqrt(2 / len(ours))


def found_twice(ratio: Interval, pairs: int, least: float) -> float:
    """The relative change that two rounds of so many pairs both find with 95% probability, where noise is normal.

    A round finds a change whose interval (`ratio_of_pairs`) leaves out 1 and whose middle is dearer by the factor
    1 + least or cheaper by it. With se = half / t_{0.975, k-1} and p = sqrt(0.95), the probability of one round, the
    logarithm of the change is the larger of nc * se, nc the noncentrality at which Student's t exceeds t_{0.975, k-1}
    with probability p, and log(1 + least) + z_p * se.

    Args:
        ratio: Of one round.
        pairs: Behind it; at least two.
        least: Smallest relative change that counts.
    """
    from scipy.special import nctdtrinc, ndtri

    power = math.sqrt(CONFIDENCE)
    t = _student(pairs - 1)
    error = math.log(ratio.high / ratio.low) / 2 / t
    noncentrality = float(nctdtrinc(pairs - 1, 1 - power, t))
    change = max(noncentrality * error, math.log1p(least) + float(ndtri(power)) * error)
    return math.expm1(min(change, _LARGEST))


def _summarise_point(result: Result, index: int) -> PointSummary | None:
    measured = [samples for process in result.timing for samples in process.points if samples.point == index]
    kept = [[rep for rep in samples.repeats if rep.kept] for samples in measured]
    kept = [reps for reps in kept if reps]
    if not kept:
        return None
    ttft = [[rep.ttft_ns / 1e6 for rep in reps] for reps in kept]
    decode = [[ns / 1e6 for rep in reps for ns in rep.decode_ns] for reps in kept]
    ttft_ms, decode_ms = centre(ttft), centre(decode)
    samples = sum(map(len, decode))
    sequences = sum(map(len, kept))
    return PointSummary(
        point=index,
        ttft_ms=ttft_ms,
        decode_ms=decode_ms,
        decode_ms_p95=quantile(decode, 0.95),
        p95_underpowered=samples < P95_SAMPLES,
        single_process=len(kept) == 1,
        decode_spread=spread(decode),
        ttft_spread=spread(ttft),
        processes=len(kept),
        sequences=sequences,
        discarded=sum(len(samples.repeats) for samples in measured) - sequences,
        decode_samples=samples,
        warm=all(samples.warm for samples in measured),
    )


def centre(processes: Sequence[Sequence[float]]) -> Interval:
    """Mean of the process medians with its interval (see the module).

    Args:
        processes: Samples by process; at least one process, none of them empty.
    """
    medians = [statistics.median(samples) for samples in processes]
    if len(medians) == 1:
        ordered = sorted(processes[0])
        low, high = _order_bounds(len(ordered), 0.5)
        return Interval(value=medians[0], low=ordered[low], high=ordered[high])
    value = statistics.fmean(medians)
    within = 1.96 * math.sqrt(sum(median_error(samples) ** 2 for samples in processes)) / len(medians)
    half = max(_t_half(medians), within)
    return Interval(value=value, low=max(0.0, value - half), high=value + half)


def quantile(processes: Sequence[Sequence[float]], q: float) -> Interval:
    """Quantile of all samples together with its interval (see the module)."""
    ordered = sorted(value for samples in processes for value in samples)
    value = _quantile(ordered, q)
    low_rank, high_rank = _order_bounds(len(ordered), q)
    half = 0.0
    if len(processes) > 1:
        half = _t_half([_quantile(sorted(samples), q) for samples in processes])
    low, high = min(ordered[low_rank], value - half), max(ordered[high_rank], value + half)
    return Interval(value=value, low=max(0.0, min(low, value)), high=max(high, value))


def spread(processes: Sequence[Sequence[float]]) -> float:
    """Between-process spread: (largest - smallest process median) / mean of the medians; 0 for one process."""
    medians = [statistics.median(samples) for samples in processes]
    middle = statistics.fmean(medians)
    return (max(medians) - min(medians)) / middle if middle else 0.0


def median_error(samples: Sequence[float]) -> float:
    """Standard error of a median: from order statistics (n >= 6), else 1.2533 s / sqrt(n); 0 for one sample."""
    n = len(samples)
    if n < 2:
        return 0.0
    if n < 6:
        return 1.2533 * statistics.stdev(samples) / math.sqrt(n)
    ordered = sorted(samples)
    low, high = _order_bounds(n, 0.5)
    return (ordered[high] - ordered[low]) / 2 / 1.96


def _t_half(values: Sequence[float]) -> float:
    k = len(values)
    return _student(k - 1) * statistics.stdev(values) / math.sqrt(k)


def _quantile(ordered: Sequence[float], q: float) -> float:
    """Linear interpolation between the two nearest order statistics."""
    place = q * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


@cache
def _student(freedom: int) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(freedom, 0.5 + CONFIDENCE / 2))


@cache
def _order_bounds(n: int, q: float) -> tuple[int, int]:
    """Indices (from 0) of order statistics that enclose quantile q with 95% confidence, or of the extremes.

    With B ~ Binomial(n, q) the number of samples below the quantile, P(X_(l) <= quantile < X_(u)) = P(l <= B <= u - 1).
    The largest l with P(B < l) <= 2.5% and the smallest u with P(B >= u) <= 2.5% are taken; where none exists, the
    extreme sample is, and the interval covers less.
    """
    from scipy.special import bdtr

    tail = (1 - CONFIDENCE) / 2
    low = max((rank for rank in range(1, n + 1) if bdtr(rank - 1, n, q) <= tail), default=1)
    high = min((rank for rank in range(1, n + 1) if 1 - bdtr(rank - 1, n, q) <= tail), default=n)
    return low - 1, high - 1
