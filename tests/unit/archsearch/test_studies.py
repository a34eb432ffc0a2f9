"""Which study is meant when none is named."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from archsearch.cli.exits import CommandError
from archsearch.cli.studies import RESERVED, by_last_write, latest
from archsearch.store import Store
from tests.unit.archsearch.store_samples import record


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Studies that were measured one after the other, and what is not ranked."""
    for number, name in enumerate(("old", "middle", "new", *RESERVED)):
        with Store.open(tmp_path / name / "study.db") as store:
            store.create_study(name, {})
            store.add_measurement(record(number, study=name, created_unix=time.time() + 100 * number))
    return tmp_path


def test_looking_at_an_old_study_does_not_make_it_the_latest(runs: Path):
    with Store.open(runs / "old" / "study.db", create=False) as looking:
        looking.add_summaries({"job-0": "{}"})  # what a reader keeps, to be quicker the next time
        assert by_last_write(store=None, runs=runs) == ["new", "middle", "old"]
        assert latest(store=None, runs=runs) == "new"
    assert latest(store=None, runs=runs) == "new"


def test_what_is_written_while_a_study_is_open_counts(runs: Path):
    assert latest(store=None, runs=runs) == "new"
    with Store.open(runs / "old" / "study.db", create=False) as running:
        running.add_measurement(record("more", study="old", created_unix=time.time() + 1000))
        assert by_last_write(store=None, runs=runs) == ["old", "new", "middle"]


def test_studies_are_listed_without_opening_them_for_writing(runs: Path, monkeypatch: pytest.MonkeyPatch):
    def opened(*_: object, **__: object) -> Store:
        raise AssertionError("it takes the write lock, and makes tables")

    monkeypatch.setattr(Store, "open", opened)
    with closing(sqlite3.connect(runs / "old" / "study.db")) as writer:
        writer.execute("BEGIN IMMEDIATE")
        (runs / "empty").mkdir()
        (runs / "empty" / "study.db").touch()
        assert by_last_write(store=None, runs=runs) == ["new", "middle", "old", "empty"]
    assert (runs / "empty" / "study.db").stat().st_size == 0


def test_a_study_that_cannot_be_read_is_listed_all_the_same(runs: Path):
    (runs / "middle" / "study.db").write_bytes(b"no database")
    assert set(by_last_write(store=None, runs=runs)) == {"old", "middle", "new"}


def test_of_one_store_the_study_written_to_last_comes_first(where: str, tmp_path: Path):
    with Store.open(where) as store:
        with pytest.raises(CommandError, match="no study in"):
            latest(store=where, runs=tmp_path)
        for name in ("a", "b", *RESERVED):
            store.create_study(name, {})
        assert by_last_write(store=where, runs=tmp_path) == ["b", "a"]
        store.add_measurement(record(study="a", created_unix=time.time() + 100))
    assert by_last_write(store=where, runs=tmp_path) == ["a", "b"]
    assert latest(store=where, runs=tmp_path) == "a"


def test_no_study_is_said(tmp_path: Path):
    with pytest.raises(CommandError, match="no study in"):
        latest(store=None, runs=tmp_path)
