"""How verdicts look: for each kind a symbol and a colour, open or filled by level; the same in figures, pages and text.

Kinds differ in shape, so nothing depends on colour alone; the colours are those of Okabe and Ito.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from reports.figures.theme import THEMES, Theme
from reports.front_verdicts import FrontKind
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
FRONT_MARKS: Final[Mapping[FrontKind, Mark]] = {
    FrontKind.MOVED: Mark(symbol="diamond", glyph="◆", series=1),
    FrontKind.DIFFERS: Mark(symbol="diamond-open", glyph="◇", series=4),
    FrontKind.AMBIGUOUS: MARKS[Kind.AMBIGUOUS],
    FrontKind.HELD: MARKS[Kind.SAME],
    FrontKind.NO_DATA: MARKS[Kind.NO_DATA],
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
    return _color(MARKS[kind], ink)


def kind_html(kind: Kind | FrontKind) -> str:
    """A kind with its glyph, on a light page."""
    mark = MARKS[kind] if isinstance(kind, Kind) else FRONT_MARKS[kind]
    return f'<span style="color:{_color(mark, THEMES["light"])}">{mark.glyph}</span> {kind}'


def level_color(level: Level, ink: Theme) -> str:
    """Colour of a level in a theme."""
    return ink.series[_LEVEL_SERIES[level]]


def verdict_name(kind: Kind, level: Level) -> str:
    """``SLOWER, FAIL``; the level where it is not fine."""
    return str(kind) if level is Level.FINE else f"{kind}, {level}"


def _color(mark: Mark, ink: Theme) -> str:
    return ink.faint if mark.series is None else ink.series[mark.series]
