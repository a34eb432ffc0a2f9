"""Makes the dashboard: a Dash application that serves itself, asks nobody else, and answers this machine alone."""

from __future__ import annotations

import html as escaping
from typing import Any
from urllib.parse import urlsplit

import flask
from dash import Dash, set_props
from dash.development.base_component import Component

from reports.dashboard import callbacks_beside, callbacks_front, callbacks_state
from reports.dashboard.open_studies import OpenStudies
from reports.dashboard.opening import opened, still
from reports.dashboard.page import page
from reports.dashboard.source import Library
from reports.formatting import clean

LIVE_MS = 2000
"""Between two looks for news; each is one small query."""
_PLOTLY = "/_dash-component-suites/plotly/package_data/plotly.min.js"
"""Where Dash serves it, from the installed package."""
_LEAST_PX, _MOST_PX = 200, 4000
_SKELETON = """
<div id="react-entry-point">
  <header><h1>archsearch</h1></header>
  <div class="columns"><aside class="controls"></aside>
    <main class="front"><div id="counts">opening …</div><div class="pointed"></div></main></div>
</div>
"""
"""The page while its scripts load: what is in the place of the front later is in that of the still picture now."""
_HERE = frozenset({"127.0.0.1", "localhost", "::1"})


def create_app(library: Library, *, live_ms: int = LIVE_MS) -> Dash:
    """A dashboard over the studies of a library; serve its `server` (WSGI) on the loopback address.

    Requests that name another host are refused: a page of somebody else whose name leads here could read the study.

    Args:
        library: What can be looked at.
        live_ms: Milliseconds between two looks for news.
    """
    app = _Page(
        __name__, title="archsearch", update_title="", serve_locally=True, suppress_callback_exceptions=True,
        add_log_handler=False, on_error=_told,
    )  # fmt: skip
    studies = OpenStudies(library)
    app.layout = lambda: _page(studies, live_ms)
    callbacks_state.register(app, studies)
    callbacks_front.register(app, studies)
    callbacks_beside.register(app, studies)

    @app.server.before_request
    def only_from_here() -> flask.Response | None:
        if urlsplit(f"//{flask.request.host}").hostname in _HERE:
            return None
        return flask.Response(
            f"This dashboard answers 127.0.0.1 and localhost, not {escaping.escape(clean(flask.request.host))}.\n",
            403, mimetype="text/plain",
        )  # fmt: skip

    @app.server.get("/alive")
    def alive() -> str:
        return "yes"

    @app.server.get("/front.svg")
    def front_svg() -> flask.Response:
        asked = flask.request.args
        width, height = (min(max(asked.get(name, 800, int), _LEAST_PX), _MOST_PX) for name in ("width", "height"))
        made = still(studies, asked.get("link", ""), "dark" if asked.get("shade") == "dark" else "light", width, height)
        return flask.Response(made, mimetype="image/svg+xml", headers={"Cache-Control": "no-store"})

    return app


class _Page(Dash):
    """Shows a still picture first; fetches Plotly beside all else, and the table's library when the front is drawn.

    `assets/archsearch.js` does it, so it runs before all other scripts; the page's head tells it where they are.
    """

    def interpolate_index(self, **parts: Any) -> str:
        """The page's first answer; see `Dash.interpolate_index`."""
        tables = ""
        kept: list[str] = []
        for line in str(parts["scripts"]).splitlines():
            if "/dash_ag_grid/" in line:
                tables = line.partition('src="')[2].partition('"')[0]
            elif "/archsearch.js" in line:
                kept.insert(0, line)
            else:
                kept.append(line)
        parts["scripts"] = "\n".join(kept)
        parts["app_entry"] = _SKELETON
        for name, address in (("figures", self.get_relative_path(_PLOTLY)), ("tables", tables)):
            parts["metas"] += f'\n<meta name="{name}" content="{address}">'
        return str(super().interpolate_index(**parts))


def _page(studies: OpenStudies, live_ms: int) -> Component:
    """As the address asks for it; before a first question, which is when Dash looks at it, as it is without one."""
    if not flask.has_request_context():
        return page(live_ms)
    link = flask.request.headers.get("X-Archsearch-Link") or urlsplit(flask.request.referrer or "").query
    dark = flask.request.headers.get("X-Archsearch-Theme") == "dark"
    return opened(studies, link, "dark" if dark else "light", live_ms)


def _told(error: Exception) -> None:
    """Show what went wrong on the page, and leave the rest of it as it is."""
    set_props("alert", {"children": clean(f"{type(error).__name__}: {error}"), "hidden": False})
