"""Every tab in both themes, odd studies, another study, and one that is still running."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, expect

from large_study import DEVICES
from tests.browser import Screen, screen
from tests.e2e.conftest import TINY, Cli, wait_until
from tests.e2e.dashboard.looking import EVIL, Server, choose, counts

pytestmark = pytest.mark.needs("chromium")

TABS = ("table", "parallel", "compare", "progress", "agreement", "embeddings", "notes")


@pytest.mark.parametrize("width", [1280, 1920])
@pytest.mark.parametrize("dark", [False, True])
def test_every_tab_fits_in_both_themes(chromium: Browser, server: Server, width: int, dark: bool):
    seen = screen(chromium, width=width, dark=dark).open(server.first)
    seen.page.keyboard.press("n")
    seen.settle()
    assert seen.page.get_attribute("html", "data-theme") == ("dark" if dark else "light")
    for number, tab in enumerate(TABS, start=1):
        seen.page.keyboard.press(str(number))
        expect(seen.page.locator(f"#panel-{tab}")).to_be_visible()
        seen.settle()
        wide = seen.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, f"{tab} sticks out by {wide} pixels"
    ground = seen.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == ("rgb(20, 23, 29)" if dark else "rgb(255, 255, 255)")
    assert seen.figure("front")["layout"]["paper_bgcolor"] == ("#14171d" if dark else "#ffffff")
    seen.well()
    seen.page.context.close()


@pytest.mark.parametrize("study", ["one", "half", "impossible", "missing", "evil", "empty"])
def test_odd_studies_are_shown_as_they_are(chromium: Browser, server: Server, study: str):
    seen = screen(chromium).open(f"{server.address}?study={study}")
    if study == "empty":
        assert "holds no measurement yet" in seen.text("#counts")
    else:
        seen.page.keyboard.press("n")
        expect(seen.page.locator("#details .heading")).to_be_visible()
        seen.page.keyboard.press("c")
    for number in range(1, len(TABS) + 1):
        seen.page.keyboard.press(str(number))
        seen.settle()
    if study == "impossible":
        assert "Nothing meets the budgets; the nearest" in seen.text("#counts")
        assert seen.figure("front")["data"]
    if study == "half":
        assert f"Without {DEVICES[1]}" in seen.text("#counts") or "without numbers" in seen.text("#counts")
    if study == "evil":
        seen.page.keyboard.press("1")
        assert EVIL in seen.page.content().replace("&lt;", "<").replace("&gt;", ">")
        assert seen.count("img[src=x]") == 0
        seen.page.click("#scope")
        expect(seen.page.get_by_text(f"{EVIL}, prompt").first).to_be_visible()
    expect(seen.page.locator("#alert")).to_be_hidden()
    seen.well()
    seen.page.context.close()


def test_a_study_that_cannot_be_read_is_told_on_a_page_that_works(chromium: Browser, server: Server):
    seen = screen(chromium)
    seen.page.goto(f"{server.address}?study=damaged")
    expect(seen.page.locator("#alert")).to_contain_text("file is not a database")
    choose(seen, "study", "one")
    seen.page.wait_for_url("**study=one**")
    expect(seen.page.locator("#counts")).to_contain_text(f"{DEVICES[0]}, prompt")
    seen.well()
    seen.page.context.close()


def test_another_study_is_a_choice_away(look: Screen):
    choose(look, "study", "one")
    look.page.wait_for_url("**study=one**")
    expect(look.page.locator("#counts")).to_contain_text(f"{DEVICES[0]}, prompt")


def test_a_running_study_is_followed(cli: Cli, chromium: Browser):
    running = cli.start(
        "run",
        *TINY,
        "--study",
        "live",
        "--trials",
        "3",
        "--anchor",
        "CCG:width=64,vocab=512,params=300K,multiple=16,head_dim=16",
    )
    wait_until((cli.folder / "runs" / "live" / "study.db").exists)
    server = Server(cli.folder)
    seen = screen(chromium).open(server.first)
    expect(seen.page.locator("#status")).to_contain_text("measuring on local")
    cli.finish(running, timeout=180)
    expect(seen.page.locator("#status")).to_contain_text("no run at work")
    wait_until(lambda: sum(counts(seen).values()) == 3)
    measured = {m.trial for m in cli.measurements("live") if m.role == "candidate"}
    assert measured == {0, 1, 2}, "a restless machine measures some of them twice"
    seen.page.keyboard.press("n")
    expect(seen.page.locator("#details .heading")).to_be_visible()
    seen.well()

    code, err = server.end()
    assert (code, err) == (0, "archsearch: stopped\n")
    expect(seen.page.locator("#lost")).to_contain_text("The dashboard's process has ended")
    seen.page.context.close()
