"""Fronts in a real browser: opened, their axes and budgets moved, brushed, hovered, taken away as pictures."""

from __future__ import annotations

import re
import urllib.request
import xml.etree.ElementTree
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Browser, Route, expect

from large_study import DEVICES
from reports.figures import ThemeName
from reports.figures.theme import THEMES
from tests.browser import Screen, screen
from tests.e2e.dashboard.looking import Server, choose, counts, points

pytestmark = pytest.mark.needs("chromium")


def test_a_study_opens_with_its_front_across_devices(look: Screen):
    assert look.text("#counts").startswith("all devices and sizes together — ")
    told = counts(look)
    assert told["on the front"] == len(points(look, "on the front")) > 0
    assert told["dominated"] == len(points(look, "dominated")) > 0
    labels = look.page.locator("#front .textpoint").all_text_contents()
    assert {"gemma-3-270m", "lfm2.5-350m", "qwen3.5-0.8b"} <= set(labels)
    layout = look.figure("front")["layout"]
    assert layout["xaxis"]["title"]["text"] == "TTFT, × lfm2.5-350m (lower is better)"
    assert "worst" in look.text("#reading")
    assert look.count(".ag-center-cols-container .ag-row") > 10
    expect(look.page.locator("#status")).to_have_text("no run at work")


def test_axes_and_places_are_chosen_by_hand(look: Screen):
    choose(look, "scope", f"{DEVICES[0]}, prompt")
    assert look.figure("front")["layout"]["xaxis"]["title"]["text"] == "TTFT, ms (lower is better)"
    choose(look, "y", "effective params")
    assert look.figure("front")["layout"]["yaxis"]["title"]["text"] == "effective params (higher is better)"
    look.page.click("#swap")
    look.settle()
    assert look.figure("front")["layout"]["xaxis"]["title"]["text"].startswith("effective params")
    before = counts(look)["on the front"]
    look.page.get_by_text("the two axes", exact=True).click()
    look.settle()
    assert counts(look)["on the front"] < before, "in two quantities fewer are unbeaten than in four"


def test_a_budget_moves_the_front_and_spares_anchors(look: Screen):
    said, before, anchors = look.text("#counts"), counts(look), points(look, "anchor")
    slider = look.page.locator("#sliders .budget").filter(has_text="TTFT").get_by_role("slider")
    slider.focus()
    for _ in range(60):
        look.page.keyboard.press("ArrowLeft")
    look.settle()
    expect(look.page.locator("#counts")).to_contain_text("outside the budgets")
    after = counts(look)
    assert after["outside the budgets"] > 0
    assert sum(after.values()) == sum(before.values()), "nobody is lost"
    assert points(look, "anchor") == anchors
    assert "≤" in look.text("#sliders .budget:nth-of-type(2)")
    assert "limit=ttft_ms" in look.page.url
    look.page.click("#reset")
    expect(look.page.locator("#counts")).to_have_text(said)
    look.settle()
    assert counts(look) == before
    assert "limit=" not in look.page.url


def test_a_budget_stays_as_it_was_set_wherever_one_looks(chromium: Browser, server: Server):
    seen = screen(chromium).open(f"{server.address}?study=two&limit=ttft_ms:400&limit=memory_mib:100")
    choose(seen, "scope", f"{DEVICES[0]}, prompt")
    before = counts(seen)
    for place in (DEVICES[1], DEVICES[0]):
        choose(seen, "scope", f"{place}, prompt")
        assert "≤ 400" in seen.text("#sliders")
    for context in ("131,072 tokens", "each measured point"):
        choose(seen, "context", context)
        assert "≤ 100" in seen.text("#sliders")
    assert counts(seen) == before
    limits = parse_qs(urlsplit(seen.page.url).query)["limit"]
    found = {name: float(at) for name, at in (limit.split(":") for limit in limits)}
    assert found == {"ttft_ms": 400, "memory_mib": 100}
    seen.well()
    seen.page.context.close()


def test_the_front_is_taken_away_as_a_picture_with_every_point(look: Screen, tmp_path: Path):
    with look.page.expect_download() as found:
        look.page.click("#picture")
    found.value.save_as(tmp_path / "front.svg")
    drawn = (tmp_path / "front.svg").read_text()
    assert drawn.count("<circle") >= len(points(look, "on the front")) + len(points(look, "dominated"))
    assert "lower is better" in drawn


@pytest.mark.parametrize("shade", ["light", "dark"])
def test_a_still_picture_stands_there_until_the_front_can_be_used(chromium: Browser, server: Server, shade: ThemeName):
    seen = screen(chromium, dark=shade == "dark")
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    seen.page.route(re.compile("plotly.min.js"), hold)
    seen.page.goto(f"{server.first}&x=effective_params", wait_until="commit")
    still = seen.page.locator("img.still-front")
    expect(still).to_be_visible()
    assert still.evaluate("image => image.decode().then(() => image.naturalWidth)") > 400
    drawn = seen.page.request.get(still.evaluate("image => image.src")).text()
    assert "effective params" in drawn
    assert f'fill="{THEMES[shade].background}"/>' in drawn
    expect(seen.page.locator("#counts")).to_contain_text("on the front")
    boxes = [seen.page.locator(one).bounding_box() for one in ("img.still-front", ".front .pointed")]
    assert boxes[0] == boxes[1], "it moves with what is above it"
    for route in held:
        route.continue_()
    seen.page.wait_for_selector("#front .main-svg")
    expect(still).to_have_count(0)
    seen.settle()
    seen.well()
    seen.page.context.close()


def test_the_still_picture_takes_any_question(server: Server):
    for query in (
        "",
        "?width=x&height=-3",
        "?width=99999999&height=1&link=study%3Dnone%26x%3D%3Cscript%3E",
        "?link=%00",
    ):
        with urllib.request.urlopen(f"{server.address}front.svg{query}", timeout=60) as answer:
            drawn = answer.read().decode()
            assert answer.headers["Content-Type"] == "image/svg+xml; charset=utf-8"
        assert xml.etree.ElementTree.fromstring(drawn).tag.endswith("svg")
        assert "<script" not in drawn


@pytest.mark.parametrize(("script", "what"), [("plotly.min.js", "Figures"), ("dash_ag_grid", "The table")])
def test_a_script_that_does_not_come_is_told(chromium: Browser, server: Server, script: str, what: str):
    seen = screen(chromium)
    seen.page.route(re.compile(re.escape(script)), lambda route: route.abort())
    seen.page.goto(server.first)
    expect(seen.page.locator("#alert")).to_contain_text(f"{what} could not be loaded")
    if what == "Figures":
        expect(seen.page.locator("#grid .ag-center-cols-container .ag-row").first).to_be_visible()
    seen.page.context.close()


def test_memory_is_counted_at_the_context_that_is_asked_for(look: Screen):
    choose(look, "scope", f"{DEVICES[0]}, prompt")
    choose(look, "x", "weights + state")
    short = {key: x for x, _, key in points(look, "on the front")}
    choose(look, "context", "131,072 tokens")
    deep = {key: x for kind in ("on the front", "uncertain: intervals overlap", "dominated")
            for x, _, key in points(look, kind)}  # fmt: skip
    grown = [deep[key] / x for key, x in short.items()]
    assert max(grown) > 1.5, "keys and values of 131,072 tokens weigh"
    assert min(grown) >= 1.0
    assert "context=131072" in look.page.url


def test_hovering_says_what_one_needs_to_decide(look: Screen):
    choose(look, "scope", f"{DEVICES[1]}, prompt")
    x, y, _ = points(look, "on the front")[0]
    look.page.mouse.move(*look.at("front", x, y))
    card = look.page.locator("#hover .card")
    expect(card).to_be_visible()
    text = card.inner_text()
    for part in ("TTFT", "decode", "peak RSS", "±", "embedding share", "params", "width", "layers", DEVICES[1], "int4",
                 "processes", "rank"):  # fmt: skip
        assert part in text, text
    assert card.locator(".strip span").count() > 0
    look.page.mouse.move(5, 5)
    expect(card).to_be_hidden()


def test_brushing_is_linked_both_ways(look: Screen):
    look.page.keyboard.press("2")
    look.settle()
    assert look.count("#body-parallel .y-axis") > 4
    look.page.locator("#body-parallel").scroll_into_view_if_needed()
    axis = look.page.locator("#body-parallel .axis-brush .background").first.bounding_box()
    assert axis is not None
    middle = axis["x"] + axis["width"] / 2
    look.page.mouse.move(middle, axis["y"] + 0.15 * axis["height"])
    look.page.mouse.down()
    look.page.mouse.move(middle, axis["y"] + 0.5 * axis["height"], steps=8)
    look.page.mouse.up()
    expect(look.page.locator("#chips .chip")).to_have_count(1)
    look.settle()
    faded = [
        trace
        for trace in look.figure("front")["data"]
        if isinstance(trace.get("marker", {}).get("opacity"), list | dict)
    ]
    assert faded, "those that were left out stand back on the front"
    assert "keep=ttft_ms" in look.page.url
    look.page.click("#chips .chip")
    expect(look.page.locator("#chips .chip")).to_have_count(0)
    look.settle()

    look.page.locator("#front [data-val=select]").click()
    (x, y, _), *_ = points(look, "on the front")
    left, top = look.at("front", x, y)
    look.page.mouse.move(left - 60, top - 60)
    look.page.mouse.down()
    look.page.mouse.move(left + 60, top + 60, steps=8)
    look.page.mouse.up()
    expect(look.page.locator("#chips .chip")).to_have_count(2)
    look.settle()
    kept = look.figure("body-parallel")["data"][0]["dimensions"]
    assert sum("constraintrange" in dimension for dimension in kept) == 2
