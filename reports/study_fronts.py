"""What a study said of its front, and what nights measured of the same layouts, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from reports.fronts import Membership
from reports.values import Value


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What a study said of one layout.

    Attributes:
        layout: Its id.
        title: Its code and the beginning of its id, for people.
        front: Its place in the front of the whole study.
        item: What nights call it.
    """

    layout: str
    title: str
    front: Membership
    item: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Values of a study's layouts in one place, or combined over all of its places.

    Attributes:
        devices: That measured them; none for the combined values of several places.
        workload: The place's point, for people: ``256/32``; empty for the combined values.
        conditions: What they were measured under, by name: ``onnxruntime``, ``agent``, ``device`` (its fingerprint).
        values: By layout id and objective, with the study's own intervals.
    """

    devices: tuple[str, ...] = ()
    workload: str = ""
    conditions: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, Mapping[str, Value]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyFront:
    """What a study said when a night began.

    Attributes:
        study: Its name.
        name: What the suite calls it.
        objectives: What it ranks by.
        fixed: Those of them that follow from the layout alone: no night changes them.
        budgets: Its limits, as text.
        across: How it combines its devices.
        precision: Storage of the weights there.
        said: Of the layouts that the night measures.
        scopes: The study's own ranking first.
    """

    study: str
    name: str
    objectives: tuple[str, ...]
    fixed: tuple[str, ...]
    budgets: tuple[str, ...]
    across: str
    precision: str
    said: tuple[Said, ...]
    scopes: tuple[Scope, ...]

    def scope(self, device: str, workload: str) -> tuple[Scope, str]:
        """The values to set beside those of a device's nights, and what is to be said of that, or nothing.

        Those of the same device and point; of the same device, where it measured one point alone; else the ranking's.
        """
        here = [one for one in self.scopes[1:] if device in one.devices]
        same = [one for one in here if one.workload == workload]
        if same:
            return same[0], ""
        if len(here) == 1:
            return here[0], f"the study's workload is {here[0].workload}"
        if here:
            return self.scopes[0], "the study has other workloads there, and its combined ranking counts"
        return self.scopes[0], "the study did not measure on this device, and its ranking counts"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A number of a night.

    Attributes:
        value: With the interval that its own run says.
        noise: What nights of its series differ by (`reports.front_noise`), as a difference of logarithms.
        pending: Whether it raised an alarm of its series that is not established.
        changed: 1 where its series' verdict is a confirmed change to the worse side, -1 to the better one, else 0.
    """

    value: Value
    noise: float
    changed: int = 0
    pending: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontNight:
    """What one night measured of a study's layouts on one device at one point.

    Attributes:
        time: Of the night, seconds since 1970.
        readings: By layout id and objective.
        missing: Why there is no number, by layout id.
        device_wide: Objectives of which a series was called device-wide.
        conditions: What they were measured under, as `Scope.conditions`.
    """

    time: float
    readings: Mapping[str, Mapping[str, Reading]]
    missing: Mapping[str, str] = field(default_factory=dict)
    device_wide: tuple[str, ...] = ()
    conditions: Mapping[str, str] = field(default_factory=dict)
