"""Workflow commands of GitHub Actions: few, and nothing in a name becomes another command."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from reports.annotations import workflow_commands
from reports.lost_devices import LostDevices
from reports.nights import Series
from reports.verdicts import Verdict, judge
from tests.unit.reports.nightly import DAY, QUIET, nights, series

_COMMAND = re.compile(r"::(error|warning|notice) title=([^:,\r\n]*)::([^\r\n]*)")


def judged(*given: Series) -> tuple[Verdict, ...]:
    return judge(given, at=21 * DAY)


def one(key: str, *last: float, **options: str) -> Series:
    return series(*nights([*QUIET, *last]), key=key, **options)


def unescaped(text: str) -> str:
    for code, letter in (("%0A", "\n"), ("%0D", "\r"), ("%3A", ":"), ("%2C", ","), ("%25", "%")):
        text = text.replace(code, letter)
    return text


def test_at_most_one_for_each_device_and_level():
    slow = [one(f"s{i}", 12.0 + i / 10, 12.0 + i / 10) for i in range(5)]
    warned = [one("w", 10.0, 12.0), one("v", 10.0, 12.0, device="phone")]
    lines = workflow_commands(judged(*slow, *warned, one("f", 8.0, 8.0), one("same", 10.0, 10.0)))
    assert [line.partition(" ")[0] for line in lines] == ["::error", "::warning", "::warning", "::notice"]


def test_the_three_worst_are_named_and_the_rest_counted():
    (line,) = workflow_commands(judged(*(one(f"s{i}", 12.0 + i / 10, 12.0 + i / 10) for i in range(5))))
    match = _COMMAND.fullmatch(line)
    assert match is not None
    assert unescaped(match[2]) == "archsearch: board: 5 FAIL"
    told = unescaped(match[3]).split("\n")
    assert [text.partition(" ")[0] for text in told] == ["s4", "s3", "s2", "and"]
    assert told[-1] == "and 2 more"
    assert "SLOWER +24.0% since 1970-01-" in told[0]


def test_a_fine_night_says_nothing():
    assert workflow_commands(judged(one("same", 10.0, 10.0))) == []
    assert workflow_commands(()) == []


def test_a_device_without_a_verdict_has_a_warning():
    lost = LostDevices(night=1.0, reasons={"gone": "no answer\nat all"})
    assert workflow_commands((), lost) == ["::warning title=archsearch%3A gone%3A no verdict::no answer at all"]


def test_percent_is_escaped_once():
    (line,) = workflow_commands(judged(one("100%", 12.0, 12.0)))
    assert "100%25 decode_ms" in line


@given(st.text())
def test_no_name_ends_a_command_or_begins_one(text: str):
    for line in workflow_commands(judged(one(text, 12.0, 12.0, device=text, quantity=text))):
        assert _COMMAND.fullmatch(line)


def test_a_name_that_looks_like_a_command_stays_a_name():
    hostile = "a\r\n::error::b, title=c:"
    (line,) = workflow_commands(judged(one(hostile, 12.0, 12.0, device=hostile)))
    assert "\n" not in line
    assert unescaped(line.partition("::")[2].partition("::")[0]).startswith(
        "error title=archsearch: a ::error::b, title=c:"
    )
