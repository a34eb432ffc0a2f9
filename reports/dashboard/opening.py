"""The page as a link asks for it: made whole at once, so that the first picture needs no further question."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from dash.development.base_component import Component

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
from reports.formatting import clean
from reports.objectives import quantities

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


def _filled(studies: OpenStudies, view: View, theme: ThemeName) -> Props:
    """What is of the study: controls, the front, the table's head, and whatever else the link has open."""
    names = studies.names()
    study = view.study if view.study in names else names[0] if names else None
    said = [] if view.study in (None, study) else [f"there is no study {view.study!r} here; this is {study}"]
    found: Props = {"study": {"value": study, "options": study_options(names)}}
    if study is None:
        return found | _alert(["there is no study here yet: archsearch run"])
    source = studies.source(study)
    version = source.version()
    snapshot = studies.boards(study).snapshot(view.context)
    limits = dict(own_limits(snapshot) if view.limits is None else view.limits)
    found |= {"version": {"data": version}, "limits": {"data": limits}}
    if not snapshot.rows:
        waiting = f"{study} holds no measurement yet: the first takes about a minute"
        return found | _alert(said) | {"counts": {"children": clean(waiting)}}
    scope = snapshot.scope(view.scope)
    if view.scope not in (None, scope.key):
        said.append("the place that the link names is not in this study")
    x, y = axes_of(snapshot, scope, view.x, view.y)
    axes = axis_options(snapshot, scope)
    drawn: Json = {
        "scope": scope.key, "x": x, "y": y, "of": view.of, "context": view.context or OWN_CONTEXT, "limits": limits,
        "version": version, "study": study,
    }  # fmt: skip
    board = studies.board(drawn)
    brush = {"ranges": dict(view.brush)}
    figure, counts, reading = front(board, drawn, brush, view.find, theme, view.selected, dict(view.zoom))
    columns, letters, style = table_head(board)
    made, fixed = budget_sliders(snapshot, scope, limits)
    open_tab = body(studies, view.tab, drawn, theme, brush, view.tray) if view.tab != "table" else None
    found["details"] = {"children": details(studies, drawn, view.selected, view.tray, theme)}
    if open_tab is not None:
        found[f"body-{view.tab}"] = {"children": open_tab}
    return found | _alert(said) | {
        "scope": {"value": scope.key, "options": scope_options(snapshot)},
        "x": {"value": x, "options": axes}, "y": {"value": y, "options": axes},
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
