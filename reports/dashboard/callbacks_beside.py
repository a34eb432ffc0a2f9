"""What stands beside the front: the table, the details of a layout, the comparison, the other figures, downloads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dash import ALL, Dash, Input, Output, State, clientside_callback, ctx, dcc, html, no_update

from reports.budgets import number
from reports.dashboard.board import Board, columns, holds, key_of, key_text
from reports.dashboard.callbacks_front import front
from reports.dashboard.open_studies import OpenStudies
from reports.dashboard.page import GRAPH
from reports.dashboard.parts import comparison, details_panel, facts_list, nothing_selected, reasons, run_panel, strip
from reports.figures import ThemeName, agreement_figure, embedding_figure, parallel_figure, progress_figure
from reports.figures.agreement import compared
from reports.figures.front import column_title
from reports.figures.spread import within
from reports.figures.static import svg
from reports.figures.text import value_text
from reports.formatting import beyond_text, clean
from reports.fronts import REFERENCE_NAME
from reports.objectives import quantity
from reports.ranking import Entry
from reports.tables import render
from reports.values import Row

Json = dict[str, Any]
_PARALLEL = (
    "Each line is a candidate; better is up, colour is the rank. Drag along an axis to keep those that cross it there, "
    "here and on the front; drag the band to move it, click beside it to let all in."
)
_AGREEMENT = (
    "Kendall's tau-b of the candidates' order on two devices; bars are 95% bootstrap intervals over candidates. Noise "
    "lowers it: hover for the pairs that both devices tell apart. Anchors do not count."
)
_EMBEDDINGS = "What share of all parameters only stores the vocabulary, against those that are left to compute with."
BODIES = ("parallel", "compare", "progress", "agreement", "embeddings", "notes")
"""Tabs that are filled when they are opened."""
_HEAD, _LINE, _LINES = 54, 30, 18
"""Pixels of the table's head with its scroll bar, and of a line; lines that are shown at once."""
_KINDS = {"on": "● on", "uncertain": "◇ uncertain", "dominated": "○ dominated"}


def register(app: Dash, studies: OpenStudies) -> None:
    """Add the callbacks to an application."""
    _table(app, studies)
    _details(app, studies)
    _figures(app, studies)
    _downloads(app, studies)


def _table(app: Dash, studies: OpenStudies) -> None:
    @app.callback(
        Output("grid", "columnDefs"), Output("letters", "children"), Output("grid", "style"),
        Input("drawn", "data"), State("grid", "columnDefs"),
        prevent_initial_call=True,
    )  # fmt: skip
    def head(drawn: Json | None, before: Any) -> Any:
        if not drawn:
            return no_update, no_update, no_update
        found, letters, style = table_head(studies.board(drawn))
        return no_update if found == before else found, letters, style

    @app.callback(
        Output("grid", "getRowsResponse"), Input("grid", "getRowsRequest"),
        State("drawn", "data"), State("find", "value"), State("brush", "data"), State("tray", "data"),
        prevent_initial_call=True,
    )  # fmt: skip
    def rows(
        asked: Json | None, drawn: Json | None, find: str | None, brush: Json | None, tray: list[str] | None
    ) -> Any:
        if not asked:
            return no_update
        if not drawn:
            return {"rowData": [], "rowCount": 0}
        board = studies.board(drawn)
        ranges = (brush or {}).get("ranges", {})
        entries = [e for e in board.ranking.entries if e.anchor or (holds(e, find or "") and within(e, ranges))]
        entries = _sorted(entries, asked.get("sortModel") or [])
        part = entries[int(asked["startRow"]) : int(asked["endRow"])]
        return {"rowData": [_row(entry, board, tray or []) for entry in part], "rowCount": len(entries)}

    # Other numbers, another filter or another comparison: the rows that are shown are asked for again.
    clientside_callback(
        "(...given) => window.archsearch.again(...given)", Output("grid", "id"),
        Input("drawn", "data"), Input("find", "value"), Input("brush", "data"), Input("tray", "data"),
        prevent_initial_call=True,
    )  # fmt: skip


def table_head(board: Board) -> tuple[list[Json], list[Any], Json]:
    """Columns of the table, what letters stand for, and how high it is."""
    used = {letter for code in {str(row.get("code") or "") for row in board.snapshot.rows} for letter in code}
    letters = [
        html.Span([strip(letter, board.snapshot.colors), f" {clean(name)}"])
        for letter, name in board.snapshot.letters.items() if letter in used
    ]  # fmt: skip
    height = _HEAD + _LINE * min(len(board.ranking.entries) + 1, _LINES)
    return _column_defs(board), letters, {"height": f"{height}px"}


def _column_defs(board: Board) -> list[Json]:
    numbers = []
    for name in columns(board):
        known = quantity(name)
        title = clean(column_title(board.ranking, known))
        numbers.append({"field": name, "headerName": title, "headerTooltip": title, "type": "rightAligned",
                        "width": 150,
                        "sortingOrder": ["asc", "desc"] if known.direction == "min" else ["desc", "asc"]})  # fmt: skip
    return [
        {"field": "tray", "headerName": "vs", "width": 60, "sortable": False, "pinned": "left",
         "headerTooltip": "click to compare", "cellRenderer": "Tray"},
        {"field": "rank", "headerName": "#", "width": 70, "type": "rightAligned", "pinned": "left"},
        {"field": "front", "headerName": "front", "width": 120},
        {"field": "name", "headerName": "name", "width": 130, "tooltipField": "name"},
        {"field": "code", "headerName": "layout", "width": 260, "cellRenderer": "Strip", "tooltipField": "code",
         "cellRendererParams": {"colors": dict(board.snapshot.colors)}},
        *numbers,
        {"field": "why", "headerName": "why", "flex": 1, "minWidth": 220, "sortable": False, "tooltipField": "why"},
    ]  # fmt: skip


def _row(entry: Entry, board: Board, tray: Sequence[str]) -> Json:
    first = entry.rows[0]
    over = entry.feasible is False
    found: Json = {
        "key": key_text(entry.key), "tray": key_text(entry.key) in tray, "code": clean(str(first.get("code") or "")),
        "name": clean(str(first.get("name") or "")),
        "rank": "—" if entry.rank is None else f"({entry.rank})" if entry.anchor else str(entry.rank),
        "front": _KINDS.get(entry.front or "") or ("□ anchor" if entry.anchor else "× outside" if over else ""),
        "why": clean(_why(entry)), "anchor": entry.anchor,
    }  # fmt: skip
    for name in columns(board):
        known = quantity(name)
        own = entry.values.get(name)
        if name in board.ranking.relative:
            found[name] = "—" if own is None else f"×{own.value:.3f}"
        else:
            told = dict.fromkeys(value_text(row, known).removesuffix(f" {known.unit}") for row in _with(entry, name))
            found[name] = " … ".join([*told][:: max(1, len(told) - 1)]) or "—"  # of several places the ends
    return found


def _with(entry: Entry, name: str) -> list[Row]:
    """The rows of an entry that have a quantity, the smallest first."""
    return sorted((row for row in entry.rows if number(row.get(name)) is not None), key=lambda row: row[name])


def _why(entry: Entry) -> str:
    over = [f"{name}: {beyond_text(excess)}" for name, excess in entry.violations.items() if excess and excess > 0]
    status = [entry.status] if entry.status != "ok" else []
    return "; ".join(dict.fromkeys([*status, *over, *reasons(entry)]))


def _sorted(entries: list[Entry], models: Sequence[Json]) -> list[Entry]:
    """By the columns that somebody clicked; whoever has no value comes last, either way."""
    for model in reversed(models):
        field, down = model["colId"], model["sort"] == "desc"

        def place(entry: Entry, field: str = field) -> Any:
            if field == "rank":
                return entry.rank
            if field in ("code", "name"):
                return entry.rows[0].get(field) or None
            if field == "front":
                return entry.front
            own = entry.values.get(field)
            return own.value if own is not None else next((row[field] for row in _with(entry, field)), None)

        known = [entry for entry in entries if place(entry) is not None]
        entries = sorted(known, key=place, reverse=down) + [entry for entry in entries if place(entry) is None]
    return entries


def _details(app: Dash, studies: OpenStudies) -> None:
    @app.callback(
        Output("details", "children"),
        Input("selected", "data"), Input("shade", "data"), Input("tray", "data"), Input("drawn", "data"),
        prevent_initial_call=True,
    )  # fmt: skip
    def show(selected: str | None, shade: ThemeName | None, tray: list[str] | None, drawn: Json | None) -> Any:
        return details(studies, drawn, selected, tray or [], shade or "light")

    @app.callback(
        Output("run-view", "children"), Input("run", "value"), Input("shade", "data"),
        State("selected", "data"), State("drawn", "data"),
    )  # fmt: skip
    def show_run(index: int | None, shade: ThemeName | None, selected: str | None, drawn: Json | None) -> Any:
        if index is None or not selected or not drawn:
            return no_update
        runs = studies.source(drawn["study"]).details(key_of(selected)).runs
        return run_panel(runs[index], shade or "light") if index < len(runs) else no_update


def details(
    studies: OpenStudies, drawn: Json | None, selected: str | None, tray: Sequence[str], theme: ThemeName
) -> Any:  # fmt: skip
    """The panel of the selected layout."""
    if not drawn or not selected:
        return nothing_selected()
    board = studies.board(drawn)
    entry = board.entry(selected)
    if entry is None:
        return html.Div(className="empty", children=[
            html.H2("Not here"), html.P("The selected layout has not been measured in this place."),
        ])  # fmt: skip
    known = studies.source(drawn["study"]).details(entry.key)
    return details_panel(entry, known, board, theme, compared=selected in tray)


def _figures(app: Dash, studies: OpenStudies) -> None:
    @app.callback(
        *(Output(f"body-{name}", "children") for name in BODIES), Output("tab-compare", "label"),
        Input("tab", "value"), Input("drawn", "data"), Input("shade", "data"), Input("brush", "data"),
        Input("tray", "data"),
        prevent_initial_call=True,
    )  # fmt: skip
    def fill(
        tab: str, drawn: Json | None, shade: ThemeName | None, brush: Json | None, tray: list[str] | None
    ) -> Any:  # fmt: skip
        by = {one["prop_id"] for one in ctx.triggered}
        # What was dragged there is on the screen already; only the comparison depends on what is compared.
        stays = (
            (by == {"brush.data"} and (tab != "parallel" or (brush or {}).get("by") == "parallel"))
            or (by == {"tray.data"} and tab != "compare")
        )  # fmt: skip
        made = no_update if stays else body(studies, tab, drawn, shade or "light", brush, tray or [])
        return *(made if name == tab else no_update for name in BODIES), compare_label(tray or [])


def compare_label(tray: Sequence[str]) -> str:
    """The tab's title, with how many are compared."""
    return f"Compare ({len(tray)})" if tray else "Compare"


def body(
    studies: OpenStudies, tab: str, drawn: Json | None, theme: ThemeName, brush: Json | None, tray: Sequence[str]
) -> Any:  # fmt: skip
    """What an open tab shows."""
    if not drawn or tab not in BODIES:
        return no_update
    board = studies.board(drawn)
    if tab == "compare":
        source = studies.source(drawn["study"])
        entries = [entry for key in tray if (entry := board.entry(key)) is not None]
        return comparison(entries, [source.details(entry.key) for entry in entries], board, theme)
    if tab == "notes":
        return [
            html.H3("This study"), facts_list(board.snapshot.facts),
            html.H3("How to read the numbers"), html.Ul([html.Li(clean(note)) for note in board.snapshot.notes]),
        ]  # fmt: skip
    figure, note = _drawn_tab(tab, board, theme, (brush or {}).get("ranges", {}))
    own: Any = {"type": "dragged", "name": tab} if tab == "parallel" else tab
    box = {"height": f"{figure.layout.height}px"}
    return [html.P(note, className="note"), html.Div(dcc.Graph(id=own, figure=figure, config=GRAPH), style=box)]


def _drawn_tab(tab: str, board: Board, theme: ThemeName, ranges: Json) -> tuple[Any, str]:
    snapshot = board.snapshot
    if tab == "parallel":
        return parallel_figure(board.ranking, brush=ranges, theme=theme), _PARALLEL
    if tab == "progress":
        labels = ", ".join(quantity(name).label for name in board.names)
        note = (
            f"Hypervolume in {labels}: the share of the box from the best value of each to its reference point "
            f"({REFERENCE_NAME}) that the candidates measured so far dominate. It is scaled by what is known now, so "
            "earlier points move while a study runs. Time counts of measurements that gave a result."
        )
        return progress_figure(board.ranking, snapshot.spent_in(board.scope), theme=theme), note
    if tab == "agreement":
        return agreement_figure(compared(snapshot.rows, snapshot.objectives), theme=theme), _AGREEMENT
    return embedding_figure(board.ranking, colors=snapshot.colors, theme=theme), _EMBEDDINGS


def _downloads(app: Dash, studies: OpenStudies) -> None:
    @app.callback(
        Output("download", "data", allow_duplicate=True),
        Input({"type": "file", "name": ALL}, "n_clicks"), State("selected", "data"), State("drawn", "data"),
        prevent_initial_call=True,
    )  # fmt: skip
    def download(_: list[int | None], selected: str | None, drawn: Json | None) -> Any:
        if not drawn or not selected or not ctx.triggered[0]["value"]:
            return no_update
        name = ctx.triggered_id["name"]
        content = studies.source(drawn["study"]).file(key_of(selected), name)
        return dcc.send_bytes(content, f"{key_of(selected)[0][:12]}-{name}")

    # By itself: selecting another layout brings new buttons for files, and must not cost a picture that is being made.
    @app.callback(
        Output("download", "data", allow_duplicate=True),
        Input("csv", "n_clicks"), Input("picture", "n_clicks"),
        State("selected", "data"), State("drawn", "data"), State("brush", "data"), State("find", "value"),
        State("zoom", "data"),
        prevent_initial_call=True,
    )  # fmt: skip
    def download_all(
        _: int | None, __: int | None, selected: str | None, drawn: Json | None, brush: Json | None,
        find: str | None, zoom: Json | None,
    ) -> Any:  # fmt: skip
        if not drawn or not ctx.triggered[0]["value"]:
            return no_update
        board = studies.board(drawn)
        if ctx.triggered_id == "csv":
            return dcc.send_string(render(board.ranking.table(), columns(board), "csv"), f"{drawn['study']}.csv")
        figure, *_unused = front(board, drawn, brush, find or "", "light", selected, zoom or {})
        return dcc.send_string(svg(figure, height=620), f"{drawn['study']}.svg")
