"""What is on the screen is shared by its address; who else may ask, and what is refused."""

from __future__ import annotations

import http.client
import socket
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Browser, expect

from large_study import DEVICES
from tests.browser import Screen, screen
from tests.e2e.conftest import Cli
from tests.e2e.dashboard.looking import Server, choose, points

pytestmark = pytest.mark.needs("chromium")


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
    expect(seen.page.locator("#alert")).to_contain_text("there is no study 'gone' here; this is two")
    assert points(seen, "anchor")
    seen.well()
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
