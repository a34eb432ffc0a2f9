"""Where the level of a series changed in its history. For looking back; the gate is `reports.gate`.

PELT (Killick, Fearnhead, Eckley 2012, with ruptures) on logarithms of the nights' values, squared error, penalty
    P = (m / 2) x^2, m = `SEGMENT`: a step of size x between two segments of m nights just pays for itself.
x = max(log(1 + minimum effect), z d), with d how far means over m nights differ from means over the m nights before, on
    this series. They hold noise, its correlation and slow drift in the proportions of the series; the usual penalty,
    2 sigma^2 log n, supposes white noise and finds steps in every correlated series.
Twice: first with d the median of these differences over 0.6745 (steps touch fewer than half of the nights) and z = 3;
    then, with all differences left out that touch a point found so, with their 80% quantile over 1.2816 and z = 4.
A point is kept if the m nights from it on differ from the m before it by x: steps are abrupt, and longer segments of a
    drifting series differ without one.
Single nights are no steps: values further than three scaled MADs from the running median of m nights are drawn in.

A change of the last m - 1 nights is seen only once the last m nights differ by x for it, and would be dated on the
first of them. So the last point is dated anew: on the night, at least `LAST` from the end, that the same squared error
prefers. Series with fewer than 3 m nights have no change points. A series that stays for days in one of two modes
changes its level, and that is told.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from reports.nights import Series

if TYPE_CHECKING:
    import numpy as np

SEGMENT: Final = 7
"""Nights of the shortest level: a week, so that no weekday is one."""
LAST: Final = 3
"""Nights after the last change that its date needs; whether there is one takes `SEGMENT`."""
_FIRST, _SECOND = (0.5, 0.6745, 3.0), (0.8, 1.2816, 4.0)
"""Quantile of the absolute differences, the same of a standard normal one, and z."""
_CLIP = 3.0
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangePoint:
    """A change of level.

    Attributes:
        time: First night of the new level, seconds since 1970.
        before: Median from the change before, or the beginning, to this one, in the quantity's unit.
        after: Median from this one to the next, or the end.
        effect: Relative change, after / before - 1.
        worse: Whether the change is to the worse side.
    """

    time: float
    before: float
    after: float
    effect: float
    worse: bool


def change_points(series: Series, *, at: float = math.inf) -> tuple[ChangePoint, ...]:
    """Changes of level in order of time; of nights without a usable number nothing is made.

    Args:
        series: With its nights, in any order.
        at: Nights after this time are left out.
    """
    import numpy as np

    nights = [
        (night.time, night.first.value.value)
        for night in series.until(at)
        if night.first.fitness == "number" and night.first.value is not None
    ]
    if len(nights) < 3 * SEGMENT:
        return ()
    levels = np.log(np.asarray([value for _, value in nights]))
    drawn = _drawn_in(levels)
    places = _dated(drawn, _places(drawn, math.log1p(series.minimum_effect)))
    ends = [0, *places, len(nights)]
    medians = [math.exp(float(np.median(levels[a:b]))) for a, b in pairwise(ends)]
    return tuple(
        ChangePoint(
            time=nights[place][0], before=before, after=after, effect=after / before - 1,
            worse=(after > before) == (series.direction == "min"),
        )
        for place, (before, after) in zip(places, pairwise(medians), strict=True)
    )  # fmt: skip


def _places(drawn: np.ndarray, floor: float) -> list[int]:
    """Indices at which a new level begins."""
    import numpy as np
    from numpy.lib.stride_tricks import sliding_window_view

    means = sliding_window_view(drawn, SEGMENT).mean(axis=1)
    jumps = np.abs(means[SEGMENT:] - means[:-SEGMENT])  # of the night at index SEGMENT first
    found = _segments(drawn, jumps, max(floor, _usual(jumps, *_FIRST)))
    away = np.ones(len(jumps), dtype=bool)
    for place in found:  # whose step is in the differences of the nights that are less than a segment away
        away[max(0, place - 2 * SEGMENT + 1) : place] = False
    if np.count_nonzero(away) < 2 * SEGMENT:
        return found
    return _segments(drawn, jumps, max(floor, _usual(jumps[away], *_SECOND)))


def _usual(jumps: np.ndarray, share: float, of_normal: float, z: float) -> float:
    import numpy as np

    return z * float(np.quantile(jumps, share)) / of_normal


def _segments(drawn: np.ndarray, jumps: np.ndarray, step: float) -> list[int]:
    """Where levels begin that differ from the one before by a step at least."""
    from ruptures import KernelCPD

    # The linear kernel's cost is the squared error, and with a penalty ruptures prunes as PELT does, in C.
    search = KernelCPD(kernel="linear", min_size=SEGMENT).fit(drawn.reshape(-1, 1))
    found = search.predict(pen=SEGMENT / 2 * step**2)[:-1]
    return [int(place) for place in found if jumps[place - SEGMENT] >= step]


def _dated(drawn: np.ndarray, places: list[int]) -> list[int]:
    """The same points, the last one where the nights after it begin to differ. All others are there already."""
    if not places:
        return places
    *before, last = places
    begin, reach = before[-1] if before else 0, SEGMENT - LAST
    options = range(max(begin + SEGMENT, last - reach), min(len(drawn) - LAST, last + reach) + 1)
    errors = {at: _squared_error(drawn[begin:at]) + _squared_error(drawn[at:]) for at in options}
    best = min(options, key=lambda at: (errors[at], abs(at - last)))
    return [*before, best if errors[best] < errors[last] * (1 - _ROUNDING) else last]


def _squared_error(levels: np.ndarray) -> float:
    return float(((levels - levels.mean()) ** 2).sum())


def _drawn_in(levels: np.ndarray) -> np.ndarray:
    """Levels with single outliers moved to the edge of what is usual around them."""
    import numpy as np
    from numpy.lib.stride_tricks import sliding_window_view

    around = sliding_window_view(np.pad(levels, SEGMENT // 2, mode="reflect"), SEGMENT)
    middle = np.median(around, axis=1)
    reach = _CLIP * 1.4826 * float(np.median(np.abs(levels - middle)))
    drawn: np.ndarray = np.clip(levels, middle - reach, middle + reach)
    return drawn
