"""The roofline: what a device's memory and arithmetic allow, and how near to that each block comes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from reports.figures.text import safe
from reports.figures.theme import SYMBOLS, THEMES, ThemeName, dressed

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

Row = Mapping[str, Any]

_PHASES = (("decode", "-open"), ("prefill", ""))


def roofline_figure(rows: Sequence[Row], *, theme: ThemeName = "light", height: int = 520) -> Figure:
    """Operations per second against operations per byte, logarithmic on both axes.

    The slope is the rate of the memory, the level the rate of products (Williams, Waterman & Patterson 2009,
    doi:10.1145/1498765.1498785); no block can lie above both. A filled mark is a prefill, a hollow one a decode step.

    Args:
        rows: Of `archsearch blocks`, at one context of one device: block, color, ``{phase}_flops``, ``{phase}_bytes``,
            ``{phase}_ms`` for prefill and decode, ``best_bandwidth``, ``best_linear``, ``best_plain``. Rows without
            these are left out.
        theme: Light or dark.
        height: Pixels.
    """
    from plotly.graph_objects import Figure as PlotlyFigure

    ink = THEMES[theme]
    figure: Figure = PlotlyFigure()
    known = [row for row in rows if row.get("best_bandwidth") is not None]
    marks: list[tuple[float, float]] = []
    for at, row in enumerate(known):
        for phase, open_ in _PHASES:
            flops, moved, ms = (row.get(f"{phase}_{field}") for field in ("flops", "bytes", "ms"))
            if not flops or not moved or not ms:
                continue
            marks.append((flops / moved, flops / ms / 1e6))
            figure.add_scatter(
                x=[flops / moved], y=[flops / ms / 1e6], mode="markers", name=safe(row["block"]),
                legendgroup=row["block"], showlegend=phase == "prefill",
                marker={"symbol": SYMBOLS[at % len(SYMBOLS)] + open_, "size": 12, "color": row["color"],
                        "line": {"width": 2, "color": row["color"]}},
                hovertemplate=f"{safe(row['block'])}, {phase}<br>%{{x:.3g}} operations per byte<br>%{{y:.3g}} GFLOP/s"
                f"<br>{row[f'{phase}_roof_share']:.0%} of its roofline<extra></extra>",
            )  # fmt: skip
    if marks:
        best = known[0]
        left, right = min(x for x, _ in marks) / 2, max(x for x, _ in marks) * 2
        for field, dash, title in (
            ("best_linear", "solid", "products with stored weights"), ("best_plain", "dash", "products in float32"),
        ):  # fmt: skip
            level, rate = best[field] / 1e9, best["best_bandwidth"] / 1e9
            bend = min(max(level / rate, left), right)
            across = [left, bend, right]
            figure.add_scatter(
                x=across, y=[min(level, rate * x) for x in across], mode="lines", name=title, hoverinfo="skip",
                line={"color": ink.faint, "width": 1.5, "dash": dash},
            )  # fmt: skip
    dressed(figure, theme, height=height)
    figure.update_xaxes(type="log", title_text="operations per byte that must move", **_decades(x for x, _ in marks))
    figure.update_yaxes(type="log", title_text="GFLOP/s", **_decades(y for _, y in marks))
    return figure


def _decades(values: Any) -> dict[str, Any]:
    """Ticks at 1, 2 and 5 of each power of ten that is shown."""
    found = [math.floor(math.log10(value)) for value in values]
    if not found:
        return {}
    ticks = [digit * 10.0**power for power in range(min(found) - 1, max(found) + 2) for digit in (1, 2, 5)]
    return {"tickvals": ticks, "ticktext": [f"{tick:,.4f}".rstrip("0").rstrip(".") for tick in ticks]}
