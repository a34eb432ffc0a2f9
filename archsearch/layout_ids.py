"""Layouts by the id that tables show, beside what `search_space` reads: anchors, files and codes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from archsearch.errors import StoreError
from archsearch.store import Store
from search_space.errors import NotationError
from search_space.layout_file import NamedLayout, parse_layout
from search_space.notation import resolve

if TYPE_CHECKING:
    from collections.abc import Iterator

_ID = re.compile(r"(?=.*[0-9])[0-9a-f]{6,12}")
"""At least six digits of an id; one of letters alone would be a code."""


def find_layout(text: str, *, store: str | None = None, runs: Path = Path("runs")) -> NamedLayout:
    """The layout that a text names: what `search_space.notation.resolve` knows, or the id of one in a study's store.

    Args:
        text: Anchor, file, code, or at least six digits of an id.
        store: Where ids are looked up; by default in every study of `runs`.
        runs: Folder of studies.

    Raises:
        SearchSpaceError: It names none, or is the beginning of several ids.
        StoreError: The store that was given cannot be read.
    """
    word = text.strip()
    if not _ID.fullmatch(word) or Path(word).exists():
        return resolve(text)
    found = {key: data for database in _stores(store, runs) for key, data in database.layouts(word).items()}
    if len(found) > 1:
        raise NotationError(f"{word} is the beginning of {len(found)} layouts' ids: {', '.join(sorted(found)[:5])}")
    if not found:
        where = (store and "this store") or f"any study of {runs}"
        raise NotationError(f"no layout in {where} has an id that begins with {word}", hint="archsearch show -f json")
    return parse_layout(dict(next(iter(found.values()))))


def _stores(store: str | None, runs: Path) -> Iterator[Store]:
    for where in [store] if store is not None else sorted(runs.glob("*/study.db")):
        try:
            database = Store.open(where, create=False)
        except StoreError:
            if store is not None:
                raise
            continue  # a folder of somebody else's
        try:
            yield database
        finally:
            database.close()
