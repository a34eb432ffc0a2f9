"""What somebody chooses: from the link to the controls, from the controls to what is drawn, and back to the link."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from dash import ALL, MATCH, Dash, Input, Output, State, clientside_callback, ctx, dcc, html, no_update
from dash.development.base_component import Component

from reports.dashboard.board import CONTEXTS, Slider, own_limits, sliders, slides
from reports.dashboard.open_studies import OpenStudies
from reports.dashboard.view import TABS, THEME_CHOICES, View
from reports.formatting import clean, quantity_text
from reports.objectives import quantity
from reports.snapshot import Scope, Snapshot

Json = dict[str, Any]
_SAME = 1e-6
"""Share of a slider's length that is no move."""
OWN_CONTEXT = 0
"""Value of the choice that each measured point counts its own context."""


def register(app: Dash, studies: OpenStudies) -> None:
    """Add the callbacks to an application."""
    _linking(app, studies)
    _choosing(app, studies)
    _limiting(app, studies)
    _following(app, studies)
    _in_the_browser()


def _linking(app: Dash, studies: OpenStudies) -> None:
    @app.callback(
        Output("query", "data"),
        inputs={
            "drawn": Input("drawn", "data"), "limits": Input("limits", "data"), "selected": Input("selected", "data"),
            "tray": Input("tray", "data"), "brush": Input("brush", "data"), "find": Input("find", "value"),
            "theme": Input("theme", "data"), "tab": Input("tab", "value"), "zoom": Input("zoom", "data"),
        },
        prevent_initial_call=True,
    )  # fmt: skip
    def remember(
        drawn: Json | None, limits: Json | None, selected: str | None, tray: list[str] | None, brush: Json | None,
        find: str | None, theme: str | None, tab: str, zoom: Json | None,
    ) -> Any:  # fmt: skip
        if not drawn:
            return no_update
        snapshot = studies.boards(drawn["study"]).snapshot(None)
        scope = snapshot.scope(drawn["scope"])
        usual = (drawn["x"], drawn["y"]) == snapshot.axes(scope)
        return View(
            study=drawn["study"], scope=drawn["scope"], x=None if usual else drawn["x"],
            y=None if usual else drawn["y"], of=drawn["of"], context=drawn["context"] or None,
            limits=None if limits == own_limits(snapshot) else limits, selected=selected or None,
            tray=tuple(tray or ()),
            brush={name: [tuple(r) for r in some] for name, some in (brush or {}).get("ranges", {}).items()},
            find=find or "", theme=next((one for one in THEME_CHOICES if one == theme), "auto"),
            tab=next((one for one in TABS if one == tab), "table"),
            zoom={name: tuple(ends) for name, ends in (zoom or {}).items()},
        ).query()  # fmt: skip


def _choosing(app: Dash, studies: OpenStudies) -> None:
    @app.callback(
        output={
            "scopes": Output("scope", "options", allow_duplicate=True),
            "scope": Output("scope", "value", allow_duplicate=True),
            "x_options": Output("x", "options", allow_duplicate=True),
            "y_options": Output("y", "options", allow_duplicate=True),
            "x": Output("x", "value", allow_duplicate=True), "y": Output("y", "value", allow_duplicate=True),
            "brush": Output("brush", "data", allow_duplicate=True),
        },
        inputs={
            "key": Input("scope", "value"), "_": Input("version", "data"), "__": Input("swap", "n_clicks"),
            "study": State("study", "value"), "x": State("x", "value"), "y": State("y", "value"),
            "drawn": State("drawn", "data"),
        },
        prevent_initial_call=True,
    )  # fmt: skip
    def scope_or_news(
        key: str | None, _: str | None, __: int | None, study: str | None, x: str | None, y: str | None,
        drawn: Json | None,
    ) -> Json:  # fmt: skip
        same = dict.fromkeys(("scopes", "scope", "x_options", "y_options", "x", "y", "brush"), no_update)
        snapshot = studies.source(study).snapshot() if study else None
        if snapshot is None or not snapshot.rows:
            return same
        scope = snapshot.scope(key)
        if ctx.triggered_id == "swap":
            return {**same, "x": y, "y": x}
        new_x, new_y = axes_of(snapshot, scope, x, y)
        axes = axis_options(snapshot, scope)
        moved = drawn is not None and drawn["scope"] != scope.key  # what values mean is another thing elsewhere
        return {
            "scopes": scope_options(snapshot), "scope": scope.key if scope.key != key else no_update,
            "x_options": axes, "y_options": axes, "x": new_x if new_x != x else no_update,
            "y": new_y if new_y != y else no_update, "brush": {"by": "scope", "ranges": {}} if moved else no_update,
        }  # fmt: skip

    @app.callback(
        Output("drawn", "data"),
        inputs={
            "scope": Input("scope", "value"), "x": Input("x", "value"), "y": Input("y", "value"),
            "of": Input("of", "value"), "context": Input("context", "value"), "limits": Input("limits", "data"),
            "version": Input("version", "data"), "study": State("study", "value"), "before": State("drawn", "data"),
        },
        prevent_initial_call=True,
    )  # fmt: skip
    def ask(before: Json | None, **chosen: Any) -> Any:
        if not chosen["study"] or not all(chosen[name] for name in ("scope", "x", "y")):
            return no_update
        chosen["limits"] = chosen["limits"] or {}
        snapshot = studies.source(chosen["study"]).snapshot()
        known = snapshot.measured_in(snapshot.scope(chosen["scope"]))
        if not {chosen["x"], chosen["y"]} <= set(known):  # another choice of axes is under way
            return no_update
        return no_update if chosen == before else chosen


def _limiting(app: Dash, studies: OpenStudies) -> None:
    @app.callback(
        Output("sliders", "children"), Output("fixed", "children"), Output("limits", "data", allow_duplicate=True),
        Input("scope", "value"), Input("version", "data"), Input("reset", "n_clicks"), Input("context", "value"),
        State("study", "value"), State("limits", "data"),
        prevent_initial_call=True,
    )  # fmt: skip
    def make_sliders(
        key: str | None, _: str | None, __: int | None, context: int | None, study: str | None, limits: Json | None
    ) -> Any:  # fmt: skip
        if not study or not key:
            return no_update, no_update, no_update
        snapshot = studies.boards(study).snapshot(context or None)
        if not snapshot.rows:
            return no_update, no_update, no_update
        back = ctx.triggered_id == "reset"
        chosen = own_limits(snapshot) if back else limits or {}
        made, said = budget_sliders(snapshot, snapshot.scope(key), chosen)
        return made, said, chosen if back else no_update

    @app.callback(
        Output("limits", "data", allow_duplicate=True),
        Input({"type": "limit", "name": ALL}, "value"),
        State({"type": "limit", "name": ALL}, "min"), State({"type": "limit", "name": ALL}, "max"),
        State({"type": "limit", "name": ALL}, "id"), State("limits", "data"),
        prevent_initial_call=True,
    )  # fmt: skip
    def move(
        values: list[float | None], lows: list[float], highs: list[float], ids: list[Json], limits: Json | None
    ) -> Any:  # fmt: skip
        found = dict(limits or {})
        moved = {one["prop_id"] for one in ctx.triggered}
        for value, low, high, own in zip(values, lows, highs, ids, strict=True):
            name = own["name"]
            if f"{json.dumps(own, sort_keys=True, separators=(',', ':'))}.value" not in moved:
                continue
            if value is None or _is_free(name, value, low, high):
                found.pop(name, None)
            elif abs(found.get(name, value + high - low) - value) > _SAME * (high - low):
                found[name] = value
        return no_update if found == limits else found

    @app.callback(
        Output({"type": "limit-text", "name": MATCH}, "children"),
        Input({"type": "limit", "name": MATCH}, "value"),
        State({"type": "limit", "name": MATCH}, "min"), State({"type": "limit", "name": MATCH}, "max"),
        State({"type": "limit", "name": MATCH}, "id"),
        prevent_initial_call=True,
    )  # fmt: skip
    def say_limit(value: float | None, low: float, high: float, own: Json) -> str:
        return _limit_text(own["name"], value, low, high)


def budget_sliders(snapshot: Snapshot, scope: Scope, limits: Mapping[str, float]) -> tuple[list[Component], str]:
    """Sliders of a scope, and what of the study's budgets has none."""
    made = [_slider(slider, limits.get(slider.name)) for slider in sliders(snapshot, scope, limits)]
    fixed = [str(budget) for budget in snapshot.budgets if not slides(budget)]
    return made, f"The study's own beside these: {', '.join(fixed)}" if fixed else ""


def _slider(slider: Slider, limit: float | None) -> Component:
    known = quantity(slider.name)
    value = slider.free if limit is None else limit
    text = _limit_text(slider.name, value, slider.low, slider.high)
    return html.Div(className="budget", children=[
        html.Div([html.Span(known.label), html.Output(text, id={"type": "limit-text", "name": slider.name})]),
        dcc.Slider(
            id={"type": "limit", "name": slider.name}, min=slider.low, max=slider.high, step=slider.step, value=value,
            marks=None, updatemode="drag", included=True, allow_direct_input=False,
        ),
    ])  # fmt: skip


def _is_free(name: str, value: float, low: float, high: float) -> bool:
    """Whether a slider is at the end where there is no limit; what a browser computes may be off in the last digit."""
    return abs(value - (high if quantity(name).direction == "min" else low)) <= _SAME * (high - low)


def _limit_text(name: str, value: float | None, low: float, high: float) -> str:
    known = quantity(name)
    if value is None or _is_free(name, value, low, high):
        return "no limit"
    sign = "≤" if known.direction == "min" else "≥"
    return f"{sign} {quantity_text(known, value, None, None)} {known.unit}".strip()


def _following(app: Dash, studies: OpenStudies) -> None:
    @app.callback(
        Output("version", "data", allow_duplicate=True), Output("status", "children"),
        Output("study", "options", allow_duplicate=True),
        Input("tick", "n_intervals"), State("study", "value"), State("version", "data"), State("study", "options"),
        prevent_initial_call=True,
    )  # fmt: skip
    def look_for_news(_: int, study: str | None, known: str | None, options: list[Json] | None) -> Any:
        now = study_options(studies.names())
        listed = now if now != options else no_update
        if not study:
            return no_update, "", listed
        source = studies.source(study)
        version = source.version()
        busy = source.going_on()
        status = html.Span([html.Span(className="live" if busy else "still"), clean(busy) or "no run at work"])
        return version if version != known else no_update, status, listed


def _in_the_browser() -> None:
    """What needs no server: appearance, the address bar, tabs, the clipboard, dialogs."""
    one = {
        "appear": (Output("shade", "data"), Input("theme", "data"), State("shade", "data")),
        "nextTheme": (Output("theme", "data", allow_duplicate=True), Input("theme-button", "n_clicks"),
                      State("theme", "data")),
        "address": (Output("linked", "data"), Input("query", "data")),
        "share": (Output("share", "children"), Input("share", "n_clicks")),
        "help": (Output("help", "title"), Input("help-button", "n_clicks")),
        "go": (Output("study", "placeholder"), Input("study", "value"), State("linked", "data")),
        "zoomed": (Output("zoom", "data", allow_duplicate=True), Input("front", "relayoutData"), Input("x", "value"),
                   Input("y", "value"), State("zoom", "data")),
        "tabs": (*(Output(f"panel-{name}", "hidden") for name in TABS), Input("tab", "value")),
    }  # fmt: skip
    for name, (*outputs_,) in one.items():
        first = name == "appear"
        clientside_callback(
            f"(...given) => window.archsearch.{name}(...given)", *outputs_, prevent_initial_call=not first
        )


def study_options(names: list[str]) -> list[Json]:
    """Studies, for a drop-down."""
    return [{"label": clean(name), "value": name} for name in names]


def scope_options(snapshot: Snapshot) -> list[Json]:
    """Places, for a drop-down."""
    return [{"label": clean(scope.title), "value": scope.key} for scope in snapshot.scopes()]


def context_options(asked: int | None) -> list[Json]:
    """Contexts at which state may count, that of a link among them."""
    own = {"label": "each measured point's own context", "value": OWN_CONTEXT}
    some = sorted({*CONTEXTS, *([asked] if asked else [])})
    return [own, *({"label": f"{tokens:,} tokens", "value": tokens} for tokens in some)]


def axis_options(snapshot: Snapshot, scope: Scope) -> list[Json]:
    """What a scope's axes may be, for a drop-down."""
    known = map(quantity, snapshot.measured_in(scope))
    return [{"label": f"{q.label}, {q.unit}" if q.unit else q.label, "value": q.name} for q in known]


def axes_of(snapshot: Snapshot, scope: Scope, x: str | None, y: str | None) -> tuple[str, str]:
    """What was asked for, as far as a scope has it."""
    known = snapshot.measured_in(scope)
    default_x, default_y = snapshot.axes(scope)
    return x if x in known else default_x, y if y in known else default_y
