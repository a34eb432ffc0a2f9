"""Fronts in reports and summaries: what moved is said, names are text, and without a study nothing is there."""

from __future__ import annotations

import json
import re
from pathlib import Path

from reports.figures.verdict_marks import FRONT_MARKS
from reports.front_sections import fronts_html, fronts_markdown
from reports.front_verdicts import FrontKind, FrontVerdict
from reports.regression_markdown import regression_markdown
from reports.regression_report import write_regression_report
from reports.study_fronts import Said
from reports.verdict_summary import summary
from reports.verdicts import judge
from tests.unit.reports.fronts_of import FOUR, front, judged, night, slower
from tests.unit.reports.nightly import QUIET, nights, series

HOSTILE = '</script><img src=x onerror="alert(1)">|`*_'


def moved(**options: str) -> FrontVerdict:
    worse = slower(FOUR, "middle", 2.0)
    said = tuple(Said(layout=one, title=f"{one} {HOSTILE}", front="on", item=one) for one in FOUR)
    told = front(FOUR, said=said, study=HOSTILE)
    before = [night(at, FOUR) for at in range(-4, 0)]
    return judged(told, [*before, night(0, worse), night(1, worse)], **options)


def test_a_report_has_a_section_with_what_moved_and_every_layout(tmp_path: Path):
    verdicts = judge([series(*nights(QUIET))])
    write_regression_report(tmp_path / "a.html", verdicts, (), [moved()])
    text = (tmp_path / "a.html").read_text(encoding="utf-8").partition("<body>")[2]
    assert text.index("<h2>Verdicts</h2>") < text.index("<h2>Fronts of studies</h2>") < text.index("Histories")
    section = text.partition("Fronts of studies")[2].partition("</section>")[0]
    assert "left the front" in section
    assert section.count("<tr>") == 1 + 1 + 1 + 4
    assert section.count("<tr class=numbers>") == 1
    assert "<details open>" in section
    assert "28.00" in section, "tonight's numbers"
    assert "150.00M" in section, "and those that no night changes"


def test_a_front_looks_like_a_verdict_and_its_numbers_are_to_the_right():
    assert set(FRONT_MARKS) == set(FrontKind)
    assert len({mark.glyph for mark in FRONT_MARKS.values()}) == len(FrontKind)
    text = "".join(fronts_html([moved()]))
    assert re.search(r'<td class=verdict><span style="color:#\w{6}">◆</span> MOVED</td>', text)
    assert re.search(r'<summary><span style="color:#\w{6}">◆</span> MOVED: board', text)
    assert "<th>decode_ms</th>" in text
    assert re.search(r"<td>2\.800 ±\S+ ms</td>", text)
    assert "<td class=what>dominated</td>" in text
    assert text.count("class=why") == 1, "the words alone"


def test_names_are_text():
    assert "<img" not in "".join(fronts_html([moved(device=HOSTILE)]))
    lines = list(fronts_markdown([moved(device=HOSTILE)]))
    assert "<img" not in "".join(lines)
    rows = [line for line in lines if line.startswith("|")]
    assert all(row.replace("\\|", "").count("|") in (9, 7) for row in rows), "eight columns, then six"


def test_a_front_that_held_is_closed():
    assert "<details>" in "".join(fronts_html([judged(front(FOUR), [night(0, FOUR)])]))


def test_without_a_study_there_is_no_section():
    assert list(fronts_html([])) == []
    assert "Fronts" not in regression_markdown(judge([series(*nights(QUIET))]), ())


def test_a_summary_has_the_fronts_that_have_not_held():
    held = judged(front(FOUR), [night(0, FOUR)])
    verdicts = judge([series(*nights([*QUIET, 10.0]))])
    found = summary(verdicts, [held, moved()])
    assert [one["kind"] for one in json.loads(json.dumps(found, allow_nan=False))["fronts"]] == ["MOVED"]
    assert found["level"] == "fine", "a front that moved fails nothing"
    assert summary(verdicts)["fronts"] == []
