"""What is on the screen, as a link: everything that somebody chose, nothing that is chosen by itself."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args
from urllib.parse import parse_qsl, urlencode

Of = Literal["study", "axes"]
ThemeChoice = Literal["auto", "light", "dark"]
Tab = Literal["table", "parallel", "compare", "progress", "agreement", "embeddings", "notes"]

TABS: tuple[Tab, ...] = get_args(Tab)
THEME_CHOICES: tuple[ThemeChoice, ...] = get_args(ThemeChoice)
TRAY = 4
"""Layouts that are compared at most."""
_LONGEST = 200
"""Characters of a name in a link."""

Ranges = Mapping[str, Sequence[tuple[float, float]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What somebody looks at. None, or empty, is what comes by itself.

    Attributes:
        study: Its name.
        scope: Key of the place, or of all.
        x: Quantity of the horizontal axis.
        y: Of the vertical one.
        of: What the front is of: the study's objectives, or the two axes.
        context: Tokens at which state counts as memory.
        limits: Budgets by quantity; None for the study's own.
        selected: Text of the key of the layout in the details.
        tray: Of those compared.
        brush: Ranges that are kept, by field.
        find: Text that codes and names must hold.
        theme: Appearance.
        tab: What is open below.
        zoom: Ranges of the two axes, ``x`` and ``y``.
    """

    study: str | None = None
    scope: str | None = None
    x: str | None = None
    y: str | None = None
    of: Of = "study"
    context: int | None = None
    limits: Mapping[str, float] | None = None
    selected: str | None = None
    tray: tuple[str, ...] = ()
    brush: Ranges = field(default_factory=dict)
    find: str = ""
    theme: ThemeChoice = "auto"
    tab: Tab = "table"
    zoom: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def query(self) -> str:
        """As the query of a link, without the question mark."""
        pairs: list[tuple[str, str]] = [
            (name, str(value))
            for name, value, default in (
                ("study", self.study, None), ("at", self.scope, None), ("x", self.x, None), ("y", self.y, None),
                ("of", self.of, "study"), ("context", self.context, None), ("sel", self.selected, None),
                ("find", self.find, ""), ("theme", self.theme, "auto"), ("tab", self.tab, "table"),
            ) if value != default
        ]  # fmt: skip
        if self.limits is not None:
            pairs += [("limit", f"{name}:{value!r}") for name, value in self.limits.items()] or [("limit", "")]
        pairs += [("vs", key) for key in self.tray]
        pairs += [("keep", f"{name}:{low!r}:{high!r}") for name, some in self.brush.items() for low, high in some]
        pairs += [("zoom", f"{name}:{low!r}:{high!r}") for name, (low, high) in self.zoom.items()]
        return urlencode(pairs)


def read_view(query: str) -> View:
    """The view of a link's query; what cannot be read in it is as if it were not there."""
    pairs = [(name, value[:_LONGEST]) for name, value in parse_qsl(query.lstrip("?"), max_num_fields=500)]
    first = dict(reversed(pairs))
    limits = [
        (name, value) for text in _all(pairs, "limit") if (found := _numbers(text, 1)) for name, (value,) in [found]
    ]
    brush: dict[str, list[tuple[float, float]]] = {}
    for name, (low, high) in filter(None, (_numbers(text, 2) for text in _all(pairs, "keep"))):
        brush.setdefault(name, []).append((low, high))
    zoom = {name: (low, high) for name, (low, high) in filter(None, (_numbers(t, 2) for t in _all(pairs, "zoom")))}
    context = first.get("context", "")
    return View(
        study=first.get("study"), scope=first.get("at"), x=first.get("x"), y=first.get("y"),
        of="axes" if first.get("of") == "axes" else "study",
        context=int(context) if context.isascii() and context.isdigit() else None,
        limits=dict(limits) if any(name == "limit" for name, _ in _blank(query)) else None,
        selected=first.get("sel"), tray=tuple(dict.fromkeys(_all(pairs, "vs")))[:TRAY], brush=brush,
        find=first.get("find", ""), theme=next((name for name in THEME_CHOICES if name == first.get("theme")), "auto"),
        tab=next((name for name in TABS if name == first.get("tab")), "table"),
        zoom={name: zoom[name] for name in ("x", "y") if name in zoom},
    )  # fmt: skip


def _blank(query: str) -> list[tuple[str, str]]:
    """Pairs without a value too: an empty limit says that there are none."""
    return parse_qsl(query.lstrip("?"), keep_blank_values=True, max_num_fields=500)


def _all(pairs: Iterable[tuple[str, str]], name: str) -> list[str]:
    return [value for own, value in pairs if own == name]


def _numbers(text: str, count: int) -> tuple[str, tuple[float, ...]] | None:
    """``NAME:1.5`` or ``NAME:1.5:2``: the name and so many finite numbers."""
    name, *numbers = text.split(":")
    try:
        found = tuple(map(float, numbers))
    except ValueError:
        return None
    return (name, found) if name and len(found) == count and all(map(math.isfinite, found)) else None
