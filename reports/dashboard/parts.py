"""Pieces of the page that show one layout, or several: on hover, in the details, in the comparison.

Every text goes in as a child of a component, which the browser takes as text and never as markup.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

from dash import dcc, html
from dash.development.base_component import Component

from reports.budgets import number
from reports.dashboard.board import Board, columns, key_text
from reports.dashboard.page import GRAPH
from reports.details import Details, Run
from reports.figures import ThemeName, breakdown_figure, context_figure, growth_figure, samples_figure
from reports.figures.front import notes
from reports.figures.text import Colors, place, value_text
from reports.formatting import clean
from reports.objectives import quantity
from reports.ranking import Entry
from reports.values import Row, Value, place_of, value_of

_MARKS = {"on": "on the front", "uncertain": "uncertain", "dominated": "dominated"}


def strip(code: str | None, colors: Colors) -> Component:
    """A layout as one coloured letter per layer."""
    parts = [
        html.Span("".join(letters), style={"color": color} if color else {})
        for color, letters in groupby(clean(code or ""), key=lambda letter: colors.get(letter, ""))
    ]
    return html.Span(parts, className="strip", title=f"{len(code or '')} layers")


def hover_card(entry: Entry, board: Board) -> list[Component]:
    """What one needs to decide, beside a point: widths, objectives with intervals, sizes, device, conditions."""
    first = entry.rows[0]
    names = list(dict.fromkeys([*board.names, board.asked.x, board.asked.y]))
    lines: list[Component] = [html.B(clean(entry.title))]
    if first.get("code"):
        lines.append(strip(first["code"], board.snapshot.colors))
    lines.append(_widths(first))
    table = []
    for name in names:
        known = quantity(name)
        rows = entry.rows[:1] if known.per_layout or len(entry.rows) == 1 else entry.rows
        for row in rows:
            where = f" ({place(row)})" if len(rows) > 1 else ""
            table.append(html.Tr([html.Th(f"{known.label}{where}"), html.Td(value_text(row, known))]))
    sizes = [
        name for name in ("total_params", "effective_params", "embedding_share", "memory_mib") if name not in names
    ]
    table += [
        html.Tr([html.Th(quantity(name).label), html.Td(value_text(first, quantity(name)))])
        for name in sizes if number(first.get(name)) is not None
    ]  # fmt: skip
    lines.append(html.Table(html.Tbody(table)))
    where = place(first) if len(entry.rows) == 1 else ", ".join(dict.fromkeys(str(r.get("device")) for r in entry.rows))
    lines.append(html.Div(clean(f"{where}, {first.get('precision') or ''}")))
    lines.append(html.Div(clean(_conditions(first)), className="note"))
    lines += [html.Div(clean(note), className="note") for note in notes(entry, board.ranking)]
    return lines


def _widths(row: Row) -> Component:
    parts = []
    if row.get("width"):
        parts = [f"width {row['width']}", f"{row['depth']} layers", f"vocabulary {row.get('vocab_size') or 0:,}"]
        if row.get("embedding_rank"):
            parts.append(f"rank {row['embedding_rank']}")
        parts.append("tied" if row.get("tied") else "untied")
    return html.Div(", ".join(parts))


def _conditions(row: Row) -> str:
    if not row.get("processes"):
        return str(row.get("status") or "")
    told = f"{row['processes']} processes"
    if row.get("discarded"):
        told += f", {row['discarded']} samples discarded"
    return told + ("" if row.get("warm") else ", not seen to be warm")


def nothing_selected() -> Component:
    """In place of details."""
    return html.Div(className="empty", children=[
        html.H2("No layout selected"),
        html.P("Click a point or a row, or press n for the best."),
    ])  # fmt: skip


def details_panel(entry: Entry, details: Details, board: Board, theme: ThemeName, *, compared: bool) -> list[Component]:
    """Everything of one layout."""
    first = entry.rows[0]
    run_titles = [{"label": clean(run.title), "value": index} for index, run in enumerate(details.runs)]
    buttons = [
        html.Button(
            "Remove from comparison" if compared else "Compare",
            id={"type": "compare", "key": key_text(entry.key)},
            className="compare-button",
            title="(c)",
        ),
        *(html.Button(f"↓ {name}", id={"type": "file", "name": name}, className="quiet") for name in details.files),
    ]
    return [
        html.Div(className="heading", children=[
            html.H2(clean(entry.title) if not entry.anchor else f"{clean(entry.title)} (anchor)"),
            html.Div(strip(first.get("code"), board.snapshot.colors), className="wrap"),
            html.Div(className="marks", children=[html.Span(text, className="mark") for text in _standing(entry)]),
            html.Div(buttons, className="buttons"),
        ]),
        html.Div(className="cards", children=[
            _card("Measured", _places_table(entry, board)),
            _card("Layout", facts_list(details.facts)),
            _card("Latency against context", _graph(context_figure(details.times, theme=theme))),
            _card("Carried state against context", _graph(growth_figure(details.growth, theme=theme))),
        ]),
        html.H3("One measurement"),
        dcc.Dropdown(id="run", options=run_titles, value=len(run_titles) - 1 if run_titles else None, clearable=False),
        html.Div(id="run-view", className="cards"),
    ]  # fmt: skip


def _card(title: str, *children: Any) -> Component:
    return html.Section([html.H3(clean(title)), *children])


def _standing(entry: Entry) -> list[str]:
    found = [] if entry.rank is None else [f"rank {entry.rank}" + (" (where it would stand)" if entry.anchor else "")]
    if entry.front:
        found.append(_MARKS[entry.front])
    if entry.feasible is False:
        found.append("outside the budgets")
    if entry.status != "ok":
        found.append(entry.status)
    return [*found, *map(clean, reasons(entry))]


def reasons(entry: Entry) -> list[str]:
    """What there is to say of an entry and of its rows, each once."""
    return list(dict.fromkeys(text for row in entry.rows if (text := entry.reason_in(row))))


def _places_table(entry: Entry, board: Board) -> Component:
    """Quantities down, places across."""
    rows = [row for row in board.snapshot.rows if _same(row, entry)]
    latest: dict[Any, Row] = {}
    for row in rows:  # the one that is ranked: the latest with numbers, or else the latest
        before = latest.get(place_of(row))
        if before is None or row.get("status") == "ok" or before.get("status") != "ok":
            latest[place_of(row)] = row
    shown = list(latest.values())
    names = [name for name in columns(board) if any(number(row.get(name)) is not None for row in shown)]
    more = [name for name in ("decode_ms_p95", "decode_tokens_per_s", "prefill_tokens_per_s", "peak_rss_mib", "load_ms")
            if name not in names and any(number(row.get(name)) is not None for row in shown)]  # fmt: skip
    head = html.Tr([html.Th(""), *(html.Th(clean(place(row))) for row in shown)])
    body = [
        html.Tr([html.Th(_labelled(name), scope="row"), *(html.Td(value_text(row, quantity(name))) for row in shown)])
        for name in [*names, *more]
    ]
    if any(row.get("status") != "ok" for row in shown):
        body.append(html.Tr([html.Th("status", scope="row"), *(html.Td(_status(row)) for row in shown)]))
    return html.Div(html.Table([html.Thead(head), html.Tbody(body)], className="values"), className="scroll")


def _labelled(name: str) -> str:
    return quantity(name).label


def _status(row: Row) -> str:
    return clean(": ".join(filter(None, (str(row.get("status")), str(row.get("reason") or "")))))


def _same(row: Row, entry: Entry) -> bool:
    name = row.get("layout_id") or row.get("name") or row.get("code") or "?"
    return (str(name), str(row.get("precision") or "")) == entry.key


def run_panel(run: Run, theme: ThemeName) -> list[Component]:
    """One measurement: where the time goes, samples, conditions, and how to measure it again."""
    found: list[Component] = []
    if run.status != "ok":
        found.append(html.P(clean(f"{run.status}: {run.reason}"), className="warning whole"))
    note = [html.P(clean(run.breakdown_note), className="note")] if run.breakdown_note else []
    found.append(_card("Time per block and operator", _graph(breakdown_figure(run.breakdown, theme=theme)), *note))
    for title, samples in run.samples.items():
        found.append(_card(f"Raw samples: {title}", _graph(samples_figure(samples, theme=theme))))
    found.append(_card("Conditions", facts_list(run.conditions)))
    if run.command:
        command = [html.Pre(run.command, id="command"), dcc.Clipboard(target_id="command", title="copy")]
        found.append(_card("Measure it again", html.Div(command, className="command")))
    return found


def facts_list(facts: Mapping[str, str]) -> Component:
    """Headings with a text each."""
    items: list[Component] = []
    for name, text in facts.items():
        items += [html.Dt(clean(name)), html.Dd(clean(text))]
    return html.Dl(items)


def comparison(
    entries: Sequence[Entry], details: Sequence[Details], board: Board, theme: ThemeName
) -> list[Component]:  # fmt: skip
    """Layouts side by side; each number beside its ratio to the first, where noise leaves a difference."""
    if not entries:
        return [html.Div(className="empty", children=[
            html.H2("Nothing to compare yet"),
            html.P("Select a layout and press c, or click the first column of the table; up to four."),
        ])]  # fmt: skip
    head = html.Tr([html.Th(""), *map(_compared_head, entries)])
    colors = board.snapshot.colors
    body = [
        _line("layout", [strip(entry.rows[0].get("code"), colors) for entry in entries], className="wrap"),
        _line("standing", [", ".join(_standing(entry)) or "—" for entry in entries]),
    ]
    for name in ("width", "depth", "vocab_size", "embedding_rank"):
        values = [entry.rows[0].get(name) for entry in entries]
        if any(value is not None for value in values):
            body.append(_line(name.replace("_", " "), ["—" if value is None else f"{value:,}" for value in values]))
    places = {place_of(row): row for entry in entries for row in entry.rows}
    for name in columns(board):
        known = quantity(name)
        for where, sample in places.items():
            of = [next((row for row in entry.rows if place_of(row) == where), None) for entry in entries]
            if known.per_layout:
                of = [entry.rows[0] for entry in entries]
            label = known.label if known.per_layout or len(places) == 1 else f"{known.label} ({place(sample)})"
            body.append(html.Tr([html.Th(clean(label), scope="row"), *_against_first(of, name)]))
            if known.per_layout:
                break
    both = list(zip(entries, details, strict=True))
    times = [
        {**row, "series": f"{entry.title}, {row['device']}"}
        for entry, own in both for row in own.times if not row.get("anchor")
    ]  # fmt: skip
    growth = {entry.title: next(iter(own.growth.values()), ()) for entry, own in both}
    figures = [
        html.Div([html.H3("Latency against context"), _graph(context_figure(times, theme=theme))]),
        html.Div([html.H3("Carried state against context"), _graph(growth_figure(growth, theme=theme))]),
    ]
    for entry, own in both:
        run = next((run for run in reversed(own.runs) if run.breakdown), None)
        if run is not None:
            title = f"Where the time goes: {clean(entry.title)}, {clean(run.device)}"
            figures.append(html.Div([html.H3(title), _graph(breakdown_figure(run.breakdown, theme=theme))]))
    return [
        html.Div(html.Table([html.Thead(head), html.Tbody(body)], className="values"), className="scroll"),
        html.P("× is the ratio to the first layout; ≈ says that the intervals overlap: no difference was seen.",
               className="note"),
        html.Div(figures, className="side-by-side"),
    ]  # fmt: skip


def _line(title: str, cells: Iterable[Any], **how: Any) -> Component:
    return html.Tr([html.Th(title, scope="row"), *(html.Td(cell, **how) for cell in cells)])


def _compared_head(entry: Entry) -> Component:
    name = clean(entry.title)
    out = html.Button(
        "×", id={"type": "drop", "key": key_text(entry.key)}, className="quiet", title="take out",
        **{"aria-label": f"take out {name}"},
    )  # fmt: skip
    return html.Th([html.Span(name, className="wrap"), " ", out])


def _against_first(rows: Iterable[Row | None], name: str) -> list[Component]:
    cells = []
    base: Value | None = None
    for number_, row in enumerate(rows):
        own = None if row is None else value_of(row, name)
        text = "—" if row is None else value_text(row, quantity(name))
        base = own if number_ == 0 else base
        mark = ""
        if number_ and own is not None and base is not None and base.value:
            overlap = own.low <= base.high and base.low <= own.high and own.value != base.value
            mark = " ≈" if overlap else "" if own.value == base.value else f" ×{own.value / base.value:.3f}"
        cells.append(html.Td([text, html.Span(mark, className="ratio")]))
    return cells


def _graph(figure: Any) -> Component:
    box = {"height": f"{figure.layout.height}px"}  # a figure fills its box, and would take none for 0 pixels
    return html.Div(dcc.Graph(figure=figure, config=GRAPH), style=box)
