"""What a night's number is worth beside those of other layouts: how far nights of its series lie apart.

The gate's threshold T is how far a night lies from the nights before it. Beside another layout and beside a study of
long ago a slow drift counts too. So noise is the larger of T and of the same multiple of how far the good nights so far
lie from their own median: 2.75 S (1 + 7/n), with S of these as the gate has it.

Until the gate knows a series its noise is `UNKNOWN_NOISE` times its smallest effect.

A number that raised an alarm which is not established yet is *pending*: a neighbour may have disturbed the night, and
the gate waits for another night as well.
"""

from __future__ import annotations

import math
from collections import deque
from statistics import median
from typing import Final

from reports.gate import MEMORY, spread_noise
from reports.nights import number_of
from reports.study_fronts import Reading
from reports.verdict import Kind, Verdict
from reports.verdict_rows import night_of

UNKNOWN_NOISE: Final = 3.0
"""12% where 4% is the smallest effect, which covers series whose nights scatter by 3%."""
_CHANGED: Final = {Kind.SLOWER: 1, Kind.FASTER: -1}


class NightNoise:
    """One series on its way through its nights; give it the verdict on each, in order of time."""

    def __init__(self) -> None:
        self._good: deque[float] = deque(maxlen=MEMORY)
        self._accepted: float | None = None

    def reading(self, verdict: Verdict) -> Reading | None:
        """The night's number with its noise; None where no number counts."""
        night = night_of(verdict)
        value = None if night is None else number_of(night)
        if value is None:
            return None
        accepted = None if verdict.accepted is None else verdict.accepted.time
        if accepted != self._accepted:
            self._accepted = accepted
            self._good.clear()
        noise = math.log1p(UNKNOWN_NOISE * verdict.series.minimum_effect)
        if verdict.threshold is not None:
            noise = math.log1p(verdict.threshold)
            if self._good:
                middle = median(self._good)
                noise = max(noise, spread_noise([level - middle for level in self._good]))
        alarmed = verdict.alarm or verdict.kind in _CHANGED or verdict.kind is Kind.DEVICE_WIDE
        if not alarmed:
            self._good.append(math.log(value.value))
        return Reading(
            value=value, noise=noise, changed=_CHANGED.get(verdict.kind, 0),
            pending=alarmed and not verdict.established,
        )  # fmt: skip
