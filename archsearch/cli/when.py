"""Times as people type them (`--at`): a day, an hour, a minute or a second in which something began."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
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
    first, behind = _span(text.strip())
    meant = _last_within(first, behind, known)
    if meant is not None:
        return meant
    nearest = min(known, key=lambda at: abs(at - first))
    raise CommandError(
        f"--at {text!r}: no {what} began then", hint=f"--at '{name_of(nearest, known)}', which is the nearest"
    )


def name_of(time: float, times: Iterable[float]) -> str:
    """How to type a time so that it is meant, and none of the other `times`."""
    from reports.formatting import moment

    known = sorted(set(times))
    for text in (moment(time), moment(time, seconds=True)):
        with suppress(CommandError):
            if _last_within(*_span(text), known) == time:
                return text
    return repr(time)


def _last_within(first: float, behind: float, known: Sequence[float]) -> float | None:
    return next((at for at in reversed(known) if first <= at < behind), None)


def _span(text: str) -> tuple[float, float]:
    """From when until before when."""
    try:
        seconds = float(text)
    except ValueError:
        pass
    else:
        if math.isfinite(seconds):
            # Tables may have rounded it; of a huge one a half is nothing.
            return seconds - 0.5, max(seconds + 0.5, math.nextafter(seconds, math.inf))
    try:
        begin = datetime.fromisoformat(text)
        return begin.timestamp(), (begin + _precision(text)).timestamp()
    except (ValueError, OverflowError, OSError) as error:
        raise CommandError(f"--at {text!r} is no time", hint="2026-03-01 or '2026-03-01 02:30'") from error


def _precision(text: str) -> timedelta:
    """How long what a time in ISO 8601 names lasts: a day, an hour, a minute or a second."""
    time_of_day = _TIME_OF_DAY.search(text)
    if time_of_day is None:
        return timedelta(days=1)
    digits = sum(letter.isdigit() for letter in time_of_day["clock"])
    return timedelta(hours=1) if digits <= 2 else timedelta(minutes=1) if digits <= 4 else timedelta(seconds=1)
