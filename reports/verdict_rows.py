"""A verdict as a flat mapping with stable names and raw values: for JSON, CSV, tables and reports; and which is worst.

Times are there twice: as text in local time (``night``, ``since``) and as seconds since 1970 (``night_unix``,
``since_unix``).
``value`` is the night's number, the geometric mean of its ``first`` run and of the fresh ones, where some were taken;
``fresh`` is the first of these, ``fresh2`` the second.
Changes and thresholds are relative: 0.05 is 5% more. A number that none is (NaN, infinite) is None, as JSON needs it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any, Final

from reports.budgets import number
from reports.formatting import moment
from reports.nights import Night, Run, Series, number_of
from reports.objectives import quantities
from reports.values import Value
from reports.verdict import Kind, Level, Verdict

KINDS: Final = (
    Kind.INVALID, Kind.SLOWER, Kind.NO_DATA, Kind.DEVICE_WIDE, Kind.AMBIGUOUS, Kind.FASTER, Kind.SAME,
)  # fmt: skip
"""Kinds, the worst first."""
LEVELS: Final = (Level.FAIL, Level.WARN, Level.FINE)
"""Levels, the worst first."""


def verdict_row(verdict: Verdict) -> dict[str, Any]:
    """Everything of a verdict that a program may want, by stable names."""
    series, night, accepted = verdict.series, night_of(verdict), verdict.accepted
    fresh = (*(() if night is None else night.confirmations), None, None)
    return {
        "series": series_id(series),
        "key": series.key,
        "device": series.device,
        "what": series.item or series.label,
        "workload": series.workload,
        "precision": series.precision,
        "label": series.label,
        "quantity": series.quantity,
        "unit": unit_of(series),
        "direction": series.direction,
        "anchor": series.anchor,
        "night": moment(verdict.time),
        "night_unix": verdict.time,
        "kind": str(verdict.kind),
        "level": str(verdict.level),
        "why": verdict.why,
        **_value("value", None if night is None else number_of(night)),
        **_run("first", None if night is None else night.first),
        "status": None if night is None else night.first.status,
        "reason": None if night is None else night.first.reason,
        **_run("fresh", fresh[0]),
        **_run("fresh2", fresh[1]),
        **_value("change", verdict.effect),
        "threshold": _finite(verdict.threshold),
        "detectable": _finite(verdict.detectable),
        "baseline": _finite(verdict.baseline),
        "good_nights": verdict.good_nights,
        "since": None if verdict.since is None else moment(verdict.since),
        "since_unix": verdict.since,
        "nights_in_row": verdict.nights_in_row,
        "established": verdict.established,
        "alarm": verdict.alarm,
        "wants_confirmation": verdict.wants_confirmation,
        "accepted_by": None if accepted is None else accepted.by,
        "accepted_reason": None if accepted is None else accepted.reason,
        "accepted_unix": None if accepted is None else accepted.time,
        "pinned": None if accepted is None else accepted.pinned,
    }


def worst_first(verdicts: Iterable[Verdict]) -> list[Verdict]:
    """By level, kind and size of the change; what is left is ordered by names, so that the order is always the same."""

    def place(verdict: Verdict) -> tuple[Any, ...]:
        change = 0.0 if verdict.effect is None else number(verdict.effect.value) or 0.0
        one = verdict.series
        names = (one.device, one.label, one.quantity, one.key)
        return LEVELS.index(verdict.level), KINDS.index(verdict.kind), -abs(change), *names

    return sorted(verdicts, key=place)


def night_of(verdict: Verdict) -> Night | None:
    """What was measured on the night of a verdict; None where nothing was."""
    return next((night for night in reversed(verdict.series.nights) if night.time == verdict.time), None)


def series_id(series: Series) -> str:
    """A short name that tells series apart, for command lines and test reports: 10 hex digits."""
    return hashlib.sha256(series.key.encode("utf-8", "surrogatepass")).hexdigest()[:10]


def unit_of(series: Series) -> str:
    """Unit of the quantity; empty where there is none, or nobody knows the quantity."""
    known = quantities().get(series.quantity)
    return "" if known is None else known.unit


def _run(name: str, run: Run | None) -> dict[str, float | None]:
    return _value(name, None if run is None else run.value)


def _value(name: str, value: Value | None) -> dict[str, float | None]:
    return {
        name: None if value is None else _finite(value.value),
        f"{name}_low": None if value is None else _finite(value.low),
        f"{name}_high": None if value is None else _finite(value.high),
    }


def _finite(value: float | None) -> float | None:
    return number(value)
