"""Times as people type them (`--at`): a day, an hour, a minute or a second in which something began."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from datetime import datetime, timedelta

from archsearch.cli.exits import CommandError

_TIME_OF_DAY = re.compile(r"[T ](?P<clock>[\d:.,]+)")
"""The clock's part of a time, without the zone."""


def named_time(text: str, times: Iterable[float], *, what: str = "night") -> float:
    """The time that is meant: the last one within the day, hour, minute or second that is named.

    Args:
        text: ``2026-03-01``, ``2026-03-01T02``, ``2026-03-01 02:30`` or ``2026-03-01T02:30:05`` (local time, or with a
            zone: ``+00:00``), or seconds since 1970.
        times: Those that there are, at least one; seconds since 1970.
        what: Began at them.

    Raises:
        CommandError: It is no time, or none of `times` is within.
    """
    known = sorted(set(times))
    first, behind = _span(text.strip(), what)
    found = [at for at in known if first <= at < behind]
    if found:
        return found[-1]
    from reports.formatting import moment

    nearest = min(known, key=lambda at: abs(at - first))
    raise CommandError(f"--at {text!r}: no {what} began then", hint=f"--at '{moment(nearest)}', which is the nearest")


def _span(text: str, what: str) -> tuple[float, float]:
    """From when until before when."""
    try:
        seconds = float(text)
    except ValueError:
        pass
    else:
        if math.isfinite(seconds):
            return seconds - 0.5, seconds + 0.5  # tables may have rounded it
    try:
        begin = datetime.fromisoformat(text)
        return begin.timestamp(), (begin + _precision(text)).timestamp()
    except (ValueError, OverflowError, OSError) as error:
        raise CommandError(f"--at {text!r} is no {what}", hint="2026-03-01 or '2026-03-01 02:30'") from error


def _precision(text: str) -> timedelta:
    """How long what a time in ISO 8601 names lasts: a day, an hour, a minute or a second."""
    time_of_day = _TIME_OF_DAY.search(text)
    if time_of_day is None:
        return timedelta(days=1)
    digits = sum(letter.isdigit() for letter in time_of_day["clock"])
    return timedelta(hours=1) if digits <= 2 else timedelta(minutes=1) if digits <= 4 else timedelta(seconds=1)
