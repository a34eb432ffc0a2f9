"""What a search has gained for its time: hypervolume against device-minutes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from reports import fronts
from reports.budgets import number
from reports.figures.text import safe
from reports.figures.theme import THEMES, ThemeName, dressed
from reports.ranking import Ranking

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from reports.snapshot import Spent


def progress_figure(
    ranking: Ranking, spent: Sequence[Spent], *, theme: ThemeName = "light", height: int = 380
) -> Figure:
    """Share of the reference box that is dominated by what was known after so many device-minutes.

    Every candidate counts from its last measurement on. Costs are scaled as they are at the end: 0 is the best value of
    each objective, 1 the worst; the reference point is 1.1 in each, and the whole box is 1.

    Args:
        ranking: Whose rows have ``created_unix``.
        spent: Of the devices that the ranking is of.
        theme: Light or dark.
        height: Pixels.
    """
    from plotly.graph_objects import Figure as PlotlyFigure

    ink = THEMES[theme]
    figure: Figure = PlotlyFigure()
    steps = progress(ranking, spent)
    if steps:
        minutes, shares, titles = zip(*steps, strict=True)
        figure.add_scatter(
            x=minutes, y=shares, mode="lines+markers", line={"shape": "hv", "color": ink.on, "width": 2},
            marker={"size": 5}, text=[safe(title) for title in titles], name="hypervolume",
            hovertemplate="after %{x:.1f} device-minutes: %{y:.1%}<br>%{text}<extra></extra>",
        )  # fmt: skip
    dressed(figure, theme, height=height)
    figure.update_layout(showlegend=False)
    figure.update_xaxes(title_text="device-minutes", rangemode="tozero")
    figure.update_yaxes(title_text="hypervolume", tickformat="~%", rangemode="tozero")
    return figure


def progress(ranking: Ranking, spent: Sequence[Spent]) -> list[tuple[float, float, str]]:
    """Device-minutes, share of the reference box, and the candidate that came last, in order of time."""
    import numpy as np

    ranked = list(ranking.ranked)
    known = [(max((number(row.get("created_unix")) or 0.0) for row in entry.rows), entry) for entry in ranked]
    if not known:
        return []
    values = np.asarray(
        [[_cost(entry.values[q.name].value, q.direction) for q in ranking.objectives] for entry in ranked], dtype=float
    )
    unit = fronts.normalised(values)
    steps = []
    for at, entry in sorted(known, key=lambda pair: pair[0]):
        here = [index for index, (when, _) in enumerate(known) if when <= at]
        seconds = sum(one.seconds for one in spent if one.ended_unix <= at)
        steps.append((seconds / 60, fronts.hypervolume(unit[here]), entry.title))
    return steps


def _cost(value: float, direction: str) -> float:
    return value if direction == "min" else -value
