"""A stored measurement as something to read numbers from; every number shown anywhere comes through here.

`Measurement` is what the store keeps (raw result included). `MeasuredPoint` is one of its points with statistics and
counts. What a measurement is worth beside the others of its study is judged from all of them (`judging.py`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

from profiler.results import Result
from profiler.stats import Interval, PointSummary
from profiler.summary import ResultSummary, result_summary
from profiler.workloads import Point
from search_space.cost import Parameters, parameters, state_bytes
from search_space.layout import Layout

UNSETTLED = ("throttled", "not_cooled", "busy")
"""Statuses that say something of the moment and nothing of what was to be measured."""

CANDIDATE, ANCHOR, WATCH, ADHOC, BLOCKS = "candidate", "anchor", "watch", "adhoc", "blocks"
NIGHTLY = "nightly"


class Evidence:
    """What an agent wrote, and its summary: each read or made when it is first asked for.

    Tables and judging ask for the summary alone. A store keeps it beside the result, which is then never read.

    Args:
        read: Gives the result.
        summary: Of that result, where it is known.
    """

    def __init__(self, read: Callable[[], Result], summary: ResultSummary | None = None) -> None:
        self._read = read
        self._summary = summary

    @classmethod
    def of(cls, result: Result | None) -> Evidence | None:
        """Of a result that is at hand; None without one."""
        return None if result is None else cls(lambda: result)

    @cached_property
    def result(self) -> Result:
        """The result with its samples."""
        return self._read()

    @cached_property
    def summary(self) -> ResultSummary:
        """What it comes to. A result that is read for this alone is not held: thousands of them fill the memory."""
        if self._summary is not None:
            return self._summary
        return result_summary(self.__dict__["result"] if "result" in self.__dict__ else self._read())


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One measurement of one layout or file on one device.

    Attributes:
        job_id: Its id.
        role: ``candidate``, ``anchor``, ``watch`` (a repeated run of the anchor that watches for drift), ``adhoc``,
            ``blocks`` (a comparison of stacks of blocks, which has no layout), or ``nightly`` (`archsearch.regress`).
        layout: None for a foreign file.
        name: Name of the anchor or file, or None.
        label: What people call it.
        device: Name of the device.
        workload: Name of the workload.
        points: Its points.
        precision: Storage of the weights.
        status: See `profiler.results`; also ``infeasible``.
        reason: Why, when not ok.
        evidence: The agent's result, or None when nothing ran.
        weights_bytes: Stored weights.
        bytes_sent: Bytes that crossed the link for it.
        created_unix: When it was stored.
        trial: Number in its study, or None.
        lowerings: Lowering of each block, by `block_id`.
        conditions: As `conditions` gives them.
        foreign_state_bytes: State bytes per point of a foreign file.
        group: Of the device; empty where it has none.
        seed: Of the weights; None for records of before it was kept.
        notes: What whoever asked for it noted, as plain JSON; of noted ones also the `environment` that was found.
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
    evidence: Evidence | None
    weights_bytes: int | None
    bytes_sent: int
    created_unix: float
    trial: int | None = None
    lowerings: Mapping[str, str] = field(default_factory=dict)
    conditions: str = ""
    foreign_state_bytes: tuple[int, ...] | None = None
    group: str = ""
    seed: int | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def pool(self) -> str:
        """The device's group, or the device where it has none: what tables call the device."""
        return self.group or self.device

    @property
    def result(self) -> Result | None:
        """The agent's result with all samples, or None when nothing ran; of a stored one it may be read only now.

        Raises:
            StoreError: It cannot be read.
        """
        return None if self.evidence is None else self.evidence.result

    @property
    def summary(self) -> ResultSummary | None:
        """What the result comes to, or None when nothing ran."""
        return None if self.evidence is None else self.evidence.summary

    @cached_property
    def counts(self) -> Parameters | None:
        """Parameters of the layout."""
        return None if self.layout is None else parameters(self.layout)

    @property
    def measured_points(self) -> tuple[MeasuredPoint, ...]:
        """One entry per point, in order, whether it has numbers or not.

        Made at every call: kept here, each would refer to what refers to it, and stay (see `archsearch.pauses`).
        """
        found: dict[int, PointSummary] = {}
        if self.status == "ok" and self.summary is not None:
            found = {summary.point: summary for summary in self.summary.points}
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
        summary = self.measurement.summary
        largest = max(self.measurement.points, key=lambda p: p.batch * p.context)
        if summary is None or self.point != largest or self.measurement.status != "ok":
            return None
        return summary.peak_rss_mib

    @property
    def load_ms(self) -> Interval | None:
        """Mean over the timing processes, each loaded once."""
        summary = self.measurement.summary
        return summary.load_ms if summary is not None and self.measurement.status == "ok" else None


def conditions(key: Mapping[str, Any]) -> str:
    """What two measurements must share for their times to be set side by side, from their key: device, runtime, method.

    Canonical JSON.
    """
    return _canonical(json.dumps([key.get(name) for name in _SHARED]))


_SHARED = ("runtime", "method", "runtime_version", "device")


@lru_cache(maxsize=1024)
def _canonical(shared: str) -> str:
    """Sorted, once for the thousands of measurements that were taken under the same conditions."""
    return json.dumps(dict(zip(_SHARED, json.loads(shared), strict=True)), sort_keys=True)
