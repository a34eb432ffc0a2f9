"""One number against another, a line for each value of a third: embedding share against vocabulary, memory, time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from reports.budgets import number
from reports.figures.text import safe
from reports.figures.theme import DASHES, SYMBOLS, THEMES, ThemeName, dressed

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

Row = Mapping[str, Any]

_MOST_TICKS = 9
_ASIDE = 1.03
"""How far a further bar at one place stands aside on the logarithmic axis."""
_FEWEST = 2
"""A line through so few points would claim what lies between them."""


def curves_figure(
    rows: Sequence[Row],
    *,
    x: str,
    y: str,
    line: str,
    x_title: str,
    y_title: str,
    share: bool = False,
    marks: Sequence[Row] = (),
    limit: tuple[float, str] | None = None,
    theme: ThemeName = "light",
    height: int = 420,
) -> Figure:
    """Lines against a horizontal axis that is logarithmic, as sizes are; the vertical one begins at 0.

    Args:
        rows: Each with fields `x`, `y` and `line`; where it has ``{y}_low`` and ``{y}_high`` they are drawn as a bar;
            points with bars that share an `x` stand side by side. Rows without a value leave gaps.
        x: Field of the horizontal axis, above 0.
        y: Field of the vertical axis.
        line: Field whose values name the lines, in the order in which they first occur.
        x_title: Axis title with its unit.
        y_title: The same of the vertical axis.
        share: Whether `y` is a share, shown in percent.
        marks: Single points with a label: fields `x`, `y` and ``label``, and ``at``, where the label stands as plotly
            says it (above its point by default).
        limit: A horizontal line with its label, such as a budget.
        theme: Light or dark.
        height: Pixels.
    """
    from plotly.graph_objects import Figure as PlotlyFigure

    ink = THEMES[theme]
    figure: Figure = PlotlyFigure()
    names = list(dict.fromkeys(str(row[line]) for row in rows))
    standing: Counter[float] = Counter()
    for at, name in enumerate(names):
        some = sorted((row for row in rows if str(row[line]) == name), key=lambda row: row[x])
        color = ink.series[at % len(ink.series)]
        bars = _bars(some, y)
        places = [row[x] * _ASIDE ** standing[row[x]] for row in some] if bars else [row[x] for row in some]
        standing.update(row[x] for row in some if bars)
        figure.add_scatter(
            x=places, customdata=[row[x] for row in some], y=[number(row[y]) for row in some], name=safe(name),
            mode="lines+markers" if len(some) > _FEWEST else "markers",
            line={"color": color, "width": 2, "dash": DASHES[at % len(DASHES)]},
            marker={"symbol": SYMBOLS[at % len(SYMBOLS)], "size": 7}, error_y=bars,
            hovertemplate=f"%{{fullData.name}}<br>{safe(x_title)} %{{customdata:,}}"
            f"<br>%{{y:{'.2%' if share else '.4g'}}}<extra></extra>",
        )  # fmt: skip
    if marks:
        figure.add_scatter(
            x=[row[x] for row in marks], y=[row[y] for row in marks], mode="markers+text", name="published models",
            text=[safe(row["label"]) for row in marks], textfont={"size": 11},
            textposition=[row.get("at", "top center") for row in marks],
            marker={"symbol": "square-open", "size": 11, "color": ink.text, "line": {"width": 1.6}},
            hovertemplate=f"%{{text}}<br>%{{y:{'.2%' if share else '.4g'}}}<extra></extra>",
        )  # fmt: skip
    sizes = sorted({row[x] for row in (*rows, *marks)})
    if limit is not None and sizes:
        figure.add_scatter(
            x=[sizes[0], sizes[-1]], y=[limit[0]] * 2, mode="lines", name=safe(limit[1]), hoverinfo="skip",
            line={"color": ink.outside, "width": 1.5, "dash": "dot"},
        )  # fmt: skip
    dressed(figure, theme, height=height)
    figure.update_layout(legend={"y": -0.26})  # below the axis title, as low as that lies in a figure of this height
    ticks = sorted({row[x] for row in rows})
    if len(ticks) <= _MOST_TICKS:
        figure.update_xaxes(tickvals=ticks, ticktext=[f"{tick:,}" for tick in ticks])
    figure.update_xaxes(type="log", title_text=safe(x_title))
    figure.update_yaxes(title_text=safe(y_title), rangemode="tozero", **({"tickformat": ".0%"} if share else {}))
    return figure


def _bars(rows: Sequence[Row], y: str) -> dict[str, Any] | None:
    """Intervals as distances from the value; None where no row has one."""
    above, below = [], []
    for row in rows:
        value, low, high = (number(row.get(field)) for field in (y, f"{y}_low", f"{y}_high"))
        above.append(0.0 if value is None or high is None else high - value)
        below.append(0.0 if value is None or low is None else value - low)
    if not any(above) and not any(below):
        return None
    return {
        "type": "data", "symmetric": False, "array": above, "arrayminus": below, "thickness": 1, "width": 3,
    }  # fmt: skip
