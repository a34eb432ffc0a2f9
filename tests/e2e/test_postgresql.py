"""A study in a PostgreSQL database, from its first candidate to its continuation, as a team would keep it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from archsearch.store import Store
from tests.e2e.conftest import TINY, Cli, nothing_twice
from tests.postgresql import running_server

pytestmark = pytest.mark.needs("psycopg", "postgres")


@pytest.fixture
def url() -> Iterator[str]:
    """URL of an empty database, with the driver spelled out."""
    with running_server() as server, server.database() as address:
        yield address.replace("postgresql:", "postgresql+psycopg:")


def test_a_study_is_begun_shown_and_continued(cli: Cli, url: str):
    arguments = ("run", *TINY, "--study", "team", "--store", url, "--format", "json")
    begun = cli(*arguments, "--trials", "2")
    assert {row["status"] for row in begun.json()} == {"ok"}
    assert len([row for row in begun.json() if not row["anchor"]]) == 2
    assert "written to postgresql" in begun.err
    assert not list(cli.folder.glob("runs/**/*.db")), "nothing of it is in a file"

    assert cli("show", "team", "--store", url, "--format", "json").json() == begun.json()
    assert cli("show", "--store", url).out == cli("show", "team", "--store", url).out
    timing = cli("show", "team", "--store", url, "--timing", "--format", "json").json()
    assert timing["runs"] == 1
    assert 0 < timing["agent"]["timed"] < timing["wall_s"]

    continued = cli(*arguments, "--trials", "3")
    assert "continuing study team" in continued.err
    candidates = [row for row in continued.json() if not row["anchor"]]
    assert [row["trial"] for row in sorted(candidates, key=lambda row: row["trial"])] == [0, 1, 2]
    with Store.open(url, create=False) as store:
        records = store.measurements("team")
        assert {trial.state for trial in store.trials("team")} == {"done"}
    nothing_twice(records)
    first = {row["job_id"] for row in begun.json()}
    assert first <= {record.job_id for record in records}
    assert "other settings" in cli.refused("run", "--study", "team", "--store", url, "--seed", "1", "--trials", "3")
