"""The front and what is selected on it."""

from __future__ import annotations

from typing import Any

from dash import ALL, Dash, Input, Output, Patch, State, ctx, html, no_update
from plotly.graph_objects import Figure

from reports.dashboard.board import Board, key_of, key_text
from reports.dashboard.open_studies import OpenStudies
from reports.dashboard.parts import hover_card
from reports.dashboard.view import TRAY
from reports.figures import ThemeName, front_figure
from reports.figures.front import selected_at
from reports.figures.spread import parallel_axes, within
from reports.figures.theme import THEMES
from reports.formatting import clean
from reports.objectives import quantities, quantity
from reports.snapshot import kinds_text

Json = dict[str, Any]


def register(app: Dash, studies: OpenStudies) -> None:
    """Add the callbacks to an application."""
    _drawing(app, studies)
    _brushing(app, studies)
    _selecting(app, studies)


def _drawing(app: Dash, studies: OpenStudies) -> None:
    @app.callback(
        Output("front", "figure"), Output("counts", "children"), Output("reading", "children"),
        Output("alert", "hidden", allow_duplicate=True),
        Input("drawn", "data"), Input("brush", "data"), Input("find", "value"), Input("shade", "data"),
        State("selected", "data"), State("zoom", "data"),
        prevent_initial_call=True,
    )  # fmt: skip
    def draw(
        drawn: Json | None, brush: Json | None, find: str | None, shade: ThemeName | None, selected: str | None,
        zoom: Json | None,
    ) -> Any:  # fmt: skip
        if not drawn:
            return no_update, no_update, no_update, no_update
        board = studies.board(drawn)
        return *front(board, drawn, brush, find or "", shade or "light", selected, zoom or {}), True

    @app.callback(
        Output("front", "figure", allow_duplicate=True), Input("selected", "data"), State("drawn", "data"),
        prevent_initial_call=True,
    )  # fmt: skip
    def mark(selected: str | None, drawn: Json | None) -> Any:
        if not drawn:
            return no_update
        keys = [key_of(selected)] if selected else []
        at = selected_at(studies.board(drawn).ranking, drawn["x"], drawn["y"], keys)
        patch = Patch()
        patch["data"][0]["x"], patch["data"][0]["y"] = at["x"], at["y"]
        return patch

    @app.callback(
        Output("hover", "show"), Output("hover", "bbox"), Output("hover", "children"), Output("hover", "direction"),
        Input("front", "hoverData"), State("drawn", "data"),
        prevent_initial_call=True,
    )  # fmt: skip
    def point_at(hovered: Json | None, drawn: Json | None) -> Any:
        point: Json = next(iter((hovered or {}).get("points", ())), {})
        entry = studies.board(drawn).entry(_key(point)) if drawn and _key(point) else None
        if drawn is None or entry is None:
            return False, no_update, no_update, no_update
        card = html.Div(hover_card(entry, studies.board(drawn)), className="card")
        box = point.get("bbox") or {}
        return True, box, card, "right" if box.get("x0", 0) < 420 else "left"


def front(
    board: Board, drawn: Json, brush: Json | None, find: str, theme: ThemeName, selected: str | None, zoom: Json
) -> tuple[Figure, list[Any], str]:  # fmt: skip
    """The front, how many of each kind there are, and how to read it."""
    ranges = (brush or {}).get("ranges", {})
    axes = (drawn["x"], drawn["y"])
    figure = front_figure(
        board.ranking, *axes, colors=board.snapshot.colors, theme=theme,
        selected=[key_of(selected)] if selected else (), faded=board.faded(ranges, find), hovering=False, clouds=True,
    )  # fmt: skip
    _set_up(figure, drawn, ranges, zoom, theme)
    reading = kinds_text(board.names, axes)
    if board.ranking.relative:
        way = "the worst of them" if board.snapshot.across == "worst" else board.snapshot.across
        reading = (
            f"Measured values are ratios to {board.ranking.reference} in the same place; of several places counts "
            f"{way}. {reading}"
        )
    return figure, _counts(board), clean(reading)


def _key(point: Json) -> str | None:
    found = point.get("customdata")
    return found if isinstance(found, str) else None


def _set_up(figure: Figure, drawn: Json, ranges: Json, zoom: Json, theme: ThemeName) -> None:
    """Fill the room there is, keep what somebody zoomed to, show what is kept."""
    revision = "|".join(map(str, (drawn["study"], drawn["scope"], drawn["x"], drawn["y"])))
    figure.update_layout(
        height=None, autosize=True, uirevision=revision, selectionrevision=str(ranges), selections=[], dragmode="zoom",
        hoverdistance=12,
    )  # fmt: skip
    for axis, update in (("x", figure.update_xaxes), ("y", figure.update_yaxes)):
        if axis in zoom:
            update(range=zoom[axis])
    for low, high in ranges.get(drawn["x"], ()):
        figure.add_vrect(x0=low, x1=high, line_width=0, fillcolor=THEMES[theme].on, opacity=0.07)
    for low, high in ranges.get(drawn["y"], ()):
        figure.add_hrect(y0=low, y1=high, line_width=0, fillcolor=THEMES[theme].on, opacity=0.07)


def _counts(board: Board) -> list[Any]:
    """How many of each kind, in words: what somebody who does not see the picture hears."""
    entries = [entry for entry in board.ranking.entries if not entry.anchor]
    kinds = [(sum(entry.front == kind for entry in entries), title) for kind, title in
             (("on", "on the front"), ("uncertain", "uncertain"), ("dominated", "dominated"))]  # fmt: skip
    kinds.append((sum(entry.feasible is False for entry in entries), "outside the budgets"))
    kinds.append((sum(entry.feasible is None for entry in entries), "without numbers"))
    told = ", ".join(f"{count:,} {title}" for count, title in kinds if count)
    parts: list[Any] = [html.B(clean(board.scope.title)), f" — {told or 'only anchors so far'}"]
    if board.ranking.nothing_feasible:
        miss = board.ranking.nearest_misses(1)
        parts.append(html.Span(f". Nothing meets the budgets; the nearest: {clean(miss[0].title)}" if miss else ""))
    left = [clean(f"{pool}: {why}") for pool, why in board.snapshot.left_out.items()]
    if left and board.scope.place is None:
        parts.append(html.Span(f". Without {'; '.join(left)}", className="warning"))
    return parts


def _brushing(app: Dash, studies: OpenStudies) -> None:
    # Not with the parts below: Dash asks again when such parts come, and drops the answer that is under way.
    @app.callback(
        Output("brush", "data", allow_duplicate=True),
        Input("front", "selectedData"), State("brush", "data"), State("drawn", "data"),
        prevent_initial_call=True,
    )  # fmt: skip
    def select_box(selected: Json | None, now: Json | None, drawn: Json | None) -> Any:
        box = (selected or {}).get("range")
        if not drawn or not box:  # drawing anew ends a selection too, so its end says nothing: chips take a range away
            return no_update
        found = {name: [sorted(box[axis])] for axis, name in (("x", drawn["x"]), ("y", drawn["y"])) if axis in box}
        return {"by": "front", "ranges": dict((now or {}).get("ranges", {})) | found}

    @app.callback(
        Output("brush", "data", allow_duplicate=True),
        Input({"type": "dragged", "name": ALL}, "restyleData"), Input({"type": "chip", "name": ALL}, "n_clicks"),
        State("brush", "data"), State("drawn", "data"),
        prevent_initial_call=True,
    )  # fmt: skip
    def brush(restyled: list[Any], _: list[int | None], now: Json | None, drawn: Json | None) -> Any:
        by = ctx.triggered_id
        if not drawn or not isinstance(by, dict) or not ctx.triggered[0]["value"]:
            return no_update
        ranges = dict((now or {}).get("ranges", {}))
        if by["type"] == "dragged":
            ranges |= _restyled(restyled[0], studies.board(drawn), ranges)
        else:
            ranges.pop(by["name"], None)
        return {
            "by": "parallel" if by["type"] == "dragged" else "chip",
            "ranges": {name: kept for name, kept in ranges.items() if kept},
        }

    @app.callback(Output("chips", "children"), Input("brush", "data"), prevent_initial_call=True)
    def show_chips(now: Json | None) -> list[Any]:
        return chips(now)


def chips(now: Json | None) -> list[Any]:
    """What is kept, each with a way out."""
    return [
        html.Button(f"{_kept(name, some)} ×", id={"type": "chip", "name": name}, className="chip", title="keep all")
        for name, some in (now or {}).get("ranges", {}).items()
    ]  # fmt: skip


def _kept(name: str, ranges: list[list[float]]) -> str:
    label = quantity(name).label if name in quantities() else clean(name.replace("_", " "))
    return f"{label}: " + ", ".join(f"{low:,.4g} … {high:,.4g}" for low, high in ranges)


def _restyled(restyled: Any, board: Board, now: Json) -> Json:
    """What dragging along axes has kept: ``[{"dimensions[1].constraintrange": [[[1, 2]]]}, [0]]``.

    Plotly takes a range away by itself that lies beside all lines; nobody has done that, and it stays.
    """
    names = parallel_axes(board.ranking)
    found: Json = {}
    for path, value in (restyled[0] if restyled else {}).items():
        head, _, rest = path.partition("[")
        index = rest.partition("]")[0]
        if (
            head != "dimensions"
            or not rest.endswith("constraintrange")
            or not index.isdigit()
            or int(index) >= len(names)
        ):
            continue
        kept = value[0] if value else None
        if kept and not isinstance(kept[0], list):
            kept = [kept]
        name = names[int(index)]
        if kept or any(within(entry, {name: now.get(name, ())}) for entry in board.ranking.entries if not entry.anchor):
            found[name] = [sorted(ends) for ends in kept or []]
    return found


def _selecting(app: Dash, studies: OpenStudies) -> None:
    @app.callback(
        Output("selected", "data", allow_duplicate=True),
        Input("front", "clickData"), Input("grid", "selectedRows"), Input("next", "n_clicks"),
        Input("previous", "n_clicks"), Input("nothing", "n_clicks"), State("selected", "data"), State("drawn", "data"),
        prevent_initial_call=True,
    )  # fmt: skip
    def select(
        clicked: Json | None, rows: list[Json] | None, _next: int, _previous: int, _nothing: int, now: str | None,
        drawn: Json | None,
    ) -> Any:  # fmt: skip
        by = ctx.triggered_id
        if not drawn:
            return no_update
        if by == "front":
            return _key((clicked or {}).get("points", [{}])[0]) or no_update
        if by == "grid":
            return rows[0]["key"] if rows and rows[0]["key"] != now else no_update
        if by == "nothing":
            return ""
        order = [key_text(entry.key) for entry in studies.board(drawn).ranking.entries]
        if not order:
            return no_update
        step = 1 if by == "next" else -1
        return order[(order.index(now) + step) % len(order)] if now in order else order[0 if step > 0 else -1]

    said = (
        Output("tray", "data", allow_duplicate=True), Output("alert", "children", allow_duplicate=True),
        Output("alert", "hidden", allow_duplicate=True),
    )  # fmt: skip

    # Two callbacks: a click that selects brings new buttons, Dash asks again for them, and drops what is under way.
    @app.callback(
        *said,
        Input({"type": "compare", "key": ALL}, "n_clicks"), Input({"type": "drop", "key": ALL}, "n_clicks"),
        State("tray", "data"),
        prevent_initial_call=True,
    )  # fmt: skip
    def compare(_: list[int | None], __: list[int | None], tray: list[str] | None) -> Any:
        return _toggled(ctx.triggered_id["key"] if ctx.triggered[0]["value"] else None, tray)

    @app.callback(
        *said, Input("grid", "cellClicked"), Input("toggle", "n_clicks"), State("selected", "data"),
        State("tray", "data"),
        prevent_initial_call=True,
    )  # fmt: skip
    def compare_picked(cell: Json | None, _: int, selected: str | None, tray: list[str] | None) -> Any:
        if ctx.triggered_id == "toggle":
            return _toggled(selected, tray)
        return _toggled(cell["rowId"] if cell and cell.get("colId") == "tray" else None, tray)


def _toggled(key: str | None, tray: list[str] | None) -> Any:
    """What is compared once a layout was put in or taken out, and what is said about it."""
    now = list(tray or [])
    if not key:
        return no_update, no_update, no_update
    if key in now:
        now.remove(key)
    elif len(now) == TRAY:
        return no_update, f"{TRAY} layouts are compared already: take one out first", False
    else:
        now.append(key)
    return now, no_update, True
