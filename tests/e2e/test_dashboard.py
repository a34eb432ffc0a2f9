"""The dashboard in a real browser: opened, filtered, hovered, selected, compared, shared, followed, and attacked."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Browser, Route, expect

from archsearch.store import Store
from large_study import DEVICES, build_study
from search_space.layout_file import read_layout
from tests.browser import Screen, browser, screen
from tests.e2e.conftest import TINY, Cli, wait_until

pytestmark = pytest.mark.needs("chromium")

EVIL = "<img src=x onerror=alert(1)>"
TABS = ("table", "parallel", "compare", "progress", "agreement", "embeddings", "notes")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as started:
        yield started


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a study of two devices, and variants of it that are odd."""
    folder = tmp_path_factory.mktemp("looked") / "runs"
    make(folder, "two", candidates=30, devices=DEVICES)
    make(folder, "one", candidates=1)
    make(folder, "half", candidates=8, devices=DEVICES)
    edit(folder, "half", "DELETE FROM measurements WHERE device = ? AND trial > 3", DEVICES[1])
    make(folder, "evil", candidates=8, devices=DEVICES)
    edit(folder, "evil", "UPDATE measurements SET device = ? WHERE device = ?", EVIL, DEVICES[1])
    edit(folder, "evil", "UPDATE events SET data = replace(data, ?, ?)", f'"{DEVICES[1]}"', json.dumps(EVIL))
    edit(folder, "evil", "UPDATE measurements SET name = ? WHERE name = 'gemma-3-270m'", EVIL)
    edit(folder, "evil", "UPDATE measurements SET status = 'failed', reason = ?, result = NULL WHERE trial = 2", EVIL)
    make(folder, "impossible", candidates=6)
    config = json.dumps({**json.loads(config_of(folder, "impossible")), "budgets": ["peak_rss_mib<=1"]})
    edit(folder, "impossible", "UPDATE studies SET config = ?", config)
    make(folder, "missing", candidates=8)
    edit(folder, "missing", "UPDATE measurements SET status = 'failed', result = NULL WHERE trial % 2 = 0")
    edit(folder, "missing", "UPDATE measurements SET status = 'failed', result = NULL WHERE role != 'candidate'")
    with Store.open(make_folder(folder, "empty")) as store:
        store.create_study("empty", json.loads(config_of(folder, "one")))
    return folder


def make_folder(runs: Path, name: str) -> Path:
    (runs / name).mkdir(parents=True)
    return runs / name / "study.db"


def make(runs: Path, name: str, *, candidates: int, devices: tuple[str, ...] = DEVICES[:1]) -> None:
    with Store.open(make_folder(runs, name)) as store:
        build_study(store, name, candidates=candidates, devices=devices)


def edit(runs: Path, name: str, statement: str, *values: str) -> None:
    with sqlite3.connect(runs / name / "study.db") as database:
        database.execute("DELETE FROM summaries")  # what was derived of the rows
        database.execute(statement, values)
    database.close()


def config_of(runs: Path, name: str) -> str:
    with sqlite3.connect(runs / name / "study.db") as database:
        [(config,)] = database.execute("SELECT config FROM studies").fetchall()
    database.close()
    return str(config)


class Server:
    """`archsearch dashboard`, as typed."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        command = [sys.executable, "-m", "archsearch.cli.main", "dashboard", *arguments, "--no-browser", "--port", "0"]
        self.process = subprocess.Popen(
            command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
        assert self.process.stdout is not None
        self.said = self.process.stdout.readline()
        found = re.match(r"(http://127\.0\.0\.1:\d+/)\?study=\S+    Ctrl-C ends it", self.said)
        assert found, self.said + self.end()[1]
        self.address = found[1]
        self.first = self.said.split()[0]

    def end(self) -> tuple[int, str]:
        """Ctrl-C; the exit code and what was said on stderr."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGINT)
        _, err = self.process.communicate(timeout=30)
        return self.process.returncode, err


@pytest.fixture(scope="module")
def server(runs: Path) -> Iterator[Server]:
    running = Server(runs.parent, "two")
    yield running
    code, err = running.end()
    assert (code, err) == (0, "archsearch: stopped\n")


@pytest.fixture
def look(chromium: Browser, server: Server) -> Iterator[Screen]:
    """The study of two devices on the screen; in the end nobody may have complained."""
    seen = screen(chromium).open(server.first)
    yield seen
    seen.well()
    seen.page.context.close()


def counts(seen: Screen) -> dict[str, int]:
    """Kinds of points as the line above the front says them."""
    text = seen.text("#counts").partition(" — ")[2]
    return {kind: int(number.replace(",", "")) for number, kind in re.findall(r"(\d[\d,]*) ([a-z ]+)", text)}


def points(seen: Screen, kind: str) -> list[tuple[float, float, str]]:
    """Values and ids of the points of a kind."""
    for trace in seen.figure("front")["data"]:
        if trace.get("name") == kind:
            x, y = values(trace["x"]), values(trace["y"])
            return [(a, b, key.split("~")[0]) for a, b, key in zip(x, y, trace["customdata"], strict=True)]
    return []


def values(column: object) -> list[float]:
    """Numbers of a trace; Plotly may pack them."""
    if isinstance(column, dict):
        import base64

        import numpy as np

        return [float(value) for value in np.frombuffer(base64.b64decode(column["bdata"]), dtype=column["dtype"])]
    assert isinstance(column, list)
    return column


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


def choose(seen: Screen, control: str, text: str) -> None:
    """Choose in a drop-down as a hand does."""
    seen.page.click(f"#{control}")
    seen.page.locator("[role=option], .dash-dropdown-option").filter(has_text=text).first.click()
    seen.settle()


def test_a_budget_moves_the_front_and_spares_anchors(look: Screen):
    before, anchors = counts(look), points(look, "anchor")
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


def test_a_link_brings_back_what_was_on_the_screen(look: Screen, chromium: Browser):
    choose(look, "scope", f"{DEVICES[1]}, prompt")
    choose(look, "x", "peak RSS")
    look.page.locator("#sliders .budget").filter(has_text="decode").get_by_role("slider").focus()
    for _ in range(40):
        look.page.keyboard.press("ArrowLeft")
    look.page.locator("#counts").click()
    for key in ("n", "c", "n", "2", "t", "t"):
        look.page.keyboard.press(key)
        look.settle()
    look.page.fill("#find", "C")
    look.settle()
    box = look.page.locator("#front .nsewdrag").bounding_box()
    assert box is not None
    look.page.mouse.move(box["x"] + 20, box["y"] + 20)  # zoom
    look.page.mouse.down()
    look.page.mouse.move(box["x"] + 0.8 * box["width"], box["y"] + 0.8 * box["height"], steps=5)
    look.page.mouse.up()
    look.settle()
    query = parse_qs(urlsplit(look.page.url).query)
    assert {"study", "at", "x", "y", "limit", "sel", "vs", "find", "theme", "tab", "zoom"} <= query.keys()

    other = screen(chromium).open(look.page.url)
    other.settle()
    for part in ("#counts", "#details .heading", "#tab-compare", "#sliders"):
        assert other.text(part) == look.text(part)
    mine, theirs = look.figure("front"), other.figure("front")
    assert [trace.get("x") for trace in theirs["data"]] == [trace.get("x") for trace in mine["data"]]
    for axis in ("xaxis", "yaxis"):
        assert theirs["layout"][axis]["range"] == pytest.approx(mine["layout"][axis]["range"])
    assert other.page.get_attribute("html", "data-theme") == "dark"
    assert other.page.input_value("#find") == "C"
    expect(other.page.locator("#panel-parallel")).to_be_visible()
    other.well()
    other.page.context.close()


def test_a_link_that_names_what_is_not_here_says_so(server: Server, chromium: Browser):
    seen = screen(chromium).open(
        f"{server.address}?study=gone&at=nowhere&x=speed&sel=a~b&vs=c~d&limit=x:1&keep=z:1:2&zoom=x:9"
    )
    expect(seen.page.locator("#alert")).to_contain_text("there is no study 'gone' here")
    assert points(seen, "anchor")
    seen.well()
    seen.page.context.close()


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


def test_only_this_machine_is_answered(server: Server):
    port = urlsplit(server.address).port
    assert port is not None
    for host, status in ((f"127.0.0.1:{port}", 200), (f"localhost:{port}", 200), ("evil.example", 403)):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        connection.request("GET", "/", headers={"Host": host})
        assert connection.getresponse().status == status
        connection.close()
    others = [info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)]
    for address in {str(other) for other in others} - {"127.0.0.1"}:
        with pytest.raises(OSError, match="refused"):
            socket.create_connection((address, port), timeout=5)


def test_what_cannot_be_looked_at_is_refused(cli: Cli, server: Server, runs: Path):
    assert "no study in runs yet" in cli.refused("dashboard")
    assert "there is no study 'x' in runs" in cli.refused("dashboard", "x")
    assert "is not ranked" in cli.refused("dashboard", "measure")
    taken = str(urlsplit(server.address).port)
    said = cli.refused("dashboard", "two", "--runs", runs, "--port", taken)
    assert f"port {taken} of 127.0.0.1 cannot be had" in said
