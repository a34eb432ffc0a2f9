"""The Pareto front of two objectives: who is on it, who could be, who is beaten, and what lies outside the budgets."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from reports.figures.cloud import CLOUD, cloud_shape
from reports.figures.text import Colors, beside, hover, safe
from reports.figures.theme import THEMES, ThemeName, bare, dressed, say
from reports.formatting import beyond_text
from reports.objectives import Quantity, quantity
from reports.ranking import Entry, Ranking
from reports.values import Value

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

_BARS = 150
"""Uncertain points that have bars: of more, bars would hide the points, and take a second to draw."""
_NAME = 30
"""Letters of a reference's name in titles."""
_FADED = 0.15
"""Opacity that is left to what stands back."""

Kind = Literal["dominated", "unranked", "outside", "uncertain", "on", "anchor"]


@dataclass(frozen=True, slots=True)
class _Mark:
    """How a kind of point looks."""

    title: str
    symbol: str
    size: int
    color: str
    opacity: float


@dataclass(frozen=True, slots=True)
class _Point:
    entry: Entry
    x: Value
    y: Value


def front_figure(
    ranking: Ranking,
    x: str,
    y: str,
    *,
    colors: Colors,
    theme: ThemeName = "light",
    selected: Collection[tuple[str, str]] = (),
    faded: Collection[tuple[str, str]] = (),
    hovering: bool = True,
    clouds: bool = False,
    height: int = 520,
) -> Figure:
    """Candidates of a ranking by two objectives; membership is that of the ranking, in all its objectives.

    Drawn from back to front: dominated points, those outside the budgets, uncertain ones, the front with its staircase
    and the knee, and anchors as labelled hollow marks, which are never left out. Bars are 95% intervals. The first
    trace is a ring around what is selected.

    Args:
        ranking: Of one place, or of several: then measured values are ratios to its reference, as the axes say.
        x: Objective of the horizontal axis, one of the ranking's, or of those that it has drawn.
        y: Of the vertical one.
        colors: Of letters.
        theme: Light or dark.
        selected: Keys of entries to be marked.
        faded: Keys of entries to stand back. Anchors never do.
        hovering: Whether points carry their text; without it they only tell that they are pointed at.
        clouds: Whether many points of a kind may be one path, for a page that has the style of `reports.figures.cloud`.
        height: Pixels.

    Raises:
        UnknownNameError: An objective is not known.
    """
    from plotly.graph_objects import Figure as PlotlyFigure

    axes = quantity(x), quantity(y)
    names = list(dict.fromkeys([*(known.name for known in ranking.objectives), x, y]))
    ink = THEMES[theme]
    figure: Figure = PlotlyFigure()
    points = _points(ranking, x, y)
    marks: Mapping[Kind, _Mark] = {
        "dominated": _Mark("dominated", "circle-open", 7, ink.faint, 0.45),
        "unranked": _Mark("not ranked: a number is missing", "asterisk-open", 8, ink.faint, 0.8),
        "outside": _Mark("outside the budgets", "x-thin-open", 8, ink.outside, 0.8),
        "uncertain": _Mark("uncertain: intervals overlap", "diamond-open", 10, ink.uncertain, 1.0),
        "on": _Mark("on the front", "circle", 11, ink.on, 1.0),
        "anchor": _Mark("anchor", "square-open", 12, ink.text, 1.0),
    }
    chosen = [point for of in points.values() for point in of if point.entry.key in selected]
    figure.add_scatter(**_ring(chosen, ink.text))
    reached = _unbeaten(points["on"], axes)
    stairs = _staircase(reached)
    if stairs:
        figure.add_scatter(
            x=[at[0] for at in stairs], y=[at[1] for at in stairs], mode="lines", hoverinfo="skip", showlegend=False,
            line={"color": ink.on, "width": 1.5, "dash": "dot"},
        )  # fmt: skip
    across = [point.x.value for of in points.values() for point in of]
    for kind, mark in marks.items():
        _add(figure, points[kind], mark, kind, faded, across, clouds=clouds)
        if hovering and points[kind]:
            figure.data[-1].update(hovertemplate="%{hovertext}<extra></extra>", hovertext=[
                hover(point.entry.title, point.entry.rows, names, colors, notes(point.entry, ranking))
                for point in points[kind]
            ])  # fmt: skip
    best = knee([(point.x.value, point.y.value) for point in reached], axes)
    if best is not None:
        at = reached[best]
        figure.add_scatter(
            x=[at.x.value], y=[at.y.value], mode="markers", name="knee: a suggestion", hoverinfo="skip",
            marker={"symbol": "star-open", "size": 20, "color": ink.knee, "line": {"width": 2}},
        )  # fmt: skip
    dressed(figure, theme, height=height)
    figure.update_xaxes(title_text=axis_title(ranking, axes[0]), **_scale(axes[0]))
    figure.update_yaxes(title_text=axis_title(ranking, axes[1]), **_scale(axes[1]))
    if not any(points.values()):
        bare(figure)
        say(figure, "nothing with both numbers yet", ink)
    else:
        _better(figure, axes, ink.faint)
    return figure


def axis_title(ranking: Ranking, known: Quantity) -> str:
    """An objective as `column_title` has it, and which way is better; safe as markup."""
    way = "lower is better" if known.direction == "min" else "higher is better"
    return f"{safe(column_title(ranking, known))} ({way})"


def column_title(ranking: Ranking, known: Quantity) -> str:
    """An objective with its unit, or as the ratio that it is; text. A long name of the reference is cut."""
    if known.name in ranking.relative and ranking.reference is not None:
        name = ranking.reference
        return f"{known.label}, × {name if len(name) <= _NAME else name[: _NAME - 1] + '…'}"
    return f"{known.label}, {known.unit}" if known.unit else known.label


def knee(front: Sequence[tuple[float, float]], axes: tuple[Quantity, Quantity]) -> int | None:
    """The point of a front that lies farthest from the line between its ends, both axes scaled to 0..1 (Das 1999).

    None where there are fewer than three points, or none bulges towards the better side.
    """
    if len(front) < 3:
        return None
    costs = [
        [value if q.direction == "min" else -value for value, q in zip(point, axes, strict=True)] for point in front
    ]
    low = [min(cost[i] for cost in costs) for i in (0, 1)]
    span = [max(cost[i] for cost in costs) - low[i] for i in (0, 1)]
    if not all(span):
        return None
    scaled = [[(cost[i] - low[i]) / span[i] for i in (0, 1)] for cost in costs]
    depth = [1 - sum(at) for at in scaled]  # the ends of a front are (0, 1) and (1, 0)
    best = max(range(len(front)), key=lambda i: depth[i])
    return best if depth[best] > 1e-9 else None


def _points(ranking: Ranking, x: str, y: str) -> dict[Kind, list[_Point]]:
    found: dict[Kind, list[_Point]] = {
        "dominated": [],
        "unranked": [],
        "outside": [],
        "uncertain": [],
        "on": [],
        "anchor": [],
    }
    for entry in ranking.entries:
        if x not in entry.values or y not in entry.values:
            continue
        found[_kind(entry)].append(_Point(entry, entry.values[x], entry.values[y]))
    return found


def _kind(entry: Entry) -> Kind:
    if entry.anchor:
        return "anchor"
    if entry.front is not None:
        return entry.front
    return "outside" if entry.feasible is False else "unranked"


def selected_at(ranking: Ranking, x: str, y: str, selected: Collection[tuple[str, str]]) -> dict[str, list[float]]:
    """Where the ring of a front's first trace lies: ``x`` and ``y``."""
    found = [entry for entry in ranking.entries if entry.key in selected and x in entry.values and y in entry.values]
    return {
        "x": [entry.values[x].value for entry in found],
        "y": [entry.values[y].value for entry in found],
    }


def _ring(points: Sequence[_Point], color: str) -> dict[str, Any]:
    return {
        "x": [point.x.value for point in points], "y": [point.y.value for point in points], "mode": "markers",
        "name": "selected", "hoverinfo": "skip", "showlegend": False,
        "marker": {"symbol": "circle-open", "size": 24, "color": color, "line": {"width": 2}},
    }  # fmt: skip


def _add(
    figure: Figure, points: Sequence[_Point], mark: _Mark, kind: Kind, faded: Collection[tuple[str, str]],
    across: Sequence[float], *, clouds: bool,
) -> None:  # fmt: skip
    import numpy as np

    if not points:
        return
    back = [kind != "anchor" and point.entry.key in faded for point in points]
    many = clouds and kind != "anchor" and len(points) >= CLOUD
    bars = not many and (kind in ("on", "anchor") or (kind == "uncertain" and len(points) <= _BARS))
    xs, ys = [point.x.value for point in points], [point.y.value for point in points]
    keys = ["~".join(point.entry.key) for point in points]
    name = mark.title if bars or kind not in ("on", "uncertain") else f"{mark.title} (bars left out)"
    figure.add_scatter(
        x=np.array(xs) if many else xs,  # arrays are checked and written ten times as fast as lists
        y=np.array(ys) if many else ys,
        mode="none" if many else "markers+text" if kind == "anchor" else "markers",
        text=[safe(point.entry.title) for point in points] if kind == "anchor" else None,
        textposition=beside(xs, across), textfont={"size": 11},
        name=name, hoverinfo="none", legendgroup=kind, showlegend=not many,
        marker={"symbol": mark.symbol, "size": mark.size, "color": mark.color, "line": {"width": 1.6},
                "opacity": [mark.opacity * (_FADED if away else 1.0) for away in back] if any(back) else mark.opacity},
        error_x=_bars([point.x for point in points], back, mark.color) if bars else None,
        error_y=_bars([point.y for point in points], back, mark.color) if bars else None,
        customdata=np.array(keys, dtype=object) if many else keys,
    )  # fmt: skip
    if many:
        _add_cloud(figure, points, back, mark, kind, name)


def _add_cloud(
    figure: Figure, points: Sequence[_Point], back: Sequence[bool], mark: _Mark, kind: Kind, name: str
) -> None:  # fmt: skip
    kinds = sorted(set(back))
    for away in reversed(kinds):  # what stands back is drawn first
        some = [(at.x.value, at.y.value) for at, own in zip(points, back, strict=True) if own == away]
        figure.add_shape(cloud_shape(
            some, name=name, group=kind, color=mark.color, size=mark.size - 1,
            opacity=mark.opacity * (_FADED if away else 1.0), in_legend=away == kinds[0],
        ))  # fmt: skip


def notes(entry: Entry, ranking: Ranking) -> list[str]:
    """Rank and ratios, or why there is no rank."""
    notes = []
    if entry.rank is not None:
        beside = " (where it would stand)" if entry.anchor else ""
        notes.append(f"rank {entry.rank}{beside}" + (f", {entry.front}" if entry.front else ""))
    ratios = [
        f"{known.label} ×{entry.values[known.name].value:.3f}"
        for known in ranking.objectives if known.name in ranking.relative and known.name in entry.values
    ]  # fmt: skip
    if ratios:
        notes.append(f"relative to {ranking.reference}: {', '.join(ratios)}")
    over = [
        f"{budget}: {beyond_text(excess)}"
        for budget, excess in entry.violations.items() if excess is not None and excess > 0
    ]  # fmt: skip
    return [*notes, *over, *([entry.reason] if entry.reason else [])]


def _bars(values: Sequence[Value], back: Sequence[bool], color: str) -> dict[str, Any] | None:
    above = [
        value.high - value.value if math.isfinite(value.high) and not away else 0.0
        for value, away in zip(values, back, strict=True)
    ]
    below = [0.0 if away else value.value - value.low for value, away in zip(values, back, strict=True)]
    if not any(above) and not any(below):
        return None
    return {
        "type": "data", "symmetric": False, "array": above, "arrayminus": below, "thickness": 1, "width": 3,
        "color": color,
    }  # fmt: skip


def _unbeaten(points: Sequence[_Point], axes: tuple[Quantity, Quantity]) -> list[_Point]:
    """Those that none of them beats in the two axes drawn: others are on the front for a third objective."""
    sign_x, sign_y = (1 if known.direction == "min" else -1 for known in axes)
    kept: list[_Point] = []
    for point in sorted(points, key=lambda point: (sign_x * point.x.value, sign_y * point.y.value)):
        if not kept or sign_y * point.y.value < sign_y * kept[-1].y.value:
            kept.append(point)
    return kept


def _staircase(points: Sequence[_Point]) -> list[tuple[float, float]]:
    """The corners of what is reached: from each point straight to the next, worse in one axis first."""
    stairs: list[tuple[float, float]] = []
    for point in points:
        if stairs:
            stairs.append((point.x.value, stairs[-1][1]))
        stairs.append((point.x.value, point.y.value))
    return stairs if len(points) > 1 else []


def _scale(known: Quantity) -> dict[str, Any]:
    if known.kind == "share":
        return {"tickformat": "~%"}
    return {"tickformat": "~s"} if known.kind == "count" else {}


def _better(figure: Figure, axes: tuple[Quantity, Quantity], color: str) -> None:
    """An arrow in the corner that is better in both."""
    left, down = (q.direction == "min" for q in axes)
    arrow = {(True, True): "↙", (True, False): "↖", (False, True): "↘", (False, False): "↗"}[left, down]
    figure.add_annotation(
        text=f"{arrow} better" if left else f"better {arrow}", xref="paper", yref="paper", showarrow=False,
        x=0.01 if left else 0.99, y=0.01 if down else 0.99, xanchor="left" if left else "right",
        yanchor="bottom" if down else "top", font={"size": 13, "color": color},
    )  # fmt: skip
