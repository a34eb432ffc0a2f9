"""The composition root: command line, study loop and store. Imports the other packages; nobody imports it.

`open_study` is where notebooks and scripts begin.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from archsearch.opened import OpenedStudy

__all__ = ["open_study"]


def open_study(where: str | Path, name: str | None = None) -> OpenedStudy:
    """Open a study for reading, as it is at this moment; what it holds is not changed.

    Args:
        where: A study's folder (``runs/NAME``) or database file, or an SQLAlchemy URL of a shared store.
        name: Which study, where the store holds several.

    Raises:
        StoreError: There is no such store or study, or it cannot be read; the message lists the studies there are.
    """
    from archsearch.opened import opened

    return opened(where, name)
