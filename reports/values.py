"""Places, where something was measured, and what the numbers of several of them come to."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reports.budgets import number
from reports.objectives import Quantity

Row = Mapping[str, Any]
Place = tuple[Any, ...]
ACROSS = ("worst", "geomean")
_PLACE = ("device", "workload", "prompt", "chunk", "decode", "batch")


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """A number with its interval; an exact one has low = value = high."""

    value: float
    low: float
    high: float


def place_of(row: Row) -> Place:
    """Where a row was measured: device, workload and sizes."""
    return tuple(row.get(field) for field in _PLACE)


def place_text(place: Place) -> str:
    """For messages."""
    return " ".join(str(part) for part in place if part is not None)


def sortable(place: Place) -> tuple[tuple[bool, float, str], ...]:
    """None first; numbers by size; text by letters."""
    return tuple((part is not None, float(part) if isinstance(part, int | float) else 0.0, str(part)) for part in place)


def value_of(row: Row, name: str) -> Value | None:
    """A number of a row with its interval, widened by how far its device moved meanwhile (``{name}_spread``)."""
    value = number(row.get(name))
    if value is None:
        return None
    low, high = number(row.get(f"{name}_low")), number(row.get(f"{name}_high"))
    if low is not None and high is None:
        high = math.inf  # an interval without an upper end
    spread = number(row.get(f"{name}_spread")) or 0.0
    return Value(
        value=value,
        low=(value if low is None else min(low, value)) / (1 + spread),
        high=(value if high is None else max(high, value)) * (1 + spread),
    )


def combined(objective: Quantity, rows: Sequence[Row], base: Mapping[Place, Row], across: str) -> Value | None:
    """The objective of a candidate: its own value, or the ratios to the reference in each place, combined.

    Without a reference it is the worst of its own values. A quantity counts in the places where the reference has it
    (peak memory is taken at a workload's largest point only). There is no value when the reference has no row at all in
    one of the places: how good the candidate is there cannot be said, and it may be the worst.
    """
    worst: Callable[[Iterable[float]], float] = max if objective.direction == "min" else min
    if not base or objective.per_layout:
        own = [found for row in rows if (found := value_of(row, objective.name)) is not None]
        extreme = worst(found.value for found in own) if own else None
        return next((found for found in own if found.value == extreme), None)
    ratios = []
    for row in rows:
        if place_of(row) not in base:
            return None
        reference = number(base[place_of(row)].get(objective.name))
        if reference is None:
            continue
        found = value_of(row, objective.name)
        if found is None or not reference:  # nothing is a multiple of zero
            return None
        ratios.append(Value(value=found.value / reference, low=found.low / reference, high=found.high / reference))
    if not ratios:
        return None
    combine = _geomean if across == "geomean" else worst
    return Value(
        value=combine(r.value for r in ratios), low=combine(r.low for r in ratios), high=combine(r.high for r in ratios)
    )


def _geomean(values: Iterable[float]) -> float:
    found = list(values)
    return math.exp(sum(math.log(max(value, 1e-300)) for value in found) / len(found))
