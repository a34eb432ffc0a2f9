"""What verdicts say in cells and hover labels: values with units, changes, wrapped sentences; none of it safe yet."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Final

from reports.formatting import change_text, clean, moment, plain_number, quantity_text, with_interval
from reports.nights import Series, number_of
from reports.objectives import Quantity, quantities
from reports.values import Value
from reports.verdict import Verdict
from reports.verdict_rows import night_of, unit_of

NONE: Final = "—"
_WIDTH, _MOST_LINES = 84, 8

VERDICT_COLUMNS: Final = (
    "level", "verdict", "device", "what", "quantity", "since", "tonight", "change", "baseline", "would be seen", "why",
)  # fmt: skip
NUMBER_COLUMNS: Final = frozenset({"tonight", "change", "baseline", "would be seen"})


def measured_text(series: Series, value: Value | None) -> str:
    """A value with its interval and unit; a dash without one."""
    return quantity_words(quantities().get(series.quantity), value)


def quantity_words(known: Quantity | None, value: Value | None) -> str:
    """A value of a quantity with its interval and unit; a dash without one."""
    if value is None:
        return NONE
    if known is None:
        return with_interval(value.value, value.low, value.high)
    return f"{quantity_text(known, value.value, value.low, value.high)} {known.unit}".strip()


def verdict_cells(verdict: Verdict) -> Mapping[str, str]:
    """The cells of a verdict, by `VERDICT_COLUMNS`."""
    series, night, effect = verdict.series, night_of(verdict), verdict.effect
    return {
        "level": str(verdict.level),
        "verdict": str(verdict.kind),
        "device": series.device,
        "what": series.label,
        "quantity": series.quantity,
        "since": NONE if verdict.since is None else moment(verdict.since),
        "tonight": measured_text(series, None if night is None else number_of(night)),
        "change": NONE if effect is None else change_text(effect.value, effect.low, effect.high),
        "baseline": NONE if verdict.baseline is None else baseline_text(verdict),
        "would be seen": NONE if verdict.detectable is None else f"{verdict.detectable:.1%}",
        "why": verdict.why,
    }


def baseline_text(verdict: Verdict) -> str:
    """The baseline with its unit, and whether somebody pinned it."""
    if verdict.baseline is None:
        return NONE
    pinned = " (pinned)" if verdict.accepted is not None and verdict.accepted.pinned is not None else ""
    return f"{plain_number(verdict.baseline)} {unit_of(verdict.series)}".strip() + pinned


def wrapped(text: str) -> list[str]:
    """Lines that a hover label can hold; at least one."""
    lines = textwrap.wrap(clean(text), _WIDTH) or [""]
    return lines if len(lines) <= _MOST_LINES else [*lines[: _MOST_LINES - 1], f"{lines[_MOST_LINES - 1]} ..."]
