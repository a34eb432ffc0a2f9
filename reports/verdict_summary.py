"""Verdicts counted by device, the worst first: for people, for reports and for the programs that tell them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reports.formatting import change_text, moment
from reports.front_rows import front_row, wanted_first
from reports.front_verdicts import FrontKind, FrontVerdict
from reports.lost_devices import LostDevices, night_time, untold
from reports.verdict import Kind, Level, Verdict
from reports.verdict_rows import KINDS, LEVELS, verdict_row, worst_first


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceSummary:
    """The verdicts of one device.

    Attributes:
        device: Its name.
        verdicts: Worst first.
    """

    device: str
    verdicts: tuple[Verdict, ...]

    @property
    def level(self) -> Level:
        """The worst."""
        return worst_level(self.verdicts)

    @property
    def levels(self) -> Mapping[Level, int]:
        """How many verdicts there are of each level."""
        counted = Counter(verdict.level for verdict in self.verdicts)
        return {level: counted[level] for level in LEVELS}

    @property
    def kinds(self) -> Mapping[Kind, int]:
        """How many verdicts there are of each kind."""
        counted = Counter(verdict.kind for verdict in self.verdicts)
        return {kind: counted[kind] for kind in KINDS}


def by_device(verdicts: Sequence[Verdict]) -> tuple[DeviceSummary, ...]:
    """One summary for each device, the device with the worst verdict first."""
    groups: dict[str, list[Verdict]] = {}
    for verdict in worst_first(verdicts):
        groups.setdefault(verdict.series.device, []).append(verdict)
    found = [DeviceSummary(device=device, verdicts=tuple(group)) for device, group in groups.items()]
    return tuple(sorted(found, key=lambda one: [-one.levels[level] for level in LEVELS[:2]]))


def worst_level(verdicts: Sequence[Verdict], lost: LostDevices | None = None) -> Level:
    """The worst level there is, WARN for a device without a verdict; fine where there is neither."""
    levels = [verdict.level for verdict in verdicts] + [Level.WARN] * bool(untold(lost, verdicts))
    return min(levels, key=LEVELS.index, default=Level.FINE)


def counts_text(verdicts: Sequence[Verdict], lost: LostDevices | None = None) -> str:
    """``1 FAIL, 2 WARN, 40 fine``; levels that nothing has are left out. Devices without a verdict come last."""
    counted = Counter(verdict.level for verdict in verdicts)
    found = [f"{counted[level]} {level}" for level in LEVELS if counted[level]] or ["no series"]
    return ", ".join([*found, *(f"no verdict on {device}" for device in untold(lost, verdicts))])


def title_of(verdict: Verdict) -> str:
    """What a verdict is about, within its device: text that is not safe yet."""
    return f"{verdict.series.label} {verdict.series.quantity}"


def headline(verdict: Verdict) -> str:
    """A verdict in a few words: what, which kind, by how much and since when; text that is not safe yet."""
    change = "" if verdict.effect is None else f" {change_text(verdict.effect.value)}"
    since = "" if verdict.since is None else f" since {moment(verdict.since)}"
    return f"{title_of(verdict)} {verdict.kind}{change}{since}"


def summary(
    verdicts: Sequence[Verdict], fronts: Sequence[FrontVerdict] = (), lost: LostDevices | None = None
) -> dict[str, Any]:
    """As JSON holds it: counts, verdicts that are not fine, fronts that have not held, devices without a verdict."""
    at = night_time(verdicts, lost)
    devices = by_device(verdicts)
    return {
        "night": None if at is None else moment(at),
        "night_unix": at,
        "level": str(worst_level(verdicts, lost)),
        "text": counts_text(verdicts, lost),
        "devices": [
            {
                "device": one.device,
                "level": str(one.level),
                "levels": {str(level): found for level, found in one.levels.items()},
                "kinds": {str(kind): found for kind, found in one.kinds.items()},
            }
            for one in devices
        ],
        "not_fine": [verdict_row(verdict) for verdict in worst_first(verdicts) if verdict.level is not Level.FINE],
        "fronts": [front_row(one) for one in wanted_first(fronts) if one.kind is not FrontKind.HELD],
        "lost": [{"device": device, "reason": why} for device, why in untold(lost, verdicts).items()],
    }
