"""A night as a page and as Markdown: the worst first, offline, and names are text."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from reports.errors import ReportError
from reports.histories import History, histories
from reports.nights import Series
from reports.regression_markdown import regression_markdown
from reports.regression_report import write_histories, write_regression_report
from reports.verdict import Verdict
from reports.verdict_rows import verdict_row, worst_first
from reports.verdict_summary import by_device, counts_text, summary
from reports.verdicts import judge
from tests.unit.reports.nightly import DAY, QUIET, night, nights, series

_PLAN = re.compile(r'<div class=history><script type="application/json">(.*?)</script>', re.DOTALL)
HOSTILE = '</script><img src=x onerror="alert(1)">|`*_'


def one(key: str, *last: float | None, **options: str) -> Series:
    return series(*nights([*QUIET, *last]), key=key, **options)


def a_night(*given: Series) -> tuple[list[Verdict], tuple[History, ...]]:
    return list(judge(given, at=21 * DAY)), histories(given, at=21 * DAY)


def some() -> tuple[list[Verdict], tuple[History, ...]]:
    return a_night(
        one("same", 10.0, 10.0), one("warned", 10.0, 12.0, device="phone"), one("slower", 12.0, 12.1),
        one("faster", 8.0, 8.1), one("gone", 10.0, None),
    )  # fmt: skip


def written(path: Path, verdicts: list[Verdict], past: tuple[History, ...]) -> str:
    write_regression_report(path, verdicts, past)
    return path.read_text(encoding="utf-8")


def body(page: str) -> str:
    return page.partition("<body>")[2]


def test_what_is_not_fine_comes_first_and_the_rest_is_collapsed(tmp_path: Path):
    text = body(written(tmp_path / "a.html", *some()))
    order = [text.index(f"board: {name} decode_ms") for name in ("slower", "gone", "faster", "same")]
    assert order == sorted(order)
    assert len(_PLAN.findall(text)) == 5
    assert text.count("<details>") == 1
    assert text.index("<details>") < order[-1]


def test_figures_are_plans_that_plotly_reads(tmp_path: Path):
    for plan in _PLAN.findall(body(written(tmp_path / "a.html", *some()))):
        assert set(json.loads(plan)) >= {"data", "layout"}


def test_the_page_asks_nobody(tmp_path: Path):
    text = written(tmp_path / "a.html", *some())
    ours = text.partition("<style>")[0] + body(text)
    assert not re.search(r"""(src|href)\s*=|https?://|@import|url\(""", ours)


def test_why_stays_within_the_window_and_is_a_sentence_below_the_table(tmp_path: Path):
    page = written(tmp_path / "a.html", *a_night(one("gone", 10.0, None), one("slower", 12.0, 12.1, device="x" * 99)))
    assert re.search(r"td\.why > div \{ max-width: [^}]*100vw[^}]*overflow-wrap: anywhere", page)
    assert "<td class=why colspan=9><div>no number: " in page
    assert f"<td class=device>{'x' * 99}</td><td class=what>slower</td>" in page
    assert "<p>No number: measured, with no number." in page
    assert not re.search(r"<p>(Since [^.]*\. )?[a-z]", body(page).partition("Histories")[2])


def test_names_are_text_in_the_page(tmp_path: Path):
    given = series(
        *nights(QUIET), night(21, None, status=HOSTILE, reason=HOSTILE), key=HOSTILE, device=HOSTILE, label=HOSTILE,
        quantity=HOSTILE,
    )  # fmt: skip
    text = body(written(tmp_path / "a.html", *a_night(given)))
    assert "<img" not in text
    assert text.count("</script>") == len(_PLAN.findall(text)) + 1
    assert "&lt;img src=x" in text


def test_names_are_text_in_markdown():
    text = regression_markdown(*a_night(one(HOSTILE, 12.0, 12.0, device=HOSTILE, label=HOSTILE)))
    assert "<img" not in text
    rows = [line for line in text.split("\n") if line.startswith("| FAIL")]
    assert [len(re.findall(r"(?<!\\)\|", row)) for row in rows] == [12]


def test_markdown_has_the_table_the_devices_and_the_change_points(tmp_path: Path):
    long = series(*nights([*QUIET, *(1.1 * value for value in QUIET)]), key="stepped")
    text = written(tmp_path / "a.md", *(list(judge([long])), histories([long])))
    assert "# archsearch: the night of 1970-02-" in text
    assert re.search(r"\| FAIL \| SLOWER \| board \| stepped \| decode\\_ms \| 1970-01-21", text)
    assert "## Change points" in text
    assert "+10.0% on 1970-01-21" in text


@pytest.mark.parametrize("name", ["a.html", "a.md"])
def test_no_verdicts_are_a_report_too(tmp_path: Path, name: str):
    assert "no night yet" in written(tmp_path / name, [], ())


def test_another_kind_of_file_is_refused(tmp_path: Path):
    with pytest.raises(ReportError, match=r"\.html or \.md"):
        write_regression_report(tmp_path / "a.pdf", [], ())


def test_histories_alone(tmp_path: Path):
    path = tmp_path / "a.html"
    write_histories(path, some()[1])
    assert len(_PLAN.findall(path.read_text())) == 5


def test_worst_first_is_by_level_then_kind_then_size():
    verdicts, _ = some()
    assert [v.series.key for v in worst_first(reversed(verdicts))] == ["slower", "warned", "gone", "faster", "same"]
    assert [one.device for one in by_device(verdicts)] == ["board", "phone"]
    assert counts_text(verdicts) == "1 FAIL, 2 WARN, 2 fine"


def test_rows_hold_raw_values_by_stable_names():
    verdicts, _ = some()
    row = verdict_row(verdicts[2])
    assert (row["kind"], row["level"], row["label"], row["unit"]) == ("SLOWER", "FAIL", "slower", "ms")
    assert row["value"] == 12.1
    assert row["change"] == pytest.approx(0.21, abs=0.005)
    assert row["since_unix"] == 20 * DAY
    assert (row["what"], row["workload"], row["precision"]) == ("slower", "", ""), "nobody said the label's parts"
    assert all(set(verdict_row(verdict)) == set(row) for verdict in verdicts)
    assert json.loads(json.dumps(summary(verdicts), allow_nan=False))["level"] == "FAIL"
