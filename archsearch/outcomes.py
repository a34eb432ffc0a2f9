"""What a candidate's rows say to the sampler: objective values, and how far budgets are exceeded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from reports.budgets import Budget
from reports.objectives import quantity
from reports.values import ACROSS, Place, combined, place_of


def latest_rows(mine: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Of rows in order of time, those that a ranking takes: the last ok one of each place, or else the last.

    A measurement made again replaces the first.
    """
    latest: dict[Place, Mapping[str, Any]] = {}
    for row in mine:
        before = latest.get(place_of(row))
        if before is None or row["status"] == "ok" or before["status"] != "ok":
            latest[place_of(row)] = row
    return list(latest.values())


def study_values(
    mine: Sequence[Mapping[str, Any]],
    objectives: Sequence[str],
    pools: Iterable[str],
    *,
    across: str = "worst",
    reference: Sequence[Mapping[str, Any]] = (),
) -> list[float] | None:
    """Objective values of one layout for the sampler, as a ranking would have them; None when it would not rank it.

    That is when a value is missing, or when there are several places and the reference has no numbers in one of them:
    milliseconds of different places are not told beside each other, nor beside ratios. In one place the ratios are told
    too, where there is a reference: of several devices only one may be left.

    Args:
        mine: The latest rows of the layout, one per place.
        objectives: Names.
        pools: Devices and groups that must have answered.
        across: ``worst`` or ``geomean`` of the ratios to the reference, or one of the pools, which alone counts then.
        reference: Rows of the anchor that values are relative to.
    """
    needed = [across] if across not in ACROSS else list(pools)
    counted = [row for row in mine if row["device"] in needed]
    if not counted or any(not any(row["device"] == pool for row in counted) for pool in needed):
        return None
    if any(row["status"] != "ok" for row in counted):
        return None
    known = [quantity(name) for name in objectives]
    base = {place_of(row): row for row in reference if row["status"] == "ok"}
    places = {place_of(row) for row in counted}
    if not places <= base.keys():
        if len(places) > 1 and not all(objective.per_layout for objective in known):
            return None
        base = {}
    values = []
    for objective in known:
        found = combined(objective, counted, base, across)
        if found is None:
            return None
        values.append(found.value)
    return values


def violation_of(budget: Budget, mine: Iterable[Mapping[str, Any]]) -> float:
    """The worst violation of a budget over a layout's rows; at most 0 when it is met."""
    found = [violation for row in mine if (violation := budget.violation(row)) is not None]
    return max(found, default=1.0)
