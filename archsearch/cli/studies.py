"""Where studies live, how they are found, and what of a study is fixed once it exists."""

from __future__ import annotations

import re
import time
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from archsearch.cli.exits import CommandError
from archsearch.errors import StoreError
from archsearch.store import Store
from archsearch.store_address import database_url, shown_address
from archsearch.store_glance import written_unix

DATABASE = "study.db"
ADHOC_STUDY = "measure"
"""Measurements made by hand are kept in a study of this name."""
BLOCKS_STUDY = "blocks"
"""And comparisons of blocks and their kernels in one of this name."""
REGRESS_STUDY = "regress"
"""And nights of `archsearch regress` in one of this name."""
RESERVED = {
    ADHOC_STUDY: "what `archsearch measure` measures",
    BLOCKS_STUDY: "comparisons of blocks and kernels",
    REGRESS_STUDY: "the nights of `archsearch regress`",
}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def new_name() -> str:
    """A study name that sorts by time."""
    return time.strftime("%Y%m%d-%H%M%S")


def checked_name(name: str) -> str:
    """A study name, which is also a folder name.

    Raises:
        CommandError: It has other characters than letters, digits, '.', '_' and '-'.
    """
    if not _NAME.fullmatch(name):
        raise CommandError(
            f"study name {name!r}: use up to 100 letters, digits, '.', '_' and '-', not beginning with a dot"
        )
    return name


def open_store(name: str, *, store: str | None, runs: Path, create: bool) -> Store:
    """The store of a study: the one given, or SQLite in the study's folder."""
    where: str | Path = store if store is not None else runs / name / DATABASE
    return Store.open(where, create=create)


def known_blocks(*, store: str | None, runs: Path) -> Store | None:
    """The store of comparisons of kernels, where there is one."""
    if store is None and not (runs / BLOCKS_STUDY / DATABASE).exists():
        return None
    return open_store(BLOCKS_STUDY, store=store, runs=runs, create=False)


def by_last_write(*, store: str | None, runs: Path) -> list[str]:
    """Names of the studies that can be ranked, the one written to last first.

    A study in a folder of its own that cannot be read counts as of the time of its file.

    Raises:
        StoreError: The one store cannot be read.
    """
    if store is not None:
        with Store.open(store, create=False) as database:
            written = database.written_unix()
    else:
        written = {path.parent.name: _written_unix(path, _state(path)) for path in runs.glob(f"*/{DATABASE}")}
    return sorted(written.keys() - RESERVED.keys(), key=lambda name: (written[name], name), reverse=True)


def latest(*, store: str | None, runs: Path) -> str:
    """Name of the study that was written to last.

    Raises:
        CommandError: There is none.
    """
    names = by_last_write(store=store, runs=runs)
    if not names:
        where = runs if store is None else shown_address(database_url(store))
        raise CommandError(f"no study in {where} yet", hint="archsearch run --devices devices.yaml")
    return names[0]


def _state(database: Path) -> tuple[tuple[int, int], ...]:
    """Changes whenever something is written; files that are not there, or hold nothing yet, are left out."""
    found = []
    for path in (database, database.with_name(f"{DATABASE}-wal")):
        with suppress(OSError):  # a reader who leaves takes the log away
            file = path.stat()
            found.append((file.st_mtime_ns, file.st_size))
    return tuple(one for one in found if one[1])


@lru_cache(maxsize=4096)
def _written_unix(database: Path, state: tuple[tuple[int, int], ...]) -> float:
    """Of a study in a folder of its own; asked once for each state of its files."""
    written = written_unix(database)
    return written if written is not None else max((at_ns / 1e9 for at_ns, _ in state), default=0.0)


def existing(name: str, *, store: str | None, runs: Path) -> Store:
    """The store of a study that must exist.

    Raises:
        CommandError: There is no such study; the message lists those that are there.
    """
    checked_name(name)
    try:
        database = open_store(name, store=store, runs=runs, create=False)
    except StoreError as error:
        if store is None and not (runs / name / DATABASE).exists():
            known = sorted(path.parent.name for path in runs.glob(f"*/{DATABASE}"))
            listed = f"; there are {', '.join(known[-5:])}" if known else ""
            raise CommandError(f"there is no study {name!r} in {runs}{listed}") from error
        raise
    if database.study(name) is None:
        known = [record.name for record in database.studies()]
        database.close()
        raise CommandError(f"there is no study {name!r} in {database.where}; there are {', '.join(known) or 'none'}")
    return database
