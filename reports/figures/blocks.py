"""Blocks against context: the operator table of `archsearch blocks`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from reports.figures.theme import DASHES, SYMBOLS

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

Row = Mapping[str, Any]

_PANELS = (
    ("prefill_ms", "prefill, ms per block and 1,000 tokens"),
    ("decode_ms", "decode, ms per block and token"),
    ("state_bytes", "carried state, KiB per block"),
    ("peak_rss_mib", "peak memory of a process, MiB"),
)


def blocks_figure(rows: Sequence[Row]) -> Figure:
    """The operator table as four panels against context, logarithmic on both axes; lower is better in all.

    Args:
        rows: Of `archsearch blocks`: block, color, device, context, `prefill_ms`, `decode_ms` (each with ``_low`` and
            ``_high``), `state_bytes`, `peak_rss_mib`. Missing values leave gaps. A device has its own dash.
    """
    from plotly.graph_objects import Scatter
    from plotly.subplots import make_subplots

    figure: Figure = make_subplots(rows=2, cols=2, subplot_titles=[title for _, title in _PANELS])
    devices = list(dict.fromkeys(row["device"] for row in rows))
    blocks = list(dict.fromkeys(row["block"] for row in rows))
    for device_number, device in enumerate(devices):
        for block_number, block in enumerate(blocks):
            of = sorted((r for r in rows if r["device"] == device and r["block"] == block), key=lambda r: r["context"])
            if not of:
                continue
            name = block if len(devices) == 1 else f"{block}, {device}"
            for number, (field, _) in enumerate(_PANELS):
                scales = [_scale(row, field) for row in of]
                # A state of 0 bytes, or none measured, has no place on a logarithmic axis.
                values = [row[field] * scale if row[field] else None for row, scale in zip(of, scales, strict=True)]
                error = None
                if f"{field}_low" in of[0]:
                    error = {
                        "type": "data", "symmetric": False, "thickness": 1,
                        "array": [_distance(row, field, "high") for row in of],
                        "arrayminus": [_distance(row, field, "low") for row in of],
                    }  # fmt: skip
                figure.add_trace(
                    Scatter(
                        x=[row["context"] for row in of], y=values, error_y=error, name=escape(name),
                        legendgroup=name, showlegend=number == 0, mode="lines+markers",
                        line={"color": of[0]["color"], "dash": DASHES[device_number % len(DASHES)]},
                        marker={"symbol": SYMBOLS[block_number % len(SYMBOLS)], "size": 8},
                        customdata=[[row.get("lowering") or ""] for row in of],
                        hovertemplate="%{fullData.name}<br>context %{x:,}<br>%{y:.4g}<br>kernel %{customdata[0]}"
                        "<extra></extra>",
                    ),
                    row=number // 2 + 1, col=number % 2 + 1,
                )  # fmt: skip
    contexts = sorted({row["context"] for row in rows})
    figure.update_xaxes(
        type="log", title_text="context, tokens", tickvals=contexts, ticktext=[f"{c:,}" for c in contexts]
    )
    ticks = [digit * 10.0**power for power in range(-4, 8) for digit in (1, 2, 5)]
    figure.update_yaxes(
        type="log", tickfont={"size": 10}, tickvals=ticks, ticktext=[f"{t:,.4f}".rstrip("0").rstrip(".") for t in ticks]
    )
    figure.update_layout(
        template="plotly_white", height=780, legend={"orientation": "h", "y": -0.12},
        title={"text": "Blocks against context: lower is better"},
    )  # fmt: skip
    return figure


def _scale(row: Row, field: str) -> float:
    """From the row's unit to the panel's."""
    if field == "prefill_ms":
        return 1000 / int(row["context"])
    return 1 / 1024 if field == "state_bytes" else 1.0


def _distance(row: Row, field: str, end: str) -> float | None:
    value, bound = row[field], row[f"{field}_{end}"]
    return None if value is None or bound is None else abs(bound - value) * _scale(row, field)
