"""Colours and frames that all figures share, in light and dark.

Colours of data are those of Okabe and Ito, which people with the common kinds of colour blindness tell apart; kinds of
points differ in shape too, so that nothing depends on colour alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

ThemeName = Literal["light", "dark"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Theme:
    """Colours of one appearance.

    Attributes:
        background: Of page and figure.
        surface: Of what lies on the page: hover labels, cards.
        text: Ink.
        faint: Ink of what matters less: dominated points, notes.
        grid: Lines behind the data.
        on: Points on the front, and its line.
        uncertain: Points that noise could put there.
        outside: Points outside the budgets.
        knee: The mark of a suggestion.
        series: Of lines and bars that stand beside each other, in order.
    """

    background: str
    surface: str
    text: str
    faint: str
    grid: str
    on: str
    uncertain: str
    outside: str
    knee: str
    series: tuple[str, ...]


_SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#f0e442")
_SERIES_ON_DARK = ("#56b4e9", "#f0834a", "#2fd3a3", "#cc79a7", "#e69f00", "#4d8fd1", "#f0e442", "#e6e9ef")

THEMES: Mapping[ThemeName, Theme] = {
    "light": Theme(
        background="#ffffff", surface="#f6f7f9", text="#1f2430", faint="#8a909c", grid="#e6e8ec", on="#0072b2",
        uncertain="#d98200", outside="#b8460e", knee="#009e73", series=(*_SERIES, "#1f2430"),
    ),
    "dark": Theme(
        background="#14171d", surface="#1e232c", text="#e6e9ef", faint="#7f8794", grid="#2b313c", on="#56b4e9",
        uncertain="#e69f00", outside="#f0834a", knee="#2fd3a3", series=_SERIES_ON_DARK,
    ),
}  # fmt: skip
DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "cross")
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"
MONOSPACE = "ui-monospace, 'SF Mono', 'DejaVu Sans Mono', Menlo, Consolas, monospace"


def dressed(figure: Figure, theme: ThemeName, *, height: int, title: str | None = None) -> Figure:
    """The figure in a theme: frame, ink, hover labels, legend below the data."""
    ink = THEMES[theme]
    figure.update_layout(
        template="none", height=height, title=None if title is None else {"text": title, "x": 0, "xref": "paper"},
        paper_bgcolor=ink.background, plot_bgcolor=ink.background, font={"family": FONT, "size": 13, "color": ink.text},
        margin={"l": 76, "r": 24, "t": 48 if title else 20, "b": 90},
        hoverlabel={"bgcolor": ink.surface, "bordercolor": ink.grid, "align": "left",
                    "font": {"family": FONT, "size": 12, "color": ink.text}},
        legend={"orientation": "h", "yref": "container", "yanchor": "bottom", "y": 0, "x": 0, "xanchor": "left"},
    )  # fmt: skip
    lines = {
        "gridcolor": ink.grid,
        "zeroline": False,
        "linecolor": ink.faint,
        "ticks": "outside",
        "tickcolor": ink.grid,
    }
    figure.update_xaxes(**lines, automargin=True)
    figure.update_yaxes(**lines, automargin=True)
    return figure


def bare(figure: Figure) -> None:
    """Take the axes away, where there is nothing to draw by them."""
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)


def say(figure: Figure, text: str, ink: Theme) -> None:
    """A sentence in place of data."""
    figure.add_annotation(
        text=text, xref="paper", yref="paper", x=0.5, y=0.5, showarrow=False, font={"size": 14, "color": ink.faint}
    )
