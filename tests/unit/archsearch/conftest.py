"""Stores for the tests of this folder, on each database that is supported."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from archsearch.store import Store
from tests.postgresql import Server, running_server


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    with running_server() as started:
        yield started


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.needs("psycopg", "postgres"))])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Where to open a new store: a path, or a URL of an empty database."""
    if request.param == "sqlite":
        yield str(tmp_path / "new" / "study.db")
        return
    with request.getfixturevalue("server").database() as url:
        yield url


@pytest.fixture
def store(where: str) -> Iterator[Store]:
    with Store.open(where) as opened:
        opened.create_study("s", {"seed": 1})
        yield opened
