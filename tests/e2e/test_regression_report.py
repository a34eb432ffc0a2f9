"""A night's page in a real browser, from a file, without a network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from reports.histories import histories
from reports.regression_report import write_regression_report
from reports.verdicts import judge
from tests.browser import Screen, browser, screen
from tests.unit.reports.nightly import DAY, QUIET, night, nights, series

pytestmark = pytest.mark.needs("chromium")
HOSTILE = '<img src=x onerror="alert(1)"></script>'


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    changed = [night(20 + at, 12.0 + at / 10, 12.0, environment={HOSTILE: str(at)}) for at in range(9)]
    given = [
        series(*nights(QUIET), *changed, key="slower", label=HOSTILE, device=HOSTILE),
        *(series(*nights([*QUIET, *QUIET[:9]]), key=f"same{at}") for at in range(3)),
    ]
    path = tmp_path_factory.mktemp("report") / "night.html"
    write_regression_report(path, judge(given, at=28 * DAY), histories(given))
    return path


@pytest.fixture(scope="module", params=[1280, 1920])
def look(page: Path, request: pytest.FixtureRequest) -> Iterator[Screen]:
    with browser() as started:
        seen = screen(started, width=request.param)
        seen.page.goto(page.as_uri())
        yield seen
        seen.well()


def test_the_page_fits_and_what_is_not_fine_is_drawn(look: Screen):
    look.page.wait_for_selector("section > .history .main-svg")
    assert look.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert look.count("img") == 0
    assert HOSTILE in look.text("h3")
    assert "SLOWER, FAIL" in look.page.locator(".history .legend").first.text_content()


def test_the_rest_is_drawn_once_somebody_opens_it(look: Screen):
    assert look.count("details .main-svg") == 0
    look.page.locator("summary").first.click()
    look.page.wait_for_selector("details .history .main-svg")
    drawn = look.page.locator("details .history .main-svg").first.bounding_box()
    assert drawn is not None
    assert drawn["width"] > 0.8 * look.page.evaluate("document.body.clientWidth")
