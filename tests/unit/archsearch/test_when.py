"""Times as people type them after `--at`."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archsearch.cli.exits import CommandError
from archsearch.cli.when import name_of, named_time
from reports.formatting import moment
from tests.unit.reports.nightly import DAY

FIRST = 1.75e9
NIGHTS = [FIRST + number * DAY for number in range(22)]


def test_one_is_named_by_day_minute_second_or_number():
    last = NIGHTS[-1]
    for text in (moment(last)[:10], moment(last), moment(last, seconds=True).replace(" ", "T"), str(last)):
        assert named_time(text, NIGHTS) == last
    with pytest.raises(CommandError, match="'yesterday' is no time"):
        named_time("yesterday", NIGHTS)


def test_a_named_time_lasts_as_long_as_it_is_exact():
    past_the_minute = FIRST // 3600 * 3600 + 30 * 60 + 12
    local = moment(past_the_minute, seconds=True)
    zoned = datetime.fromtimestamp(past_the_minute, tz=UTC)
    found = [local[:10], local[:13], local[:13].replace(" ", "T"), local[:16], local, f"{local}.000"]
    found += [zoned.strftime(form) for form in ("%Y-%m-%dT%H:%MZ", "%Y-%m-%d %H:%M+00:00", "%Y%m%dT%H%M+0000")]
    for text in found:
        assert named_time(text, [past_the_minute]) == past_the_minute, text
    for text in (f"{local[:14]}29", f"{local[:14]}31", f"{local[:17]}11", zoned.strftime("%Y-%m-%dT%H:%M:13+00:00")):
        with pytest.raises(CommandError, match="no comparison began then"):
            named_time(text, [past_the_minute], what="comparison")


@given(st.lists(st.floats(min_value=0, max_value=4e9), min_size=1, max_size=8), st.data())
def test_a_name_leads_to_the_time_that_it_was_made_of(times: list[float], data: st.DataObject):
    times = [round(one, 1) for one in times]
    one = data.draw(st.sampled_from(times))
    if any(one < other < one + 1 for other in times):  # seconds are what can be typed
        return
    assert named_time(name_of(one, times), times) == one


def test_one_beyond_the_calendar_can_be_typed():
    assert named_time(name_of(1e30, [FIRST, 1e30]), [FIRST, 1e30]) == 1e30


def test_an_hour_that_a_clock_has_twice_is_told_apart(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        both = [1761438600.0, 1761442200.0]  # 2025-10-26 02:30, in summer time and an hour later
        assert [named_time(name_of(one, both), both) for one in both] == both
        with pytest.raises(CommandError, match="no night began then"):
            named_time("2025-10-27", both)
    finally:
        monkeypatch.undo()
        time.tzset()
