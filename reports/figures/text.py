"""What figures say in words: a layout as a strip of coloured letters, and what one needs to decide, on hover.

Everything that came from a device, a file or a user is text here, never markup.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from reports.formatting import clean, quantity_text
from reports.objectives import Quantity, quantity
from reports.values import Row

Colors = Mapping[str, str]
"""The colour of each mixer, by its letter."""

_WIDEST = 48
"""Letters of a strip in one line."""


def safe(value: object) -> str:
    """Text for a figure or a page: control characters gone, markup shown as it is written."""
    return escape(clean(str(value)))


def strip(code: str | None, colors: Colors) -> str:
    """A layout as one coloured letter per layer; several lines where it is deep. Letters of one colour are one span."""
    if not code:
        return ""
    lines = (code[at : at + _WIDEST] for at in range(0, len(code), _WIDEST))
    return "<br>".join(_line(line, colors) for line in lines)


def _line(code: str, colors: Colors) -> str:
    spans: list[tuple[str, str]] = []
    for letter in code:
        color = colors.get(letter, "")
        if spans and spans[-1][0] == color:
            spans[-1] = (color, spans[-1][1] + letter)
        else:
            spans.append((color, letter))
    return "".join(
        f'<span style="color:{escape(color)}">{safe(letters)}</span>' if color else safe(letters)
        for color, letters in spans
    )


def value_text(row: Row, known: Quantity) -> str:
    """A quantity of a row with its interval and unit."""
    name = known.name
    text = quantity_text(known, row.get(name), row.get(f"{name}_low"), row.get(f"{name}_high"))
    return f"{text} {known.unit}".strip()


def hover(title: str, rows: Sequence[Row], names: Iterable[str], colors: Colors, notes: Iterable[str] = ()) -> str:
    """A candidate for the hover label: strip, objectives with intervals in each place, sizes, conditions.

    Args:
        title: Its name.
        rows: Its rows, one per place.
        names: Objectives.
        colors: Of letters.
        notes: Further lines.
    """
    first = rows[0]
    lines = [f"<b>{safe(title)}</b>"]
    if first.get("code"):
        lines.append(f'<span style="font-family:monospace">{strip(first["code"], colors)}</span>')
    measured = [quantity(name) for name in names]
    alike = [known for known in measured if known.per_layout or len(rows) == 1]
    lines += [f"{known.label}: <b>{value_text(first, known)}</b>" for known in alike]
    for row in rows if len(rows) > 1 else ():
        values = ", ".join(
            f"{known.label} <b>{value_text(row, known)}</b>" for known in measured if not known.per_layout
        )
        lines.append(f"{safe(place(row))}: {values}")
    sizes = [
        f"{known.label} {value_text(first, known)}"
        for name in ("total_params", "effective_params", "embedding_share", "weights_mib")
        if first.get(name) is not None and (known := quantity(name)) not in measured
    ]
    lines += [", ".join(sizes)] if sizes else []
    width, depth = first.get("width"), first.get("depth")
    if width:
        lines.append(f"width {width}, {depth} layers, vocabulary {first.get('vocab_size') or 0:,}")
    if len(rows) == 1:
        lines.append(safe(f"{place(first)}, {first.get('precision') or ''}".rstrip(", ")))
    lines += [safe(note) for note in notes if note]
    return "<br>".join(lines)


def place(row: Row) -> str:
    """Where a row was measured, in words that are not safe yet: device and sizes."""
    parts: list[Any] = [row.get("device") or "?"]
    if row.get("prompt") is not None:
        pieces = f" in pieces of {row['chunk']:,}" if row.get("chunk") else ""
        parts.append(f"prompt {row['prompt']:,}{pieces}")
    if row.get("batch") not in (None, 1):
        parts.append(f"batch {row['batch']}")
    return ", ".join(parts)


def beside(values: Sequence[float], across: Sequence[float]) -> list[str]:
    """Where the labels of points have room, as Plotly's text positions: towards the middle of what an axis shows.

    Above the points, since bars cross there.

    Args:
        values: Of the labelled points.
        across: Of all points of the figure.
    """
    middle = (min(across) + max(across)) / 2 if across else 0.0
    return ["top right" if value <= middle else "top left" for value in values]
