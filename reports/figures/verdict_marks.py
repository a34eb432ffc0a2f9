"""How verdicts look: for each kind a symbol and a colour, open or filled by level; the same in figures, pages and text.

Kinds differ in shape, so nothing depends on colour alone; the colours are those of Okabe and Ito.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from reports.figures.theme import Theme
from reports.verdict import Kind, Level


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """How a verdict of one kind looks.

    Attributes:
        symbol: Plotly's name.
        glyph: The same in text.
        series: Which of the theme's colours; None for ink that matters less.
    """

    symbol: str
    glyph: str
    series: int | None


MARKS: Final[Mapping[Kind, Mark]] = {
    Kind.SAME: Mark(symbol="circle", glyph="●", series=0),
    Kind.FASTER: Mark(symbol="star", glyph="★", series=2),
    Kind.SLOWER: Mark(symbol="diamond", glyph="◆", series=1),
    Kind.AMBIGUOUS: Mark(symbol="square", glyph="■", series=None),
    Kind.DEVICE_WIDE: Mark(symbol="hexagon", glyph="⬢", series=3),
    Kind.INVALID: Mark(symbol="x", glyph="✖", series=1),
    Kind.NO_DATA: Mark(symbol="triangle-down", glyph="▼", series=None),
}
_LEVEL_SERIES: Final = {Level.FAIL: 1, Level.WARN: 4, Level.FINE: 2}


def symbol_of(kind: Kind, level: Level) -> str:
    """Plotly's symbol: open where nobody says yet that it is so."""
    symbol = MARKS[kind].symbol
    if level is Level.WARN:
        return f"{symbol}-open"
    return f"{symbol}-open-dot" if kind is Kind.AMBIGUOUS and level is Level.FINE else symbol


def color_of(kind: Kind, ink: Theme) -> str:
    """Colour of a kind in a theme."""
    series = MARKS[kind].series
    return ink.faint if series is None else ink.series[series]


def level_color(level: Level, ink: Theme) -> str:
    """Colour of a level in a theme."""
    return ink.series[_LEVEL_SERIES[level]]


def verdict_name(kind: Kind, level: Level) -> str:
    """``SLOWER, FAIL``; the level where it is not fine."""
    return str(kind) if level is Level.FINE else f"{kind}, {level}"
