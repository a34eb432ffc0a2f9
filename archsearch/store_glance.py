"""When an SQLite store was last written to, asked of the file itself: nothing is written, and no writer waited for."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

_PATIENCE_S = 1.0
_NEWEST = """
SELECT max(at) FROM (
    SELECT * FROM (SELECT created_unix AS at FROM measurements ORDER BY sequence DESC LIMIT 1)
    UNION ALL SELECT * FROM (SELECT created_unix FROM events ORDER BY sequence DESC LIMIT 1)
)"""
_MADE = "SELECT max(created_unix) FROM studies"


def written_unix(database: Path) -> float | None:
    """The time of the newest measurement or event, or else that at which its study was made.

    Whoever looks at a store touches its files, so their times say little.

    Args:
        database: Path of the file.

    Returns:
        Seconds since 1970; None of what is no store, is empty or cannot be read.
    """
    try:
        with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True, timeout=_PATIENCE_S)) as file:
            for query in (_NEWEST, _MADE):
                [(at,)] = file.execute(query).fetchall()
                if isinstance(at, float | int):
                    return float(at)
    except sqlite3.Error:
        pass
    return None
