"""Budgets: limits such as ``peak_rss_mib<=1024`` that a layout must meet.

Whether a budget is met is decided by the point estimate. The violation is the relative distance to the limit, so that
those of different quantities can be compared: 0.07 is 7% beyond the limit, a negative number is room that is left.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from reports.errors import BudgetError
from reports.objectives import Quantity, quantities, quantity, unknown

Operator = Literal["<=", "<", ">=", ">"]

_BUDGET = re.compile(
    r"\s*(?P<name>[A-Za-z_][A-Za-z0-9_]*)\s*(?P<operator><=|>=|<|>|≤|≥)\s*"
    r"(?P<number>[+-]?(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(?P<unit>[^\s\d].*?)?\s*"
)
_OPERATORS: Mapping[str, Operator] = {"<=": "<=", "<": "<", ">=": ">=", ">": ">", "≤": "<=", "≥": ">="}
_TIME = {"ns": 1e-6, "us": 1e-3, "µs": 1e-3, "μs": 1e-3, "ms": 1.0, "s": 1e3, "min": 6e4}
_MEMORY = {
    "B": 2.0**-20, "KiB": 2.0**-10, "MiB": 1.0, "GiB": 1024.0, "TiB": 2.0**20,
    "kB": 1e3 / 2**20, "KB": 1e3 / 2**20, "MB": 1e6 / 2**20, "GB": 1e9 / 2**20,
}  # fmt: skip
_UNITS: Mapping[str, Mapping[str, float]] = {
    "ms": _TIME,
    "MiB": _MEMORY,
    "tokens/s": {"tokens/s": 1.0, "tok/s": 1.0, "t/s": 1.0},
}
_COUNTS: Mapping[str, float] = {"K": 1e3, "k": 1e3, "M": 1e6, "B": 1e9, "G": 1e9}


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """A limit on one quantity.

    Attributes:
        objective: Name of the quantity.
        operator: ``<=``, ``<``, ``>=`` or ``>``.
        limit: In the quantity's own unit.
    """

    objective: str
    operator: Operator
    limit: float

    def __str__(self) -> str:
        """As `parse_budget` reads it."""
        limit = int(self.limit) if self.limit.is_integer() and abs(self.limit) < 1e15 else self.limit
        return f"{self.objective}{self.operator}{limit}"

    def excess(self, value: float) -> float:
        """How far `value` lies beyond the limit, relative to the limit; at most 0 when the budget is met."""
        beyond = value - self.limit if self.operator in ("<=", "<") else self.limit - value
        if beyond == 0:
            return 5e-324 if self.operator in ("<", ">") else 0.0
        return beyond / abs(self.limit) if self.limit else beyond

    def violation(self, row: Mapping[str, Any]) -> float | None:
        """`excess` of the row's value, or None when the row has no such value."""
        value = number(row.get(self.objective))
        return None if value is None else self.excess(value)


def parse_budget(text: str) -> Budget:
    """Read ``peak_rss_mib<=1024``, ``ttft_ms<0.5s``, ``total_params<=350M`` or ``embedding_share<=20%``.

    Raises:
        BudgetError: It is not NAME OPERATOR NUMBER [UNIT], or the unit does not belong to the quantity.
        UnknownNameError: No quantity has that name.
    """
    found = _BUDGET.fullmatch(text)
    if found is None:
        raise BudgetError(
            f"the budget {text!r} cannot be read; it must be NAME<=NUMBER, with one of <=, <, >=, >",
            hint="Quote it for the shell: --budget 'peak_rss_mib<=1024'.",
        )
    name = found["name"]
    if name not in quantities():
        raise unknown("objective", name, quantities())
    limit = float(found["number"]) * _factor(quantity(name), found["unit"] or "", text)
    if quantity(name).kind == "share" and limit > 1:
        hint = f"Write {name}{_OPERATORS[found['operator']]}{limit:g}% or {limit / 100:g}."
        raise BudgetError(f"the budget {text!r} is a share above 100%", hint=hint)
    if not math.isfinite(limit) or limit < 0:
        raise BudgetError(f"the budget {text!r} has the limit {limit:g}; it must be a finite number, 0 or more")
    return Budget(objective=name, operator=_OPERATORS[found["operator"]], limit=limit)


def parse_budgets(texts: Sequence[str]) -> tuple[Budget, ...]:
    """Read several budgets; see `parse_budget`.

    Raises:
        BudgetError: One cannot be read, or two contradict each other.
        UnknownNameError: No quantity has that name.
    """
    budgets = tuple(parse_budget(text) for text in texts)
    for upper in budgets:
        for lower in budgets:
            if upper.objective != lower.objective or upper.operator not in ("<=", "<") or lower.operator in ("<=", "<"):
                continue
            strict = "<" in (upper.operator,) or ">" in (lower.operator,)
            if lower.limit > upper.limit or (strict and lower.limit == upper.limit):
                raise BudgetError(f"the budgets {upper} and {lower} contradict each other: no layout can meet both")
    return budgets


def number(value: object) -> float | None:
    """A finite number as float; None for everything else (None, NaN, text, bool)."""
    if value is None or isinstance(value, bool | str | bytes):
        return None
    try:
        result = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    return result if math.isfinite(result) else None


def _factor(known: Quantity, unit: str, text: str) -> float:
    if not unit or unit == known.unit:
        return 1.0
    allowed: Mapping[str, float] = _UNITS.get(known.unit, {})
    if known.kind == "count":
        allowed = _COUNTS
    elif known.kind == "share":
        allowed = {"%": 0.01}
    if unit in allowed:
        return allowed[unit]
    names = ", ".join(allowed) if allowed else "none"
    raise BudgetError(f"the budget {text!r} has the unit {unit!r}; for {known.name} it may be {names}")
