"""A figure as a still picture in SVG, without a browser: for notebooks on sites that run no JavaScript, and for paper.

It draws what our figures of points and lines consist of: scatter traces with bars, clouds of points, axes (linear or
logarithmic, side by side, with a range of their own or as wide as their values), notes, and one legend below. Hover
texts have no place in a still picture.
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape, unescape
from typing import TYPE_CHECKING, Any

from reports.formatting import plain_number

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

_DASHES = {"solid": "", "dash": "7 4", "dot": "2 3", "dashdot": "7 3 2 3", "longdash": "12 4"}
_CORNERS: dict[str, list[tuple[float, float]]] = {
    "square": [(-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)],
    "diamond": [(0.0, -1.3), (1.3, 0.0), (0.0, 1.3), (-1.3, 0.0)],
    "triangle": [(0.0, -1.2), (1.1, 0.9), (-1.1, 0.9)],
    "star": [
        (math.sin(at * math.pi / 5) * (1, 0.45)[at % 2], -math.cos(at * math.pi / 5) * (1, 0.45)[at % 2])
        for at in range(10)
    ],
}
"""Of symbols, around their middle, where the circle's radius is 1."""
_DOT = re.compile(r"M([^,HM]+),([^,HM]+)H")
_TAG = re.compile(r"<[^>]*>")
_LEGEND_ROW, _LETTER = 20, 7.2
_FALLBACK = "#444444"


@dataclass(frozen=True, slots=True)
class _Axis:
    """One axis on the page: from data to pixels."""

    low: float
    high: float
    start: float
    end: float
    log: bool
    ticks: tuple[tuple[float, str], ...]
    title: str
    fixed: bool = False

    def at(self, value: float) -> float:
        """Pixels of a value."""
        place = math.log10(value) if self.log else value
        return self.start + (place - self.low) / (self.high - self.low) * (self.end - self.start)

    def holds(self, pixels: float) -> bool:
        """Whether a place lies on an axis whose range the figure gives; one that fits its values holds them all."""
        return not self.fixed or min(self.start, self.end) <= pixels <= max(self.start, self.end)


def svg(figure: Figure, *, width: int = 860, height: float | None = None) -> str:
    """The figure as an SVG document, `width` pixels wide and `height`, or what the figure says, high.

    Raises:
        ValueError: It holds other traces than scatter.
    """
    plan = figure.to_plotly_json()
    traces, layout = [_listed(trace) for trace in plan["data"]], plan["layout"]
    odd = {str(trace.get("type", "scatter")) for trace in traces} - {"scatter"}
    if odd:
        raise ValueError(f"a still picture is drawn of scatter traces only, not of {', '.join(sorted(odd))}")
    height = float(height or layout.get("height") or 450)
    color = layout.get("font", {}).get("color", _FALLBACK)
    clouds = [shape for shape in layout.get("shapes") or () if shape.get("type") == "path"]
    named = [part for part in (*clouds, *traces) if part.get("name") and part.get("showlegend") is not False]
    shown = layout.get("showlegend", True) is not False
    rows = _legend_rows(named, width - 90) if shown else []
    box = (74.0, 44.0 if layout.get("title", {}).get("text") or layout.get("annotations") else 18.0,
           width - 20.0, height - 58.0 - _LEGEND_ROW * len(rows))  # fmt: skip
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height:.0f}" '
        f'viewBox="0 0 {width} {height:.0f}" font-family="sans-serif" font-size="12" fill="{escape(color)}">',
        f'<rect width="100%" height="100%" fill="{escape(layout.get("paper_bgcolor", "#ffffff"))}"/>',
    ]
    for number in _panels(traces):
        some = [trace for trace in traces if (trace.get("xaxis") or "x") == f"x{number}"]
        across = _axis(some, "x", layout.get(f"xaxis{number}", {}), box[0], box[2])
        up = _axis(some, "y", layout.get(f"yaxis{number}", {}), box[3], box[1])
        parts += _frame(across, up, layout.get(f"xaxis{number}", {}).get("gridcolor", "#e6e8ec"))
        parts += [_cloud(shape, across, up) for shape in clouds if shape["xref"] == f"x{number}"]
        for trace in some:
            parts += _trace(trace, across, up)
    for note in layout.get("annotations") or ():
        x, y = box[0] + note["x"] * (box[2] - box[0]), box[3] - note["y"] * (box[3] - box[1])
        anchor = {"left": "start", "right": "end"}.get(note.get("xanchor", ""), "middle")
        parts.append(_text(x, y - 4, note["text"], anchor, note.get("font", {}).get("color")))
    title = layout.get("title", {}).get("text")
    parts += [_text(box[0], 18, title, "start", None)] if title else []
    for line, row in enumerate(rows):
        x, y = 74.0, height - _LEGEND_ROW * (len(rows) - line) + 8
        for trace in row:
            parts += _key(trace, x, y)
            x += _key_width(trace)
    return "\n".join([*parts, "</svg>"])


def _listed(trace: dict[str, Any]) -> dict[str, Any]:
    """With columns of numbers as lists; Plotly packs arrays."""
    columns = {name: _numbers(trace[name]) for name in ("x", "y") if isinstance(trace.get(name), dict)}
    return trace | columns


def _numbers(packed: dict[str, str]) -> list[float]:
    import numpy as np

    numbers: list[float] = np.frombuffer(base64.b64decode(packed["bdata"]), dtype=packed["dtype"]).tolist()
    return numbers


def _panels(traces: Sequence[dict[str, Any]]) -> list[str]:
    """Numbers of the axes that traces stand on, as plotly writes them: '' first, then '2', '3'."""
    return list(dict.fromkeys(str(trace.get("xaxis") or "x")[1:] for trace in traces)) or [""]


def _axis(traces: Sequence[dict[str, Any]], name: str, plan: dict[str, Any], start: float, end: float) -> _Axis:
    log = plan.get("type") == "log"
    values = [value for trace in traces for value in _reach(trace, name) if not log or value > 0]
    places = [math.log10(value) if log else value for value in values] or [0.0, 1.0]
    low, high = min(places), max(places)
    margin = 0.05 * (high - low or abs(high) or 1.0)
    zero = plan.get("rangemode") == "tozero" and not log and low >= 0
    low, high = (0.0 if zero else low - margin), high + margin
    fixed = plan.get("range") is not None
    if fixed:
        low, high = map(float, plan["range"])
    one, other = plan.get("domain") or (0.0, 1.0)
    begin, finish = start + one * (end - start), start + other * (end - start)
    title = plan.get("title", {}).get("text") or ""
    ticks = tuple(_ticks(plan, min(low, high), max(low, high), log))
    return _Axis(low, high, begin, finish, log, ticks, title, fixed)


def _reach(trace: dict[str, Any], name: str) -> Iterator[float]:
    """All values of a trace along an axis, with the ends of its bars."""
    values, bars = trace.get(name), trace.get(f"error_{name}") or {}
    for at, value in enumerate([] if values is None else values):
        if value is None:
            continue
        yield value
        for field, sign in (("array", 1), ("arrayminus", -1)):
            sizes = bars.get(field)
            if sizes is not None and sizes[at] is not None:
                yield value + sign * sizes[at]


def _ticks(plan: dict[str, Any], low: float, high: float, log: bool) -> Iterator[tuple[float, str]]:
    if plan.get("tickvals") is not None:
        texts = plan.get("ticktext")
        pairs = list(zip(plan["tickvals"], plan["tickvals"] if texts is None else texts, strict=True))
        yield from (
            (float(value), str(text)) for value, text in pairs if low <= (math.log10(value) if log else value) <= high
        )
        return
    if log:
        powers = range(math.floor(low), math.ceil(high) + 1)
        values = [digit * 10.0**power for power in powers for digit in (1, 2, 5)]
        values = [value for value in values if low <= math.log10(value) <= high]
    else:
        step = 10.0 ** math.floor(math.log10((high - low) / 5))
        step *= next(factor for factor in (1, 2, 5, 10) if (high - low) / (step * factor) <= 7)
        values = [step * at for at in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]
    form = str(plan.get("tickformat") or "")
    yield from ((value, _number(value, form)) for value in values)


def _number(value: float, form: str) -> str:
    if form.endswith("%"):
        return f"{value:.0%}" if abs(value * 100 - round(value * 100)) < 1e-9 else f"{value:.1%}"
    if form == "~s":
        for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
            if abs(value) >= size:
                return f"{value / size:g}{unit}"
    return f"{value:g}" if abs(value) < 1000 else plain_number(value)


def _frame(across: _Axis, up: _Axis, grid: str) -> Iterator[str]:
    bottom, top, left, right = up.start, up.end, across.start, across.end
    for value, text in across.ticks:
        x = across.at(value)
        yield f'<path d="M{x:.1f} {bottom:.1f}V{top:.1f}" stroke="{grid}" fill="none"/>'
        yield _text(x, bottom + 16, text, "middle", None)
    for value, text in up.ticks:
        y = up.at(value)
        yield f'<path d="M{left:.1f} {y:.1f}H{right:.1f}" stroke="{grid}" fill="none"/>'
        yield _text(left - 6, y + 4, text, "end", None)
    yield f'<path d="M{left:.1f} {top:.1f}V{bottom:.1f}H{right:.1f}" stroke="#8a909c" fill="none"/>'
    if across.title:
        yield _text((left + right) / 2, bottom + 36, across.title, "middle", None)
    if up.title:
        x, y = left - 54, (top + bottom) / 2
        yield f'<g transform="rotate(-90 {x:.1f} {y:.1f})">{_text(x, y, up.title, "middle", None)}</g>'


def _trace(trace: dict[str, Any], across: _Axis, up: _Axis) -> Iterator[str]:
    mode, color, dim = str(trace.get("mode") or "lines"), _color(trace), float(trace.get("opacity") or 1.0)
    points: list[tuple[float, float] | None] = []
    for x, y in zip(trace.get("x") or (), trace.get("y") or (), strict=True):
        gone = x is None or y is None or (across.log and x <= 0) or (up.log and y <= 0)
        points.append(None if gone else (across.at(x), up.at(y)))
    yield f'<g opacity="{dim:g}">'
    clipped = across.fixed or up.fixed
    if clipped:  # an inner picture shows nothing beyond its edges, and needs no names as a clip path does
        left, top, w, h = across.start, up.end, across.end - across.start, up.start - up.end
        view = f'viewBox="{left:.1f} {top:.1f} {w:.1f} {h:.1f}"'
        yield f'<svg x="{left:.1f}" y="{top:.1f}" width="{w:.1f}" height="{h:.1f}" {view}>'
    if "lines" in mode:
        line = trace.get("line") or {}
        for run in _runs(points):
            path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in run)
            yield (f'<path d="{path}" fill="none" stroke="{color}" stroke-width="{line.get("width") or 2}" '
                   f'stroke-dasharray="{_DASHES.get(line.get("dash") or "solid", "")}"/>')  # fmt: skip
    yield from _bars(trace, points, across, up, color)
    if clipped:
        yield "</svg>"
    texts, where = trace.get("text"), trace.get("textposition")
    faint = (trace.get("marker") or {}).get("opacity")
    faint = 1 if faint is None else faint
    for at, point in enumerate(points):
        if point is None or not across.holds(point[0]) or not up.holds(point[1]):
            continue
        if "markers" in mode:
            mark, own = _mark(trace, *point), faint if isinstance(faint, int | float) else faint[at]
            yield mark if own == 1 else f'<g opacity="{own:g}">{mark}</g>'
        if "text" in mode and texts is not None:
            yield _label(*point, texts[at], where if where is None or isinstance(where, str) else where[at])
    yield "</g>"


def _cloud(shape: dict[str, Any], across: _Axis, up: _Axis) -> str:
    """Points of one kind, of `reports.figures.cloud`: ``M1,2H1M3,4H3``."""
    points = []
    for at in _DOT.finditer(shape["path"]):
        x, y = float(at[1]), float(at[2])
        if (across.log and x <= 0) or (up.log and y <= 0):
            continue
        left, top = across.at(x), up.at(y)
        if across.holds(left) and up.holds(top):
            points.append(f"M{left:.1f} {top:.1f}h0")
    ink = f'stroke="{escape(shape["line"]["color"])}" stroke-width="{shape["line"]["width"]:g}" stroke-linecap="round"'
    return f'<path d="{"".join(points)}" opacity="{shape["opacity"]:g}" fill="none" {ink}/>'


def _label(x: float, y: float, text: object, where: str | None) -> str:
    """Text above a point, at its height or below it, to the side that is asked for."""
    words = (where or "").split()
    side = words[-1:]
    away, rise = {"middle": (10, -4), "bottom": (6, -16)}.get(words[0] if words else "", (6, 8))
    if side == ["right"]:
        return _text(x + away, y - rise, text, "start", None)
    if side == ["left"]:
        return _text(x - away, y - rise, text, "end", None)
    return _text(x, y - 10, text, "middle", None)


def _runs(points: Sequence[tuple[float, float] | None]) -> Iterator[list[tuple[float, float]]]:
    """Stretches without a gap."""
    run: list[tuple[float, float]] = []
    for point in [*points, None]:
        if point is not None:
            run.append(point)
        elif run:
            yield run
            run = []


def _bars(
    trace: dict[str, Any], points: Sequence[tuple[float, float] | None], across: _Axis, up: _Axis, color: str
) -> Iterator[str]:
    for name, axis in (("x", across), ("y", up)):
        bars = trace.get(f"error_{name}") or {}
        if bars.get("array") is None:
            continue
        for at, point in enumerate(points):
            more, less = bars["array"][at], bars["arrayminus"][at]
            if point is None or more is None or less is None:
                continue
            value = trace[name][at]
            low = axis.start if axis.log and value - less <= 0 else axis.at(value - less)
            high = axis.at(value + more)
            path = f"M{low:.1f} {point[1]:.1f}H{high:.1f}" if name == "x" else f"M{point[0]:.1f} {low:.1f}V{high:.1f}"
            yield f'<path d="{path}" stroke="{color}" fill="none"/>'


def _color(trace: dict[str, Any]) -> str:
    found = (trace.get("marker") or {}).get("color") or (trace.get("line") or {}).get("color")
    return escape(found) if isinstance(found, str) else _FALLBACK


def _mark(trace: dict[str, Any], x: float, y: float) -> str:
    marker = trace.get("marker") or {}
    symbol, r = str(marker.get("symbol") or "circle"), float(marker.get("size") or 6) / 2
    color = _color(trace)
    ink = (
        f'fill="none" stroke="{color}" stroke-width="1.6"'
        if "open" in symbol or "thin" in symbol
        else f'fill="{color}"'
    )
    shape = symbol.partition("-")[0]
    if shape in ("x", "cross", "asterisk"):
        d = r * (0.8 if shape == "x" else 1.0)
        path = f"M{x - d:.1f} {y - d:.1f}L{x + d:.1f} {y + d:.1f}M{x - d:.1f} {y + d:.1f}L{x + d:.1f} {y - d:.1f}"
        if shape == "cross":
            path = f"M{x - r:.1f} {y:.1f}H{x + r:.1f}M{x:.1f} {y - r:.1f}V{y + r:.1f}"
        thick = 1 if "open" in symbol else 2  # these have no inside that could be hollow
        return f'<path d="{path}" stroke="{color}" stroke-width="{thick}" fill="none"/>'
    corners = _CORNERS.get(shape)
    if corners is None:
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{r:.1f}" {ink}/>'
    return f'<path d="M{"L".join(f"{x + r * a:.1f} {y + r * b:.1f}" for a, b in corners)}Z" {ink}/>'


def _key(trace: dict[str, Any], x: float, y: float) -> Iterator[str]:
    mode, color = str(trace.get("mode") or ("markers" if "path" in trace else "lines")), _color(trace)
    if "lines" in mode:
        dash = _DASHES.get((trace.get("line") or {}).get("dash") or "solid", "")
        yield f'<path d="M{x:.1f} {y:.1f}h24" stroke="{color}" stroke-width="2" stroke-dasharray="{dash}" fill="none"/>'
    if "markers" in mode:
        yield _mark(trace, x + 12, y)
    yield _text(x + 30, y + 4, trace["name"], "start", None)


def _key_width(trace: dict[str, Any]) -> float:
    return 48 + _LETTER * len(_plain(trace["name"]))


def _legend_rows(traces: Sequence[dict[str, Any]], room: float) -> list[list[dict[str, Any]]]:
    rows: list[list[dict[str, Any]]] = []
    used = room
    for trace in traces:
        if used + _key_width(trace) > room:
            rows.append([])
            used = 0.0
        rows[-1].append(trace)
        used += _key_width(trace)
    return rows


def _plain(text: object) -> str:
    return unescape(_TAG.sub(" ", str(text)))


def _text(x: float, y: float, text: object, anchor: str, color: str | None) -> str:
    ink = f' fill="{escape(color)}"' if color else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{ink}>{escape(_plain(text))}</text>'
