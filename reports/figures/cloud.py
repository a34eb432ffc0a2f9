"""Thousands of like points as one path: an element for each, as Plotly draws markers, takes a browser a second."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

CLOUD = 500
"""Points of a kind from which on they are drawn so."""
CSS = ".shapelayer path { stroke-linecap: round; }"
"""What a page needs: without it nothing is seen of the dots. The dashboard's style sheet has it too."""


def cloud_shape(
    points: Sequence[tuple[float, float]], *, name: str, group: str, color: str, size: float, opacity: float,
    in_legend: bool,
) -> dict[str, Any]:  # fmt: skip
    """A shape of a figure with a dot of `size` pixels at each point: lines of no length with round ends.

    It answers no pointer: a trace of mode ``none`` with the same points and legend group does.
    """
    return {
        "type": "path", "path": "".join(f"M{x:.7g},{y:.7g}H{x:.7g}" for x, y in points), "xref": "x", "yref": "y",
        "layer": "between", "opacity": opacity, "line": {"width": size, "color": color}, "name": name,
        "legendgroup": group, "showlegend": in_legend,
    }  # fmt: skip
