"""Figures are made of rows alone, and survive what rows may lack."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from reports.figures import blocks_figure
from reports.page import write_page


def row(block: str, context: int, **changes: Any) -> dict[str, Any]:
    return {
        "block": block, "color": "#e69f00", "device": "local", "context": context, "lowering": "fused",
        "prefill_ms": 2.0, "prefill_ms_low": 1.5, "prefill_ms_high": 3.0, "decode_ms": 0.1, "decode_ms_low": 0.09,
        "decode_ms_high": 0.11, "state_bytes": 2048, "peak_rss_mib": 80.0, **changes,
    }  # fmt: skip


def test_four_panels_with_every_block_and_its_intervals():
    figure = blocks_figure([row("A", 512), row("A", 4096), row("B", 512)])
    assert len(figure.data) == 8
    first = figure.data[0]
    assert list(first.x) == [512, 4096]
    assert list(first.y) == [2.0 * 1000 / 512, 2.0 * 1000 / 4096]  # per 1,000 tokens
    assert list(first.error_y.array) == [1000 / 512, 1000 / 4096]
    assert list(first.error_y.arrayminus) == [500 / 512, 500 / 4096]
    assert list(figure.data[2].y) == [2.0, 2.0]  # KiB
    assert [trace.showlegend for trace in figure.data] == [True, False, False, False] * 2
    assert {trace.xaxis for trace in figure.data} == {"x", "x2", "x3", "x4"}


def test_missing_values_and_odd_names(tmp_path: Path):
    hostile = "<img src=x onerror=alert(1)>"
    rows = [
        row("A", 512, device=hostile), row("A", 512, prefill_ms=None, prefill_ms_low=None, prefill_ms_high=None),
        row("B", 1024, state_bytes=0, peak_rss_mib=None),
    ]  # fmt: skip
    figure = blocks_figure(rows)
    assert len(figure.data) == 12
    assert list(figure.data[4].y) == [None]
    assert list(figure.data[10].y) == [None]  # a state of no bytes has no place on a logarithmic axis
    path = tmp_path / "figure.html"
    write_page(figure, path)
    text = path.read_text()
    assert "Plotly" in text
    assert hostile not in text
    assert write_page(blocks_figure([]), path) is None
