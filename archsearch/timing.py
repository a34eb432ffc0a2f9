"""Where a study's wall time went: the agent's phases, the driver's, and what is overhead.

Work: load (fresh processes and sessions), warm-up, timed sequences, the memory pass. Waiting: cooling and leases.
Everything else is overhead: weights and their hashing, block checks, sampling, export, transfers, polling, the store.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from archsearch.store import Store

_AGENT = {
    "waiting": "waiting for the lease, a cool and quiet device",
    "start": "starting fresh processes (several per candidate are required)",
    "load": "loading models into sessions",
    "warmup": "warm-up sequences",
    "timed": "timed sequences",
    "memory": "the memory pass in a process of its own",
    "weights": "writing weights from the recipe",
    "check": "block checks against the reference, operator histogram",
    "other": "the agent between these",
}
_NO_OVERHEAD = ("waiting", "start", "load", "warmup", "timed", "memory")


@dataclass(frozen=True, slots=True, kw_only=True)
class TimingReport:
    """Seconds by phase.

    Attributes:
        wall_s: Wall time of all runs of the study.
        device_s: The same, times the devices of each run: they measure at the same time.
        agent: Agent phases, summed over measurements.
        driver: Driver phases, waiting for the agent left out.
        rest_s: Device time in none of them.
    """

    wall_s: float
    device_s: float
    agent: dict[str, float]
    driver: dict[str, float]
    rest_s: float

    @property
    def overhead_s(self) -> float:
        """Device time that is neither load, warm-up, timed work, memory pass nor required waiting."""
        return max(0.0, self.device_s - sum(self.agent.get(phase, 0.0) for phase in _NO_OVERHEAD))

    @property
    def overhead_share(self) -> float:
        """Overhead over device time."""
        return self.overhead_s / self.device_s if self.device_s else 0.0

    def lines(self) -> Iterator[tuple[str, float, str]]:
        """Phase, seconds and what it is."""
        for phase, what in _AGENT.items():
            yield phase, self.agent.get(phase, 0.0), what
        for phase, seconds in sorted(self.driver.items(), key=lambda item: -item[1]):
            yield f"driver: {phase}", seconds, ""
        yield "rest", self.rest_s, "polling, process start of the driver, everything not booked"

    def to_json(self) -> dict[str, Any]:
        """All of it as plain JSON."""
        return {**asdict(self), "overhead_s": self.overhead_s, "overhead_share": self.overhead_share}


def break_down(store: Store, study: str) -> TimingReport:
    """Sum up a study; runs that were killed count up to their last stored measurement."""
    agent: dict[str, float] = {}
    driver: dict[str, float] = {}
    records = store.measurements(study)
    for record in records:
        for phase, seconds in record.info.get("agent_seconds", {}).items():
            if phase != "total":
                agent[phase] = agent.get(phase, 0.0) + seconds
        for phase, seconds in record.info.get("driver_seconds", {}).items():
            if phase != "wait":
                driver[phase] = driver.get(phase, 0.0) + seconds
    wall = devices_time = 0.0
    begun: float | None = None
    last = 0.0
    devices = 1
    marks = [(at, kind, data) for at, kind, data in store.events(study) if kind in ("run_started", "run_ended")]
    marks += [(record.created_unix, "stored", {}) for record in records]
    for at, kind, data in [*sorted(marks, key=lambda mark: mark[0]), (0.0, "run_started", {})]:
        if kind != "run_started":
            last = at
        if kind != "stored" and begun is not None:  # a run that was killed ended with what it stored last
            wall += last - begun
            devices_time += (last - begun) * devices
            begun = None
        if kind == "run_started":
            begun = last = at
            devices = max(1, len(data.get("devices", ())))
        for phase, seconds in data.get("driver", {}).items():
            driver[phase] = driver.get(phase, 0.0) + seconds
    booked = sum(agent.values()) + sum(driver.values())
    return TimingReport(
        wall_s=wall, device_s=devices_time, agent=agent, driver=driver, rest_s=max(0.0, devices_time - booked)
    )
