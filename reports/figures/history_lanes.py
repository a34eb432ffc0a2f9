"""The lanes below a series' values: nights without a number, changes of the environment, what somebody accepted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from reports.figures.text import safe
from reports.figures.theme import Theme
from reports.figures.verdict_marks import color_of, symbol_of, verdict_name
from reports.formatting import clean, moment, plain_number
from reports.histories import EnvironmentChange
from reports.nights import Night, Series
from reports.verdict import Kind, Verdict
from reports.verdict_rows import LEVELS, night_of
from reports.verdict_text import wrapped

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

_LANE_SHARE = 0.055
"""Of the figure's height."""
_MOST_LABELS = 6
"""Changes that are named on the figure itself; of more one is told by hovering."""
_LONGEST_LABEL = 30
_NAME_PX = 15
"""Height of a row of names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lanes:
    """What was drawn.

    Attributes:
        count: How many lanes.
        names_px: How high the names of what changed stand above the values; 0 without any.
    """

    count: int
    names_px: int


def add_lanes(
    figure: Figure,
    series: Series,
    verdicts: Sequence[Verdict],
    changes: Sequence[EnvironmentChange],
    nights: Sequence[Night],
    ink: Theme,
) -> Lanes:
    """Draw the lanes that have marks, and make room for them under the values."""
    last = max([*(night.time for night in nights), *(verdict.time for verdict in verdicts)])
    accepted = [one for one in series.acceptances if one.time <= last]
    without = [verdict for verdict in verdicts if verdict.kind in (Kind.NO_DATA, Kind.INVALID)]
    judged = {verdict.time for verdict in verdicts}
    bare = [night for night in nights if night.first.fitness != "number" and night.time not in judged]
    names = [("accepted", accepted), ("environment", changes), ("no number", [*without, *bare])]
    present = [name for name, found in names if found]
    height = {name: len(present) - 1 - at for at, name in enumerate(present)}
    if without:
        _without(figure, without, height["no number"], ink)
    if bare:
        _lane(
            figure, [night.time for night in bare], height["no number"], name="no number",
            texts=[f"<b>{moment(n.time)}</b>: {safe(n.first.status)} {safe(n.first.reason)}" for n in bare],
            marker={"symbol": "triangle-down", "color": ink.faint},
        )  # fmt: skip
    if changes:
        _lane(
            figure, [change.time for change in changes], height["environment"], name="environment changed",
            texts=[_change_text(change) for change in changes], marker={"symbol": "triangle-up", "color": ink.text},
        )  # fmt: skip
    if accepted:
        _lane(
            figure, [one.time for one in accepted], height["accepted"], name="accepted",
            texts=[
                f"<b>accepted from {moment(one.time)} on</b> by {safe(one.by)}"
                f"{'' if one.pinned is None else f', pinned to {plain_number(one.pinned)}'}<br>"
                + "<br>".join(safe(line) for line in wrapped(one.reason))
                for one in accepted
            ],
            marker={"symbol": "cross", "color": ink.series[2]},
        )  # fmt: skip
    for times, color, dash in (
        ([change.time for change in changes], ink.faint, "dot"),
        ([one.time for one in accepted], ink.series[2], "solid"),
    ):
        for time in times:
            _line(figure, time, color, dash)
    _frame(figure, present, ink)
    labelled = 0 < len(changes) <= _MOST_LABELS
    for at, change in enumerate(changes if labelled else ()):
        figure.add_annotation(
            x=moment(change.time, seconds=True), y=1, xref="x", yref="y domain", xanchor="left", yanchor="bottom",
            yshift=_NAME_PX * (at % 2), showarrow=False, text=safe(_label(change)),
            font={"size": 11, "color": ink.faint},
        )  # fmt: skip
    return Lanes(count=len(present), names_px=_NAME_PX * min(2, len(changes)) if labelled else 0)


def _without(figure: Figure, verdicts: Sequence[Verdict], at: int, ink: Theme) -> None:
    for kind in (Kind.INVALID, Kind.NO_DATA):
        for level in LEVELS:
            some = [verdict for verdict in verdicts if (verdict.kind, verdict.level) == (kind, level)]
            if not some:
                continue
            _lane(
                figure, [verdict.time for verdict in some], at, name=verdict_name(kind, level),
                texts=[
                    f"<b>{moment(v.time)}</b>: {safe(verdict_name(kind, level))}"
                    f"{'' if night_of(v) is not None else ' (not measured)'}<br>"
                    + "<br>".join(safe(line) for line in wrapped(v.why))
                    for v in some
                ],
                marker={"symbol": symbol_of(kind, level), "color": color_of(kind, ink)},
            )  # fmt: skip


def _lane(
    figure: Figure, times: Sequence[float], at: int, *, name: str, texts: Sequence[str], marker: dict[str, Any]
) -> None:
    figure.add_scatter(
        x=[moment(time, seconds=True) for time in times], y=[at] * len(times), yaxis="y2", mode="markers",
        name=safe(name), text=list(texts), hovertemplate="%{text}<extra></extra>", cliponaxis=False,
        marker={"size": 10, "line": {"width": 1.6 if "open" in marker["symbol"] else 0}, **marker},
    )  # fmt: skip


def _line(figure: Figure, time: float, color: str, dash: str) -> None:
    when = moment(time, seconds=True)
    figure.add_shape(
        type="line", x0=when, x1=when, y0=0, y1=1, xref="x", yref="y domain", layer="below",
        line={"color": color, "width": 1.2, "dash": dash},
    )  # fmt: skip


def _frame(figure: Figure, present: Sequence[str], ink: Theme) -> None:
    if not present:
        return
    top = _LANE_SHARE * len(present) + 0.01
    figure.update_layout(
        xaxis={"anchor": "y2"},
        yaxis={"domain": [top + 0.05, 1]},
        yaxis2={
            "domain": [0, top], "range": [-0.6, len(present) - 0.4], "tickvals": list(range(len(present))),
            "ticktext": list(reversed(present)), "showgrid": True, "gridcolor": ink.grid, "zeroline": False,
            "fixedrange": True, "automargin": True, "ticks": "", "linecolor": ink.faint, "tickfont": {"size": 11},
        },
    )  # fmt: skip


def _label(change: EnvironmentChange) -> str:
    """The names of what changed, as many as fit."""
    names = [clean(name).replace("_", " ") for name in change.names]
    text = names[0][:_LONGEST_LABEL]
    shown = 1
    while shown < len(names) and len(text) + len(names[shown]) + 2 <= _LONGEST_LABEL:
        text += f", {names[shown]}"
        shown += 1
    return text if shown == len(names) else f"{text} +{len(names) - shown}"


def _change_text(change: EnvironmentChange) -> str:
    lines = [f"<b>{moment(change.time)}</b>: changed since the night before"]
    for name, (old, new) in change.names.items():
        first, *rest = wrapped(f"{name}: {old} -> {new}")
        lines += [safe(first), *(f"&nbsp;&nbsp;{safe(line)}" for line in rest)]
    return "<br>".join(lines)
