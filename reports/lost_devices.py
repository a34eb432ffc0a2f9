"""Devices of a night of which there is no verdict at all: a first night, or one of which nothing was measured yet.

A device that has series gets a NO-DATA verdict for each of them, and is told by these.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reports.verdict import Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class LostDevices:
    """Devices that a night could not measure, or not to the end.

    Attributes:
        night: Seconds since 1970 at which it began.
        reasons: Why, by the device's name.
    """

    night: float
    reasons: Mapping[str, str]

    def untold(self, verdicts: Sequence[Verdict]) -> dict[str, str]:
        """Those of which no verdict says anything, with the reason."""
        told = {verdict.series.device for verdict in verdicts}
        return {device: why for device, why in self.reasons.items() if device not in told}


def untold(lost: LostDevices | None, verdicts: Sequence[Verdict]) -> dict[str, str]:
    """Devices of which no verdict says anything, with the reason; none where nobody knows of any."""
    return {} if lost is None else lost.untold(verdicts)


def night_time(verdicts: Sequence[Verdict], lost: LostDevices | None = None) -> float | None:
    """When the night began; None where nothing says it."""
    return max((verdict.time for verdict in verdicts), default=None if lost is None else lost.night)
