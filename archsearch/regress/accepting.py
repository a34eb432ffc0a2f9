"""Somebody's word that a series is now where it should be: which series are meant, from when on, kept as an event."""

from __future__ import annotations

import getpass
import math
import socket
import time
from collections.abc import Sequence
from fnmatch import fnmatchcase

from archsearch.errors import StudyError
from archsearch.regress.judged import current
from archsearch.regress.notes import ACCEPTED, STUDY
from archsearch.regress.series_key import SeriesKey
from archsearch.store import Store
from reports.formatting import moment
from reports.nights import Acceptance, Series
from reports.verdict import Verdict

_TIMES = ("%Y-%m-%d", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S")
_DAY_S = 86_400.0
_SHORTEST_ID = 3
_NAMED = 5


def pattern_text(key: SeriesKey) -> str:
    """What a pattern is compared with: device, what is measured, and the quantity."""
    return f"{key.device} {key.label} {key.quantity}"


def meant(which: str, series: Sequence[Series]) -> list[Series]:
    """The series of which the id begins so (3 digits or more), or whose text matches a pattern; of followers the last.

    Raises:
        StudyError: None does, or the beginning is that of several ids.
    """
    word = which.strip()
    keys = {one.key: SeriesKey.parse(one.key) for one in series}
    as_id = bool(word) and set(word) <= set("0123456789abcdef")
    if as_id and len(word) >= _SHORTEST_ID:
        found = [one for one in series if keys[one.key].id.startswith(word)]
        if len(found) == 1:
            return found
        if found:
            ids = ", ".join(keys[one.key].id for one in found[:_NAMED])
            raise StudyError(f"{word} is the beginning of {len(found)} series' ids: {ids}")
    matching = [
        one for one in current(series)
        if any(fnmatchcase(text, word) for text in (pattern_text(keys[one.key]), keys[one.key].label))
    ]  # fmt: skip
    if not matching:
        some = [pattern_text(keys[one.key]) for one in current(series)]
        more = f" and {len(some) - _NAMED} more" if len(some) > _NAMED else ""
        wrong = f"no series has an id that begins with {word!r}, or matches it"
        if as_id and len(word) < _SHORTEST_ID:
            wrong = f"{word!r} is too short for an id, of which {_SHORTEST_ID} digits are needed, and matches no series"
        raise StudyError(
            f"{wrong}; there are {', '.join(some[:_NAMED]) + more if some else 'none'}",
            hint="`archsearch regress series` lists them with their ids; a pattern such as '*lfm2.5* ttft_ms'",
        )
    return matching


def since_when(text: str | None, verdict: Verdict) -> float:
    """The time from which on a word holds: the change by default, else the last night.

    Raises:
        StudyError: It is no time, or one from which on the word would change nothing.
    """
    if text is None:
        return verdict.time if verdict.since is None else verdict.since
    word = text.strip()
    if word == "now":
        return time.time()
    since = _seconds(word)
    if since is None:
        raise StudyError(f"--since {text!r} is no night", hint="2026-03-01, '2026-03-01 04:00' or now")
    nights = [night.time for night in verdict.series.nights]
    first = min(nights)
    if not first - _DAY_S < since < max(time.time(), *nights) + _DAY_S:
        raise StudyError(
            f"--since {text!r}: the series has nights from {moment(first)} on, and none after tomorrow",
            hint="the night from which on the level is right, or now",
        )
    return since


def _seconds(word: str) -> float | None:
    for form in _TIMES:
        try:
            return time.mktime(time.strptime(word, form))
        except (ValueError, OverflowError):
            continue
    return None


def accept(store: Store, series: Series, *, since: float, reason: str, pinned: float | None) -> Acceptance:
    """Keep that somebody accepts a series' level.

    Raises:
        StudyError: Without a reason, or with a value that nothing can be compared with.
        StoreError: It cannot be written.
    """
    if pinned is not None and not (math.isfinite(pinned) and pinned > 0):
        raise StudyError(
            f"--pin {pinned:g}: nothing can be compared with that; it must be above zero",
            hint="--pin with a value in the series' own unit, such as --pin 12.5",
        )
    try:
        acceptance = Acceptance(time=since, reason=reason.strip(), by=who(), pinned=pinned)
    except ValueError as error:
        raise StudyError(str(error), hint="--reason 'what changed, and why that is right'") from error
    event = {"series": series.key, "time": since, "reason": acceptance.reason, "by": acceptance.by, "pinned": pinned}
    store.add_event(STUDY, ACCEPTED, event)
    return acceptance


def who() -> str:
    """``user@host``."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # an id without a name
        user = "unknown"
    return f"{user}@{socket.gethostname()}"
