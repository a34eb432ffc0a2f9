"""Do devices put candidates in one order: Kendall's tau of each pair of places, for each objective."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

from reports.figures.text import place, safe
from reports.figures.theme import THEMES, ThemeName, dressed, say
from reports.kendall import MIN_CANDIDATES, Agreement, agreement
from reports.objectives import quantity
from reports.values import Row, place_of, sortable, value_of

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """Two places in one objective.

    Attributes:
        objective: Its name.
        one: The first place, in words.
        other: The second.
        agreement: How far they agree.
    """

    objective: str
    one: str
    other: str
    agreement: Agreement


def compared(rows: Sequence[Row], objectives: Sequence[str]) -> list[Compared]:
    """Every pair of places that differ in the device, in every objective that both have measured.

    Anchors are left out: they were chosen to be far apart, and would make any two devices agree.
    """
    by_place: dict[tuple[object, ...], dict[str, Row]] = {}
    for row in rows:
        if row.get("status") == "ok" and not row.get("anchor") and row.get("layout_id"):
            by_place.setdefault(place_of(row), {})[f"{row['layout_id']} {row.get('precision')}"] = row
    found = []
    for one, other in combinations(sorted(by_place, key=sortable), 2):
        if one[0] == other[0] or one[1:] != other[1:]:  # another device, all else alike
            continue
        for name in objectives:
            if quantity(name).per_layout:
                continue
            pairs = [
                (a, b) for key, row in by_place[one].items() if key in by_place[other]
                if (a := value_of(row, name)) is not None and (b := value_of(by_place[other][key], name)) is not None
            ]  # fmt: skip
            told = agreement([a for a, _ in pairs], [b for _, b in pairs])
            if told is not None:
                titles = [place(next(iter(by_place[where].values()))) for where in (one, other)]
                found.append(Compared(objective=name, one=titles[0], other=titles[1], agreement=told))
    return found


def agreement_figure(pairs: Sequence[Compared], *, theme: ThemeName = "light") -> Figure:
    """Kendall's tau-b with its 95% interval, a line for each pair of places and objective; 1 is one order."""
    from plotly.graph_objects import Figure as PlotlyFigure

    ink = THEMES[theme]
    figure: Figure = PlotlyFigure()
    shown = list(reversed(pairs))
    names = [
        f"{safe(quantity(pair.objective).label)}: {safe(pair.one)} / {safe(pair.other)}" for pair in shown
    ]  # fmt: skip
    if shown:
        taus = [pair.agreement for pair in shown]
        figure.add_scatter(
            x=[told.tau for told in taus], y=names, mode="markers", showlegend=False,
            marker={"size": 11, "color": ink.on},
            error_x={"type": "data", "symmetric": False, "thickness": 1.5, "width": 5, "color": ink.on,
                     "array": [told.high - told.tau for told in taus],
                     "arrayminus": [told.tau - told.low for told in taus]},
            hovertext=[
                f"tau {told.tau:.2f}, 95% interval {told.low:.2f} to {told.high:.2f}, {told.candidates} candidates<br>"
                f"of {told.told_apart:,} pairs that both tell apart, {told.alike:,} are in the same order"
                for told in taus
            ],
            hovertemplate="%{y}<br>%{hovertext}<extra></extra>",
        )  # fmt: skip
    dressed(figure, theme, height=130 + 34 * max(3, len(shown)))
    figure.update_xaxes(range=[-1.05, 1.05], title_text="Kendall's tau-b: 1 the same order, 0 none, −1 the opposite")
    figure.add_vline(x=0, line={"color": ink.faint, "width": 1, "dash": "dot"})
    if not shown:
        figure.update_yaxes(visible=False)
        say(figure, f"this takes two devices with at least {MIN_CANDIDATES} candidates that both have measured", ink)
    return figure
