"""All objectives and knobs at once, and embedding shares: every candidate one line, or one point."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from reports.budgets import number
from reports.figures.front import axis_title
from reports.figures.text import Colors, hover, safe
from reports.figures.theme import THEMES, ThemeName, dressed
from reports.objectives import Quantity, quantity
from reports.ranking import Entry, Ranking

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

KNOBS = ("width", "depth", "vocab_size", "embedding_rank")
"""Fields of a layout that are drawn beside the objectives, where they differ."""


def parallel_figure(ranking: Ranking, *, theme: ThemeName = "light", height: int = 420) -> Figure:
    """Parallel coordinates over all objectives of a ranking and the knobs that differ; drag on an axis to select.

    The better end of an objective is at the top. Colour is the rank. Candidates without all numbers are left out.
    """
    from plotly.graph_objects import Figure as PlotlyFigure
    from plotly.graph_objects import Parcoords

    ink = THEMES[theme]
    entries = [entry for entry in ranking.entries if _complete(entry, ranking) and not entry.anchor]
    figure: Figure = PlotlyFigure()
    if entries:
        worst = len(entries) + 1
        dimensions: list[dict[str, Any]] = [_objective_axis(entries, known, ranking) for known in ranking.objectives]
        dimensions += _share_axes(entries, ranking)
        dimensions += [axis for name in KNOBS if (axis := _knob_axis(entries, name)) is not None]
        ranks = [entry.rank or worst for entry in entries]
        figure.add_trace(
            Parcoords(
                dimensions=dimensions, labelfont={"size": 12, "color": ink.text},
                tickfont={"size": 11, "color": ink.text}, rangefont={"size": 10, "color": ink.faint},
                line={"color": ranks, "colorscale": "Cividis_r" if theme == "light" else "Cividis", "showscale": True,
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
    for anchors in (False, True):
        some = [
            entry for entry in ranking.entries
            if entry.anchor == anchors and number(entry.rows[0].get("embedding_share")) is not None
        ]  # fmt: skip
        if not some:
            continue
        figure.add_scatter(
            x=[entry.rows[0]["effective_params"] for entry in some],
            y=[entry.rows[0]["embedding_share"] for entry in some],
            mode="markers+text" if anchors else "markers", name="anchor" if anchors else "candidate",
            text=[safe(entry.title) for entry in some] if anchors else None, textposition="top center",
            marker={"symbol": "square-open" if anchors else "circle", "size": 12 if anchors else 8,
                    "color": ink.text if anchors else ink.on, "opacity": 1.0 if anchors else 0.7,
                    "line": {"width": 1.6}},
            hovertext=[hover(entry.title, entry.rows, names, colors) for entry in some],
            hovertemplate="%{hovertext}<extra></extra>",
        )  # fmt: skip
    dressed(figure, theme, height=height)
    figure.update_xaxes(title_text="effective parameters (all but the embedding)", tickformat="~s")
    figure.update_yaxes(title_text="embedding share of all parameters", tickformat=".0%", rangemode="tozero")
    return figure


def _complete(entry: Entry, ranking: Ranking) -> bool:
    return all(known.name in entry.values for known in ranking.objectives)


def _objective_axis(entries: Sequence[Entry], known: Quantity, ranking: Ranking) -> dict[str, Any]:
    values = [entry.values[known.name].value for entry in entries]
    low, high = min(values), max(values)
    span = [low, high] if high > low else [low - 0.5 * (abs(low) or 1), low + 0.5 * (abs(low) or 1)]
    title = axis_title(ranking, known).partition(" (")[0]
    return {
        "label": title, "values": values, "range": span[::-1] if known.direction == "min" else span,
        **({"tickformat": ".1%"} if known.kind == "share" else {"tickformat": "~s"} if known.kind == "count" else {}),
    }  # fmt: skip


def _share_axes(entries: Sequence[Entry], ranking: Ranking) -> list[dict[str, Any]]:
    """The embedding share, where it is no objective already."""
    if any(known.name == "embedding_share" for known in ranking.objectives):
        return []
    shares = [number(entry.rows[0].get("embedding_share")) for entry in entries]
    known = quantity("embedding_share")
    return [] if None in shares else [{"label": known.label, "values": shares, "tickformat": ".1%"}]


def _knob_axis(entries: Sequence[Entry], name: str) -> dict[str, Any] | None:
    values = [number(entry.rows[0].get(name)) or 0.0 for entry in entries]
    kinds = sorted(set(values))
    if len(kinds) < 2:
        return None
    ticks = {"tickvals": kinds, "ticktext": [f"{value:,.0f}" for value in kinds]} if len(kinds) <= 8 else {}
    return {"label": name.replace("_", " "), "values": values, **ticks}
