"""Values as text for people, and text from devices and files made harmless."""

from __future__ import annotations

import math
import re
import unicodedata
from datetime import datetime

from reports.budgets import number
from reports.objectives import Quantity

_DIRECTIONS = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]")
_FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠")
_MARKDOWN = re.compile(r"([\\`*_\[\]|~])")


def clean(text: str) -> str:
    """One line without control characters, direction overrides and half surrogates.

    A device's answer cannot move the cursor, change colours or hide text.
    """
    spaced = re.sub(r"[\t\n\r\v\f\u2028\u2029]+", " ", text)
    kept = "".join(
        "" if unicodedata.category(c) == "Cc" else "\ufffd" if unicodedata.category(c) == "Cs" else c for c in spaced
    )
    return _DIRECTIONS.sub("", kept)


def csv_text(text: str) -> str:
    """Text that a spreadsheet does not take for a formula."""
    safe = clean(text)
    return f"'{safe}" if safe.lstrip().startswith(_FORMULA) else safe


def markdown_text(text: str) -> str:
    """Text that stays text in a Markdown table cell."""
    escaped = _MARKDOWN.sub(r"\\\1", clean(text))
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def beyond_text(excess: float) -> str:
    """How far a value lies beyond a limit, from its excess relative to it: ``7.3% beyond``, ``432.5x the limit``."""
    return f"{excess:.1%} beyond" if excess < 1 else f"{1 + excess:,.1f}x the limit"


def with_interval(value: float, low: float | None, high: float | None, *, brackets: bool = True) -> str:
    """``7.12 ±0.08``, or ``7.12 [7.05, 7.30]`` where the two sides differ by more than a quarter of the longer one.

    Digits end where the interval's half width begins to matter; without an interval, four significant digits. An
    interval that has no upper end is written ``7.120 [3.050, ∞)``.

    Args:
        value: The point estimate.
        low: Lower end, or None.
        high: Upper end, or None: there is no interval, or it has no upper end.
        brackets: Whether the longer form may be used; the short one then shows the longer side.
    """
    if low is not None and high is None and low <= value:
        return f"{plain_number(value)} [{plain_number(low)}, ∞)"
    if low is None or high is None or not low <= value <= high or low == high:
        return plain_number(value)
    longer = max(value - low, high - value)
    decimals = max(_decimals(longer), _first_digit(value))  # never a value rounded to zero
    if brackets and min(value - low, high - value) < 0.75 * longer:
        return f"{value:,.{decimals}f} [{low:,.{decimals}f}, {high:,.{decimals}f}]"
    return f"{value:,.{decimals}f} ±{_up(longer, decimals):,.{decimals}f}"


def plain_number(value: float) -> str:
    """Four significant digits, never an exponent below 1e15."""
    if value == 0:
        return "0"
    if abs(value) >= 1e15 or abs(value) < 1e-6:
        return f"{value:.3e}"
    return f"{value:,.{max(0, 3 - math.floor(math.log10(abs(value))))}f}" if abs(value) < 1000 else f"{value:,.0f}"


def moment(time: float, *, seconds: bool = False) -> str:
    """A time, seconds since 1970, as ``2026-03-01 02:30`` in local time; one beyond the calendar as the number."""
    try:
        found = datetime.fromtimestamp(time)
    except (OverflowError, OSError, ValueError):
        return f"{time:g} s"
    return f"{found:%Y-%m-%d %H:%M:%S}" if seconds else f"{found:%Y-%m-%d %H:%M}"


def change_text(value: float, low: float | None = None, high: float | None = None) -> str:
    """A relative change for people: ``+12.3% [+10.1%, +14.5%]``."""
    if low is None or high is None or not low < high:
        return f"{value:+.1%}"
    return f"{value:+.1%} [{low:+.1%}, {high:+.1%}]"


def count(value: float) -> str:
    """354.48M."""
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "K")):
        if abs(value) >= size:
            return f"{value / size:.2f}{unit}"
    return f"{value:.0f}"


def quantity_text(known: Quantity, value: object, low: object, high: object, *, detail: int = 2) -> str:
    """A quantity's value for people; a dash where there is none.

    Args:
        known: Which quantity.
        value: Its value.
        low: Lower end of its interval, or None.
        high: Upper end, or None.
        detail: 2 for the full interval, 1 for the short one, 0 for none.
    """
    found = number(value)
    if found is None:
        return "—"
    if known.kind == "count":
        return count(found)
    if known.kind == "share":
        return f"{found:.1%}"
    return with_interval(found, number(low) if detail else None, number(high) if detail else None, brackets=detail == 2)


def _decimals(half_width: float) -> int:
    """One significant digit of the half width, two when it begins with 1; at most four decimals."""
    exponent = math.floor(math.log10(half_width)) if half_width > 0 else -4
    leading = half_width / 10.0**exponent if half_width > 0 else 2
    return min(4, max(0, -exponent + (leading < 2)))


def _first_digit(value: float) -> int:
    """Decimals that show the first digit that is not 0; at most four."""
    return min(4, max(0, -math.floor(math.log10(abs(value))))) if value else 0


def _up(half_width: float, decimals: int) -> float:
    """Rounded up, so that the text never promises a narrower interval."""
    scale = 10.0**decimals
    return math.ceil(half_width * scale - 1e-9) / scale
