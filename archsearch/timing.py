"""Where a study's time went: the agent's phases, the driver's, and what is overhead.

Work: load (fresh processes and sessions), warm-up, timed sequences, the profile, the memory pass. Waiting: cooling,
leases, another run's result, other devices. Tuning is measuring too, of kernels. Everything else is overhead: weights
and their hashing, block checks, sampling, export, transfers, polling, the store.

Two times are told. `wall_s` is what a clock on the wall shows while at least one run was at work. `device_s` is what
phases are shares of: every run books the phases of each of its devices by itself, at the same time as the others, so
it sums the length of every run times its devices.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from archsearch.store import MeasurementRecord, Store

RUN_STARTED, RUN_ENDED = "run_started", "run_ended"
"""Kinds of events: a process began, or ended, to work on a study."""
POOLS = "pools"
"""Of the event that a run started: its devices, and for each its group, or its own name."""
LEFT_OUT = "left_out"
"""Of the event that a run ended: devices and groups that it left out on the way, with the reason."""

DriverPhase = Literal["resume", "ask", "export", "claim", "reference", "send", "wait", "await", "idle", "tuning"]

_AGENT: Mapping[str, str] = {
    "waiting": "waiting for the lease, a cool and quiet device",
    "start": "starting fresh processes (several per candidate are required)",
    "load": "loading models into sessions",
    "warmup": "warm-up sequences",
    "timed": "timed sequences",
    "memory": "the memory pass in a process of its own",
    "weights": "writing weights from the recipe",
    "check": "block checks against the reference, operator histogram",
    "profile": "a sequence under the profiler: where a model's time goes",
    "other": "the agent between these",
}
_DRIVER: Mapping[DriverPhase, str] = {
    "resume": "reading what the study has, telling it to the sampler, ending abandoned jobs",
    "ask": "drawing a layout that is new, with the sampler",
    "export": "building graph and weight recipe",
    "claim": "looking for a known result, claiming the measurement in the store",
    "reference": "computing in torch what each new block must give on the device",
    "send": "bringing the job to the device and starting its agent",
    "idle": "having nothing to do while other devices were at work",
    "await": "waiting for the result of another run that was measuring the same thing",
    "tuning": "comparing the lowerings of new blocks; kept for later runs",
}
_AGENT_WORK = ("waiting", "start", "load", "warmup", "timed", "profile", "memory")
_TOTAL, _WITH_THE_AGENT = "total", "wait"  # booked already, phase by phase, by the agent


class Seconds:
    """Where the driver's own time went, by phase."""

    def __init__(self) -> None:
        self.by_phase: dict[DriverPhase, float] = {}
        self._last = time.monotonic()

    def add(self, phase: DriverPhase, seconds: float) -> None:
        """Book seconds on a phase; none is made for nothing."""
        if seconds:
            self.by_phase[phase] = self.by_phase.get(phase, 0.0) + seconds

    def lap(self, phase: DriverPhase) -> None:
        """Book the time since the last lap."""
        now = time.monotonic()
        self.add(phase, now - self._last)
        self._last = now

    @contextmanager
    def book(self, phase: DriverPhase) -> Iterator[None]:
        """Book the time that the block takes."""
        begun = time.monotonic()
        try:
            yield
        finally:
            self.add(phase, time.monotonic() - begun)


@dataclass(frozen=True, slots=True, kw_only=True)
class TimingReport:
    """Seconds by phase.

    Attributes:
        runs: Runs of the study, by this process or another.
        wall_s: Time during which at least one of them was at work.
        device_s: Time of all runs, each times its devices: the phases and the rest add up to it.
        agent: Agent phases, summed over measurements.
        driver: Driver phases, waiting for the agent left out.
        rest_s: Device time in none of them.
    """

    runs: int
    wall_s: float
    device_s: float
    agent: dict[str, float]
    driver: dict[str, float]
    rest_s: float

    @property
    def overhead_s(self) -> float:
        """Device time that is neither load, warm-up, timed work, memory pass, tuning, idle nor required waiting."""
        work = sum(self.agent.get(phase, 0.0) for phase in _AGENT_WORK)
        others = sum(self.driver.get(phase, 0.0) for phase in ("await", "idle", "tuning"))
        return max(0.0, self.device_s - work - others)

    @property
    def overhead_share(self) -> float:
        """Overhead over device time."""
        return self.overhead_s / self.device_s if self.device_s else 0.0

    def lines(self) -> Iterator[tuple[str, float, str]]:
        """Phase, seconds and what it is."""
        for phase, what in _AGENT.items():
            yield phase, self.agent.get(phase, 0.0), what
        for name, what in sorted(_DRIVER.items(), key=lambda item: -self.driver.get(item[0], 0.0)):
            if name in self.driver:
                yield f"driver: {name}", self.driver[name], what
        yield "rest", self.rest_s, "polling, process start of the driver, everything not booked"

    def summary(self) -> str:
        """What the shares are shares of, in one sentence."""
        if self.device_s <= self.wall_s * 1.001:
            return f"{self.wall_s:.1f} s by the clock"
        return (
            f"{self.wall_s:.1f} s by the clock; {self.device_s:.1f} s summed over {self.runs} "
            f"{'run' if self.runs == 1 else 'runs'} and their devices, which worked at the same time"
        )

    def to_json(self) -> dict[str, Any]:
        """All of it as plain JSON."""
        return {**asdict(self), "overhead_s": self.overhead_s, "overhead_share": self.overhead_share}


@dataclass(slots=True, kw_only=True)
class _Run:
    """One run: from its begin to its end, or to what it stored last when it was killed."""

    begun: float
    ended: float
    devices: int
    over: bool = False
    driver: Mapping[str, float] = field(default_factory=dict)


def break_down(store: Store, study: str) -> TimingReport:
    """Sum up a study; runs that were killed count up to their last stored measurement."""
    records = [outline.record for outline in store.outlines(store.job_ids(study)).values()]
    runs = _runs(store.events(study), records)
    agent = _sum(record.info.get("agent_seconds", {}) for record in records)
    agent.pop(_TOTAL, None)
    driver = _sum([*(record.info.get("driver_seconds", {}) for record in records), *(run.driver for run in runs)])
    driver.pop(_WITH_THE_AGENT, None)
    # A job whose run was killed went on by itself until another run found it.
    alone = sum(record.info.get("unattended_s", 0.0) for record in records)
    device_s = alone + sum((run.ended - run.begun) * run.devices for run in runs)
    return TimingReport(
        runs=len(runs),
        wall_s=alone + _union((run.begun, run.ended) for run in runs),
        device_s=device_s,
        agent=agent,
        driver=driver,
        rest_s=max(0.0, device_s - sum(agent.values()) - sum(driver.values())),
    )


def _runs(events: Iterable[tuple[float, str, Mapping[str, Any]]], records: Sequence[MeasurementRecord]) -> list[_Run]:
    """The runs of a study, by begin; of several processes at work at the same time each has one run after another."""
    marks: list[tuple[float, str, Mapping[str, Any]]] = [
        *((at, kind, data) for at, kind, data in events if kind in (RUN_STARTED, RUN_ENDED)),
        *((record.created_unix, "stored", record.info) for record in records),
    ]
    runs: list[_Run] = []
    current: dict[str | None, _Run] = {}  # by process
    for at, kind, data in sorted(marks, key=lambda mark: mark[0]):
        owner = data.get("owner")
        if kind == RUN_STARTED:
            current[owner] = _Run(begun=at, ended=at, devices=max(1, len(data.get("devices", ()))))
            runs.append(current[owner])
        elif owner in current and not current[owner].over:
            run = current[owner]
            run.ended = at
            if kind == RUN_ENDED:
                run.over, run.driver = True, data.get("driver", {})
    return runs


def _sum(parts: Iterable[Mapping[str, float]]) -> dict[str, float]:
    total: dict[str, float] = {}
    for part in parts:
        for phase, seconds in part.items():
            total[phase] = total.get(phase, 0.0) + seconds
    return total


def _union(spans: Iterable[tuple[float, float]]) -> float:
    """Length of what the spans cover."""
    covered, end = 0.0, float("-inf")
    for first, last in sorted(spans):
        covered += max(0.0, last - max(first, end))
        end = max(end, last)
    return covered
