"""What is kept of nights: a note inside every measurement, and events beside them.

The note travels in the record of its measurement, so one is never stored without the other. Everything else (which
round of a block counts, whether its device moved) is derived from these when they are read: a run that was killed at
any instant leaves nothing half said.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from profiler.workloads import Point

STUDY = "regress"
"""Nights are kept in a study of this name (`archsearch.cli.studies` says it for the command line)."""

NIGHT = "night"
"""Kind of event: a night began; what it is to measure, on which devices (`Plan`)."""
LOST = "device lost"
"""Kind of event: a device could not be used, or not to the end; `night`, `device`, `reason`."""
FRONT = "front"
"""Kind of event: what a study said of its front when a night began; see `archsearch.regress.fronts`."""
ACCEPTED = "accepted"
"""Kind of event: somebody accepted a level; see `archsearch.regress.accepting`."""

Part = Literal["before", "item", "after", "confirmation"]
"""Of a night: the anchor before a block, what is measured, the anchor after it, a fresh run because of an alarm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """What a measurement was made for.

    Attributes:
        night: Seconds since 1970 at which its night began.
        suite: Name of the suite.
        item: Name of the thing in it.
        identity: Layout id, or sha256 of a file.
        anchor: Whether it is measured to tell the device from what is measured on it.
        part: Of the night.
        round: Which try of its block, from 0.
        quantities: What is judged of it.
        minimum_effect: Smallest relative change that is worth an alarm.
        archsearch: Version of this program.
        fresh_runs: How many fresh runs decide on an alarm of its night; one where an older note does not say it.
    """

    night: float
    suite: str
    item: str
    identity: str
    anchor: bool
    part: Part
    round: int
    quantities: tuple[str, ...]
    minimum_effect: float
    archsearch: str
    fresh_runs: int

    def to_json(self) -> dict[str, Any]:
        """As the record holds it."""
        return {**asdict(self), "quantities": list(self.quantities)}

    @classmethod
    def read(cls, notes: Mapping[str, Any]) -> Note | None:
        """The inverse of `to_json`; None for what is no note of a night."""
        values = {name: notes.get(name) for name in cls.__slots__}
        if values["part"] not in get_args(Part) or not isinstance(values["quantities"], list):
            return None
        try:
            note = cls(**{
                "night": float(notes["night"]), "suite": str(notes["suite"]), "item": str(notes["item"]),
                "identity": str(notes["identity"]), "anchor": bool(notes["anchor"]), "part": notes["part"],
                "round": int(notes["round"]), "quantities": tuple(map(str, notes["quantities"])),
                "minimum_effect": float(notes["minimum_effect"]), "archsearch": str(notes["archsearch"]),
                "fresh_runs": int(notes.get("fresh_runs", 1)),
            })  # fmt: skip
        except (KeyError, TypeError, ValueError, OverflowError):
            return None
        sound = math.isfinite(note.night) and 0 < note.minimum_effect < math.inf and note.fresh_runs > 0
        return note if sound else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One thing that a night was to measure on each of its devices."""

    item: str
    identity: str
    anchor: bool
    precision: str
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a night was to measure.

    Attributes:
        night: Seconds since 1970 at which it began.
        suite: Name of the suite.
        devices: Names, those that could not be opened too.
        asked: On each of them.
    """

    night: float
    suite: str
    devices: tuple[str, ...]
    asked: tuple[Asked, ...]

    def to_json(self) -> dict[str, Any]:
        """As the event holds it."""
        asked = [
            [one.item, one.identity, one.anchor, one.precision, [point.to_list() for point in one.points]]
            for one in self.asked
        ]
        return {"night": self.night, "suite": self.suite, "devices": list(self.devices), "asked": asked}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Plan:
        """The inverse of `to_json`; `archsearch.regress.events.plan_of` passes over what is damaged.

        Raises:
            KeyError, TypeError, ValueError, OverflowError, WorkloadError: `to_json` did not write it.
        """
        night, asked, devices = float(data["night"]), data["asked"], data["devices"]
        if not math.isfinite(night) or not isinstance(asked, list) or not isinstance(devices, list):
            raise ValueError("no plan of a night")
        return cls(
            night=night,
            suite=str(data["suite"]),
            devices=tuple(map(str, devices)),
            asked=tuple(
                Asked(
                    item=str(item), identity=str(identity), anchor=bool(anchor), precision=str(precision),
                    points=tuple(map(Point.from_list, points)),
                )
                for item, identity, anchor, precision, points in asked
            ),
        )  # fmt: skip
