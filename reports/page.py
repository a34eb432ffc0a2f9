"""One page that needs nothing else: no server, no network, no other file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from reports.figures.cloud import CSS as CLOUD_CSS
from reports.figures.text import Colors, place, safe, strip, value_text
from reports.figures.theme import FONT, MONOSPACE, THEMES
from reports.files import write_whole
from reports.objectives import quantity
from reports.values import Row

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

# The last of these buttons would send the figure to somebody else's server.
_BUTTONS = ["select2d", "lasso2d", "sendChartToCloud"]
CONFIG = {"displaylogo": False, "responsive": True, "modeBarButtonsToRemove": _BUTTONS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A heading with a figure below it.

    Attributes:
        title: Text.
        note: A sentence or two on how to read it; text.
        figure: The figure, or None for words alone.
    """

    title: str
    note: str
    figure: Figure | None


def write_page(figure: Figure, path: Path) -> None:
    """Write a figure as one page that needs nothing else.

    Raises:
        OSError: It cannot be written.
    """
    write_whole(path, figure.to_html(include_plotlyjs=True, full_html=True, config=CONFIG))


def write_sections(
    path: Path, *, title: str, facts: Mapping[str, str], sections: Iterable[Section], table: str, notes: Sequence[str]
) -> None:
    """Write facts, figures, the table and notes as one page.

    Args:
        path: The file; replaced in one step.
        title: Text.
        facts: What the study is, in words, by heading.
        sections: Figures with headings.
        table: HTML, of `table_html`.
        notes: What a reader must know of the numbers.

    Raises:
        OSError: It cannot be written.
    """
    body = [f"<h1>{safe(title)}</h1>", facts_html(facts)]
    for section in sections:
        body.append(f"<section><h2>{safe(section.title)}</h2><p>{safe(section.note)}</p>")
        if section.figure is not None:
            body.append(section.figure.to_html(include_plotlyjs=False, full_html=False, config=CONFIG))
        body.append("</section>")
    body += [f"<section><h2>All candidates</h2>{table}</section>", notes_html(notes)]
    write_document(path, title=title, body=body)


def facts_html(facts: Mapping[str, str]) -> str:
    """Facts by heading, all of it text."""
    lines = (f"<dt>{safe(name)}</dt><dd>{safe(text)}</dd>" for name, text in facts.items())
    return f"<dl>{''.join(lines)}</dl>"


def notes_html(notes: Iterable[str]) -> str:
    """The last section: what a reader must know of the numbers."""
    lines = (f"<li>{safe(note)}</li>" for note in notes)
    return f"<section><h2>How to read the numbers</h2><ul>{''.join(lines)}</ul></section>"


def write_document(path: Path, *, title: str, body: Iterable[str], style: str = "", script: str = "") -> None:
    """Write a page with our look and with Plotly in it.

    Args:
        path: The file; replaced in one step.
        title: Text.
        body: HTML.
        style: CSS after that of all pages.
        script: JavaScript that runs once the page is read.

    Raises:
        OSError: It cannot be written.
    """
    from plotly.offline import get_plotlyjs

    ink = THEMES["light"]
    common = f"""{CLOUD_CSS}
:root {{ color-scheme: light; }}
body {{ font: 15px/1.5 {FONT}; color: {ink.text}; background: {ink.background}; margin: 0 auto; padding: 1.5rem;
  max-width: 1500px; }}
h1 {{ font-size: 1.6rem; margin: 0 0 .5rem; }} h2 {{ font-size: 1.15rem; margin: 2.2rem 0 .2rem; }}
p {{ margin: .2rem 0 .6rem; color: #4b5261; max-width: 75ch; }}
dl {{ display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem; margin: 0; }} dt {{ color: #4b5261; }}
dd {{ margin: 0; }}
.scroll {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-size: 13px; white-space: nowrap; }}
th, td {{ padding: .25rem .7rem; text-align: right; border-bottom: 1px solid {ink.grid}; }}
th {{ position: sticky; top: 0; background: {ink.surface}; text-align: right; font-weight: 600; }}
.text {{ text-align: left; }}
.strip {{ font-family: {MONOSPACE}; font-weight: 700; text-align: left; letter-spacing: .06em; }}
tr.anchor td {{ font-style: italic; }}
td.reason {{ text-align: left; color: #4b5261; white-space: normal; min-width: 24ch; }}
"""
    write_whole(
        path,
        "<!doctype html>\n<html lang=en><head><meta charset=utf-8>"
        '<meta name=viewport content="width=device-width, initial-scale=1">'
        f"<title>{safe(title)}</title><style>{common}{style}</style><script>{get_plotlyjs()}</script></head>"
        f"<body>{''.join(body)}{f'<script>{script}</script>' if script else ''}</body></html>\n",
    )


def table_html(rows: Sequence[Row], objectives: Sequence[str], colors: Colors) -> str:
    """The ranked rows as an HTML table: rank, front, strip, place, objectives with intervals, sizes, reason."""
    sizes = [name for name in ("total_params", "effective_params", "embedding_share") if name not in objectives]
    known = [quantity(name) for name in (*objectives, *sizes)]
    relative = {name for name in objectives if any(row.get(f"{name}_relative") is not None for row in rows)}
    heads = ["#", "front", "name", "layout", "where", "status"]
    for column in known:
        heads.append(f"{column.label}, {column.unit}" if column.unit else column.label)
        if column.name in relative:
            heads.append("×ref")
    classes = {"front": "text", "name": "text", "layout": "text", "where": "text", "status": "text", "why": "text"}
    head = "".join(f'<th class="{classes.get(name, "")}">{safe(name)}</th>' for name in (*heads, "why"))
    lines = []
    for row in rows:
        rank = row.get("rank")
        shown = "—" if rank is None else f"({rank})" if row.get("anchor") else str(rank)
        words = [
            ("text", safe(row.get("front") or "")), ("text", safe(row.get("name") or "")),
            ("strip", strip(row.get("code"), colors)), ("text", safe(place(row))),
            ("text", safe(row.get("status") or "")),
        ]  # fmt: skip
        cells = [f"<td>{shown}</td>", *(f"<td class={kind}>{text}</td>" for kind, text in words)]
        for column in known:
            cells.append(f"<td>{safe(value_text(row, column).removesuffix(f' {column.unit}'))}</td>")
            if column.name in relative:
                ratio = row.get(f"{column.name}_relative")
                cells.append(f"<td>{'—' if ratio is None else f'{ratio:.3f}'}</td>")
        cells.append(f"<td class=reason>{safe(row.get('reason') or '')}</td>")
        lines.append(f'<tr class="{"anchor" if row.get("anchor") else ""}">{"".join(cells)}</tr>')
    return f"<div class=scroll><table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
