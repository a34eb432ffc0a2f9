"""A night as one page that needs nothing else, or as Markdown: what is wrong, how sure that is, and since when."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from reports.errors import ReportError
from reports.figures.history import history_figure
from reports.figures.text import safe
from reports.figures.theme import THEMES
from reports.figures.verdict_marks import MARKS, kind_html, level_color
from reports.files import write_whole
from reports.formatting import change_text, clean, moment
from reports.front_sections import fronts_html
from reports.front_verdicts import FrontVerdict
from reports.histories import History
from reports.lost_devices import LostDevices
from reports.page import CONFIG, facts_html, notes_html, write_document
from reports.regression_markdown import regression_markdown
from reports.regression_words import NOTES, facts, page_title, point_words
from reports.verdict import Kind, Level, Verdict
from reports.verdict_rows import KINDS, LEVELS, worst_first
from reports.verdict_summary import by_device, title_of
from reports.verdict_text import NUMBER_COLUMNS, VERDICT_COLUMNS, verdict_cells

_SIDE_BY_SIDE = tuple(name for name in VERDICT_COLUMNS if name not in ("level", "why"))
_STYLE = """
td.text, th.text { text-align: left; }
tr.numbers td { border-bottom: 0; padding-top: .5rem; }
td.why { text-align: left; white-space: normal; color: #4b5261; padding: 0 .7rem .5rem; }
td.why > div { max-width: min(110ch, calc(100vw - 6rem)); position: sticky; left: 0; overflow-wrap: anywhere; }
td.what, td.device { text-align: left; white-space: normal; overflow-wrap: anywhere; min-width: 16ch; }
td.device { min-width: 10ch; } dd, h3, h3 + p, summary { overflow-wrap: anywhere; }
td.verdict { text-align: left; } th { white-space: normal; vertical-align: bottom; }
.history { height: 460px; margin: 0; } details { border-top: 1px solid #e6e8ec; padding: .35rem 0; }
summary { cursor: pointer; } h3 { font-size: 1rem; margin: 1.6rem 0 .1rem; }
h3 + p { max-width: 110ch; margin-bottom: 0; }
.zero { color: #8a909c; }
"""
# Figures are drawn when somebody comes to see them, so that a page of hundreds opens at once.
_SCRIPT = """
const draw = box => {
  if (box.drawn) return;
  box.drawn = true;
  const plan = JSON.parse(box.querySelector('script').textContent);
  Plotly.newPlot(box.querySelector('.plot'), plan.data, plan.layout, CONFIG);
};
const seen = new IntersectionObserver(
  found => found.forEach(one => { if (one.isIntersecting) draw(one.target); }), {rootMargin: '600px'});
document.querySelectorAll('.history').forEach(box => seen.observe(box));
addEventListener('beforeprint', () => {
  document.querySelectorAll('details').forEach(one => { one.open = true; });
  document.querySelectorAll('.history').forEach(draw);
});
"""


def write_regression_report(
    path: Path,
    verdicts: Sequence[Verdict],
    histories: Sequence[History],
    fronts: Sequence[FrontVerdict] = (),
    lost: LostDevices | None = None,
) -> None:
    """Write a night, as HTML or Markdown by the name of the file.

    Args:
        path: ``.html``, ``.htm`` or ``.md``; replaced in one step.
        verdicts: Of the night.
        histories: Of the series; a series without one has no figure.
        fronts: Verdicts on the fronts of studies.
        lost: Devices that could not be measured: those without a verdict are named.

    Raises:
        ReportError: The file's name ends otherwise.
        OSError: It cannot be written.
    """
    kind = path.suffix.lower()
    if kind == ".md":
        write_whole(path, regression_markdown(verdicts, histories, fronts, lost))
    elif kind in (".html", ".htm"):
        write_document(
            path, title=page_title(verdicts, lost), body=_body(verdicts, histories, fronts, lost), style=_STYLE,
            script=_SCRIPT.replace("CONFIG", json.dumps(CONFIG)),
        )  # fmt: skip
    else:
        raise ReportError(f"{path}: a report is written as .html or .md", hint="-o report.html")


def write_histories(path: Path, histories: Sequence[History]) -> None:
    """Write the figures of some series as one page.

    Raises:
        OSError: It cannot be written.
    """
    title = "archsearch: history" if len(histories) != 1 else f"archsearch: {clean(title_of(histories[0].latest))}"
    body = [f"<h1>{safe(title)}</h1>", *(_shown(one.latest, one) for one in histories), notes_html(NOTES)]
    write_document(path, title=title, body=body, style=_STYLE, script=_SCRIPT.replace("CONFIG", json.dumps(CONFIG)))


def _body(
    verdicts: Sequence[Verdict], histories: Sequence[History], fronts: Sequence[FrontVerdict], lost: LostDevices | None
) -> Iterator[str]:
    known = {one.series.key: one for one in histories}
    ordered = worst_first(verdicts)
    yield f"<h1>{safe(page_title(verdicts, lost))}</h1>"
    yield facts_html(facts(verdicts, lost))
    yield f"<section><h2>Devices</h2>{_devices_html(verdicts)}</section>"
    yield (
        "<section><h2>Verdicts</h2><p>The worst first. Change: relative to the baseline, with its 95% interval. Would "
        "be seen: the minimum detectable change, that is, the step that is established by its second night with 95% "
        f"probability.</p>{_verdicts_html(ordered)}</section>"
    )
    yield from fronts_html(fronts)
    wanted = [one for one in ordered if one.level is not Level.FINE or one.kind is Kind.FASTER]
    rest = [one for one in ordered if one not in wanted]
    if wanted:
        yield "<section><h2>Histories of what is not as it was</h2>"
        yield from (_shown(verdict, known.get(verdict.series.key)) for verdict in wanted)
        yield "</section>"
    if rest:
        yield f"<section><h2>Histories of the other {len(rest)} series</h2>"
        for verdict in rest:
            yield f"<details><summary>{_named(verdict)}</summary>{_figure(known.get(verdict.series.key))}</details>"
        yield "</section>"
    yield notes_html(NOTES)


def _devices_html(verdicts: Sequence[Verdict]) -> str:
    heads = ["device", "worst", *map(str, LEVELS), *(f"{MARKS[kind].glyph} {kind}" for kind in KINDS)]
    head = "".join(f"<th{' class=text' if at < 2 else ''}>{safe(name)}</th>" for at, name in enumerate(heads))
    lines = []
    for one in by_device(verdicts):
        counts = [*one.levels.values(), *one.kinds.values()]
        cells = "".join(f"<td{'' if count else ' class=zero'}>{count}</td>" for count in counts)
        lines.append(
            f"<tr><td class=device>{safe(one.device)}</td><td class=text>{_level_html(one.level)}</td>{cells}</tr>"
        )
    return _table(head, lines)


def _verdicts_html(verdicts: Sequence[Verdict]) -> str:
    """Two rows for each: numbers, and why below them over the whole width."""
    head = "".join(f"<th{'' if name in NUMBER_COLUMNS else ' class=text'}>{safe(name)}</th>" for name in _SIDE_BY_SIDE)
    lines = []
    for verdict in verdicts:
        cells = verdict_cells(verdict)
        lines.append(f"<tr class=numbers>{''.join(_cells(verdict, cells))}</tr>")
        lines.append(f"<tr><td class=why colspan={len(_SIDE_BY_SIDE)}><div>{safe(cells['why'])}</div></td></tr>")
    return _table(head, lines)


def _cells(verdict: Verdict, cells: Mapping[str, str]) -> Iterator[str]:
    for name in _SIDE_BY_SIDE:
        if name == "verdict":
            yield f"<td class=verdict>{kind_html(verdict.kind)} {_level_html(verdict.level)}</td>"
        elif name in ("what", "device"):
            yield f"<td class={name}>{safe(cells[name])}</td>"
        else:
            yield f"<td{'' if name in NUMBER_COLUMNS else ' class=text'}>{safe(cells[name])}</td>"


def _table(head: str, lines: Sequence[str]) -> str:
    return f"<div class=scroll><table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"


def _level_html(level: Level) -> str:
    return str(level) if level is Level.FINE else f'<b style="color:{level_color(level, THEMES["light"])}">{level}</b>'


def _named(verdict: Verdict) -> str:
    change = "" if verdict.effect is None else f" {change_text(verdict.effect.value)}"
    level = "" if verdict.level is Level.FINE else f" {_level_html(verdict.level)}"
    name = f"{safe(verdict.series.device)}: {safe(title_of(verdict))}"
    return f"{kind_html(verdict.kind)}{level}{change}: {name}"


def _shown(verdict: Verdict, history: History | None) -> str:
    since = "" if verdict.since is None else f"Since {moment(verdict.since)}. "
    points = "" if history is None or not history.points else f" Change points: {point_words(history.points)}."
    why = f"{verdict.why[:1].upper()}{verdict.why[1:]}."
    return f"<h3>{_named(verdict)}</h3><p>{safe(f'{since}{why}{points}')}</p>{_figure(history)}"


def _figure(history: History | None) -> str:
    if history is None:
        return "<p>no night yet</p>"
    figure = history_figure(history.series, history.verdicts, points=history.points)
    text = figure.to_json().replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
    return f'<div class=history><script type="application/json">{text}</script><div class=plot></div></div>'
