"""How long the dashboard takes to show a finished study of 5,000 candidates: `python benchmarks/dashboard.py`.

Makes the study of `large_study.py` in a temporary folder (or takes one from ``--runs``), starts `archsearch dashboard`,
opens it in Debian's Chromium, and prints seconds against limits: from typing the command, from opening the page in a
browser that has never seen it and in one that has, and from moving a budget to the new picture. Needs Playwright
(``pip install playwright``) and chromium; take it on a quiet machine.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from archsearch.store import Store
from large_study import build_study

STUDY = "large"
LIMITS_S = {"page, used browser": 2.0, "page, new browser": 2.0, "budget moved": 0.5}
_PICTURE = "document.querySelectorAll('#front .points path').length > 10"
_COUNTS = "document.querySelector('#counts').textContent"


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


def opened(page: Page, address: str) -> float:
    """Seconds from going to the page to its first picture."""
    begun = time.perf_counter()
    page.goto(address)
    page.wait_for_function(_PICTURE, polling="raf")
    return time.perf_counter() - begun


def moved(page: Page) -> float:
    """Seconds from a key on a slider to the counts of the new ranking."""
    page.locator("#sliders .budget").filter(has_text="embedding share").get_by_role("slider").focus()
    for _ in range(5):  # far enough that every further step leaves somebody out
        page.keyboard.press("PageDown")
        page.wait_for_timeout(1500)
    before = page.evaluate(_COUNTS)
    begun = time.perf_counter()
    page.keyboard.press("PageDown")
    page.wait_for_function(f"before => {_COUNTS} !== before", arg=before, polling="raf")
    return time.perf_counter() - begun


def measure(browser: Browser, runs: Path, rounds: int) -> dict[str, float]:
    """Medians of all that is timed."""
    times: dict[str, list[float]] = {}
    for _ in range(rounds):
        begun = time.perf_counter()
        with serving(runs) as address:
            context = browser.new_context(viewport={"width": 1280, "height": 900})
            opened(context.new_page(), address)
            times.setdefault("command typed, new browser", []).append(time.perf_counter() - begun)
            context.close()
            context = browser.new_context(viewport={"width": 1280, "height": 900})
            times.setdefault("page, new browser", []).append(opened(context.new_page(), address))
            page = context.new_page()
            times.setdefault("page, used browser", []).append(opened(page, address))
            page.wait_for_timeout(2000)
            times.setdefault("budget moved", []).append(moved(page))
            context.close()
    return {name: statistics.median(found) for name, found in times.items()}


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
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-gpu"]
        )
        found = measure(browser, runs, given.rounds)
        browser.close()
    print(f"{'':30}{'median':>10}{'of limit':>10}")
    for name, seconds in found.items():
        share = f"{seconds / LIMITS_S[name]:>10.2f}" if name in LIMITS_S else ""
        print(f"{name:30}{seconds:>8.2f} s{share}")


if __name__ == "__main__":
    main()
