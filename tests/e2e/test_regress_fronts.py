"""Did the front move? A study of tiny models, one real night of its front, and nights of given numbers after it."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import TINY, Cli, Done
from tests.e2e.regress_nights import DAY_S, add_given, first_night

SUITE = """\
anchors: ["CC:width=64,vocab=512,ffn=128"]
workloads: ["16/4"]
precisions: [fp32]
pause_s: 0
measure:
  - {study: search, neighbours: 2, name: best}
"""
SEARCH = ("run", "--study", "search", *TINY, "--precision", "fp32", "--trials", "6", "--sampler", "random",
          "--objective", "ttft_ms", "--objective", "decode_ms")  # fmt: skip


@pytest.fixture
def searched(cli: Cli) -> tuple[Cli, Done]:
    """A study, and one night of its front."""
    cli(*SEARCH)
    (cli.folder / "suite.yaml").write_text(SUITE, encoding="utf-8")
    (cli.folder / "tell.py").write_text("import sys; open('told.json', 'w').write(sys.stdin.read())", encoding="utf-8")
    outlets = ("--report", "night.md", "--notify", f"{sys.executable} tell.py")
    return cli, first_night(cli, "regress", "run", "--suite", "suite.yaml", "--no-tune", "--format", "json", *outlets)


def said(cli: Cli) -> Mapping[str, tuple[float, float]]:
    """What the study said of each layout: its two times, as one process gives them."""
    [row] = cli("regress", "fronts", "--format", "json").json()
    return {
        one["layout"]: tuple(one["study_values"][name]["value"] for name in ("ttft_ms", "decode_ms"))
        for one in row["layouts"]
    }  # type: ignore[return-value]


def test_a_front_that_moves_is_told_on_the_first_night_and_counts_from_the_second(searched: tuple[Cli, Done]):
    cli, real = searched
    assert all("kind" in row and "moves" not in row for row in real.json()), "the list of verdicts is one of series"
    assert "front of search on local (16/4 fp32): " in real.err
    assert "## Fronts of studies" in (cli.folder / "night.md").read_text(encoding="utf-8")
    assert isinstance(json.loads((cli.folder / "told.json").read_text())["fronts"], list)

    times = said(cli)
    [row] = cli("regress", "fronts", "--format", "json").json()
    assert row["study_devices"] == ["local"]
    on = next(one["layout"] for one in row["layouts"] if one["study_front"] == "on")
    slow = {**times, on: tuple(20 * number for number in times[on])}
    start = row["night_unix"]
    with cli.store("regress") as store:
        for part in (1, 2, 3, 4):
            add_given(store, start + part * DAY_S / 8, times)  # as the study said
        add_given(store, start + DAY_S, slow)
    assert kinds(cli, start + DAY_S / 2) == "HELD"
    assert kinds(cli, start + DAY_S) == "AMBIGUOUS"
    with cli.store("regress") as store:
        add_given(store, start + 2 * DAY_S, slow)
    at = str(start + 2 * DAY_S)
    [moved] = cli("regress", "fronts", "--at", at, "--format", "json").json()
    assert moved["kind"] == "MOVED", moved
    [left] = [one for one in moved["moves"] if one["what"] == "left"]
    assert (left["layout"], left["nights"]) == (on, 2)
    assert left["since_unix"] == start + DAY_S
    assert left["tonight"]["decode_ms"] > 1
    assert "left the front" in cli("regress", "fronts", "--at", at).out
    for name in ("night.html", "night.md"):
        cli("regress", "report", "-o", name, "--at", at)
        assert "left the front" in Path(cli.folder / name).read_text(encoding="utf-8")
    assert "there is no" not in cli("regress", "fronts", "--at", at, "--format", "csv").out


def kinds(cli: Cli, at: float) -> Any:
    [row] = cli("regress", "fronts", "--at", str(at), "--format", "json").json()
    return row["kind"]


def test_a_suite_without_a_study_has_no_front(cli: Cli):
    assert "no night was measured yet" in cli.refused("regress", "fronts")
    suite = SUITE.replace("{study: search, neighbours: 2, name: best}", '{layout: "CC:width=64,vocab=512,ffn=64"}')
    (cli.folder / "suite.yaml").write_text(suite, encoding="utf-8")
    done = first_night(cli, "regress", "run", "--suite", "suite.yaml", "--no-tune", "--format", "json")
    assert "front of" not in done.err
    empty = cli("regress", "fronts", "--format", "json")
    assert empty.json() == []
    assert "no front of a study was measured that night" in empty.err
    assert "no night began then" in cli.refused("regress", "fronts", "--at", "2001-01-01")
