"""Pareto fronts of measured values: who dominates whom, given intervals; tiers; hypervolume contributions.

Everything here works on costs: lower is better in each of m objectives, one row per candidate. A cost has a point
estimate and an interval low <= value <= high; an exact one (a parameter count) has low = value = high.

- A *dominates* B when A's point estimates are nowhere worse than B's and somewhere better.
- A *certainly dominates* B when even A's pessimistic ends (high) are nowhere worse than B's optimistic ends (low), and
  somewhere better. Two overlapping intervals in one objective are enough to make it uncertain.
- `on`: no row dominates it. `dominated`: some row certainly dominates it. `uncertain`: some row dominates it, none
  certainly. Certain domination implies domination, so the three exclude each other.
- Tier 1 is the rows that are `on`; tier k the rows that would be, were the tiers before it taken away.
- An objective may have a resolution: smaller differences are none. With resolution r, "worse" and "better" both mean by
  more than r. So a candidate that is beaten in everything measured is not saved by 0.3% more parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from reports.budgets import Budget, parse_budget, parse_budgets
from reports.errors import RankingError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Costs = npt.NDArray[np.float64]
    Relation = npt.NDArray[np.bool_]

__all__ = [
    "MAX_OBJECTIVES",
    "REFERENCE",
    "REFERENCE_NAME",
    "Budget",
    "Membership",
    "contributions",
    "dominates",
    "hypervolume",
    "membership",
    "membership_of",
    "normalised",
    "parse_budget",
    "parse_budgets",
    "tiers",
    "tiers_until",
]

Membership = Literal["on", "uncertain", "dominated"]

MAX_OBJECTIVES = 5
"""With more, nearly every candidate is on the front, and the exact hypervolume takes minutes."""

REFERENCE = 1.1
"""The reference point of the hypervolume in every objective, after the worst ranked value became 1 and the best 0."""

_ROWS = 256
"""Rows that are compared with all others at once: what stays in a cache."""

REFERENCE_NAME = "worst ranked value of each objective plus 10% of its range"


def membership(
    values: Costs,
    lows: Costs,
    highs: Costs,
    resolutions: Sequence[float] | None = None,
    beats: Relation | None = None,
) -> list[Membership]:
    """Each row's kind of membership in the front; see the module's text.

    Args:
        values: Point estimates, n x m.
        lows: Optimistic ends, n x m.
        highs: Pessimistic ends, n x m.
        resolutions: Relative, one per objective; none by default.
        beats: What `dominates` says of `values` and themselves, where that is known.
    """
    import numpy as np

    beaten = np.logical_or.reduce(dominates(values, values, resolutions) if beats is None else beats, axis=0)
    # Whoever is certainly dominated is so by a row of the front nearly always: the rest of the rows is asked for few.
    doubtful = np.flatnonzero(beaten)
    for attackers in (~beaten, beaten):
        sure = dominates(highs[attackers], lows[doubtful], resolutions).any(axis=0)
        doubtful = doubtful[~sure]
    uncertain = set(doubtful.tolist())
    return [
        "on" if not lost else "uncertain" if at in uncertain else "dominated" for at, lost in enumerate(beaten.tolist())
    ]


def membership_of(
    row: int, values: Costs, lows: Costs, highs: Costs, resolutions: Sequence[float] | None = None
) -> Membership:
    """One row's kind of membership in the front of all; see `membership`."""
    here = slice(row, row + 1)
    if not dominates(values, values[here], resolutions).any():
        return "on"
    return "dominated" if dominates(highs, lows[here], resolutions).any() else "uncertain"


def tiers(values: Costs, resolutions: Sequence[float] | None = None, beats: Relation | None = None) -> list[int]:
    """The tier of each row by point estimates, from 1 (non-dominated sorting).

    With resolutions in three or more objectives rows can beat each other in a ring; such rows share a tier.

    Args:
        values: Point estimates, n x m.
        resolutions: Relative, one per objective; none by default.
        beats: What `dominates` says of `values` and themselves, where that is known.
    """
    found = _peel(dominates(values, values, resolutions) if beats is None else beats, range(len(values)))
    return [int(number) for number in found]


def tiers_until(beats: Relation, members: Sequence[int]) -> npt.NDArray[np.int_]:
    """The tiers of some rows among themselves, up to that of the last of them; 0 for rows beyond it, and for others.

    Args:
        beats: What `dominates` says of all rows.
        members: Those among which tiers are made.
    """
    return _peel(beats, members, last=members[-1])


def _peel(beats: Relation, members: Sequence[int], last: int | None = None) -> npt.NDArray[np.int_]:
    import numpy as np

    rest = np.zeros(len(beats), dtype=bool)
    rest[members] = True
    left = _dominators(beats, members)  # how many rows that are still without a tier dominate each row
    found = np.zeros(len(beats), dtype=int)
    tier = 0
    while rest.any() and (last is None or rest[last]):
        tier += 1
        front = rest & (left == left[rest].min())
        found[front] = tier
        rest &= ~front
        left -= _dominators(beats, np.flatnonzero(front))
    return found


def _dominators(beats: Relation, rows: Sequence[int] | npt.NDArray[np.int_]) -> npt.NDArray[np.int_]:
    """How many of these rows dominate each row. Counted in single bytes, 255 rows at a time."""
    import numpy as np

    found = np.zeros(len(beats), dtype=int)
    for first in range(0, len(rows), 255):
        found += beats[rows[first : first + 255]].view(np.uint8).sum(axis=0, dtype=np.uint8)
    return found


def normalised(values: Costs) -> Costs:
    """Costs scaled to 0 (best of all rows) .. 1 (worst); an objective in which all rows are equal becomes 0."""
    import numpy as np

    if not len(values):
        return values
    best, worst = values.min(axis=0), values.max(axis=0)
    span = np.where(worst > best, worst - best, 1.0)
    return np.asarray((values - best) / span, dtype=float)


def contributions(costs: Costs, tier: Sequence[int]) -> list[float]:
    """Hypervolume that each row adds to the other rows of its tier.

    Args:
        costs: What `normalised` returns, n x m; the reference point is `REFERENCE` in every objective.
        tier: What `tiers` returns.

    Raises:
        RankingError: There are more than `MAX_OBJECTIVES` objectives.
    """
    import numpy as np

    found = np.zeros(len(costs))
    for number in set(tier):
        members = np.flatnonzero(np.asarray(tier) == number)
        found[members] = _tier_contributions(costs[members])
    return [float(value) for value in found]


def hypervolume(costs: Costs) -> float:
    """Share of the box from the best values to the reference point that rows dominate together, 0 to 1.

    Args:
        costs: What `normalised` returns, n x m.

    Raises:
        RankingError: There are more than `MAX_OBJECTIVES` objectives.
    """
    import numpy as np

    objectives = costs.shape[1]
    if objectives > MAX_OBJECTIVES:
        raise _too_many(objectives)
    if not len(costs):
        return 0.0
    if objectives == 1:
        return (REFERENCE - float(costs.min())) / REFERENCE
    import moocore

    points: Any = np.ascontiguousarray(costs)
    covered = float(moocore.hypervolume(points, ref=np.full(objectives, REFERENCE)))
    return covered / float(REFERENCE**objectives)


def _too_many(objectives: int) -> RankingError:
    return RankingError(
        f"{objectives} objectives cannot be ranked together, at most {MAX_OBJECTIVES} can",
        hint="Make some of them budgets.",
    )


def _tier_contributions(costs: Costs) -> Costs:
    """Of rows that do not dominate each other. Equal rows contribute nothing, nor do those of a single objective."""
    import numpy as np

    objectives = costs.shape[1]
    if objectives > MAX_OBJECTIVES:
        raise _too_many(objectives)
    if objectives == 1:
        return np.zeros(len(costs))
    if len(costs) == 1:
        return np.asarray([np.prod(REFERENCE - costs[0])])
    import moocore

    points: Any = np.ascontiguousarray(costs)
    return np.asarray(moocore.hv_contributions(points, ref=np.full(objectives, REFERENCE)), dtype=float)


def dominates(attack: Costs, defence: Costs, resolutions: Sequence[float] | None = None) -> Relation:
    """Whether row i of `attack` is nowhere worse and somewhere better than row j of `defence`.

    A row never beats itself: `attack` is nowhere below `defence` in the same row.

    Args:
        attack: Costs, n x m.
        defence: Costs, k x m.
        resolutions: Relative, one per objective, each from 0 up to but not including 1: cost a is worse than cost b by
            more than the resolution r when a > b + r max(|a|, |b|). Beside an end that is infinite nothing is small.

    Returns:
        n x k.
    """
    import numpy as np

    scales = [1.0 - resolution for resolution in resolutions or [0.0] * attack.shape[1]]
    columns = list(zip(attack.T, defence.T, scales, strict=True))
    not_worse = [_places(_pulled_down(mine, by), _lifted(theirs, by), "right") for mine, theirs, by in columns]
    better = [_places(_lifted(mine, by), _pulled_down(theirs, by), "left") for mine, theirs, by in columns]
    beats = np.empty((len(attack), len(defence)), dtype=bool)
    for first in range(0, len(attack), _ROWS):
        rows = slice(first, first + _ROWS)
        nowhere_worse, somewhere_better = (
            fold([mine[rows, None] < theirs[None, :] for mine, theirs in places])
            for fold, places in ((np.logical_and.reduce, not_worse), (np.logical_or.reduce, better))
        )
        np.logical_and(nowhere_worse, somewhere_better, out=beats[rows])
    return beats


def _pulled_down(values: npt.NDArray[np.float64], scale: float) -> npt.NDArray[np.float64]:
    """Makes one number of each cost for comparing with a resolution r, which is 1 - `scale`.

    a <= b + r max(|a|, |b|) is pulled(a) <= lifted(b), and a < b - r max(|a|, |b|), the opposite with a and b
    exchanged, is lifted(a) < pulled(b). Of two numbers above 0 the larger one is a, or the condition holds anyway; of
    two below 0 it is b. Numbers of two signs differ by more than their larger, whatever r below 1.
    """
    import numpy as np

    return np.where(values > 0, values * scale, values)


def _lifted(values: npt.NDArray[np.float64], scale: float) -> npt.NDArray[np.float64]:
    """See `_pulled_down`."""
    import numpy as np

    return np.where(values < 0, values * scale, values)


def _places(
    mine: npt.NDArray[np.float64], theirs: npt.NDArray[np.float64], side: Literal["left", "right"]
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Whole numbers for `mine` and for `theirs` that compare by < as the values do by <= (`right`) or < (`left`).

    Two bytes where eight would be: comparing thousands with thousands is moving memory.
    """
    import numpy as np

    ordered = np.sort(mine)
    small = np.uint16 if len(mine) < 2**16 else np.uint32
    return np.searchsorted(ordered, mine).astype(small), np.searchsorted(ordered, theirs, side).astype(small)
