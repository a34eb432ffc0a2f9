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

__all__ = [
    "MAX_OBJECTIVES",
    "REFERENCE",
    "REFERENCE_NAME",
    "Budget",
    "Membership",
    "contributions",
    "hypervolume",
    "membership",
    "normalised",
    "parse_budget",
    "parse_budgets",
    "tiers",
]

Membership = Literal["on", "uncertain", "dominated"]

MAX_OBJECTIVES = 5
"""With more, nearly every candidate is on the front, and the exact hypervolume takes minutes."""

REFERENCE = 1.1
"""The reference point of the hypervolume in every objective, after the worst ranked value became 1 and the best 0."""

REFERENCE_NAME = "worst ranked value of each objective plus 10% of its range"


def membership(
    values: Costs, lows: Costs, highs: Costs, resolutions: Sequence[float] | None = None
) -> list[Membership]:
    """Each row's kind of membership in the front; see the module's text.

    Args:
        values: Point estimates, n x m.
        lows: Optimistic ends, n x m.
        highs: Pessimistic ends, n x m.
        resolutions: Relative, one per objective; none by default.
    """
    import numpy as np

    dominated = np.any(_dominates(values, values, resolutions), axis=0)
    certainly = np.any(_dominates(highs, lows, resolutions), axis=0)
    return [
        "dominated" if sure else "uncertain" if beaten else "on"
        for beaten, sure in zip(dominated, certainly, strict=True)
    ]


def tiers(values: Costs, resolutions: Sequence[float] | None = None) -> list[int]:
    """The tier of each row by point estimates, from 1 (non-dominated sorting).

    With resolutions in three or more objectives rows can beat each other in a ring; such rows share a tier.
    """
    import numpy as np

    beats = _dominates(values, values, resolutions)
    left = beats.sum(axis=0)  # how many rows that are still without a tier dominate each row
    found = np.zeros(len(values), dtype=int)
    tier = 0
    while not found.all():
        tier += 1
        rest = found == 0
        front = rest & (left == left[rest].min())
        found[front] = tier
        left = left - beats[front].sum(axis=0)
    return [int(number) for number in found]


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


def _dominates(attack: Costs, defence: Costs, resolutions: Sequence[float] | None = None) -> npt.NDArray[np.bool_]:
    """Whether row i of `attack` is nowhere worse and somewhere better than row j of `defence`, n x n.

    A row never beats itself: `attack` is nowhere below `defence` in the same row.
    """
    import numpy as np

    nowhere_worse = np.ones((len(attack), len(defence)), dtype=bool)
    somewhere_better = np.zeros_like(nowhere_worse)
    for mine, theirs, resolution in zip(attack.T, defence.T, resolutions or [0.0] * attack.shape[1], strict=True):
        larger = np.maximum(np.abs(mine)[:, None], np.abs(theirs)[None, :])
        slack = resolution * np.where(np.isfinite(larger), larger, 0.0)  # an interval may have no end
        nowhere_worse &= mine[:, None] <= theirs[None, :] + slack
        somewhere_better |= mine[:, None] < theirs[None, :] - slack
    beats: npt.NDArray[np.bool_] = nowhere_worse & somewhere_better
    return beats
