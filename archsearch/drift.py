"""Whether a device stayed what it was while it measured, by the runs of the watched anchor.

Each run of the watched anchor (as `anchor` or `watch`) ends one stretch of work and begins the next. Two things are
asked of a stretch: did the anchor move over it; and is it on the level on which the device is now?
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from archsearch.measurement import ANCHOR, CANDIDATE, WATCH, Measurement
from profiler.stats import Interval

DRIFT_LIMIT: Final = 0.03
"""Largest relative change of the watched anchor over a stretch of work."""

LEVEL_LIMIT: Final = 0.1
"""Largest relative change of the watched anchor between a stretch of work and the last one. What changed by less is
added to the noise of the device's times when candidates are set side by side (`Drift.spread`)."""

_Series = tuple[str, str, str]  # device, workload, precision


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    ended: float
    lowerings: Mapping[str, str]
    times: tuple[tuple[str, Interval], ...]  # of every point, in order


_Stretch = tuple[_Run, _Run]


class Drift:
    """Which measurements lie in a stretch of work over which the watched anchor moved, or that lies on another level.

    Runs of the anchor with other lowerings than its last are left out of account. The anchor moved when the prefill or
    decode times of two runs differ by more than `DRIFT_LIMIT`, and by more than their noise (the half widths of the two
    95% intervals, added in quadrature): a smaller model of noisier times is not thrown away for its noise. The level of
    a device is that of its last stretch over which the anchor did not move: one odd run says nothing. A stretch whose
    anchor runs lie beyond `LEVEL_LIMIT` of it, and beyond the noise, was measured on another device, so to speak: one
    on mains before, on its battery since.

    Args:
        measurements: Of a study, under the conditions that its devices have now.
        watched: Layout id of the watched anchor; None for the one that has `watch` runs. A study that runs names it,
            since its first stretch begins before there is any.
    """

    def __init__(self, measurements: Sequence[Measurement], watched: str | None = None) -> None:
        self._runs: dict[_Series, list[_Run]] = {}
        seen = {m.layout.layout_id for m in measurements if m.role == WATCH and m.layout}
        self._watched = {watched} if watched else seen
        for m in measurements:
            if m.layout and m.layout.layout_id in self._watched and m.role in (ANCHOR, WATCH):
                self._runs.setdefault(_series(m), []).extend(_run(m))
        self._times: dict[_Series, list[float]] = {}
        self._level: dict[_Series, _Stretch] = {}
        for series, runs in self._runs.items():
            runs.sort(key=lambda run: run.ended)
            runs[:] = [run for run in runs if run.lowerings == runs[-1].lowerings]
            self._times[series] = [run.ended for run in runs]
            stable = [stretch for stretch in pairwise(runs) if not _moved(*stretch)]
            if stable:
                self._level[series] = stable[-1]
        self._spread: dict[str, float] = {}
        for series, level in self._level.items():
            self._spread[series[0]] = max(self._spread.get(series[0], 0.0), _spread(self._runs[series], level))

    def status(self, measurement: Measurement) -> tuple[str, str]:
        """The measurement's status and reason, drift taken into account."""
        stretch = self._stretch(measurement)
        if measurement.role == ANCHOR and measurement.layout and measurement.layout.layout_id in self._watched:
            stretch = next(((run, run) for run in _run(measurement)), None)
        if measurement.status != "ok" or measurement.role not in (ANCHOR, CANDIDATE) or stretch is None:
            return measurement.status, measurement.reason
        change = _moved(*stretch) if measurement.role == CANDIDATE else ""
        if change:
            return "throttled", f"{change} around this measurement"
        level = self._level.get(_series(measurement))
        change = _left(stretch, level) if level is not None else ""
        return ("throttled", f"{change} since this measurement") if change else (measurement.status, measurement.reason)

    def closed(self, measurement: Measurement) -> bool:
        """Whether it is settled if the device drifted: an anchor run after it is known, or none came before it."""
        runs = self._runs.get(_series(measurement), [])
        before = any(run.ended <= measurement.created_unix for run in runs)
        return not before or self._stretch(measurement) is not None

    def latest(self) -> dict[str, str]:
        """For each device, how the watched anchor moved between its last two runs; an empty text when it did not."""
        return {
            device: _moved(runs[-2], runs[-1]) if len(runs) > 1 else "" for (device, _, _), runs in self._runs.items()
        }

    def spread(self, device: str) -> float:
        """How far the levels of a device's stretches lie from the last one, as a relative change; 0 within the noise.

        Of stretches whose candidates count; the largest over all times of the anchor.
        """
        return self._spread.get(device, 0.0)

    def _stretch(self, measurement: Measurement) -> _Stretch | None:
        """The anchor's runs before and after a measurement, where there are both."""
        runs = self._runs.get(_series(measurement), [])
        times = self._times.get(_series(measurement), [])
        before = bisect_right(times, measurement.created_unix) - 1
        after = bisect_left(times, measurement.created_unix)
        return (runs[before], runs[after]) if before >= 0 and after < len(runs) and after != before else None


def moved(before: Measurement, after: Measurement) -> str:
    """How two runs of one layout differ by more than `DRIFT_LIMIT` and their noise, or an empty text."""
    for a in _run(before):
        for b in _run(after):
            return _moved(a, b)
    return ""


def _series(measurement: Measurement) -> _Series:
    return (measurement.device, measurement.workload, measurement.precision)


def _run(measurement: Measurement) -> Iterator[_Run]:
    times = []
    for view in measurement.measured_points:
        if view.summary is None:
            return
        times += [
            (f"prefill time at {view.point.text}", view.summary.ttft_ms),
            (f"decode time at {view.point.text}", view.summary.decode_ms),
        ]
    yield _Run(ended=measurement.created_unix, lowerings=measurement.lowerings, times=tuple(times))


def _moved(before: _Run, after: _Run) -> str:
    """Why the anchor's two runs are not the same, or an empty text."""
    for (name, a), (_, b) in zip(before.times, after.times, strict=True):
        change = b.value / a.value - 1
        noise = math.hypot(a.high - a.value, b.high - b.value) / a.value
        if abs(change) > max(DRIFT_LIMIT, noise):
            return f"the anchor's {name} moved by {change:+.1%}"
    return ""


def _changes(stretch: _Stretch, level: _Stretch) -> Iterator[tuple[str, float, float]]:
    """Of each time of the anchor: its name, its relative change from a stretch to a level, and the noise of that."""
    for (name, a), (_, b), (_, c), (_, d) in zip(*(run.times for run in (*stretch, *level)), strict=True):
        before, after = (a.value + b.value) / 2, (c.value + d.value) / 2
        shares = [math.hypot(*(end.high - end.value for end in pair)) / 2 for pair in ((a, b), (c, d))]
        if stretch[0] is stretch[1]:  # one run is as noisy as it is, not as the mean of two
            shares[0] = a.high - a.value
        noise = math.hypot(*shares) / before
        yield name, after / before - 1, noise


def _left(stretch: _Stretch, level: _Stretch) -> str:
    """How a level is not that of a stretch, or an empty text."""
    for name, change, noise in _changes(stretch, level):
        if abs(change) > max(LEVEL_LIMIT, noise):
            return f"the anchor's {name} moved by {change:+.1%}"
    return ""


def _spread(runs: Sequence[_Run], level: _Stretch) -> float:
    """The largest change, beyond its noise, between a level and stretches whose candidates count."""
    changes = [
        abs(change)
        for stretch in pairwise(runs)
        if not _moved(*stretch) and not _left(stretch, level)
        for _, change, noise in _changes(stretch, level)
        if abs(change) > noise
    ]
    return max(changes, default=0.0)
