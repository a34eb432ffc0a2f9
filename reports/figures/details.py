"""One layout, closely: where its time goes, what context costs it, how its state grows, and its raw samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from reports.details import Sample
from reports.figures.text import safe
from reports.figures.theme import DASHES, SYMBOLS, THEMES, ThemeName, bare, dressed, say
from reports.values import Row

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

_OPERATORS = 8
"""Operators with a colour of their own; the others are one."""


def breakdown_figure(rows: Sequence[Row], *, theme: ThemeName = "light", height: int = 330) -> Figure:
    """Time per kind of block, stacked by operator: a prefill to the left, one decode step to the right.

    Args:
        rows: ``block`` (what people call the kind of block), ``operator``, ``prefill_ms``, ``decode_ms``.
        theme: Light or dark.
        height: Pixels.
    """
    from plotly.subplots import make_subplots

    ink = THEMES[theme]
    figure: Figure = make_subplots(rows=1, cols=2, shared_yaxes=True, horizontal_spacing=0.04)
    panels = ("prefill_ms", "decode_ms")
    totals = _sums(rows, "operator", panels)
    known = sorted(totals, key=lambda name: -_share(totals[name], totals))[:_OPERATORS]
    blocks = _sums(rows, "block", panels)
    order = sorted(blocks, key=lambda name: _share(blocks[name], blocks))
    for number, operator in enumerate([*known, *([None] if len(totals) > len(known) else [])]):
        of = [r for r in rows if (r["operator"] == operator if operator else r["operator"] not in known)]
        sums = _sums(of, "block", panels)
        name = safe(operator) if operator else f"{len(totals) - len(known)} others"
        for column, panel in enumerate(panels):
            figure.add_bar(
                y=[safe(block) for block in order], x=[sums.get(block, {}).get(panel, 0.0) for block in order],
                orientation="h", name=name, legendgroup=name, showlegend=column == 0,
                marker={"color": ink.series[number % len(ink.series)] if operator else ink.faint,
                        "line": {"width": 0.5, "color": ink.background}},
                hovertemplate=f"%{{y}}, {name}: %{{x:.3f}} ms<extra></extra>", row=1, col=column + 1,
            )  # fmt: skip
    dressed(figure, theme, height=height)
    figure.update_layout(barmode="stack", legend={"font": {"size": 11}})
    for column, title in enumerate(("prefill, ms", "one decode step, ms"), start=1):
        figure.update_xaxes(title_text=title, rangemode="tozero", row=1, col=column)
    if not rows:
        bare(figure)
        say(figure, "no profile of this measurement", ink)
    return figure


def context_figure(points: Sequence[Row], *, theme: ThemeName = "light", height: int = 330) -> Figure:
    """Time to the first token against the prompt, and of a decode step against what lies before it.

    Args:
        points: ``series`` (a line's name), ``context`` and ``prompt`` (tokens), ``ttft_ms`` and ``decode_ms`` with
            their ends. Missing values are left out.
        theme: Light or dark.
        height: Pixels.
    """
    from plotly.subplots import make_subplots

    ink = THEMES[theme]
    figure: Figure = make_subplots(rows=1, cols=2, horizontal_spacing=0.1)
    names = list(dict.fromkeys(point["series"] for point in points))
    panels = (("ttft_ms", "prompt", "prompt, tokens", "TTFT, ms"),
              ("decode_ms", "context", "tokens before the step", "decode, ms"))  # fmt: skip
    for number, name in enumerate(names):
        for column, (field, at, _, _) in enumerate(panels, start=1):
            of = [p for p in points if p["series"] == name and p.get(field) is not None]
            of.sort(key=lambda point, at=at: point[at])  # type: ignore[misc]
            figure.add_scatter(
                x=[p[at] for p in of], y=[p[field] for p in of], name=safe(name), legendgroup=name,
                showlegend=column == 1, mode="lines+markers",
                line={"color": ink.series[number % len(ink.series)], "dash": DASHES[number % len(DASHES)]},
                marker={"symbol": SYMBOLS[number % len(SYMBOLS)], "size": 9},
                error_y={"type": "data", "symmetric": False, "thickness": 1, "width": 3,
                         "array": [_end(p, field, "high") for p in of],
                         "arrayminus": [_end(p, field, "low") for p in of]},
                hovertemplate="%{fullData.name}<br>%{x:,} tokens: %{y:.4g} ms<extra></extra>",
                row=1, col=column,
            )  # fmt: skip
    dressed(figure, theme, height=height)
    for column, (_, at, x_title, y_title) in enumerate(panels, start=1):
        ticks = sorted({point[at] for point in points})
        few = {"tickvals": ticks, "ticktext": [f"{tick:,}" for tick in ticks]} if len(ticks) <= 6 else {}
        figure.update_xaxes(type="log", title_text=x_title, row=1, col=column, **few)
        figure.update_yaxes(title_text=y_title, rangemode="tozero", row=1, col=column)
    if not points:
        bare(figure)
        say(figure, "no times yet", ink)
    return figure


def growth_figure(
    curves: Mapping[str, Sequence[tuple[int, float]]], *, theme: ThemeName = "light", height: int = 330
) -> Figure:
    """Carried state against context, exact: what a layout keeps of a conversation.

    Args:
        curves: By title, pairs of tokens and MiB.
        theme: Light or dark.
        height: Pixels.
    """
    from plotly.graph_objects import Figure as PlotlyFigure

    ink = THEMES[theme]
    figure: Figure = PlotlyFigure()
    for number, (title, curve) in enumerate(curves.items()):
        figure.add_scatter(
            x=[at for at, _ in curve], y=[mib for _, mib in curve], name=safe(title), mode="lines+markers",
            line={"color": ink.series[number % len(ink.series)], "dash": DASHES[number % len(DASHES)]},
            marker={"symbol": SYMBOLS[number % len(SYMBOLS)], "size": 6},
            hovertemplate="%{fullData.name}<br>%{x:,} tokens: %{y:,.2f} MiB<extra></extra>",
        )  # fmt: skip
    dressed(figure, theme, height=height)
    ticks = sorted({at for curve in curves.values() for at, _ in curve})[::2]
    figure.update_xaxes(
        type="log", title_text="context, tokens", tickvals=ticks,
        ticktext=[f"{t // 1024}K" if t >= 1024 and not t % 1024 else f"{t:,}" for t in ticks],
    )  # fmt: skip
    figure.update_yaxes(type="log", title_text="carried state, MiB (batch 1)", tickformat=",~g", dtick=1)
    return figure


def samples_figure(samples: Sequence[Sample], *, theme: ThemeName = "light", height: int = 330) -> Figure:
    """Every timed sequence as it was measured: first tokens above, decode steps below, process by process.

    Warm-up and discarded samples are drawn hollow: they are on record and do not count.
    """
    from plotly.subplots import make_subplots

    ink = THEMES[theme]
    figure: Figure = make_subplots(rows=2, cols=1, shared_xaxes=False, vertical_spacing=0.2)
    kinds = (("counts", "circle", ink.on, 0.8), ("warm-up", "circle-open", ink.faint, 0.7),
             ("discarded: others used the device", "x-thin-open", ink.outside, 0.9))  # fmt: skip
    for kind, symbol, color, opacity in kinds:
        of = [(index, sample) for index, sample in enumerate(samples) if sample.kind == kind]
        if not of:
            continue
        mark = {"symbol": symbol, "color": color, "opacity": opacity, "line": {"width": 1.2}}
        figure.add_scatter(
            x=[index + 1 for index, _ in of], y=[sample.ttft_ms for _, sample in of], mode="markers", name=kind,
            legendgroup=kind, marker={**mark, "size": 8}, text=[f"process {s.process + 1}" for _, s in of],
            hovertemplate="sequence %{x}, %{text}: %{y:.4g} ms<extra></extra>", row=1, col=1,
        )  # fmt: skip
        steps = [
            (index + 1 + 0.8 * (step / max(1, len(sample.decode_ms)) - 0.5), ms)
            for index, sample in of for step, ms in enumerate(sample.decode_ms)
        ]  # fmt: skip
        figure.add_scatter(
            x=[x for x, _ in steps], y=[ms for _, ms in steps], mode="markers", name=kind, legendgroup=kind,
            showlegend=False, marker={**mark, "size": 3.5, "line": {"width": 0.6}},
            hovertemplate="%{y:.4g} ms<extra></extra>", row=2, col=1,
        )  # fmt: skip
    dressed(figure, theme, height=height)
    for index in range(1, len(samples)):
        if samples[index].process != samples[index - 1].process:
            figure.add_vline(x=index + 0.5, line={"color": ink.grid, "width": 1})
    figure.update_xaxes(title_text="sequences in order; lines part processes", row=2, col=1)
    figure.update_yaxes(title_text="TTFT, ms", row=1, col=1)
    figure.update_yaxes(title_text="decode, ms", row=2, col=1)
    if not samples:
        bare(figure)
        say(figure, "no samples: nothing was timed", ink)
    return figure


def _sums(rows: Sequence[Row], by: str, fields: Sequence[str]) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for row in rows:
        own = found.setdefault(str(row[by]), dict.fromkeys(fields, 0.0))
        for field in fields:
            own[field] += row.get(field) or 0.0
    return found


def _share(own: Mapping[str, float], all_: Mapping[str, Mapping[str, float]]) -> float:
    """The larger of its shares of prefill and of decode: what matters in either is shown."""
    return max(own[name] / (sum(of[name] for of in all_.values()) or 1.0) for name in own)


def _end(row: Row, field: str, end: str) -> Any:
    bound = row.get(f"{field}_{end}")
    return 0.0 if bound is None else abs(bound - row[field])
