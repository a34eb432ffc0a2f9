"""Printing: tables and Markdown for people, JSON and CSV for programs. Text from files and devices is never markup."""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from archsearch.cli.exits import CommandError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text


_OBEYED = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def console(*, stderr: bool = False) -> Console:
    """A console that reads no markup and no emoji codes; plain and unwrapped when it is no terminal."""
    from rich.console import Console

    from reports.formatting import clean

    class PlainConsole(Console):
        """What a device or a file says is text: it moves no cursor and sets no colour."""

        def render_str(self, text: str, **how: Any) -> Text:
            """Each line as `clean` leaves it."""
            return super().render_str("\n".join(map(clean, text.split("\n"))), **how)

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else 200
    return PlainConsole(
        stderr=stderr, markup=False, emoji=False, highlight=False, width=width, soft_wrap=width is not None
    )


def print_json(value: object) -> None:
    """Print strict JSON."""
    text = json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False)
    # JSON escapes the control characters of ASCII alone, and a terminal obeys others too.
    print(_OBEYED.sub(lambda found: f"\\u{ord(found[0]):04x}", text))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, right: Iterable[int] = ()) -> None:
    """Print a plain table; columns in `right` are aligned to the right."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from reports.formatting import clean

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    aligned = set(right)
    for index, column in enumerate(columns):
        table.add_column(Text(column), justify="right" if index in aligned else "left", no_wrap=index in aligned)
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text(clean(str(cell))) for cell in row))
    console().print(table)


Row = Mapping[str, Any]


def print_list(
    rows: Sequence[Row],
    columns: Mapping[str, Callable[[Row], Any]],
    output_format: str,
    *,
    right: Iterable[int] = (),
) -> None:
    """Print what a list command found.

    Args:
        rows: Facts with stable snake_case keys and raw values: all of them for ``json`` and ``csv`` (there a list or
            mapping is JSON text).
        columns: What people see in ``table`` and ``md``: by heading, the cell of a row.
        output_format: ``table``, ``json``, ``csv`` or ``md``.
        right: Columns of the table that are aligned to the right.

    Raises:
        CommandError: There is no such format.
    """
    from reports.tables import FORMATS

    one_of(output_format, FORMATS, "--format")
    if output_format == "json":
        print_json(rows)
    elif output_format == "csv":
        _print_csv(rows)
    else:
        cells = [[cell(row) for cell in columns.values()] for row in rows]
        if output_format == "md":
            _print_markdown(tuple(columns), cells, set(right))
        else:
            print_table(tuple(columns), cells, right=right)


def _print_csv(rows: Sequence[Row]) -> None:
    from reports.formatting import csv_text

    def cell(value: Any) -> str:
        if value is None:
            return ""
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, allow_nan=False)
        return text if isinstance(value, int | float) else csv_text(text)  # a negative number is no formula

    fields = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(fields)
    writer.writerows([cell(row.get(name)) for name in fields] for row in rows)


def _print_markdown(headings: Sequence[str], cells: Iterable[Sequence[Any]], right: set[int]) -> None:
    from reports.formatting import markdown_text

    rule = ["---:" if index in right else "---" for index in range(len(headings))]
    for line in (headings, rule, *([markdown_text(str(cell)) for cell in row] for row in cells)):
        print(f"| {' | '.join(line)} |")


def one_of(value: str, allowed: Sequence[str], option: str) -> str:
    """Return `value` if it is allowed.

    Raises:
        CommandError: It is not; the message lists what is.
    """
    if value not in allowed:
        raise CommandError(f"{option} is {value!r}; it must be one of {', '.join(allowed)}")
    return value


def code_text(code: str) -> Text:
    """A layout code with one colour per letter."""
    from rich.text import Text

    from search_space.blocks import letter_colors

    colors = letter_colors()
    text = Text()
    for letter in code:
        text.append(letter, style=colors.get(letter, ""))
    return text


def count(value: float) -> str:
    """A parameter count for people: 354.48M."""
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "K")):
        if value >= size:
            return f"{value / size:.2f}{unit}"
    return f"{value:.0f}"


def mib(value: float) -> str:
    """Bytes as MiB."""
    return f"{value / 2**20:,.2f} MiB" if value < 100 * 2**20 else f"{value / 2**20:,.1f} MiB"
