"""Fronts in the report of a night, as HTML and as Markdown: what moved, then every layout with its places."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from typing import Final

from reports.figures.text import safe
from reports.figures.verdict_marks import kind_html
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
_WORDS: Final = ("what", "note")
_SHORT: Final = tuple(name for name in COLUMNS if name not in _WORDS)


def fronts_html(verdicts: Sequence[FrontVerdict]) -> Iterator[str]:
    """The section; nothing where no study is measured."""
    if not verdicts:
        return
    ordered = wanted_first(verdicts)
    yield f"<section><h2>Fronts of studies</h2><p>{safe(HOW)}</p>{_fronts_html(ordered)}"
    for one in ordered:
        opened = "" if one.kind is FrontKind.HELD else " open"
        named = f"{kind_html(one.kind)}: {safe(_where(one))}"
        yield f"<details{opened}><summary>{named}</summary>{_layouts_html(one)}</details>"
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
    return f"{_where(verdict)}: {verdict.kind}"


def _where(verdict: FrontVerdict) -> str:
    return f"{verdict.device}: {verdict.front.study} {verdict.workload} {verdict.precision}"


def _fronts_html(verdicts: Sequence[FrontVerdict]) -> str:
    """Two rows for each, as verdicts on series have them: what is short, and the words below over the whole width."""
    lines = []
    for one in verdicts:
        cells = front_cells(one)
        shown = "".join(_cell(name, kind_html(one.kind) if name == "verdict" else safe(cells[name])) for name in _SHORT)
        words = "".join(f"<div>{safe(cells[name])}</div>" for name in _WORDS if cells[name])
        lines.append(f"<tr class=numbers>{shown}</tr><tr><td class=why colspan={len(_SHORT)}>{words}</td></tr>")
    return _table(_SHORT, lines, numbers={"front"})


def _cell(name: str, html: str) -> str:
    kind = {"front": "", "verdict": " class=verdict", "device": " class=device"}.get(name, " class=text")
    return f"<td{kind}>{html}</td>"


def _layouts_html(verdict: FrontVerdict) -> str:
    heads, rows = layout_cells(verdict)
    lines = []
    for title, study, tonight, *numbers in rows:
        words = f"<td class=what>{safe(title)}</td><td class=text>{safe(study)}</td><td class=what>{safe(tonight)}</td>"
        lines.append(f"<tr>{words}{''.join(f'<td>{safe(number)}</td>' for number in numbers)}</tr>")
    return _table(heads, lines, numbers=set(verdict.front.objectives))


def _table(heads: Sequence[str], lines: Sequence[str], *, numbers: Set[str]) -> str:
    head = "".join(f"<th{'' if name in numbers else ' class=text'}>{safe(name)}</th>" for name in heads)
    return f"<div class=scroll><table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"


def _markdown(heads: Sequence[str], rows: Sequence[Sequence[str]], *, right: int) -> Iterator[str]:
    """The last so many columns are numbers."""
    rule = ["---:" if at >= len(heads) - right else "---" for at in range(len(heads))]
    yield f"| {' | '.join(map(markdown_text, heads))} |"
    yield f"| {' | '.join(rule)} |"
    yield from (f"| {' | '.join(map(markdown_text, row))} |" for row in rows)
