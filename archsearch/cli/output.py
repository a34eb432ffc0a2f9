"""Printing: tables for people, JSON for programs. Text that comes from files and devices is never read as markup."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from archsearch.cli.exits import CommandError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text


def console(*, stderr: bool = False) -> Console:
    """A console that reads no markup and no emoji codes; plain and unwrapped when it is no terminal."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else 200
    return Console(stderr=stderr, markup=False, emoji=False, highlight=False, width=width, soft_wrap=width is not None)


def print_json(value: object) -> None:
    """Print strict JSON."""
    print(json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, right: Iterable[int] = ()) -> None:
    """Print a plain table; columns in `right` are aligned to the right."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    aligned = set(right)
    for index, column in enumerate(columns):
        table.add_column(Text(column), justify="right" if index in aligned else "left", no_wrap=index in aligned)
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text(str(cell)) for cell in row))
    console().print(table)


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

    from search_space.blocks import mixers_by_letter

    colors = {letter: mixer.color for letter, mixer in mixers_by_letter().items()}
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
