"""Layouts chosen on the dashboard: their details, their files, and each beside others."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Route, expect

from large_study import DEVICES
from search_space.layout_file import read_layout
from tests.browser import Screen
from tests.e2e.dashboard.looking import points, values

pytestmark = pytest.mark.needs("chromium")


def test_selecting_shows_everything_of_a_layout(look: Screen):
    x, y, layout_id = points(look, "on the front")[0]
    look.page.mouse.click(*look.at("front", x, y))
    expect(look.page.locator("#details")).to_contain_text(layout_id)
    look.settle()
    text = look.text("#details")
    for part in (*DEVICES, "Latency against context", "Carried state against context", "Time per block and operator",
                 "Raw samples", "Conditions", "threads", "onnxruntime"):  # fmt: skip
        assert part in text, part
    assert f"archsearch measure {layout_id} --device" in look.text("#command")
    assert look.count("#run-view .js-plotly-plot") >= 2
    ring = look.figure("front")["data"][0]
    assert (values(ring["x"]), values(ring["y"])) == ([x], [y])
    look.page.keyboard.press("Escape")
    expect(look.page.locator("#details")).to_contain_text("No layout selected")


def test_files_of_a_layout_are_what_they_say(look: Screen, tmp_path: Path):
    import onnx

    look.page.keyboard.press("n")
    expect(look.page.locator("#details .heading")).to_be_visible()
    layout_id = look.page.locator("#details dd").first.inner_text()
    for name in ("layout.json", "model.onnx", "measurements.csv"):
        with look.page.expect_download() as found:
            look.page.get_by_text(f"↓ {name}", exact=True).click()
        found.value.save_as(tmp_path / name)
        assert found.value.suggested_filename == f"{layout_id}-{name}"
    assert read_layout(tmp_path / "layout.json").layout.layout_id == layout_id
    graph = onnx.load(tmp_path / "model.onnx", load_external_data=False)
    assert {"logits"} <= {output.name for output in graph.graph.output}
    assert layout_id in (tmp_path / "measurements.csv").read_text()


def test_layouts_are_compared_side_by_side(look: Screen):
    for _ in range(2):
        look.page.keyboard.press("n")
        look.settle()
        look.page.keyboard.press("c")
        look.settle()
    look.page.keyboard.press("3")
    table = look.page.locator("#body-compare table.values")
    expect(table).to_be_visible()
    look.settle()
    assert look.text("#tab-compare") == "Compare (2)"
    assert re.search(r"×\d\.\d{3}|≈", table.inner_text())
    assert look.count("#body-compare .js-plotly-plot") >= 2
    look.page.keyboard.press("1")
    for row in range(6, 9):
        look.page.locator(f"#grid [row-index='{row}'] .tray").click()
        look.settle()
    expect(look.page.locator("#alert")).to_contain_text("4 layouts are compared already")


def test_a_comparison_is_kept_when_the_selected_layout_is_there_first(look: Screen):
    held: list[Route] = []

    def hold(route: Route) -> None:
        if "grid.cellClicked" in (route.request.post_data or ""):
            held.append(route)
        else:
            route.continue_()

    look.page.route(re.compile("."), hold)
    row = look.page.locator("#grid [row-index='6']").first
    name = row.get_attribute("row-id")
    assert name is not None
    look.page.locator("#grid [row-index='6'] .tray").click()
    expect(look.page.locator("#details")).to_contain_text(name.partition("~")[0])
    assert held
    for route in held:
        route.continue_()
    expect(look.page.locator("#tab-compare")).to_have_text("Compare (1)")


def test_the_table_is_worked_by_keys(look: Screen):
    look.page.locator("#grid [row-index='0'] [col-id=rank]").click()
    look.settle()
    look.page.keyboard.press("ArrowDown")
    look.page.keyboard.press("Space")
    look.settle()
    second = look.page.locator("#grid [row-index='1']").first.get_attribute("row-id")
    assert second is not None
    expect(look.page.locator("#details")).to_contain_text(second.partition("~")[0])
    look.page.keyboard.press("c")
    look.settle()
    assert look.text("#tab-compare") == "Compare (1)"
