"""The page as it is before anything is known: regions, controls, empty figures."""

from __future__ import annotations

from typing import Any

from dash import dcc, html
from dash.development.base_component import Component

from reports.dashboard.view import TABS, Tab

TITLES: dict[Tab, str] = {
    "table": "Table", "parallel": "All objectives", "compare": "Compare", "progress": "Progress",
    "agreement": "Device agreement", "embeddings": "Embeddings", "notes": "About the numbers",
}  # fmt: skip
SHORTCUTS = (
    ("n, p", "next and previous layout by rank"),
    ("c", "add the selected layout to the comparison, or take it out"),
    ("/", "find by code, name or id"),
    ("1 … 7", "open a tab"),
    ("t", "light, dark, or as the system has it"),
    ("l", "copy a link to what is on the screen"),
    ("Esc", "select nothing"),
    ("?", "this list"),
)
NOT_OURS = ["sendChartToCloud"]
"""Tools of Plotly that would send a figure away."""
GRAPH: dict[str, Any] = {
    "displaylogo": False, "responsive": True, "scrollZoom": False, "showTips": False,
    "toImageButtonOptions": {"format": "svg"}, "modeBarButtonsToRemove": [*NOT_OURS, "select2d", "lasso2d"],
}  # fmt: skip
DIMMED = {"visibility": "visible", "opacity": 0.5}
"""What is drawn anew stays to be seen meanwhile."""
FRONT_TOOLS = [*NOT_OURS, "lasso2d", "autoScale2d", "zoomIn2d", "zoomOut2d", "toImage"]
"""Plotly's own picture would lack the clouds, which only the page's style makes visible; ours has them."""


def page(live_ms: int) -> Component:
    """The whole page.

    Args:
        live_ms: Milliseconds between two looks for news.
    """
    return html.Div(
        id="page",
        children=[
            dcc.Location(id="url", refresh=False),
            dcc.Interval(id="tick", interval=live_ms),
            *(
                dcc.Store(id=name)
                for name in (
                    "version",
                    "limits",
                    "selected",
                    "tray",
                    "brush",
                    "zoom",
                    "theme",
                    "shade",
                    "query",
                    "linked",
                    "drawn",
                )
            ),
            dcc.Download(id="download"),
            *_hidden(),
            _header(),
            html.Div(id="alert", role="alert", hidden=True),
            html.Div(id="lost", role="alert", hidden=True),
            html.Div(className="columns", children=[_controls(), _front(), _details()]),
            _tabs(),
            _help(),
        ],
    )


def _hidden() -> list[Component]:
    """What keys press."""
    return [
        html.Button(id=name, n_clicks=0, className="unseen", tabIndex=-1, **{"aria-hidden": "true"})
        for name in ("next", "previous", "nothing", "toggle")
    ]  # fmt: skip


def _header() -> Component:
    return html.Header([
        html.H1("archsearch"),
        html.Div(dcc.Dropdown(id="study", clearable=False, placeholder="study"), className="study", **_named("Study")),
        html.Div(id="status", **{"aria-live": "polite"}),
        html.Div(className="actions", children=[
            html.Button("Copy link", id="share", title="A link to what is on the screen (l)"),
            html.Button("Theme", id="theme-button", title="Light, dark, or as the system has it (t)"),
            html.Button("?", id="help-button", title="Keys (?)", **{"aria-label": "keys"}),
        ]),
    ])  # fmt: skip


def _controls() -> Component:
    return html.Aside(className="controls", children=[
        html.H2("Where"),
        dcc.Dropdown(id="scope", clearable=False, placeholder="no place yet"),
        html.H2("Axes"),
        html.Label(["Horizontal", dcc.Dropdown(id="x", clearable=False)]),
        html.Label(["Vertical", dcc.Dropdown(id="y", clearable=False)]),
        html.Button("Swap axes", id="swap", className="quiet"),
        html.H2("Front of"),
        dcc.RadioItems(id="of", value="study", options=[
            {"label": "the study's objectives", "value": "study"}, {"label": "the two axes", "value": "axes"},
        ]),
        html.H2("Budgets"),
        html.Label(["State counts as memory at", dcc.Dropdown(id="context", clearable=False)]),
        html.Div(id="sliders"),
        html.Div(id="fixed", className="note"),
        html.Button("Back to the study's budgets", id="reset", className="quiet"),
        html.H2("Find"),
        dcc.Input(id="find", type="search", placeholder="code, name or id", debounce=0.25, value=""),
        html.Div(id="chips"),
    ])  # fmt: skip


def _front() -> Component:
    return html.Main(className="front", children=[
        html.Div(id="counts", role="status", **{"aria-live": "polite"}),
        dcc.Loading(
            html.Div(className="pointed", children=[  # a tooltip's place is told in the figure's own box
                dcc.Graph(id="front", clear_on_unhover=True, className="graph", figure=empty_figure(),
                          config={**GRAPH, "modeBarButtonsToRemove": FRONT_TOOLS}),
                dcc.Tooltip(id="hover", direction="right", className="hover"),
            ]),
            target_components={"front": "figure"}, delay_show=400, overlay_style=DIMMED,
        ),
        html.P(id="reading", className="note"),
        html.Button("↓ picture (SVG)", id="picture", className="quiet", title="The front as it is here, for paper"),
    ])  # fmt: skip


def _details() -> Component:
    return html.Section(className="details", **_named("Details"), children=dcc.Loading(
        html.Div(id="details"), target_components={"details": "children"}, delay_show=400, overlay_style=DIMMED,
    ))  # fmt: skip


def _tabs() -> Component:
    from dash_ag_grid import AgGrid

    grid = AgGrid(
        id="grid", rowModelType="infinite", columnDefs=[], className="ag-theme-quartz", columnSize=None,
        defaultColDef={"resizable": True, "sortable": True, "suppressMovable": True, "minWidth": 60},
        dashGridOptions={
            "rowSelection": {"mode": "singleRow", "checkboxes": False, "enableClickSelection": True},
            "cacheBlockSize": 100, "maxBlocksInCache": 20, "rowHeight": 30, "headerHeight": 34,
            "tooltipShowDelay": 300,
        },
        getRowId="params.data.key", style={"height": "300px"},
    )  # fmt: skip
    tools = html.Div(
        className="tools",
        children=[
            html.Div(id="letters", className="note"),
            html.Button("CSV of all rows", id="csv", className="quiet"),
        ],
    )
    bodies: dict[str, Any] = {name: html.Div(id=f"body-{name}") for name in TABS if name != "table"}
    bodies["table"] = [tools, grid]
    return html.Section(className="below", children=[
        dcc.Tabs(id="tab", value="table", mobile_breakpoint=0, className="tabs", parent_className="around", children=[
            dcc.Tab(id=f"tab-{name}", label=TITLES[name], value=name, className="tab", selected_className="tab open")
            for name in TABS
        ]),
        *(
            html.Div(id=f"panel-{name}", className="panel", role="tabpanel", hidden=name != "table", children=body)
            for name, body in bodies.items()
        ),
    ])  # fmt: skip


def _help() -> Component:
    rows = [html.Tr([html.Th(html.Kbd(keys), scope="row"), html.Td(what)]) for keys, what in SHORTCUTS]
    return html.Dialog(id="help", children=[
        html.H2("Keys"), html.Table(html.Tbody(rows)),
        html.P("Click a point or a row to see its layout. The box tool of the front and dragging along an axis of "
               "“All objectives” keep what lies inside, in both."),
        html.Form(html.Button("Close"), method="dialog"),
    ])  # fmt: skip


def empty_figure() -> dict[str, Any]:
    """Nothing, without axes: before there is anything to draw."""
    bare = {"visible": False}
    return {"data": [], "layout": {"xaxis": bare, "yaxis": bare, "paper_bgcolor": "rgba(0,0,0,0)",
                                   "plot_bgcolor": "rgba(0,0,0,0)"}}  # fmt: skip


def _named(label: str) -> dict[str, Any]:
    return {"aria-label": label}
