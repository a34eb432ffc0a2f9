"""Studies to look at, the dashboard as typed, and a browser."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from archsearch.store import Store
from large_study import DEVICES, build_study
from tests.browser import Screen, browser, screen
from tests.e2e.dashboard.looking import EVIL, Server


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as started:
        yield started


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a study of two devices, and variants of it that are odd."""
    folder = tmp_path_factory.mktemp("looked") / "runs"
    make(folder, "one", candidates=1)
    make(folder, "half", candidates=8, devices=DEVICES)
    edit(folder, "half", "DELETE FROM measurements WHERE device = ? AND trial > 3", DEVICES[1])
    make(folder, "evil", candidates=8, devices=DEVICES)
    edit(folder, "evil", "UPDATE measurements SET device = ? WHERE device = ?", EVIL, DEVICES[1])
    edit(folder, "evil", "UPDATE events SET data = replace(data, ?, ?)", f'"{DEVICES[1]}"', json.dumps(EVIL))
    edit(folder, "evil", "UPDATE measurements SET name = ? WHERE name = 'gemma-3-270m'", EVIL)
    edit(folder, "evil", "UPDATE measurements SET status = 'failed', reason = ?, result = NULL WHERE trial = 2", EVIL)
    make(folder, "impossible", candidates=6)
    config = json.dumps({**json.loads(config_of(folder, "impossible")), "budgets": ["peak_rss_mib<=1"]})
    edit(folder, "impossible", "UPDATE studies SET config = ?", config)
    make(folder, "missing", candidates=8)
    edit(folder, "missing", "UPDATE measurements SET status = 'failed', result = NULL WHERE trial % 2 = 0")
    edit(folder, "missing", "UPDATE measurements SET status = 'failed', result = NULL WHERE role != 'candidate'")
    with Store.open(make_folder(folder, "empty")) as store:
        store.create_study("empty", json.loads(config_of(folder, "one")))
    make(folder, "damaged", candidates=1)
    (folder / "damaged" / "study.db").write_bytes(b"no database")
    make(folder, "two", candidates=30, devices=DEVICES)
    return folder


def make_folder(runs: Path, name: str) -> Path:
    (runs / name).mkdir(parents=True)
    return runs / name / "study.db"


def make(runs: Path, name: str, *, candidates: int, devices: tuple[str, ...] = DEVICES[:1]) -> None:
    with Store.open(make_folder(runs, name)) as store:
        build_study(store, name, candidates=candidates, devices=devices)


def edit(runs: Path, name: str, statement: str, *values: str) -> None:
    with sqlite3.connect(runs / name / "study.db") as database:
        database.execute("DELETE FROM summaries")  # what was derived of the rows
        database.execute(statement, values)
    database.close()


def config_of(runs: Path, name: str) -> str:
    with sqlite3.connect(runs / name / "study.db") as database:
        [(config,)] = database.execute("SELECT config FROM studies").fetchall()
    database.close()
    return str(config)


@pytest.fixture(scope="session")
def server(runs: Path) -> Iterator[Server]:
    running = Server(runs.parent, "two")
    yield running
    code, err = running.end()
    assert (code, err) == (0, "archsearch: stopped\n")


@pytest.fixture
def look(chromium: Browser, server: Server) -> Iterator[Screen]:
    """The study of two devices on the screen; in the end nobody may have complained."""
    seen = screen(chromium).open(server.first)
    yield seen
    seen.well()
    seen.page.context.close()
