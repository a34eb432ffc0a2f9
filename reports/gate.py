"""The statistics of one series, night by night: where it stands, what is an alarm, what change would be seen.

All is done in logarithms of cost (the logarithm of a quantity of which less is better, its negative of one of which
more is): a change by a factor is as large upwards as downwards, and units do not matter.

Good nights are those with a number and without an alarm.
Baseline: median of the last `WINDOW` good nights, or what somebody pinned.
Deviations: of each night its distance from the median of the good nights before it; of a night whose alarm came to
    nothing, that of the run nearest to it. They are what the gate itself sees on nights without a change, so they hold,
    in the proportions of this series, scatter within and between nights, drift, how the median lags behind it, and the
    error of that median.
Spread: S, the lesser of two quantiles of the last `MEMORY` absolute deviations, 87.5% over 1.534 and 98% over 2.326.
    Of many normal ones either is the standard deviation. An eighth of the nights may be outliers, and do not touch the
    first; of a second mode, on a seventh of the nights or more, the first alone would say too much, since beyond it
    there is nothing.
Scatter: the first of them, by (1 + 3/n) wider with n deviations, since of few it is too small: what intervals are of.
Threshold: T = max(minimum effect, 2.75 S (1 + 7/n)) with n deviations: (1 + 7/n) is for the error of a quantile of few.
    A baseline of m nights, fewer than w = `WINDOW` after an acceptance or other settings, widens S by
    sqrt((1 + pi/2m) / (1 + pi/2w)), pi/2m being the variance of a median of m.
Alarm: tonight's effect is beyond T. Confirmed: two fresh runs of the same night, one after the other, are both beyond
    `CONFIRMED` T on the same side. The first run was picked for being large, so the fresh ones are not asked for as
    much. Two, since a neighbour who disturbs a run often stays for the next one.
Established: the second night in a row with a confirmed alarm.
Detectable: T + 2.5 S, the step that is established by its second night with 95% probability if noise is normal.
Back: an established change stays until somebody accepts it, or until it is below T/2 on one night or below T on two.

The rule that this comes from takes S = 1.4826 MAD of the last 14 good nights, T = max(4%, 3.5 S), asks one fresh run
for T and two nights for nothing else. A MAD of 14 nights is off by a fifth as often as not, is blind to a second mode,
sees a slow device as a quiet one, and forgets after two weeks what noise the series has: simulated, where it misses
less it fails several times as many unchanged series. ``benchmarks/regression_gate.py`` prints both.

Alarms never become part of the baseline. Those that were not confirmed, or were gone the next night, become deviations
(this series does that); those of an established change do not. A change in steps below T is followed by the baseline
and never raises an alarm: pin a baseline, or look at the history (`reports.change_points`).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection, Sequence
from copy import copy
from statistics import median
from typing import Final

from reports.looks import Limits, Look, half_width
from reports.nights import Acceptance, Night, Run
from reports.objectives import Direction

WINDOW: Final = 14
"""Good nights behind a baseline."""
FIRST_NIGHTS: Final = 4
"""Fewest good nights that have a median worth comparing with."""
FIRST_DEVIATIONS: Final = 10
"""Fewest deviations that have a spread. A new series is therefore judged from its 15th good night, or later where its
settings changed before that."""
MEMORY: Final = 60
"""Deviations behind a spread."""
CONFIRMED: Final = 0.85
"""Share of the threshold that each fresh run must reach."""
VAGUE: Final = 3.0
"""How many times wider than usual the interval of a night is that says nothing. With three processes an interval is
that wide by chance on one night of 500."""

_QUANTILES = ((0.875, 1.5341), (0.98, 2.3263))  # of absolute deviations, and each over S where they are normal
_MULTIPLE = 2.75
_SMALL = 7.0
_FEW = 3.0
_POWER = 2.5
_MEDIAN_ERROR = math.pi / 2
_LARGEST = 700.0  # of a logarithm whose number is finite


class Gate:
    """The memory of one series. `look` at a night, then say what came of it: `good`, `alarmed`, `passing` or nothing.

    Args:
        direction: Which way is better.
        minimum_effect: Relative change.
    """

    def __init__(self, direction: Direction, minimum_effect: float) -> None:
        self._sign = 1.0 if direction == "min" else -1.0
        self._floor = math.log1p(minimum_effect)
        self._levels: deque[float] = deque(maxlen=WINDOW)
        self._widths: deque[float] = deque(maxlen=WINDOW)
        self._deviations: deque[float] = deque(maxlen=MEMORY)
        self._pinned: float | None = None
        self._streak: list[float] = []
        self._since: float | None = None
        self._established = 0
        self._below = 0

    def __deepcopy__(self, memo: object) -> Gate:
        other = copy(self)
        for name in ("_levels", "_widths", "_deviations", "_streak"):
            setattr(other, name, getattr(self, name).copy())
        return other

    @property
    def nights(self) -> int:
        """Good nights in the window."""
        return len(self._levels)

    @property
    def pinned(self) -> bool:
        """Whether the baseline is a value that somebody pinned."""
        return self._pinned is not None

    @property
    def missing(self) -> int:
        """Good nights that must pass before the next one is judged."""
        baseline = 0 if self._pinned is not None else FIRST_NIGHTS - len(self._levels)
        to_first = max(0, FIRST_NIGHTS - len(self._levels))
        lacking = FIRST_DEVIATIONS - len(self._deviations)
        return max(0, baseline, lacking + to_first if lacking > 0 else 0)

    @property
    def young(self) -> bool:
        """Whether it is not known yet how much the series scatters."""
        return len(self._deviations) < FIRST_DEVIATIONS

    @property
    def since(self) -> float | None:
        """Time of the first night of the alarms that last."""
        return self._since

    @property
    def streak(self) -> int:
        """Nights in a row with a confirmed alarm of its own."""
        return len(self._streak)

    @property
    def established(self) -> int:
        """1 or -1 while a change is established, and which way it went; else 0."""
        return self._established

    @property
    def minimum_effect(self) -> float:
        """Relative change below which nothing is an alarm."""
        return math.expm1(self._floor)

    def cost_factor(self, effect: float) -> float:
        """The factor by which the quantity itself changes with an effect; of a level, the quantity."""
        return math.exp(self._sign * max(-_LARGEST, min(_LARGEST, effect)))

    def accept(self, acceptance: Acceptance) -> None:
        """Nights from now on are compared as somebody said; how much the series scatters is still known."""
        self.relearn()
        self._pinned = None if acceptance.pinned is None else self._sign * math.log(acceptance.pinned)

    def relearn(self) -> None:
        """The nights so far were of something else; how much the series scatters is still known."""
        self._levels.clear()
        self._forget_streak()

    def limits(self) -> Limits | None:
        """What the next night is compared with; None while the series is learned."""
        if self.missing:
            return None
        of_nights = len(self._levels)
        known = len(self._deviations)
        few = 1.0
        if self._pinned is None:
            baseline = median(self._levels)
            few = math.sqrt((1 + _MEDIAN_ERROR / of_nights) / (1 + _MEDIAN_ERROR / WINDOW))
        else:
            baseline = self._pinned
        spreads = _spreads(self._deviations)
        spread = few * min(spreads)
        threshold = max(self._floor, _threshold(spread, known))
        return Limits(
            baseline=baseline, spread=spread, scatter=few * spreads[0] * (1 + _FEW / known), threshold=threshold,
            detectable=threshold + _POWER * spread, nights=of_nights,
        )  # fmt: skip

    def look(self, night: Night) -> Look:
        """What a night with a number shows."""
        level = self._level(night.first)
        assert level is not None
        if night.minimum_effect is not None:
            self._floor = math.log1p(night.minimum_effect)
        limits = self.limits()
        if limits is None:
            return Look(night=night, level=level, limits=None)
        effect = level - limits.baseline
        width = half_width(night.first)
        usual = median(self._widths) if self._widths else math.inf
        if width > VAGUE * usual and width > max(limits.threshold, abs(effect)):
            return Look(night=night, level=level, limits=limits, effect=effect, vague=True)
        levels = map(self._level, night.confirmations[: night.fresh_runs])
        fresh = tuple(one - limits.baseline for one in levels if one is not None)
        side = 0 if abs(effect) <= limits.threshold else 1 if effect > 0 else -1
        confirmed = None
        if side:
            reached = [one * side > CONFIRMED * limits.threshold for one in fresh]
            if False in reached:
                confirmed = False
            elif len(reached) == night.fresh_runs:
                confirmed = True
        return Look(
            night=night, level=level, limits=limits, effect=effect, side=side, fresh=fresh, confirmed=confirmed,
            stands=self._stands(effect, limits),
        )  # fmt: skip

    def good(self, look: Look) -> None:
        """The night had no alarm: it ends what was, and is part of the baseline from now on."""
        self._end()
        if len(self._levels) >= FIRST_NIGHTS:
            self._deviations.append(look.level - median(self._levels))
        self._levels.append(look.level)
        self._widths.append(half_width(look.night.first))

    def passing(self, look: Look) -> None:
        """The alarm was not confirmed: the night ends what was, and is remembered as noise."""
        self._end()
        self._deviations.append(look.nearest_effect)

    def device_wide(self, look: Look) -> None:
        """The device moved: the night tells nothing of the series itself."""
        if self._since is None:
            self._since = look.night.time

    def alarmed(self, look: Look) -> None:
        """The alarm is confirmed, and the series' own."""
        assert look.limits is not None
        if self._established == look.side:
            self._below = 0
            return
        if self._established or (self._streak and math.copysign(1, self._streak[-1]) != look.side):
            self._end()
        if self._since is None:
            self._since = look.night.time
        self._streak.append(look.nearest_effect)
        if len(self._streak) > 1:
            self._established = look.side

    def lingers(self, look: Look) -> None:
        """An established change is below the threshold, and not yet back."""
        self._below = 0 if look.side == self._established else self._below + 1

    def _stands(self, effect: float, limits: Limits) -> int:
        """Whether an established change stands with tonight's effect; see the module."""
        size = effect * self._established
        if size > limits.threshold or (size > limits.threshold / 2 and not self._below):
            return self._established
        return 0

    def _end(self) -> None:
        if not self._established:
            self._deviations.extend(self._streak)
        self._forget_streak()

    def _forget_streak(self) -> None:
        self._streak = []
        self._since = None
        self._established = self._below = 0

    def _level(self, run: Run) -> float | None:
        if run.fitness != "number" or run.value is None:
            return None
        return self._sign * math.log(run.value.value)


def spread_noise(deviations: Sequence[float]) -> float:
    """The threshold that deviations ask for, whatever a minimum effect is; see the module."""
    return _threshold(min(_spreads(deviations)), len(deviations))


def _threshold(spread: float, known: int) -> float:
    return _MULTIPLE * spread * (1 + _SMALL / known)


def _spreads(deviations: Collection[float]) -> list[float]:
    ordered = sorted(map(abs, deviations))
    return [min(_LARGEST / 10, _quantile(ordered, share) / of_normal) for share, of_normal in _QUANTILES]


def _quantile(ordered: list[float], share: float) -> float:
    """Linear interpolation between the two nearest order statistics."""
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)
