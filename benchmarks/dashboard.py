"""How long the dashboard takes to show a finished study of 5,000 candidates: `python benchmarks/dashboard.py`.

Makes the study of `large_study.py` in a temporary folder (or takes one from ``--runs``), starts `archsearch dashboard`,
and opens it in Debian's Chromium. Prints seconds against limits: from opening the page to the first picture of the
front, which is a still one, and to the one that can be used, in a browser that has never been used and in one that has
seen the page; the same from typing the command; from moving a budget to the new picture. But for the command the server
has opened the study already. Beside them the floor of what can be used: the same figure in a page that holds nothing
but Plotly.

Pictures are timed by the browser's own trace, from the start of the navigation to the frame after the front is
drawn, with nobody attached to it: a browser that is driven from outside (DevTools' protocol, so Playwright too) parses
Plotly's source again for every stack trace that the library takes while it starts, 0.6 s of it on the machine where
that was found. Moving a budget needs a hand, which is Playwright's (``pip install playwright``). Take it on a quiet
machine.
"""

from __future__ import annotations

import argparse
import functools
import http.server
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import plotly
from playwright.sync_api import Browser, Page, sync_playwright

from archsearch.store import Store
from large_study import build_study

STUDY = "large"
CHROMIUM = "/usr/bin/chromium"
OPTIONS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
           "--disable-quic", "--window-size=1280,900")  # fmt: skip
LIMITS_S = {"picture, new browser": 2.0, "picture, used browser": 2.0}
SEEN, USABLE = "front to be seen", "front shown"
"""Performance marks of the page in the frames after the still picture and after the front itself."""
TRACE_S = 8
_WATCH = """() => { window.drawnAgain = false; document.querySelector("#front .js-plotly-plot").once(
  "plotly_afterplot", () => requestAnimationFrame(() => setTimeout(() => { window.drawnAgain = true; }, 0))); }"""
_BARE = """<!doctype html><body><div id="front" style="width:740px;height:520px"></div>
<script src="plotly.min.js"></script><script>
fetch("figure.json").then((answer) => answer.json())
  .then(({data, layout}) => Plotly.newPlot("front", data, layout))
  .then(() => requestAnimationFrame(() => setTimeout(() => performance.mark("front shown"), 0)));
</script></body>"""


@contextmanager
def serving(runs: Path) -> Iterator[str]:
    """The dashboard's address while it runs."""
    command = [sys.executable, "-m", "archsearch.cli.main", "dashboard", STUDY, "--runs", str(runs), "--port", "0"]
    process = subprocess.Popen([*command, "--no-browser"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().split()[0]
    finally:
        process.terminate()
        process.wait()


def pictures(address: str, profile: Path) -> dict[str, float]:
    """Seconds from the start of the navigation to the page's marks, in a browser with this profile."""
    trace = profile.parent / "trace.json"
    trace.unlink(missing_ok=True)
    tracing = ("--trace-startup=blink.user_timing", f"--trace-startup-duration={TRACE_S}",
               "--trace-startup-format=json", f"--trace-startup-file={trace}")  # fmt: skip
    process = subprocess.Popen(
        [CHROMIUM, *OPTIONS, f"--user-data-dir={profile}", *tracing, address],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        events = _written(trace)
    finally:
        process.terminate()
        process.wait()
    marks = {event["name"]: event for event in events if event["name"] in (SEEN, USABLE)}
    if USABLE not in marks:
        raise SystemExit(f"{address} showed no picture within {TRACE_S} s")
    last = marks[USABLE]
    begun = max(
        event["ts"] for event in events
        if event["name"] == "navigationStart" and event["pid"] == last["pid"] and event["ts"] < last["ts"]
        and event["args"]["data"]["documentLoaderURL"]
    )  # fmt: skip
    return {name: float(event["ts"] - begun) / 1e6 for name, event in marks.items()}


def _written(trace: Path) -> list[dict[str, Any]]:
    for _ in range(10 * (TRACE_S + 20)):
        time.sleep(0.1)
        try:
            return list(json.loads(trace.read_text())["traceEvents"])
        except (FileNotFoundError, json.JSONDecodeError):
            continue
    raise SystemExit("Chromium wrote no trace")


def figure_of(address: str) -> Any:
    """The front's figure as the page gets it."""
    page, _, query = address.partition("?")
    asked = urllib.request.Request(f"{page}_dash-layout", headers={"X-Archsearch-Link": f"?{query}"})
    with urllib.request.urlopen(asked) as answer:
        parts = [json.load(answer)]
    while parts:
        part = parts.pop()
        if isinstance(part, dict):
            if part.get("id") == "front" and "figure" in part:
                return part["figure"]
            parts += part.values()
        elif isinstance(part, list):
            parts += part
    raise SystemExit("the page has no front")


@contextmanager
def bare_page(figure: Any, folder: Path) -> Iterator[str]:
    """The address of a page that shows a figure with Plotly alone."""
    (folder / "figure.json").write_text(json.dumps(figure))
    (folder / "index.html").write_text(_BARE)
    shutil.copy(Path(plotly.__file__).parent / "package_data" / "plotly.min.js", folder)
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Nothing."""


def moved(page: Page) -> float:
    """Seconds from a key on a slider to the frame after the new front is drawn."""
    page.locator("#sliders .budget").filter(has_text="embedding share").get_by_role("slider").focus()
    for _ in range(5):  # far enough that every further step leaves somebody out
        page.keyboard.press("PageDown")
        page.wait_for_timeout(1500)
    page.evaluate(_WATCH)
    begun = time.perf_counter()
    page.keyboard.press("PageDown")
    page.wait_for_function("window.drawnAgain", polling="raf")
    return time.perf_counter() - begun


def measure(browser: Browser, runs: Path, rounds: int) -> dict[str, list[float]]:
    """All that is timed, in seconds, by name."""
    times: dict[str, list[float]] = {}

    def add(name: str, seconds: float) -> None:
        times.setdefault(name, []).append(seconds)

    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            begun = time.perf_counter()
            with serving(runs) as address:
                typed = time.perf_counter() - begun
                cold = pictures(address, place / "cold")
                add("picture, command typed", typed + cold[SEEN])
                add("to be used, command typed", typed + cold[USABLE])
                (place / "bare").mkdir()
                with bare_page(figure_of(address), place / "bare") as bare:
                    for browser_is in ("new", "used"):
                        found = pictures(address, place / "warm")
                        add(f"picture, {browser_is} browser", found[SEEN])
                        add(f"to be used, {browser_is} browser", found[USABLE])
                        add(f"Plotly alone, {browser_is} browser", pictures(bare, place / "plain")[USABLE])
                page = browser.new_page(viewport={"width": 1280, "height": 900})
                page.goto(address)
                page.wait_for_selector("#sliders .budget", timeout=60_000)
                page.wait_for_timeout(5000)
                add("budget moved", moved(page))
                page.close()
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--candidates", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--runs", type=Path, help="a folder that holds the study already")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        runs = given.runs or Path(folder)
        if not (runs / STUDY / "study.db").exists():
            (runs / STUDY).mkdir(parents=True, exist_ok=True)
            with Store.open(runs / STUDY / "study.db") as store:
                build_study(store, STUDY, candidates=given.candidates)
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        found = measure(browser, runs, given.rounds)
        browser.close()
    print(f"{'':30}{'median':>10}{'range':>16}{'of limit':>10}")
    for name, seconds in found.items():
        median = statistics.median(seconds)
        share = f"{median / LIMITS_S[name]:>10.2f}" if name in LIMITS_S else ""
        print(f"{name:30}{median:>8.2f} s{f'{min(seconds):.2f} to {max(seconds):.2f}':>16}{share}")


if __name__ == "__main__":
    main()
