"""Published models as layout files: the fixed points that every search is shown beside."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from search_space.errors import NotationError
from search_space.layout_file import NamedLayout, read_layout

_FOLDER = Path(__file__).parent


def anchor_names() -> tuple[str, ...]:
    """Names of the anchors that ship."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.json")))


@cache
def anchor(name: str) -> NamedLayout:
    """The anchor of this name.

    Raises:
        NotationError: There is none; the message lists those that exist.
    """
    if name not in anchor_names():
        raise NotationError(f"no anchor is called {name!r}; there are {', '.join(anchor_names())}")
    return read_layout(_FOLDER / f"{name}.json")
