"""A stored measurement as something to read numbers from; every number shown anywhere comes through here.

`Measurement` is what the store keeps (raw result included). `MeasuredPoint` is one of its points with statistics and
counts. Drift is judged here, from the stored anchor runs: a candidate between two runs of the watched anchor that
differ by more than `DRIFT_LIMIT` becomes `throttled`.
"""

from __future__ import annotations

import json
import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from profiler.results import Result
from profiler.stats import Interval, PointSummary, centre, summarise
from profiler.workloads import Point
from search_space.cost import Parameters, parameters, state_bytes
from search_space.layout import Layout

DRIFT_LIMIT = 0.03
"""Largest relative change of the watched anchor over a block of work."""

UNSETTLED = ("throttled", "not_cooled", "busy")
"""Statuses that say something of the moment and nothing of what was to be measured."""

CANDIDATE, ANCHOR, WATCH, ADHOC, BLOCKS = "candidate", "anchor", "watch", "adhoc", "blocks"


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One measurement of one layout or file on one device.

    Attributes:
        job_id: Its id.
        role: ``candidate``, ``anchor``, ``watch`` (a repeated run of the anchor that watches for drift), ``adhoc``, or
            ``blocks`` (a comparison of stacks of blocks, which has no layout).
        layout: None for a foreign file.
        name: Name of the anchor or file, or None.
        label: What people call it.
        device: Name of the device.
        workload: Name of the workload.
        points: Its points.
        precision: Storage of the weights.
        status: See `profiler.results`; also ``infeasible``.
        reason: Why, when not ok.
        result: The agent's result, or None when nothing ran.
        weights_bytes: Stored weights.
        bytes_sent: Bytes that crossed the link for it.
        created_unix: When it was stored.
        trial: Number in its study, or None.
        lowerings: Lowering of each block, by `block_id`.
        conditions: As `conditions` gives them.
        foreign_state_bytes: State bytes per point of a foreign file.
        group: Of the device; empty where it has none.
        seed: Of the weights; None for records of before it was kept.
    """

    job_id: str
    role: str
    layout: Layout | None
    name: str | None
    label: str
    device: str
    workload: str
    points: tuple[Point, ...]
    precision: str
    status: str
    reason: str
    result: Result | None
    weights_bytes: int | None
    bytes_sent: int
    created_unix: float
    trial: int | None = None
    lowerings: Mapping[str, str] = field(default_factory=dict)
    conditions: str = ""
    foreign_state_bytes: tuple[int, ...] | None = None
    group: str = ""
    seed: int | None = None

    @property
    def pool(self) -> str:
        """The device's group, or the device where it has none: what tables call the device."""
        return self.group or self.device

    @cached_property
    def counts(self) -> Parameters | None:
        """Parameters of the layout."""
        return None if self.layout is None else parameters(self.layout)

    @cached_property
    def measured_points(self) -> tuple[MeasuredPoint, ...]:
        """One entry per point, in order, whether it has numbers or not."""
        found: dict[int, PointSummary] = {}
        if self.status == "ok" and self.result is not None:
            found = {summary.point: summary for summary in summarise(self.result)}
        return tuple(
            MeasuredPoint(measurement=self, index=index, point=point, summary=found.get(index))
            for index, point in enumerate(self.points)
        )


@dataclass(frozen=True, kw_only=True)
class MeasuredPoint:
    """One point of a measurement: what objectives are functions of."""

    measurement: Measurement
    index: int
    point: Point
    summary: PointSummary | None

    @property
    def counts(self) -> Parameters | None:
        """Parameters of the layout."""
        return self.measurement.counts

    @property
    def weights_bytes(self) -> int | None:
        """Stored weights."""
        return self.measurement.weights_bytes

    @property
    def state_bytes(self) -> int | None:
        """Carried state of the whole batch at the point's full context."""
        foreign = self.measurement.foreign_state_bytes
        if foreign is not None:
            return foreign[self.index]
        if self.measurement.layout is None:
            return None
        return state_bytes(self.measurement.layout, context=self.point.context, batch=self.point.batch)

    @property
    def peak_rss_mib(self) -> float | None:
        """Peak of the memory pass, which runs the largest point: given for that point only."""
        result = self.measurement.result
        largest = max(self.measurement.points, key=lambda p: p.batch * p.context)
        if result is None or result.memory is None or self.point != largest or self.measurement.status != "ok":
            return None
        return result.memory.peak_rss_mib

    @property
    def load_ms(self) -> Interval | None:
        """Mean over the timing processes, each loaded once."""
        result = self.measurement.result
        loads = [[p.load_ms] for p in result.timing if p.load_ms is not None] if result else []
        return centre(loads) if loads and self.measurement.status == "ok" else None


def conditions(key: Mapping[str, Any]) -> str:
    """What two measurements must share for their times to be set side by side, from their key: device, runtime, method.

    Canonical JSON.
    """
    shared = {name: key.get(name) for name in ("runtime", "method", "runtime_version", "device")}
    return json.dumps(shared, sort_keys=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Watch:
    ended: float
    times: tuple[tuple[str, Interval], ...]  # of every point, in order


class Drift:
    """Which measurements lie in a stretch of work over which the watched anchor moved.

    Each run of the watched anchor (as `anchor` or `watch`) ends one block and begins the next. The anchor moved when
    the prefill or decode times of the two runs differ by more than `DRIFT_LIMIT`, and by more than their noise (the
    half widths of the two 95% intervals, added in quadrature): a smaller model of noisier times is not thrown away
    for its noise.

    Args:
        measurements: All of a study.
        watched: Layout id of the watched anchor; None for the one that has `watch` runs. A study that runs names it,
            since its first stretch begins before there is any.
    """

    def __init__(self, measurements: Sequence[Measurement], watched: str | None = None) -> None:
        self._runs: dict[tuple[str, str, str], list[_Watch]] = {}
        ids = {watched} if watched else {m.layout.layout_id for m in measurements if m.role == WATCH and m.layout}
        for m in measurements:
            if m.layout and m.layout.layout_id in ids and m.role in (ANCHOR, WATCH):
                self._runs.setdefault((m.device, m.workload, m.precision), []).extend(_watch(m))
        for runs in self._runs.values():
            runs.sort(key=lambda run: run.ended)

    def status(self, measurement: Measurement) -> tuple[str, str]:
        """The measurement's status and reason, drift taken into account."""
        if measurement.status != "ok" or measurement.role != CANDIDATE:
            return measurement.status, measurement.reason
        block = self._block(measurement)
        if block is None:
            return measurement.status, measurement.reason
        moved = _moved(*block)
        return ("throttled", f"{moved} around this measurement") if moved else (measurement.status, measurement.reason)

    def closed(self, measurement: Measurement) -> bool:
        """Whether it is settled if the device drifted: an anchor run after it is known, or none came before it."""
        runs = self._runs.get((measurement.device, measurement.workload, measurement.precision), [])
        before = any(run.ended <= measurement.created_unix for run in runs)
        return not before or self._block(measurement) is not None

    def latest(self) -> dict[str, str]:
        """For each device, how the watched anchor moved between its last two runs; an empty text when it did not."""
        return {
            device: _moved(runs[-2], runs[-1]) if len(runs) > 1 else "" for (device, _, _), runs in self._runs.items()
        }

    def _block(self, measurement: Measurement) -> tuple[_Watch, _Watch] | None:
        runs = self._runs.get((measurement.device, measurement.workload, measurement.precision), [])
        times = [run.ended for run in runs]
        before = bisect_right(times, measurement.created_unix) - 1
        after = bisect_left(times, measurement.created_unix)
        return (runs[before], runs[after]) if before >= 0 and after < len(runs) and after != before else None


def moved(before: Measurement, after: Measurement) -> str:
    """How two runs of one layout differ by more than `DRIFT_LIMIT` and their noise, or an empty text."""
    for a in _watch(before):
        for b in _watch(after):
            return _moved(a, b)
    return ""


def _watch(measurement: Measurement) -> Iterator[_Watch]:
    times = []
    for view in measurement.measured_points:
        if view.summary is None:
            return
        times += [
            (f"prefill time at {view.point.text}", view.summary.ttft_ms),
            (f"decode time at {view.point.text}", view.summary.decode_ms),
        ]
    yield _Watch(ended=measurement.created_unix, times=tuple(times))


def _moved(before: _Watch, after: _Watch) -> str:
    """Why the anchor's two runs are not the same, or an empty text."""
    for (name, a), (_, b) in zip(before.times, after.times, strict=True):
        change = b.value / a.value - 1
        noise = math.hypot(a.high - a.value, b.high - b.value) / a.value
        if abs(change) > max(DRIFT_LIMIT, noise):
            return f"the anchor's {name} moved by {change:+.1%}"
    return ""
