"""What a gate sees of one night, in logarithms of cost: the limits that it is compared with; its distance from them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import fmean

from reports.nights import Night, Run


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What tonight is compared with, in logarithms of cost.

    Attributes:
        baseline: The level.
        spread: S.
        scatter: The standard deviation of what nights differ by, for intervals.
        threshold: T.
        detectable: T + 2.5 S.
        nights: Good nights behind the baseline.
    """

    baseline: float
    spread: float
    scatter: float
    threshold: float
    detectable: float
    nights: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What a night shows, before anything is made of it.

    Attributes:
        night: The night, which has a number.
        level: Logarithm of its cost.
        limits: None while the series is learned.
        effect: Distance of the first run from the baseline; 0 while the series is learned.
        side: 1 when dearer beyond the threshold, -1 when cheaper, 0 without an alarm.
        vague: The interval is several times as wide as usual and holds the baseline: the night says nothing.
        fresh: Distances of those of the fresh runs that decide which have a number.
        confirmed: Whether the fresh runs confirm the alarm; None without an alarm, or while they do not decide it.
        stands: 1 or -1 when a change that was established before stands tonight: its side.
    """

    night: Night
    level: float
    limits: Limits | None
    effect: float = 0.0
    side: int = 0
    vague: bool = False
    fresh: tuple[float, ...] = ()
    confirmed: bool | None = None
    stands: int = 0

    @property
    def own_error(self) -> float:
        """Half the width of the first run's interval, as an effect."""
        return math.log1p(half_width(self.night.first))

    @property
    def mean_effect(self) -> float:
        """Of tonight's runs."""
        return fmean((self.effect, *self.fresh))

    @property
    def nearest_effect(self) -> float:
        """Of tonight's runs, the one nearest to the baseline: what they all agree on."""
        return min((self.effect, *self.fresh), key=abs)


def half_width(run: Run) -> float:
    """Half the width of a run's interval, relative to the value; its longer side, 0 without one."""
    assert run.value is not None
    value, ends = run.value.value, (run.value.low, run.value.high)
    return max((abs(end / value - 1) for end in ends if not math.isnan(end)), default=0.0)
