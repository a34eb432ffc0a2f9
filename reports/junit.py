"""Verdicts as JUnit XML, which every CI server reads: a test suite for each device, a test case for each series.

FAIL is a failure and INVALID an error; NO-DATA and AMBIGUOUS that are no FAIL are skipped, since nobody knows; all else
passed, a WARN too, as a run with a WARN ends well. Why is in every case's ``system-out``. A device without any verdict
is a test suite with one error.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree as ET

from reports.files import write_whole
from reports.formatting import clean, moment
from reports.lost_devices import LostDevices, untold
from reports.verdict import Kind, Level, Verdict
from reports.verdict_rows import series_id
from reports.verdict_summary import DeviceSummary, by_device, headline, title_of
from reports.verdict_text import baseline_text, verdict_cells

_FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 cannot hold, not even escaped."""
_SKIPPED = frozenset({Kind.NO_DATA, Kind.AMBIGUOUS})


def junit(verdicts: Sequence[Verdict], lost: LostDevices | None = None) -> str:
    """The XML document, the worst device and the worst series first."""
    root = ET.Element("testsuites", name="archsearch regress")
    total: Counter[str] = Counter()
    for one in by_device(verdicts):
        suite, counted = _suite(one)
        root.append(suite)
        total += counted
    for device, why in untold(lost, verdicts).items():
        root.append(_lost_suite(device, why))
        total += Counter(tests=1, errors=1)
    for name in ("tests", "failures", "errors", "skipped"):
        root.set(name, str(total[name]))
    root.set("time", "0")
    ET.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(root, encoding="unicode")}\n'


def write_junit(path: Path, verdicts: Sequence[Verdict], lost: LostDevices | None = None) -> None:
    """Write the document in one step.

    Raises:
        OSError: It cannot be written.
    """
    write_whole(path, junit(verdicts, lost))


def _suite(one: DeviceSummary) -> tuple[ET.Element, Counter[str]]:
    suite = ET.Element("testsuite", name=_text(one.device))
    counted: Counter[str] = Counter(tests=len(one.verdicts))
    titles = Counter(title_of(verdict) for verdict in one.verdicts)
    for verdict in one.verdicts:
        case, outcome = _case(verdict, repeated=titles[title_of(verdict)] > 1)
        suite.append(case)
        counted[outcome] += 1
    for name in ("tests", "failures", "errors", "skipped"):
        suite.set(name, str(counted[name]))
    suite.set("time", "0")
    if (at := _timestamp(max(verdict.time for verdict in one.verdicts))) is not None:
        suite.set("timestamp", at)
    return suite, counted


def _lost_suite(device: str, why: str) -> ET.Element:
    name = _text(device)
    suite = ET.Element("testsuite", name=name, tests="1", failures="0", errors="1", skipped="0", time="0")
    case = ET.SubElement(suite, "testcase", classname=name, name="the device", time="0")
    error = ET.SubElement(case, "error", message=_text(f"no verdict: {why}"), type="lost")
    error.text = _text(f"{device} was not measured")
    ET.SubElement(case, "system-out").text = _text(why)
    return suite


def _case(verdict: Verdict, *, repeated: bool) -> tuple[ET.Element, str]:
    """The case, and as what it counts."""
    title = title_of(verdict) + (f" [{series_id(verdict.series)}]" if repeated else "")
    case = ET.Element("testcase", classname=_text(verdict.series.device), name=_text(title), time="0")
    outcome = "passed"
    if verdict.kind is Kind.INVALID:
        outcome, tag = "errors", "error"
    elif verdict.level is Level.FAIL:
        outcome, tag = "failures", "failure"
    elif verdict.kind in _SKIPPED:
        outcome, tag = "skipped", "skipped"
    if outcome != "passed":
        found = ET.SubElement(case, tag, message=_text(f"{verdict.kind}: {verdict.why}"))
        if outcome != "skipped":
            found.set("type", str(verdict.kind))
            found.text = _text(headline(verdict))
    ET.SubElement(case, "system-out").text = "\n".join(map(_text, _lines(verdict)))
    return case, outcome


def _lines(verdict: Verdict) -> list[str]:
    cells = verdict_cells(verdict)
    return [
        f"{verdict.kind} ({verdict.level}): {verdict.why}",
        f"night {moment(verdict.time)}, series {series_id(verdict.series)}",
        f"tonight {cells['tonight']}, change {cells['change']}, baseline {baseline_text(verdict)}",
        f"a change of {cells['would be seen']} would be seen; since {cells['since']}",
    ]


def _timestamp(time: float) -> str | None:
    """As the schema wants it; None for a time beyond the calendar."""
    try:
        return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    except (OverflowError, OSError, ValueError):
        return None


def _text(text: str) -> str:
    return _FORBIDDEN.sub("", clean(text))
