"""One series over its nights: values with intervals, what each night said, and what was compared with what.

The baseline and the band in which nothing is an alarm are drawn as they were on each night. What has no place among the
values (nights without a number, changes of the environment, what somebody accepted) is marked in lanes below them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, Any

from reports.budgets import number
from reports.change_points import ChangePoint, change_points
from reports.figures.history_lanes import add_lanes
from reports.figures.text import safe
from reports.figures.theme import THEMES, Theme, ThemeName, bare, dressed, say
from reports.figures.verdict_marks import color_of, symbol_of, verdict_name
from reports.formatting import change_text, moment
from reports.histories import environment_changes
from reports.nights import Night, Run, Series
from reports.objectives import quantities
from reports.values import Value
from reports.verdict import Level, Verdict
from reports.verdict_rows import KINDS, LEVELS, night_of
from reports.verdict_text import measured_text, wrapped

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

DAY_S = 86_400.0
_BESIDE = 0.22
"""How far right of its night a fresh run is drawn, in nights; the next one as far from that."""
_MARGIN_PX = 14
_POINT_PX = 17
"""Height of a row of change points."""
_LAST_SHARE = 0.9
"""What is said of a night after this share of the time stands to the left of it, as the figure ends soon."""
_GAP = 1.6
"""Nights further apart than so many usual distances are not joined."""


def history_figure(
    series: Series,
    verdicts: Sequence[Verdict] = (),
    *,
    points: Sequence[ChangePoint] | None = None,
    theme: ThemeName = "light",
    height: int = 460,
) -> Figure:
    """The nights of a series up to the last verdict, or all of them.

    Args:
        series: With any number of nights, none too.
        verdicts: On its nights, as `reports.verdicts.replay` gave them; nights without one are drawn as measured only.
        points: Change points; looked for by default.
        theme: Light or dark.
        height: Pixels.
    """
    from plotly.graph_objects import Figure as PlotlyFigure

    ink = THEMES[theme]
    figure: Figure = PlotlyFigure()
    until = max((verdict.time for verdict in verdicts), default=math.inf)
    nights = series.until(until)
    if not nights and not verdicts:
        dressed(figure, theme, height=height)
        bare(figure)
        say(figure, "no night yet", ink)
        return figure
    if points is None:
        points = change_points(series, at=until)
    by_time = {verdict.time: verdict for verdict in verdicts}
    gap = _usual_gap(sorted({*by_time, *(night.time for night in nights)}))
    _band(figure, list(by_time.values()), gap, ink)
    _levels(figure, nights, points, ink)
    _fresh_runs(figure, series, nights, gap, ink)
    _values(figure, series, nights, by_time, ink)
    dressed(figure, theme, height=height)
    lanes = add_lanes(figure, series, list(by_time.values()), environment_changes(nights), nights, ink)
    above_px = lanes.names_px + _point_marks(figure, points, nights, lanes.names_px, ink)
    known = quantities().get(series.quantity)
    label = series.quantity if known is None else f"{known.label}, {known.unit}" if known.unit else known.label
    figure.update_layout(margin={"t": _MARGIN_PX + above_px}, yaxis={"title": {"text": safe(label)}})
    figure.update_xaxes(type="date", title_text="night", hoverformat="%Y-%m-%d %H:%M")
    if not any(trace.name and trace.showlegend is not False for trace in figure.data):
        figure.update_layout(showlegend=False)
    return figure


def _usual_gap(times: Sequence[float]) -> float:
    """Seconds from night to night."""
    return median(b - a for a, b in pairwise(times)) if len(times) > 1 else DAY_S


def _spans(verdicts: Sequence[Verdict], gap: float) -> Iterator[list[tuple[float, float, Verdict]]]:
    """Stretches of nights that had a baseline: where on the axis each begins and ends."""
    run: list[tuple[float, float, Verdict]] = []
    for verdict in sorted(verdicts, key=lambda one: one.time):
        if number(verdict.baseline) is None or number(verdict.threshold) is None:
            continue
        begin = verdict.time - gap / 2
        if run and verdict.time - run[-1][2].time <= _GAP * gap:
            begin = (run[-1][2].time + verdict.time) / 2
            run[-1] = (run[-1][0], begin, run[-1][2])
        elif run:
            yield run
            run = []
        run.append((begin, verdict.time + gap / 2, verdict))
    if run:
        yield run


def _band(figure: Figure, verdicts: Sequence[Verdict], gap: float, ink: Theme) -> None:
    edges_x: list[str | None] = []
    edges_y: list[float | None] = []
    line_x: list[str | None] = []
    line_y: list[float | None] = []
    for span in _spans(verdicts, gap):
        steps = [(at, verdict) for begin, end, verdict in span for at in (begin, end)]
        upper = [(at, verdict.baseline * (1 + verdict.threshold)) for at, verdict in steps]  # type: ignore[operator]
        lower = [(at, verdict.baseline / (1 + verdict.threshold)) for at, verdict in steps]  # type: ignore[operator]
        for at, value in [*upper, *reversed(lower), upper[0]]:
            edges_x.append(moment(at, seconds=True))
            edges_y.append(value)
        line_x += [moment(at, seconds=True) for at, _ in steps]
        line_y += [verdict.baseline for _, verdict in steps]
        for xs, ys in ((edges_x, edges_y), (line_x, line_y)):
            xs.append(None)
            ys.append(None)
    if not line_x:
        return
    figure.add_scatter(
        x=edges_x[:-1], y=edges_y[:-1], mode="lines", fill="toself", line={"width": 0}, fillcolor=_thin(ink.on, 0.13),
        name="no alarm within", hoverinfo="skip",
    )  # fmt: skip
    figure.add_scatter(
        x=line_x[:-1], y=line_y[:-1], mode="lines", line={"color": ink.on, "width": 1.4}, opacity=0.7,
        name="baseline", hoverinfo="skip",
    )  # fmt: skip


def _levels(figure: Figure, nights: Sequence[Night], points: Sequence[ChangePoint], ink: Theme) -> None:
    """Medians between change points."""
    if not points or not nights:
        return
    ends = [nights[0].time, *(point.time for point in points), nights[-1].time]
    levels = [points[0].before, *(point.after for point in points)]
    figure.add_scatter(
        x=[moment(at, seconds=True) for at in [t for a, b in pairwise(ends) for t in (a, b)]],
        y=[level for level in levels for _ in range(2)], mode="lines", name="level between change points",
        line={"color": ink.text, "width": 1.6, "dash": "dash"}, hoverinfo="skip",
    )  # fmt: skip


def _point_marks(figure: Figure, points: Sequence[ChangePoint], nights: Sequence[Night], at_px: int, ink: Theme) -> int:
    """Lines, and above the values what each comes to, so that nothing is hidden; the height of that."""
    if not nights:
        return 0
    for at, point in enumerate(points):
        when = moment(point.time, seconds=True)
        figure.add_shape(
            type="line", x0=when, x1=when, y0=0, y1=1, xref="x", yref="y domain",
            line={"color": ink.text, "width": 1.2, "dash": "dash"},
        )  # fmt: skip
        last = point.time - nights[0].time > _LAST_SHARE * (nights[-1].time - nights[0].time)
        figure.add_annotation(
            x=when, y=1, xref="x", yref="y domain", xanchor="right" if last else "left", yanchor="bottom",
            yshift=at_px + _POINT_PX * (at % 2), showarrow=False,
            text=f"<b>{'▲' if point.effect > 0 else '▼'} {change_text(point.effect)}</b>",
            font={"size": 12, "color": ink.series[1] if point.worse else ink.series[2]},
            hovertext=f"change point {moment(point.time)}: {'worse' if point.worse else 'better'}",
        )  # fmt: skip
    return _POINT_PX * min(2, len(points))


def _fresh_runs(figure: Figure, series: Series, nights: Sequence[Night], gap: float, ink: Theme) -> None:
    some = [
        (night.time + _BESIDE * gap * at, night, run)
        for night in nights
        for at, run in enumerate(night.confirmations, start=1)
        if run.fitness == "number"
    ]
    runs = [run for _, _, run in some]
    if not some:
        return
    figure.add_scatter(
        x=[moment(at, seconds=True) for at, _, _ in some], y=[_value(run) for run in runs],
        mode="markers", name="fresh run", error_y=_bars(runs, ink.faint),
        marker={"symbol": "circle-open", "size": 6, "color": ink.text, "line": {"width": 1.2}},
        text=[
            f"fresh run of the night {moment(night.time)}<br>{safe(measured_text(series, run.value))}"
            for _, night, run in some
        ],
        hovertemplate="%{text}<extra></extra>",
    )  # fmt: skip


def _values(
    figure: Figure, series: Series, nights: Sequence[Night], verdicts: dict[float, Verdict], ink: Theme
) -> None:
    """A trace for each kind and level, so that the legend names them."""
    shown = [night for night in nights if night.first.fitness == "number"]
    figure.add_scatter(
        x=[moment(night.time, seconds=True) for night in shown], y=[_value(night.first) for night in shown],
        mode="lines", line={"color": ink.faint, "width": 0.8}, opacity=0.5, showlegend=False, hoverinfo="skip",
    )  # fmt: skip
    for kind in reversed(KINDS):
        for level in LEVELS:
            some = [n for n in shown if (v := verdicts.get(n.time)) is not None and (v.kind, v.level) == (kind, level)]
            if some:
                size = 12 if level is Level.FAIL else 10 if level is Level.WARN else 7
                marker = {"symbol": symbol_of(kind, level), "size": size, "color": color_of(kind, ink)}
                _marks(figure, series, some, verdicts, marker, verdict_name(kind, level))
    if some := [night for night in shown if night.time not in verdicts]:
        _marks(figure, series, some, verdicts, {"symbol": "circle", "size": 7, "color": ink.faint}, "not judged")


def _marks(
    figure: Figure, series: Series, nights: Sequence[Night], verdicts: dict[float, Verdict], marker: dict[str, Any],
    name: str,
) -> None:  # fmt: skip
    runs = [night.first for night in nights]
    figure.add_scatter(
        x=[moment(night.time, seconds=True) for night in nights], y=[_value(run) for run in runs], mode="markers",
        name=safe(name), marker={**marker, "line": {"width": 1.6 if "open" in marker["symbol"] else 0}},
        error_y=_bars(runs, marker["color"]), hovertemplate="%{text}<extra></extra>",
        text=[_hover(series, night.time, night.first.value, verdicts.get(night.time)) for night in nights],
    )  # fmt: skip


def _hover(series: Series, time: float, value: Value | None, verdict: Verdict | None) -> str:
    lines = [f"<b>{moment(time)}</b>: {safe(measured_text(series, value))}"]
    if verdict is not None:
        lines.append(f"<b>{safe(verdict_name(verdict.kind, verdict.level))}</b>")
        lines += [safe(line) for line in wrapped(verdict.why)]
        if night_of(verdict) is not None and verdict.detectable is not None:
            lines.append(f"a change of {verdict.detectable:.1%} would be seen")
    return "<br>".join(lines)


def _value(run: Run) -> float | None:
    return None if run.value is None else number(run.value.value)


def _bars(runs: Sequence[Run], color: str) -> dict[str, Any]:
    """Intervals as distances from the value; none where an end is not a number or on the wrong side."""

    def length(run: Run, sign: int) -> float:
        value, end = _value(run), None if run.value is None else number(run.value.high if sign > 0 else run.value.low)
        return 0.0 if value is None or end is None else max(0.0, sign * (end - value))

    return {
        "type": "data", "symmetric": False, "array": [length(run, 1) for run in runs],
        "arrayminus": [length(run, -1) for run in runs], "thickness": 1, "width": 2, "color": color,
    }  # fmt: skip


def _thin(color: str, share: float) -> str:
    """A colour of the theme, nearly clear."""
    red, green, blue = (int(color[at : at + 2], 16) for at in (1, 3, 5))
    return f"rgba({red},{green},{blue},{share})"
