"""JUnit XML: what CI servers read of a night."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.junit import junit, write_junit
from reports.lost_devices import LostDevices
from reports.nights import Night, Run, Series
from reports.verdicts import Verdict, judge
from tests.unit.reports.nightly import DAY, QUIET, night, nights, series

_NUMBERS = ("tests", "failures", "errors", "skipped")


def judged(*given: Series) -> tuple[Verdict, ...]:
    return judge(given, at=21 * DAY)


def one(key: str, *last: float | None, **options: str) -> Series:
    return series(*nights([*QUIET, *last]), key=key, **options)


def of_all_kinds() -> tuple[Verdict, ...]:
    wrong = series(*nights(QUIET), night(21, 10.0, status="invalid", reason="logits"), key="invalid", device="phone")
    return judged(
        one("slower", 12.0, 12.1), one("warned", 10.0, 12.0), one("same", 10.0, 10.1), one("faster", 8.0, 8.1), wrong,
        one("gone", 10.0, None, device="phone"), series(*nights([10.0] * 2, first=20), key="young", device="phone"),
        series(*nights(QUIET), night(21, 12.0, 10.0), key="once"),
    )  # fmt: skip


def check_schema(root: ET.Element) -> None:
    """What the JUnit schema of Jenkins and Windyroad agree on, as far as we use it."""
    assert root.tag == "testsuites"
    totals = dict.fromkeys(_NUMBERS, 0)
    for suite in root:
        assert suite.tag == "testsuite"
        assert {"name", "time", *_NUMBERS} <= set(suite.attrib)
        assert set(suite.attrib) <= {"name", "time", "timestamp", *_NUMBERS}
        assert [case.tag for case in suite] == ["testcase"] * int(suite.attrib["tests"])
        names = [(case.attrib["classname"], case.attrib["name"]) for case in suite]
        assert len(set(names)) == len(names)
        found = {"failures": "failure", "errors": "error", "skipped": "skipped"}
        for number, tag in found.items():
            assert int(suite.attrib[number]) == len(suite.findall(f"testcase/{tag}"))
        for case in suite:
            assert set(case.attrib) == {"classname", "name", "time"}
            tags = [child.tag for child in case]
            assert tags[-1:] == ["system-out"]
            assert len(tags) <= 2
            assert set(tags[:-1]) <= {"failure", "error", "skipped"}
            for child in case.findall("failure") + case.findall("error"):
                assert set(child.attrib) == {"message", "type"}
        for number in _NUMBERS:
            totals[number] += int(suite.attrib[number])
    assert {number: int(root.attrib[number]) for number in _NUMBERS} == totals


def outcomes(root: ET.Element) -> dict[str, str]:
    return {
        case.attrib["name"].partition(" ")[0]: case[0].tag if len(case) > 1 else "passed"
        for case in root.iter("testcase")
    }


def test_each_kind_is_what_a_ci_server_understands():
    root = ET.fromstring(junit(of_all_kinds()))
    check_schema(root)
    assert outcomes(root) == {
        "slower": "failure", "warned": "passed", "same": "passed", "faster": "passed", "invalid": "error",
        "gone": "skipped", "young": "skipped", "once": "skipped",
    }  # fmt: skip
    assert [suite.attrib["name"] for suite in root] == ["phone", "board"]


def test_a_no_data_that_fails_is_a_failure():
    given = [*nights(QUIET), night(20, None, status="out_of_memory"), night(21, None, status="out_of_memory")]
    assert outcomes(ET.fromstring(junit(judged(series(*given, key="big"))))) == {"big": "failure"}


def test_why_is_in_every_case():
    verdicts = of_all_kinds()
    whole = "".join(case.findtext("system-out") or "" for case in ET.fromstring(junit(verdicts)).iter("testcase"))
    assert all(verdict.why in whole for verdict in verdicts)


def test_nothing_to_judge_is_a_document_too():
    root = ET.fromstring(junit(()))
    check_schema(root)
    assert root.attrib["tests"] == "0"


def test_a_device_without_a_verdict_is_an_error():
    lost = LostDevices(night=1.0, reasons={"gone": "no answer", "board": "lost later"})
    root = ET.fromstring(junit((), lost))
    check_schema(root)
    assert [case[0].attrib["message"] for case in root.iter("testcase")] == [
        "no verdict: no answer", "no verdict: lost later",
    ]  # fmt: skip
    assert root.attrib["errors"] == "2"
    verdicts = judged(one("a", device="board"))
    assert [suite.attrib["name"] for suite in ET.fromstring(junit(verdicts, lost))] == ["board", "gone"]


def test_two_series_of_one_name_are_two_cases():
    root = ET.fromstring(junit(judged(one("a", label="x"), one("b", label="x"))))
    check_schema(root)
    assert len({case.attrib["name"] for case in root.iter("testcase")}) == 2


@given(st.text())
def test_any_text_is_well_formed(text: str):
    bad = Night(time=21 * DAY, first=Run(status="invalid", reason=text))
    root = ET.fromstring(junit(judged(series(bad, key=text, device=text, label=text, quantity=text))))
    check_schema(root)
    assert len(list(root.iter("testcase"))) == 1


@pytest.mark.parametrize("text", ["\0", "\x1b[31m", "\ud800", "\ufffe", "\uffff", "]]>", "<a>&amp;", '"'])
def test_forbidden_characters_are_removed(text: str):
    (case,) = ET.fromstring(junit(judged(one("x", label=f"a{text}b")))).iter("testcase")
    assert case.attrib["name"].startswith("a")
    assert case.attrib["name"].endswith("b decode_ms")


def test_a_time_beyond_the_calendar_has_no_timestamp():
    root = ET.fromstring(junit(judge([series(Night(time=1e20, first=Run(status="lost")))])))
    check_schema(root)
    assert "timestamp" not in root[0].attrib


def test_the_file_is_written_whole(tmp_path: Path):
    path = tmp_path / "junit.xml"
    path.write_text("old")
    write_junit(path, of_all_kinds())
    check_schema(ET.parse(path).getroot())
    assert list(tmp_path.iterdir()) == [path]
