"""What a candidate's rows say to the sampler: objective values, and how far budgets are exceeded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from archsearch.objectives import objectives as all_objectives
from reports.budgets import Budget


def latest_rows(mine: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Of rows in order of time, the last one of each device and point: a measurement made again replaces the first."""
    latest = {(row["device"], row["workload"], row["prompt"], row["decode"], row["batch"]): row for row in mine}
    return list(latest.values())


def study_values(
    mine: Sequence[Mapping[str, Any]], objectives: Sequence[str], devices: Iterable[str]
) -> list[float] | None:
    """Objective values of one layout for the sampler: the worst over points and devices; None when any is missing."""
    if not mine or any(not any(row["device"] == device for row in mine) for device in devices):
        return None
    if any(row["status"] != "ok" for row in mine):
        return None
    values = []
    for name in objectives:
        found = [row[name] for row in mine if row.get(name) is not None]
        if not found:
            return None
        values.append(float(max(found) if all_objectives()[name].direction == "min" else min(found)))
    return values


def violation_of(budget: Budget, mine: Iterable[Mapping[str, Any]]) -> float:
    """The worst violation of a budget over a layout's rows; at most 0 when it is met."""
    found = [violation for row in mine if (violation := budget.violation(row)) is not None]
    return max(found, default=1.0)
