"""The page as a link asks for it: made whole at once, so that the first picture needs no further question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from dash.development.base_component import Component
from plotly.graph_objects import Figure

from reports.dashboard.board import own_limits
from reports.dashboard.callbacks_beside import body, compare_label, details, table_head
from reports.dashboard.callbacks_front import chips, front
from reports.dashboard.callbacks_state import (
    OWN_CONTEXT,
    Json,
    axes_of,
    axis_options,
    budget_sliders,
    context_options,
    scope_options,
    study_options,
)
from reports.dashboard.open_studies import OpenStudies
from reports.dashboard.page import page
from reports.dashboard.view import TABS, View, read_view
from reports.figures import ThemeName
from reports.figures.spread import KNOBS
from reports.figures.static import svg
from reports.formatting import clean
from reports.objectives import quantities
from reports.snapshot import Scope, Snapshot

Props = dict[str, dict[str, Any]]
"""By the id of a component: its properties."""


def opened(studies: OpenStudies, search: str, theme: ThemeName, live_ms: int) -> Component:
    """The page.

    Args:
        studies: What can be looked at.
        search: Query of the address.
        theme: What the browser would show.
        live_ms: Milliseconds between two looks for news.
    """
    view = _known(read_view(search))
    made = page(live_ms)
    theme = view.theme if view.theme != "auto" else theme
    _put(made, _chosen(view, theme))
    try:
        _put(made, _filled(studies, view, theme))
    except Exception as error:  # noqa: BLE001 - whatever a store raises is shown on the page, which stays usable
        _put(made, {"alert": {"children": clean(f"{type(error).__name__}: {error}"), "hidden": False}})
    return made


def still(studies: OpenStudies, search: str, theme: ThemeName, width: int, height: int) -> str:
    """The front that a link asks for as an SVG document: what is seen while the page's scripts load.

    Args:
        studies: What can be looked at.
        search: Query of the address.
        theme: What the browser would show.
        width: In pixels.
        height: In pixels.
    """
    try:
        figure = _still(studies, _known(read_view(search)), theme)
    except Exception:  # noqa: BLE001 - whatever a store raises: `opened` says it on the page
        figure = None
    if figure is None:
        return f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"/>'
    return svg(figure, width=width, height=height)


def _still(studies: OpenStudies, view: View, theme: ThemeName) -> Figure | None:
    study = _study(studies.names(), view)
    if study is None or not (snapshot := studies.boards(study).snapshot(view.context)).rows:
        return None
    _, drawn = _place(view, study, snapshot, studies.source(study).version())
    return _front(studies, drawn, view, view.theme if view.theme != "auto" else theme)[0]


def _put(made: Component, props: Props) -> None:
    for component in made._traverse():
        own = getattr(component, "id", None)
        for name, value in props.get(own, {}).items() if isinstance(own, str) else ():
            setattr(component, name, value)


def _chosen(view: View, theme: ThemeName) -> Props:
    """What needs no study."""
    found: Props = {f"panel-{name}": {"hidden": name != view.tab} for name in TABS}
    stores: Json = {
        "selected": view.selected or "", "tray": list(view.tray), "brush": {"by": "link", "ranges": dict(view.brush)},
        "zoom": dict(view.zoom), "theme": view.theme, "shade": theme, "limits": dict(view.limits or {}),
    }  # fmt: skip
    found |= {name: {"data": value} for name, value in stores.items()}
    found |= {
        "of": {"value": view.of}, "find": {"value": view.find}, "tab": {"value": view.tab},
        "context": {"value": view.context or OWN_CONTEXT, "options": context_options(view.context)},
        "tab-compare": {"label": compare_label(view.tray)}, "chips": {"children": chips(stores["brush"])},
    }  # fmt: skip
    return found


def _study(names: Sequence[str], view: View) -> str | None:
    return view.study if view.study in names else names[0] if names else None


def _place(view: View, study: str, snapshot: Snapshot, version: str) -> tuple[Scope, Json]:
    """Where a link looks, and what the page then has on the screen."""
    scope = snapshot.scope(view.scope)
    x, y = axes_of(snapshot, scope, view.x, view.y)
    return scope, {
        "scope": scope.key, "x": x, "y": y, "of": view.of, "context": view.context or OWN_CONTEXT,
        "limits": _limits(view, snapshot), "version": version, "study": study,
    }  # fmt: skip


def _limits(view: View, snapshot: Snapshot) -> dict[str, float]:
    return dict(own_limits(snapshot) if view.limits is None else view.limits)


def _front(studies: OpenStudies, drawn: Json, view: View, theme: ThemeName) -> tuple[Figure, list[Any], str]:
    board, brush, zoom = studies.board(drawn), {"ranges": dict(view.brush)}, dict(view.zoom)
    return studies.once(
        board,
        repr((drawn, brush, zoom, view.find, theme, view.selected)),
        lambda: front(board, drawn, brush, view.find, theme, view.selected, zoom),
    )


def _filled(studies: OpenStudies, view: View, theme: ThemeName) -> Props:
    """What is of the study: controls, the front, the table's head, and whatever else the link has open."""
    names = studies.names()
    study = _study(names, view)
    said = [] if view.study in (None, study) else [f"there is no study {view.study!r} here; this is {study}"]
    found: Props = {"study": {"value": study, "options": study_options(names)}}
    if study is None:
        return found | _alert(["there is no study here yet: archsearch run"])
    version = studies.source(study).version()
    snapshot = studies.boards(study).snapshot(view.context)
    limits = _limits(view, snapshot)
    found |= {"version": {"data": version}, "limits": {"data": limits}}
    if not snapshot.rows:
        waiting = f"{study} holds no measurement yet: the first takes about a minute"
        return found | _alert(said) | {"counts": {"children": clean(waiting)}}
    scope, drawn = _place(view, study, snapshot, version)
    if view.scope not in (None, scope.key):
        said.append("the place that the link names is not in this study")
    axes = axis_options(snapshot, scope)
    figure, counts, reading = _front(studies, drawn, view, theme)
    columns, letters, style = table_head(studies.board(drawn))
    made, fixed = budget_sliders(snapshot, scope, limits)
    brush = {"ranges": dict(view.brush)}
    open_tab = body(studies, view.tab, drawn, theme, brush, view.tray) if view.tab != "table" else None
    found["details"] = {"children": details(studies, drawn, view.selected, view.tray, theme)}
    if open_tab is not None:
        found[f"body-{view.tab}"] = {"children": open_tab}
    return found | _alert(said) | {
        "scope": {"value": scope.key, "options": scope_options(snapshot)},
        "x": {"value": drawn["x"], "options": axes}, "y": {"value": drawn["y"], "options": axes},
        "drawn": {"data": drawn}, "front": {"figure": figure}, "counts": {"children": counts},
        "reading": {"children": reading}, "sliders": {"children": made}, "fixed": {"children": fixed},
        "grid": {"columnDefs": columns, "style": style}, "letters": {"children": letters},
    }  # fmt: skip


def _alert(said: list[str]) -> Props:
    return {"alert": {"children": clean("; ".join(said)), "hidden": not said}}


def _known(view: View) -> View:
    """Without limits on what is no quantity, and ranges of what no axis shows."""
    limits = None if view.limits is None else {name: at for name, at in view.limits.items() if name in quantities()}
    brush: Mapping[str, Any] = {
        name: ranges for name, ranges in view.brush.items() if name in quantities() or name in KNOBS
    }  # fmt: skip
    return replace(view, limits=limits, brush=brush)
