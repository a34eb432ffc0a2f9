"""Where a store is, and what to try when its database refuses."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from archsearch.errors import StoreError

URL_HINT = "sqlite:///path/to/file.db or postgresql://user@host/name"
DAMAGED_HINT = "restore the file from a copy; `sqlite3 FILE .recover` may save most of it"


def database_url(where: str | Path) -> URL:
    """Of a path, which is an SQLite file's, or of an SQLAlchemy URL.

    Raises:
        StoreError: It is neither.
    """
    if isinstance(where, Path) or "://" not in where:
        return URL.create("sqlite", database=str(where))
    try:
        url = make_url(where)
    except (ArgumentError, ValueError) as error:
        raise StoreError("--store is no database URL", hint=URL_HINT) from error
    return url.set(drivername="postgresql+psycopg") if url.drivername in ("postgresql", "postgres") else url


def shown_address(url: URL) -> str:
    """For people: a file's path, or the URL without its password."""
    return str(url.database) if url.get_backend_name() == "sqlite" else url.render_as_string(hide_password=True)


def hint_for(text: str) -> str | None:
    """What to try, by what a database engine said; None where that is all there is to say."""
    lowered = text.lower()
    for sign, hint in (
        ("i/o error", "look at the disk: room, quota, cable; what was stored before is intact"),
        ("full", "make room on the disk; what was stored before is intact"),
        ("not a database", "another path for --store; this file is not an SQLite database"),
        ("malformed", DAMAGED_HINT),
        ("readonly", "a folder that you may write to, with --store or --runs"),
        ("unable to open", "a folder that exists and that you may write to"),
        ("locked", "wait until the other process is done"),
        ("connection", "check that the database server runs and the URL is right"),
    ):
        if sign in lowered:
            return hint
    return None
