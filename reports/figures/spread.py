"""All objectives and knobs at once, and embedding shares: every candidate one line, or one point."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from reports.budgets import number
from reports.figures.front import column_title
from reports.figures.text import Colors, beside, hover, safe
from reports.figures.theme import THEMES, ThemeName, dressed
from reports.objectives import quantity
from reports.ranking import Entry, Ranking

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

KNOBS = ("width", "depth", "vocab_size", "embedding_rank")
"""Fields of a layout that are drawn beside the objectives, where they differ."""


Brush = Mapping[str, Sequence[tuple[float, float]]]
"""What is kept: for each field the ranges of its values."""


def parallel_axes(ranking: Ranking) -> tuple[str, ...]:
    """Fields of the axes of `parallel_figure`, from left to right."""
    entries = _lines(ranking)
    shares = [] if any(q.name == "embedding_share" for q in ranking.objectives) else ["embedding_share"]
    shares = [name for name in shares if all(number(entry.rows[0].get(name)) is not None for entry in entries)]
    knobs = [name for name in KNOBS if len({coordinate(entry, name) for entry in entries}) > 1]
    return (*(known.name for known in ranking.objectives), *shares, *knobs)


def coordinate(entry: Entry, name: str) -> float | None:
    """Where an entry lies on the axis of a field: the value that it is ranked by, or the knob; no rank is 0."""
    if name in entry.values:
        return entry.values[name].value
    found = number(entry.rows[0].get(name))
    return found or 0.0 if name in KNOBS else found


def within(entry: Entry, brush: Brush) -> bool:
    """Whether an entry lies in one of the ranges of every field of a brush."""
    for name, ranges in brush.items():
        at = coordinate(entry, name)
        if at is None or not any(low <= at <= high for low, high in ranges):
            return False
    return True


def parallel_figure(
    ranking: Ranking, *, brush: Brush | None = None, theme: ThemeName = "light", height: int = 420
) -> Figure:
    """Parallel coordinates over all objectives of a ranking and the knobs that differ; drag on an axis to select.

    The better end of an objective is at the top. Colour is the rank. Candidates without all numbers are left out.

    Args:
        ranking: What is drawn.
        brush: What is selected already.
        theme: Light or dark.
        height: Pixels.
    """
    from plotly.graph_objects import Figure as PlotlyFigure
    from plotly.graph_objects import Parcoords

    ink = THEMES[theme]
    entries = _lines(ranking)
    figure: Figure = PlotlyFigure()
    if entries:
        worst = len(entries) + 1
        dimensions = [_axis(entries, name, ranking) for name in parallel_axes(ranking)]
        for name, axis in zip(parallel_axes(ranking), dimensions, strict=True):
            ranges = [list(kept) for kept in (brush or {}).get(name, ())]
            if ranges:
                axis["constraintrange"] = ranges if len(ranges) > 1 else ranges[0]
        ranks = [entry.rank or worst for entry in entries]
        figure.add_trace(
            Parcoords(
                dimensions=dimensions, labelfont={"size": 12, "color": ink.text},
                tickfont={"size": 11, "color": ink.text}, rangefont={"size": 10, "color": ink.faint},
                line={"color": ranks, "colorscale": "Cividis" if theme == "light" else "Cividis_r", "showscale": True,
                      "cmin": 1, "cmax": max(ranks),
                      "colorbar": {"title": {"text": "rank"}, "thickness": 12, "tickformat": "d",
                                   "nticks": min(8, max(ranks))}},
            )
        )  # fmt: skip
    dressed(figure, theme, height=height)
    figure.update_layout(margin={"l": 90, "r": 60, "t": 70, "b": 30})
    return figure


def embedding_figure(ranking: Ranking, *, colors: Colors, theme: ThemeName = "light", height: int = 460) -> Figure:
    """Embedding share against the parameters that are left for computing, a point per layout; anchors are labelled."""
    from plotly.graph_objects import Figure as PlotlyFigure

    ink = THEMES[theme]
    figure: Figure = PlotlyFigure()
    names = [known.name for known in ranking.objectives]
    shown = [entry for entry in ranking.entries if number(entry.rows[0].get("embedding_share")) is not None]
    across = [entry.rows[0]["effective_params"] for entry in shown]
    for anchors in (False, True):
        some = [entry for entry in shown if entry.anchor == anchors]
        if not some:
            continue
        figure.add_scatter(
            x=[entry.rows[0]["effective_params"] for entry in some],
            y=[entry.rows[0]["embedding_share"] for entry in some],
            mode="markers+text" if anchors else "markers", name="anchor" if anchors else "candidate",
            text=[safe(entry.title) for entry in some] if anchors else None,
            textposition=beside([entry.rows[0]["effective_params"] for entry in some], across),
            marker={"symbol": "square-open" if anchors else "circle", "size": 12 if anchors else 8,
                    "color": ink.text if anchors else ink.on, "opacity": 1.0 if anchors else 0.7,
                    "line": {"width": 1.6}},
            hovertext=[hover(entry.title, entry.rows, names, colors) for entry in some],
            hovertemplate="%{hovertext}<extra></extra>",
        )  # fmt: skip
    dressed(figure, theme, height=height)
    figure.update_xaxes(title_text="effective parameters (all but the embedding)", tickformat="~s")
    figure.update_yaxes(title_text="embedding share of all parameters", tickformat="~%", rangemode="tozero")
    return figure


def _lines(ranking: Ranking) -> list[Entry]:
    """Candidates with all numbers."""
    names = [known.name for known in ranking.objectives]
    return [entry for entry in ranking.entries if not entry.anchor and all(name in entry.values for name in names)]


def _axis(entries: Sequence[Entry], name: str, ranking: Ranking) -> dict[str, Any]:
    values = [coordinate(entry, name) for entry in entries]
    if name in KNOBS:
        kinds = sorted({value for value in values if value is not None})
        words = [f"{value:,.0f}" if value else "none" for value in kinds]
        ticks = {"tickvals": kinds, "ticktext": words} if len(kinds) <= 8 else {}
        return {"label": name.replace("_", " "), "values": values, **ticks}
    known = quantity(name)
    kept = [value for value in values if value is not None]
    low, high = min(kept), max(kept)
    span = [low, high] if high > low else [low - 0.5 * (abs(low) or 1), low + 0.5 * (abs(low) or 1)]
    shape = {"tickformat": ".1%"} if known.kind == "share" else {"tickformat": "~s"} if known.kind == "count" else {}
    return {
        "label": safe(column_title(ranking, known)), "values": values,
        "range": span[::-1] if known.direction == "min" else span, **shape,
    }  # fmt: skip
