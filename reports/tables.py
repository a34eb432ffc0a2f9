"""Rows as a table for a terminal, as JSON, CSV or Markdown.

JSON and CSV are for programs: every field, full precision, nothing rounded. The table and Markdown are for people: the
asked columns, intervals beside values. Text in rows comes from devices and files: it is data in every format, never
markup.
"""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from reports.formatting import clean, csv_text, markdown_text, plain_number, quantity_text
from reports.objectives import quantities, unknown
from reports.ranking import RELATIVE, records

if TYPE_CHECKING:
    import pandas as pd
    from rich.text import Text

FORMATS = ("table", "json", "csv", "md")

FIELDS = (
    "layout_id", "code", "name", "anchor", "device", "workload", "prompt", "decode", "batch", "precision",
    "status", "reason", "ttft_ms", "ttft_ms_low", "ttft_ms_high", "prefill_tokens_per_s", "decode_ms",
    "decode_ms_low", "decode_ms_high", "decode_ms_p95", "decode_ms_p95_low", "decode_ms_p95_high",
    "p95_underpowered", "decode_tokens_per_s", "peak_rss_mib", "weights_mib", "state_mib", "load_ms",
    "total_params", "embedding_params", "effective_params", "embedding_share", "bytes_sent",
)  # fmt: skip
"""Fields that every row has in JSON and CSV; null, or empty, where it has no value."""

POINT = ("workload", "prompt", "chunk", "decode", "batch", "precision")
"""Fields that say which point of a candidate a row is of."""

LETTER_STYLES: Mapping[str, str] = {
    "C": "cyan", "W": "yellow", "G": "red", "L": "green", "D": "magenta", "N": "bright_black",
}  # fmt: skip
_LABELS: Mapping[str, str] = {
    "rank": "#",
    "code": "layout",
    "hv_contribution": "adds",
    "layout_id": "id",
    "name": "name",
}
_NUMBERS = frozenset(
    {"rank", "tier", "trial", "prompt", "chunk", "decode", "batch", "bytes_sent", "violation", "hv_contribution"}
)
_ALWAYS = frozenset({"rank", "code", "name", "status"})
"""Columns that stay, however narrow the terminal is."""

_LEAST_RATIO, _LARGE_RATIO = 0.1, 1000
"""Ratios between them have three decimals; others four significant digits."""

_UNDERPOWERED = "†"
_NOTE = f"{_UNDERPOWERED} underpowered: fewer samples than a p95 needs"
_EXPORTED = "exported"
_NAMED = 3
"""Layouts that a note names before it only counts them."""


def render(
    rows: Iterable[Mapping[str, Any]] | pd.DataFrame,
    columns: Sequence[str] | None = None,
    format: str = "table",  # noqa: A002 - the option's own name
    *,
    color: bool | None = None,
    width: int | None = None,
    letter_styles: Mapping[str, str] | None = None,
) -> str:
    r"""Rows as text that ends with a newline.

    Args:
        rows: Dicts with the fields of `FIELDS` and any others (`reports.ranking.Ranking.table` adds rank and front).
        columns: Shown in ``table`` and ``md``, and first in ``csv``; one that no row has a value for is left out.
            Default: what these rows differ in. ``json`` and ``csv`` always hold every field.
        format: One of `FORMATS`.
        color: Whether to colour the table. Default: when standard output is a terminal and NO_COLOR is not set.
        width: Columns of the terminal. Default: its own; unlimited when standard output is none.
        letter_styles: Rich style of each letter of a code, in place of `LETTER_STYLES`.

    Raises:
        UnknownNameError: There is no such format.
    """
    if format not in FORMATS:
        raise unknown("format", format, FORMATS)
    found = records(rows)
    if format == "json":
        return _json(found)
    if format == "csv":
        return _csv(found, columns or ())
    shown = _shown(found, default_columns(found) if columns is None else columns)
    if format == "md":
        return _markdown(found, shown)
    terminal = sys.stdout.isatty()
    if width is None and terminal:
        width = shutil.get_terminal_size().columns
    if color is None:
        color = terminal and not os.environ.get("NO_COLOR")
    return _table(found, shown, width=width, color=color, letter_styles=letter_styles or LETTER_STYLES)


def default_columns(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Columns worth showing: what was measured, and in what the rows differ."""
    names = ["rank", "front", "name", "code", *differing(rows, ("device", *POINT))]
    names += ["ttft_ms", "decode_ms", "decode_ms_p95", "peak_rss_mib", "total_params", "embedding_share"]
    if any(row.get("status") != "ok" for row in rows):
        names += ["status", "reason"]
    if any(row.get("feasible") is False for row in rows):
        names.append("violation")
    return names


def differing(rows: Sequence[Mapping[str, Any]], names: Sequence[str] = POINT) -> list[str]:
    """Those of the columns in which the rows differ."""
    return [name for name in names if len({str(row.get(name)) for row in rows}) > 1]


@dataclass(frozen=True, slots=True)
class _Column:
    name: str
    label: str
    right: bool


def _shown(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[_Column]:
    known = quantities()
    columns = []
    for name in dict.fromkeys(names):
        if rows and all(row.get(name) in (None, "") for row in rows) and name not in known:
            continue
        if name in known:
            unit = known[name].unit
            label = f"{known[name].label} {unit}".strip()
        elif _is_ratio(name):
            label = f"{known[name.removesuffix(RELATIVE)].label} ×ref"
        else:
            label = _LABELS.get(name, name.replace("_", " "))
        columns.append(_Column(name=name, label=clean(label), right=name in known or _is_number(name)))
    return columns


def _is_ratio(name: str) -> bool:
    return name.endswith(RELATIVE) and name.removesuffix(RELATIVE) in quantities()


def _is_number(name: str) -> bool:
    return name in _NUMBERS or _is_ratio(name)


def _cell(row: Mapping[str, Any], name: str, detail: int = 2) -> str:
    """A cell for people, not yet cleaned."""
    value = row.get(name)
    # `decode` is the number of generated tokens; only quantities have intervals
    known = quantities().get(name)
    if known is not None:
        text = quantity_text(known, value, row.get(f"{name}_low"), row.get(f"{name}_high"), detail=detail)
        return f"{text}{_UNDERPOWERED}" if name == "decode_ms_p95" and row.get("p95_underpowered") else text
    if value is None:
        return "—" if _is_number(name) else ""
    if _is_ratio(name) and isinstance(value, int | float) and _LEAST_RATIO <= value < _LARGE_RATIO:
        return f"{value:.3f}"
    if name == "rank":
        return f"({value})" if row.get("anchor") else str(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if name == "violation" and isinstance(value, int | float):
        return f"{value:+.1%}" if value < 1 else f"{1 + value:,.1f}x"
    if isinstance(value, float):
        return plain_number(value)
    if isinstance(value, dict | list | tuple):
        return json.dumps(_strict(value), ensure_ascii=False)
    return str(value)


# JSON and CSV


def _json(rows: Sequence[Mapping[str, Any]]) -> str:
    complete = [{**dict.fromkeys(FIELDS), **row} for row in rows]
    return json.dumps(_strict(complete), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _csv(rows: Sequence[Mapping[str, Any]], first: Sequence[str]) -> str:
    fields = list(dict.fromkeys([*first, *FIELDS, *(name for row in rows for name in row)]))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([csv_text(name) for name in fields])
    for row in rows:
        writer.writerow([_csv_cell(row.get(name)) for name in fields])
    return out.getvalue()


def _csv_cell(value: Any) -> str:
    value = _strict(value)
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    return csv_text(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, allow_nan=False))


def _strict(value: Any) -> Any:
    """What JSON can hold: NaN and infinities become null, text is cleaned, anything else becomes its text."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if abs(value) < float("inf") else None
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, Mapping):
        return {clean(str(key)): _strict(item) for key, item in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, bytes):
        return [_strict(item) for item in value]
    item = getattr(value, "item", None)
    return _strict(item()) if callable(item) else clean(str(value))


# Markdown and the terminal


def _markdown(rows: Sequence[Mapping[str, Any]], columns: Sequence[_Column]) -> str:
    lines = [
        [markdown_text(column.label) for column in columns],
        ["---:" if column.right else "---" for column in columns],
        *([markdown_text(_cell(row, column.name)) for column in columns] for row in rows),
    ]
    text = "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
    return text + "".join(f"\n{markdown_text(note)}\n" for note in _notes(rows, columns))


def _notes(rows: Sequence[Mapping[str, Any]], columns: Sequence[_Column]) -> Iterator[str]:
    """What must be said under a table of these rows."""
    if any(column.name == "decode_ms_p95" for column in columns) and any(
        row.get("p95_underpowered") and row.get("decode_ms_p95") is not None for row in rows
    ):
        yield _NOTE
    layouts: dict[str, list[str]] = {}
    for row in rows:
        lowerings = row.get("lowerings")
        for block, lowering in lowerings.items() if isinstance(lowerings, Mapping) else ():
            if _EXPORTED in str(lowering).split("+"):  # specs of one kind may have several
                layouts.setdefault(str(block), []).append(str(row.get("name") or row.get("code")))
    for block, found in layouts.items():
        names = list(dict.fromkeys(found))
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        yield clean(f"{block} as exported by torch, no kernel tuned for it: in {', '.join(names[:_NAMED])}{more}")


def _table(
    rows: Sequence[Mapping[str, Any]],
    columns: Sequence[_Column],
    *,
    width: int | None,
    color: bool,
    letter_styles: Mapping[str, str],
) -> str:
    from rich.cells import cell_len
    from rich.text import Text

    cells, kept = _fitted(rows, columns, width, cell_len)
    widths = [max(cell_len(line[i]) for line in [[c.label for c in kept], *cells]) for i in range(len(kept))]
    if width is not None and kept:  # a long reason takes what is left and is cut, so that no row is broken in two
        widths[-1] = max(len(kept[-1].label), min(widths[-1], width - sum(widths[:-1]) - 2 * (len(kept) - 1)))
    lines = [
        Text("  ").join(_padded(Text(c.label, style="bold"), w, c.right) for c, w in zip(kept, widths, strict=True))
    ]
    for row, line in zip(rows, cells, strict=True):
        parts = []
        for column, cell, room in zip(kept, line, widths, strict=True):
            text = _code(cell, letter_styles) if column.name == "code" else Text(cell, style=_style(row, column.name))
            parts.append(_padded(text, room, column.right))
        lines.append(Text("  ").join(parts))
    lines += [Text(note, style="dim") for note in _notes(rows, kept)]
    missing = [column for column in columns if column not in kept]
    if same := [column for column in missing if _constant(rows, column)]:
        told = ", ".join(f"{column.label} {clean(_cell(rows[0], column.name))}" for column in same)
        lines.append(Text(f"the same in all rows: {told}", style="dim"))
    if lost := [column.label for column in missing if column not in same]:
        lines.append(Text(f"left out, the terminal is narrow: {', '.join(lost)}", style="dim"))
    return _ansi(lines) if color else "".join(f"{line.plain.rstrip()}\n" for line in lines)


def _fitted(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[_Column], width: int | None, cell_len: Callable[[str], int]
) -> tuple[list[list[str]], list[_Column]]:
    """Cells that fit.

    Too narrow: first intervals get short, then columns go that say the same in every row, then others that were not
    measured (from the right; ids last where two layouts have one code), then the intervals, then the other columns;
    what says which point a row is of is among these.
    """
    kept = list(columns)
    known = quantities()
    repeat = _codes_repeat(rows)
    detail = 2
    while True:
        cells = [[clean(_cell(row, column.name, detail)) for column in kept] for row in rows]
        if width is None:
            return cells, kept
        total = 2 * (len(kept) - 1)
        for i, column in enumerate(kept):
            room = max([cell_len(column.label), *(cell_len(line[i]) for line in cells)])
            total += min(room, 16) if column.name == "reason" else room
        same = [column for column in kept if _constant(rows, column)]
        droppable = same or [column for column in kept if column.name not in _ALWAYS and column.name != "reason"]
        if total <= width or (detail == 0 and not droppable):
            return cells, kept
        stays = {"front", *POINT}
        unmeasured = same or [
            c for c in droppable if c.name not in stays and (c.name not in known or known[c.name].per_layout)
        ]
        unmeasured.sort(key=lambda column: column.name != "layout_id" or not repeat)
        if detail == 2 or (detail == 1 and not unmeasured):
            detail -= 1
        else:
            kept.remove((unmeasured or droppable)[-1])


def _constant(rows: Sequence[Mapping[str, Any]], column: _Column) -> bool:
    """Whether a column says the same in all of several rows, and nothing that was measured or calls for attention."""
    if len(rows) < 2 or column.name in {"rank", "front", "code", "name", "reason"} or column.name in quantities():
        return False
    values = {str(row.get(column.name)) for row in rows}
    return len(values) == 1 and (column.name != "status" or values == {"ok"})


def _codes_repeat(rows: Sequence[Mapping[str, Any]]) -> bool:
    layouts = {(row.get("code"), row.get("layout_id")) for row in rows}  # one may have several rows
    return len({code for code, _ in layouts}) < len(layouts)


def _padded(text: Text, width: int, right: bool) -> Text:
    text.truncate(width, overflow="ellipsis")
    text.align("right" if right else "left", width)
    return text


def _code(code: str, letter_styles: Mapping[str, str]) -> Text:
    from rich.text import Text

    text = Text()
    for letter in code:
        text.append(letter, style=letter_styles.get(letter, ""))
    return text


def _style(row: Mapping[str, Any], name: str) -> str:
    if name == "front":
        return {"on": "green", "uncertain": "yellow"}.get(str(row.get("front")), "dim")
    if name == "status":
        return "" if row.get("status") == "ok" else "red"
    return "dim" if row.get("anchor") and name == "rank" else ""


def _ansi(lines: Sequence[Text]) -> str:
    from rich.console import Console

    out = io.StringIO()
    make = partial(
        Console, file=out, force_terminal=True, width=100_000, markup=False, emoji=False, highlight=False,
        no_color=False, legacy_windows=False,
    )  # fmt: skip
    console = make()  # with as many colours as the terminal says that it has
    if console.color_system is None:
        console = make(color_system="standard")
    for line in lines:
        line.rstrip()
        console.print(line, soft_wrap=True)
    return out.getvalue()
