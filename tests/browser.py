"""A real browser: Debian's Chromium, driven by Playwright. What it complains of, and whom it asks, is on record."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, Page, Request, expect, sync_playwright

_PROGRAM = "/usr/bin/chromium"
_OPTIONS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--no-first-run")
_OURS = frozenset({"127.0.0.1", "localhost"})
PATIENCE_MS = 20_000
"""Two cores run other tests meanwhile."""

_STEP_MS, _QUIET_STEPS = 80, 5

expect.set_options(timeout=PATIENCE_MS)


@dataclass
class Screen:
    """A page with what went wrong on it.

    Attributes:
        page: Playwright's.
        complaints: Errors of the console and of scripts, dialogs, answers from 400 on.
        strangers: Addresses outside this machine that were asked for.
        awaited: What the page has asked its server and has no answer to yet.
    """

    page: Page
    complaints: list[str] = field(default_factory=list)
    strangers: list[str] = field(default_factory=list)
    awaited: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        page = self.page
        page.set_default_timeout(PATIENCE_MS)
        page.on("console", lambda said: self.complaints.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("dialog", self._dialog)
        page.on("request", self._asked)
        page.on("requestfinished", lambda request: self.awaited.pop(id(request), None))
        page.on("requestfailed", lambda request: self.awaited.pop(id(request), None))
        page.on("response", lambda answer: self._answered(answer.status, answer.url))

    def _dialog(self, dialog: Any) -> None:
        self.complaints.append(f"a dialog: {dialog.message}")
        dialog.dismiss()

    def _asked(self, request: Request) -> None:
        url = request.url
        if url.endswith("_dash-update-component") and "tick.n_intervals" not in (request.post_data or ""):
            self.awaited[id(request)] = url
        parts = urlsplit(url)
        if parts.scheme in ("http", "https", "ws", "wss") and parts.hostname not in _OURS:
            self.strangers.append(url)

    def _answered(self, status: int, url: str) -> None:
        if status >= 400:
            self.complaints.append(f"{status} {url}")

    def open(self, url: str) -> Screen:
        """Go there, and wait until something is drawn or said."""
        self.page.goto(url)
        self.page.wait_for_function("document.querySelector('#counts')?.textContent.length > 0")
        self.page.wait_for_selector("#grid .ag-root", state="attached")  # comes last, and with questions of its own
        self.settle()
        return self

    def settle(self) -> None:
        """Wait until nothing is under way: no question of the page is without its answer for a while.

        The page looks for news all the time; that question is not waited for.
        """
        quiet = 0
        for _ in range(PATIENCE_MS // _STEP_MS):
            # Told by the page itself: while it draws it has yet to ask what somebody's key press makes it ask.
            self.page.evaluate("ms => new Promise(done => setTimeout(done, ms))", _STEP_MS)
            quiet = 0 if self.awaited else quiet + 1
            if quiet == _QUIET_STEPS:
                return
        raise AssertionError(f"still awaited: {sorted(self.awaited.values())}")

    def text(self, selector: str) -> str:
        """What stands there."""
        return self.page.inner_text(selector)

    def count(self, selector: str) -> int:
        """How often it is on the page."""
        return self.page.locator(selector).count()

    def figure(self, name: str) -> dict[str, Any]:
        """Traces and layout of a figure, as drawn."""
        drawn: dict[str, Any] = self.page.evaluate(
            "name => { const g = document.querySelector(`#${name} .js-plotly-plot`);"
            " return JSON.parse(JSON.stringify({data: g.data, layout: g.layout})) }", name,
        )  # fmt: skip
        return drawn

    def at(self, figure: str, x: float, y: float) -> tuple[float, float]:
        """Where a point of a figure's data lies in the window, in pixels."""
        found: list[float] = self.page.evaluate(
            "([name, x, y]) => { const g = document.querySelector(`#${name} .js-plotly-plot`), l = g._fullLayout,"
            " b = g.getBoundingClientRect();"
            " return [b.left + l.xaxis._offset + l.xaxis.d2p(x), b.top + l.yaxis._offset + l.yaxis.d2p(y)] }",
            [figure, x, y],
        )  # fmt: skip
        return found[0], found[1]

    def well(self) -> None:
        """Nobody complained, and nobody outside was asked."""
        assert self.complaints == []
        assert self.strangers == []


@contextmanager
def browser() -> Iterator[Browser]:
    """A browser without a window."""
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=_PROGRAM, args=list(_OPTIONS))
        yield started
        started.close()


def screen(started: Browser, *, width: int = 1280, height: int = 900, dark: bool = False) -> Screen:
    """A fresh page, as somebody who was never here would have it."""
    context = started.new_context(
        viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light", accept_downloads=True
    )
    return Screen(context.new_page())
