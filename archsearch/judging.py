"""What the measurements of a study are worth beside each other, judged from all of them together.

Nothing stored is ever changed: the same records are judged anew whenever they are read, and what is learned later of a
device counts for what it measured before. In this order:

1. *Conditions.* What a device measured with other threads, another clock policy, runtime or governor than it has now
   belongs to another series: `superseded`.
2. *Groups.* A device whose watched anchor is not like that of the others of its group measures something else than they
   do: `unlike`.
3. *Outputs.* A device that does not compute what the others do: `invalid` (`agreement.py`).
4. *Drift.* What was measured while the device moved, or on another level than its present one: `throttled`
   (`drift.py`).

The first two, and a device that computes the watched anchor otherwise than the others, take a measurement out of the
count altogether: the candidate is measured again as if it never had been.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from archsearch.agreement import disagreements, wrong_devices
from archsearch.drift import Drift, moved
from archsearch.measurement import ANCHOR, CANDIDATE, WATCH, Measurement

SUPERSEDED, UNLIKE, INVALID = "superseded", "unlike", "invalid"

_OF_STUDIES = (ANCHOR, CANDIDATE, WATCH)


class AtWork(NamedTuple):
    """A device of the run that judges.

    Attributes:
        pool: Its group, or its name.
        conditions: As `measurement.conditions` gives them, of what it would measure now.
    """

    pool: str
    conditions: str


class Judgement:
    """The status of every measurement of a study, all others considered.

    Args:
        measurements: All of the study.
        watched: Layout id of the watched anchor; None for the one that has `watch` runs.
        now: The devices that are at work, by name. The conditions of others, and of all where there are none, are those
            of their latest measurement. Devices are compared once all of them have measured the anchor.
    """

    def __init__(
        self,
        measurements: Iterable[Measurement],
        watched: str | None = None,
        now: Mapping[str, AtWork] | None = None,
    ) -> None:
        found = list(measurements)
        at_work = now or {}
        latest = {m.device: m.conditions for m in sorted(found, key=_time) if m.role in _OF_STUDIES}
        self._series = {**latest, **{name: device.conditions for name, device in at_work.items()}}
        present = [m for m in found if not self.is_superseded(m)]
        ids = {watched} if watched else {m.layout.layout_id for m in found if m.role == WATCH and m.layout}
        anchors = [m for m in present if m.layout and m.layout.layout_id in ids and m.role in (ANCHOR, WATCH)]
        awaited = at_work.keys() - {m.device for m in anchors}
        self.unlike: Mapping[str, str] = _unlike(anchors, present, {at_work[name].pool for name in awaited})
        """Devices that are not like the others of their group, with the reason."""
        self.wrong: Mapping[str, str] = wrong_devices(
            () if awaited else anchors, (m for m in present if m.role in _OF_STUDIES)
        )
        """Devices that do not compute what the others do, with the reason."""
        self._doubted = disagreements(m for m in present if m.device not in self.wrong)
        self.drift = Drift(present, watched)

    def status(self, measurement: Measurement) -> tuple[str, str]:
        """Its status and the reason, everything else considered."""
        if self.is_superseded(measurement):
            return SUPERSEDED, f"measured under other conditions: {self._difference(measurement)}"
        if measurement.role in _OF_STUDIES and measurement.status == "ok":
            if measurement.device in self.unlike:
                return UNLIKE, self.unlike[measurement.device]
            if measurement.device in self.wrong:
                return INVALID, self.wrong[measurement.device]
        if measurement.job_id in self._doubted:
            return INVALID, self._doubted[measurement.job_id]
        return self.drift.status(measurement)

    def disagrees(self, measurement: Measurement) -> bool:
        """Whether its outputs are not those of other devices."""
        return measurement.job_id in self._doubted or (
            measurement.role in _OF_STUDIES and measurement.device in self.wrong
        )

    def counts(self, measurement: Measurement) -> bool:
        """Whether it says something of its candidate, be it that it cannot run."""
        device = measurement.device
        return not (self.is_superseded(measurement) or device in self.unlike or device in self.wrong)

    def is_superseded(self, measurement: Measurement) -> bool:
        """Whether its device has other conditions now."""
        return measurement.role in _OF_STUDIES and measurement.conditions != self._series[measurement.device]

    def _difference(self, measurement: Measurement) -> str:
        return difference(measurement.conditions, self._series[measurement.device])


def difference(before: str, now: str) -> str:
    """How two conditions differ, in words."""
    old, new = _flat(before), _flat(now)
    names = {"device": "the device, its system or its clock policy"}
    changed = [
        names.get(name, f"{name} {old.get(name)}, now {new.get(name)}")
        for name in {**old, **new}
        if old.get(name) != new.get(name)
    ]
    return ", ".join(changed)


def _flat(conditions: str) -> dict[str, object]:
    """The single settings, those of the runtime by themselves."""
    found = dict(json.loads(conditions or "{}"))
    runtime = found.pop("runtime", None) or {}
    return {**runtime, **found}


def _time(measurement: Measurement) -> float:
    return measurement.created_unix


def _unlike(
    anchors: Iterable[Measurement], present: Iterable[Measurement], incomplete: Collection[str]
) -> dict[str, str]:
    """Devices that are not like the majority of their group, by the latest runs of the watched anchor on each.

    Of equal parts that differ, the one that has measured more candidates stays, as they would be measured again. Groups
    of which some device has yet to measure the anchor are `incomplete`.
    """
    runs: dict[str, dict[str, list[Measurement]]] = {}
    for m in sorted(anchors, key=_time):
        if m.status == "ok" and m.group:
            runs.setdefault(m.group, {}).setdefault(m.device, []).append(m)
    measured = Counter(m.device for m in present if m.role == CANDIDATE)
    found: dict[str, str] = {}
    for group, by_device in runs.items():
        if len(by_device) < 2 or group in incomplete:
            continue
        parts: list[list[str]] = []
        for name in sorted(by_device, key=lambda name: (-measured[name], by_device[name][0].created_unix)):
            part = next((part for part in parts if not _differ(by_device[part[0]], by_device[name])), None)
            if part is None:
                parts.append([name])
            else:
                part.append(name)
        first = max(parts, key=len)  # of equal ones the first
        doubt = " (which is the odd one is not known)" if sum(len(part) == len(first) for part in parts) > 1 else ""
        for name in (name for part in parts if part is not first for name in part):
            how = _differ(by_device[first[0]], by_device[name])
            found[name] = (
                f"it is not like {first[0]}, of the same group: {how}{doubt}; give it no group, or one of its own"
            )
    return found


def _differ(one: Sequence[Measurement], other: Sequence[Measurement]) -> str:
    """How the last two runs of an anchor on one device all differ from those on another; or an empty text.

    One odd run says nothing: a device that is warm for a while is still one of its group. Nor do runs with other
    lowerings.
    """
    pairs = [(a, b) for a in one[-2:] for b in other[-2:] if a.lowerings == b.lowerings]
    changes = [moved(a, b) for a, b in pairs]
    return changes[-1] if changes and all(changes) else ""
