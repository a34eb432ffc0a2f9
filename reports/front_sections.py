"""Fronts in the report of a night, as HTML and as Markdown: what moved, then every layout with its places."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from reports.figures.text import safe
from reports.formatting import markdown_text
from reports.front_rows import COLUMNS, front_cells, layout_cells, wanted_first
from reports.front_verdicts import FrontKind, FrontVerdict

HOW: Final = (
    "The order that each study found, beside the order of tonight's own numbers: a night's value is never compared "
    "with a study's value. A layout left the front when another one is better than it beyond the noise in everything "
    "measured; two swapped when one is better beyond the noise in an objective, and the study said the opposite. Noise "
    "is what nights differ by, not what processes of one night do. AMBIGUOUS: one night; MOVED: two that agree, after "
    "nights that stood elsewhere; DIFFERS: it was never otherwise, and the study's one measurement may have been off. "
    "A front that moved fails nothing by itself."
)


def fronts_html(verdicts: Sequence[FrontVerdict]) -> Iterator[str]:
    """The section; nothing where no study is measured."""
    if not verdicts:
        return
    ordered = wanted_first(verdicts)
    cells = [list(front_cells(one).values()) for one in ordered]
    wide = {COLUMNS.index("what"), COLUMNS.index("note")}
    yield f"<section><h2>Fronts of studies</h2><p>{safe(HOW)}</p>{_html(COLUMNS, cells, wide)}"
    for one in ordered:
        heads, rows = layout_cells(one)
        opened = "" if one.kind is FrontKind.HELD else " open"
        yield f"<details{opened}><summary>{safe(title_of(one))}</summary>{_html(heads, rows, {2})}</details>"
    yield "</section>"


def fronts_markdown(verdicts: Sequence[FrontVerdict]) -> Iterator[str]:
    """The section's lines; nothing where no study is measured."""
    if not verdicts:
        return
    ordered = wanted_first(verdicts)
    yield from ("", "## Fronts of studies", "", HOW, "")
    yield from _markdown(COLUMNS, [list(front_cells(one).values()) for one in ordered], right=0)
    for one in ordered:
        heads, rows = layout_cells(one)
        yield from ("", f"### {markdown_text(title_of(one))}", "")
        yield from _markdown(heads, rows, right=len(one.front.objectives))


def title_of(verdict: FrontVerdict) -> str:
    """Which front, and the verdict; not safe yet."""
    where = f"{verdict.device}: {verdict.front.study} {verdict.workload} {verdict.precision}"
    return f"{where}: {verdict.kind}"


def _html(heads: Sequence[str], rows: Sequence[Sequence[str]], wide: set[int]) -> str:
    head = "".join(f"<th class=text>{safe(name)}</th>" for name in heads)
    lines = []
    for row in rows:
        cells = (f"<td class={'why' if at in wide else 'text'}>{safe(cell)}</td>" for at, cell in enumerate(row))
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return f"<div class=scroll><table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"


def _markdown(heads: Sequence[str], rows: Sequence[Sequence[str]], *, right: int) -> Iterator[str]:
    """The last so many columns are numbers."""
    rule = ["---:" if at >= len(heads) - right else "---" for at in range(len(heads))]
    yield f"| {' | '.join(map(markdown_text, heads))} |"
    yield f"| {' | '.join(rule)} |"
    yield from (f"| {' | '.join(map(markdown_text, row))} |" for row in rows)
