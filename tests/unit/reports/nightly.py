"""Series of nights for tests, in a few words."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from reports.nights import Night, Run, Series
from reports.values import Value
from reports.verdicts import Verdict, judge

DAY = 86_400.0
QUIET = [10.0, 10.1, 9.9, 10.05, 9.95] * 4
"""Twenty nights that scatter by 1%."""


def run(value: float | None, *, half: float = 0.01, status: str = "ok", reason: str = "") -> Run:
    found = None if value is None else Value(value=value, low=value * (1 - half), high=value * (1 + half))
    return Run(value=found, status=status, reason=reason)


def night(index: float, value: float | None, fresh: float | Sequence[float] | None = None, **options: Any) -> Night:
    """The night of that number; `fresh` is what both fresh runs say, or what each of them says."""
    environment = options.pop("environment", {})
    both = () if fresh is None else (fresh, fresh) if isinstance(fresh, float) else fresh
    fresh_runs = tuple(run(each) for each in both)
    return Night(time=index * DAY, first=run(value, **options), confirmations=fresh_runs, environment=environment)


def nights(values: Iterable[float | None], first: int = 0) -> tuple[Night, ...]:
    """One after the other; each has fresh runs that say the same."""
    return tuple(night(first + index, value, value) for index, value in enumerate(values))


def series(*given: Night, key: str = "s", **options: Any) -> Series:
    defaults = {"device": "board", "label": key, "quantity": "decode_ms", "direction": "min"}
    return Series(key=key, nights=given, **defaults | options)


def tonight(*values: float | None, **options: Any) -> Verdict:
    """After twenty quiet nights, each of these with fresh runs that say the same."""
    (verdict,) = judge([series(*nights([*QUIET, *values]), **options)])
    return verdict


def close(a: float | None, b: float | None) -> bool:
    return a is b or (a is not None and b is not None and math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-12))
