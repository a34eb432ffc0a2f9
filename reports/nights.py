"""What nightly regression runs have measured, as plain values: one night of one series, and a series.

A series is one quantity of one thing on one device; what makes numbers incomparable (another runtime, method or device)
makes another series. Nights are told apart and ordered by their time and
never by the order in which they are given.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import geometric_mean
from typing import Literal

from reports.objectives import Direction
from reports.values import Value

Fitness = Literal["number", "absent", "wrong"]

OK = "ok"
INVALID = "invalid"
"""The status of a run whose output was wrong, whatever its speed."""
FRESH_RUNS = 2
"""Fresh runs of one night that decide on an alarm."""
RESULTS_WITHOUT_NUMBER = frozenset({"infeasible", "out_of_memory", "timeout"})
"""Statuses that say something of what was measured and not of the way to the device: it no longer fits, or no longer
ends in time."""

SETTINGS = ("threads", "cores", "providers")
"""Names in a night's environment of what somebody chose for the device: no excuse that the device has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One measurement.

    Attributes:
        value: The number with its 95% interval, in the quantity's unit; None where there is none.
        status: ``ok``, or why there is no number that counts.
        reason: The status in a sentence, or empty.
    """

    value: Value | None = None
    status: str = OK
    reason: str = ""

    @property
    def fitness(self) -> Fitness:
        """Whether there is a number to judge.

        ``wrong`` are wrong outputs, and numbers that no measurement can have: zero, negative, infinite, not a number.
        An interval end that is not a number says nothing and does no harm.
        """
        if self.status == INVALID:
            return "wrong"
        if self.status != OK or self.value is None:
            return "absent"
        return "number" if math.isfinite(self.value.value) and self.value.value > 0 else "wrong"


@dataclass(frozen=True, slots=True, kw_only=True)
class Night:
    """One night of one series.

    Attributes:
        time: Seconds since 1970 at which the night's run began: one number for all series of the run, by which the
            anchor's night is found.
        first: The night's measurement.
        confirmations: Fresh runs that were taken later in the night because the first one raised an alarm, in order.
        fresh_runs: How many of them decide.
        environment: What may explain a change, by name: versions of system, runtime and agent, governor, power mode.
        minimum_effect: Smallest relative change that was worth an alarm that night; None: as the series has it.
    """

    time: float
    first: Run
    confirmations: tuple[Run, ...] = ()
    fresh_runs: int = FRESH_RUNS
    environment: Mapping[str, str] = field(default_factory=dict)
    minimum_effect: float | None = None


def number_of(night: Night) -> Value | None:
    """A night's number: the geometric mean of its first run and of the deciding fresh runs that have a number."""
    one = night.first.value
    if night.first.fitness != "number" or one is None:
        return None
    deciding = night.confirmations[: night.fresh_runs]
    fresh = [run.value.value for run in deciding if run.fitness == "number" and run.value is not None]
    if not fresh:
        return one
    factor = geometric_mean([one.value, *fresh]) / one.value
    return Value(value=one.value * factor, low=one.low * factor, high=one.high * factor)


@dataclass(frozen=True, slots=True, kw_only=True)
class Acceptance:
    """Somebody's word on what a series is compared with.

    Attributes:
        time: The first night that it holds for, seconds since 1970. To accept a new level: the night since which the
            series has been there (`Verdict.since`).
        reason: Why, for those who come later.
        by: Who.
        pinned: The value that nights are compared with from then on, whatever they bring. None: the median of the good
            nights from then on, so that a new level is accepted and followed.
    """

    time: float
    reason: str
    by: str
    pinned: float | None = None

    def __post_init__(self) -> None:
        if not self.reason.strip():
            raise ValueError("a baseline is accepted with a reason; this one has none")
        if self.pinned is not None and not (math.isfinite(self.pinned) and self.pinned > 0):
            raise ValueError(f"nothing can be compared with a baseline of {self.pinned}; it must be above zero")


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One quantity of one thing on one device, over nights.

    Attributes:
        key: Tells series apart; unique among those judged together.
        device: Where it is measured.
        label: What is measured, for people.
        quantity: Name of the quantity. A device's anchors judge those series that have the same one.
        direction: Which way is better.
        nights: In any order. Of two nights of one time the one given last counts.
        anchor: Whether it is measured to tell the device from what is measured on it.
        acceptances: In any order.
        minimum_effect: Smallest relative change that is worth an alarm, however quiet the series is.
        item: What is measured, alone; empty where nobody said it.
        workload: At which workload, and
        precision: in which precision: the parts of the label.
    """

    key: str
    device: str
    label: str
    quantity: str
    direction: Direction
    nights: tuple[Night, ...] = ()
    anchor: bool = False
    acceptances: tuple[Acceptance, ...] = ()
    minimum_effect: float = 0.04
    item: str = ""
    workload: str = ""
    precision: str = ""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.minimum_effect) and self.minimum_effect > 0):
            raise ValueError(f"{self.label}: minimum_effect is {self.minimum_effect}; it must be above zero")
        if not all(math.isfinite(night.time) for night in self.nights):
            raise ValueError(f"{self.label}: a night has no time")

    def until(self, time: float) -> tuple[Night, ...]:
        """Nights up to a time, in order of time, one for each time."""
        found = {night.time: night for night in self.nights if night.time <= time}
        return tuple(found[at] for at in sorted(found))
