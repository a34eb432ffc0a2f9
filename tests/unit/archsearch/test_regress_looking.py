"""`archsearch regress history` and `report`, and what a night tells others."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

import archsearch.regress.series
from archsearch.cli import regress_looking
from archsearch.cli.app import app
from archsearch.cli.exits import (
    INTERRUPTED,
    NO_DEVICE,
    NOTHING_MEASURED,
    OK,
    REGRESSION,
    USAGE,
    CommandError,
    guarded,
)
from archsearch.cli.regress_telling import Outlets, notify, print_annotations, write_junit
from archsearch.regress.judged import last_night
from archsearch.regress.series_key import SeriesKey
from archsearch.store import Store
from reports.formatting import moment
from reports.nights import FRESH_RUNS, Night, Series
from reports.verdicts import judge
from tests.unit.archsearch.regress import nights as written
from tests.unit.reports.nightly import DAY, QUIET, run

FIRST = 1_772_330_400.0


def key(item: str, device: str = "board", quantity: str = "decode_ms") -> SeriesKey:
    return SeriesKey(
        device=device, item=item, anchor=False, precision="int4", point=(256, 32, 1), quantity=quantity, identity="id",
        points=((256, 32, 1),), seed=0, fingerprint="f", runtime_version="1.31.1", method="archsearch-6",
    )  # fmt: skip


def stored(item: str, *last: float | None, **options: str) -> Series:
    found = key(item, **options)
    values = [*QUIET, *last]
    nights = tuple(
        Night(
            time=FIRST + at * DAY, first=run(value, status="ok" if value is not None else "lost"),
            confirmations=(run(value),) * 2, environment={"os": "old" if at < 20 else "new"},
        )
        for at, value in enumerate(values)
    )  # fmt: skip
    return Series(
        key=found.text, device=found.device, label=found.label, quantity=found.quantity, direction="min", nights=nights
    )


OPEN_NIGHTS = regress_looking.nights
LOAD_SERIES = archsearch.regress.series.load_series
SERIES = [stored("slow", 12.0, 12.1), stored("same", 10.0, 10.1), stored("gone", 10.0, None, device="phone")]


@pytest.fixture(autouse=True)
def _nights(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def nights(**_where: Any) -> Iterator[None]:
        yield

    monkeypatch.setattr(regress_looking, "nights", nights)
    monkeypatch.setattr("archsearch.regress.series.load_series", lambda _store, *, until=None: SERIES)
    monkeypatch.setattr("archsearch.regress.front_nights.front_verdicts", lambda *_given: ())


def said(*words: str) -> str:
    result = CliRunner().invoke(app, ["regress", *words], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def refused(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: str) -> str:
    monkeypatch.setattr(sys, "argv", ["archsearch", "regress", *words])
    assert guarded(app) == 2
    return capsys.readouterr().err


def test_the_list_has_every_series_with_its_last_verdict():
    rows = json.loads(said("history", "-f", "json"))
    assert [(row["label"].split()[0], row["kind"], row["level"]) for row in rows] == [
        ("slow", "SLOWER", "FAIL"), ("same", "SAME", "fine"), ("gone", "NO-DATA", "WARN"),
    ]  # fmt: skip
    assert {row["nights"] for row in rows} == {22}
    assert rows[0]["series"] == key("slow").id


@pytest.mark.parametrize("output_format", ["table", "md"])
def test_the_list_for_people(output_format: str):
    text = said("history", "-f", output_format)
    assert "SLOWER FAIL" in text
    assert "12.10 ±0.13 ms" in text


def test_every_night_of_one_series():
    rows = json.loads(said("history", key("slow").id[:6], "-f", "json"))
    assert len(rows) == 22
    assert [row["kind"] for row in rows[-2:]] == ["SLOWER", "SLOWER"]
    assert rows[20]["environment_changes"] == {"os": ["old", "new"]}
    assert "os old -> new" in said("history", "* slow *")


def test_a_pattern_of_several_series_tells_them_apart():
    rows = list(csv.DictReader(io.StringIO(said("history", "board *", "-f", "csv"))))
    assert {row["label"].split()[0] for row in rows} == {"slow", "same"}
    assert "| series | device | what |" in said("history", "board *", "-f", "md")


def test_the_figure_is_one_page(tmp_path: Path):
    path = tmp_path / "new" / "a.html"
    said("history", "* slow *", "--figure", str(path))
    assert path.read_text().count("<div class=history>") == 1


def test_what_cannot_be_shown_is_refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    assert "no series" in refused(capsys, monkeypatch, "history", "nothing*")
    assert "--format is 'xml'" in refused(capsys, monkeypatch, "history", "--format", "xml")
    assert "written as .html" in refused(capsys, monkeypatch, "history", "--figure", "a.svg")
    assert "written as .html or .md" in refused(capsys, monkeypatch, "report", "-o", "a.pdf")
    assert "no night began then" in refused(capsys, monkeypatch, "report", "--at", "1999-01-01")
    (tmp_path / "file").write_text("")
    assert "archsearch: " in refused(capsys, monkeypatch, "report", "-o", str(tmp_path / "file" / "a.md"))


def test_a_store_without_nights_says_how_to_measure_one(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("archsearch.regress.series.load_series", lambda _store, *, until=None: [])
    assert "archsearch regress run" in refused(capsys, monkeypatch, "history")


def test_the_report_of_the_last_night_and_of_an_earlier_one(tmp_path: Path):
    path = tmp_path / "a.md"
    said("report", "-o", str(path))
    assert "1 FAIL, 1 WARN, 1 fine" in path.read_text()
    said("report", "-o", str(path), "--at", moment(FIRST + 19 * DAY)[:10])
    assert "3 fine" in path.read_text()
    said("report", "-o", str(tmp_path / "a.html"))
    assert "Plotly" in (tmp_path / "a.html").read_text()


def test_a_night_from_the_future_is_not_the_latest():
    ahead = Series(
        key=key("ahead").text, device="board", label="x", quantity="decode_ms", direction="min",
        nights=(*SERIES[0].nights, Night(time=time.time() + 400 * DAY, first=run(10.0))),
    )  # fmt: skip
    assert last_night([ahead]) == FIRST + 21 * DAY


def test_nights_of_a_real_store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(regress_looking, "nights", OPEN_NIGHTS)
    monkeypatch.setattr("archsearch.regress.series.load_series", LOAD_SERIES)
    where = ("--runs", str(tmp_path / "runs"))
    path = tmp_path / "runs" / "regress" / "study.db"
    path.parent.mkdir(parents=True)
    with Store.open(path, create=True) as store:
        store.create_study("regress", {})
        for number, value in enumerate([*QUIET, 12.0, 12.1]):
            time_s = written.night(number)
            written.plan(store, time_s)
            environment = {"kernel": "6.1" if number < 20 else "6.2"}
            written.block(store, time_s, decode_ms=value, environment=environment)
            if number >= 20:
                for _ in range(FRESH_RUNS):
                    written.write(store, time_s, part="confirmation", decode_ms=value)
    rows = json.loads(said("history", "local tiny* decode_ms", "-f", "json", *where))
    assert [(row["kind"], row["level"]) for row in rows[-2:]] == [("SLOWER", "WARN"), ("SLOWER", "FAIL")]
    assert rows[20]["environment_changes"] == {"kernel": ["6.1", "6.2"]}
    assert len(json.loads(said("history", "-f", "json", *where))) == 4
    said("report", "-o", str(tmp_path / "a.md"), *where)
    assert "| FAIL | SLOWER | local |" in (tmp_path / "a.md").read_text()


# What a night tells others


def verdicts() -> Any:
    return judge(SERIES, at=FIRST + 21 * DAY)


@pytest.fixture
def teller(tmp_path: Path) -> Path:
    """A program that keeps what it was given."""
    path = tmp_path / "tell me.py"
    path.write_text(
        "import json, os, sys\n"
        f"out = open({str(tmp_path / 'got.json')!r}, 'w')\n"
        "json.dump([sys.argv[1:], json.load(sys.stdin), os.environ.get('SECRET')], out)\n"
        "print('said on stdout')\n"
    )
    return path


def test_the_command_gets_the_summary_and_the_environment(
    teller: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("SECRET", "hush")
    assert notify(f"{sys.executable} '{teller}' '$SECRET; touch x' --to *", verdicts())
    words, summary, secret = json.loads((tmp_path / "got.json").read_text())
    assert words == ["$SECRET; touch x", "--to", "*"]  # no shell was there
    assert secret == "hush"
    assert (summary["level"], summary["text"]) == ("FAIL", "1 FAIL, 1 WARN, 1 fine")
    assert [row["label"].split()[0] for row in summary["not_fine"]] == ["slow", "gone"]
    told = capfd.readouterr()
    assert told.out == ""
    assert "said on stdout" in told.err
    assert "hush" not in told.err


def test_a_command_that_fails_is_told_without_its_arguments(capfd: pytest.CaptureFixture[str], tmp_path: Path):
    failing = tmp_path / "failing.py"
    failing.write_text("import sys; sys.exit(7)")
    assert not notify(f"{sys.executable} {failing} --token hush", verdicts())
    assert not notify("/nowhere/program --token hush", verdicts())
    told = capfd.readouterr().err
    assert "failed with exit code 7" in told
    assert "program cannot be started: No such file" in told
    assert "hush" not in told


def test_a_command_that_hangs_is_ended_with_its_children(capfd: pytest.CaptureFixture[str], tmp_path: Path):
    pid = tmp_path / "pid"
    hanging = tmp_path / "hanging.py"
    hanging.write_text(
        "import pathlib, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"pathlib.Path({str(pid)!r}).write_text(str(child.pid))\n"
        "time.sleep(600)\n"
    )
    assert not notify(f"{sys.executable} {hanging}", verdicts(), timeout_s=3.0)
    assert "was ended, it took more than 3 s" in capfd.readouterr().err
    status = Path(f"/proc/{pid.read_text()}/stat")
    for _ in range(100):
        if not status.exists() or status.read_text().split()[2] == "Z":
            return
        time.sleep(0.05)
    raise AssertionError("its child is still there")


@pytest.mark.parametrize("command", ["", "  ", "'open"])
def test_a_command_without_words_is_refused_before_the_night(command: str):
    with pytest.raises(CommandError, match="--notify"):
        Outlets(command=command).check()
    with pytest.raises(CommandError, match="html or"):
        Outlets(report=Path("a.txt")).check()
    Outlets(command="a 'b c'", report=Path("a.md")).check()


def test_all_are_told_whatever_becomes_of_one(tmp_path: Path, capfd: pytest.CaptureFixture[str], teller: Path):
    (tmp_path / "file").write_text("")
    outlets = Outlets(
        junit=tmp_path / "file" / "junit.xml", report=tmp_path / "a.html", github=True,
        command=f"{sys.executable} '{teller}'",
    )  # fmt: skip
    assert not outlets.tell(verdicts(), SERIES)
    told = capfd.readouterr()
    assert told.out == ""
    assert "::error title=archsearch%3A board%3A 1 FAIL::" in told.err
    assert "file" in told.err
    assert (tmp_path / "got.json").exists()
    assert "Plotly" in (tmp_path / "a.html").read_text()


def test_junit_makes_its_folder(tmp_path: Path):
    write_junit(tmp_path / "new" / "junit.xml", verdicts())
    assert (tmp_path / "new" / "junit.xml").read_text().startswith("<?xml")


def test_annotations_leave_standard_output_to_programs(capfd: pytest.CaptureFixture[str]):
    print_annotations(verdicts())
    told = capfd.readouterr()
    assert told.out == ""
    assert [line.partition(" ")[0] for line in told.err.splitlines()] == ["::error", "::warning"]


def test_the_help_of_run_and_the_readme_name_every_exit_code_of_a_night():
    root: Any = typer.main.get_command(app)
    _, _, told = root.commands["regress"].commands["run"].epilog.partition("Exit codes: ")
    readme = (Path(__file__).parents[3] / "README.md").read_text(encoding="utf-8")
    _, _, said_there = readme.partition("its exit code is ")
    for text in (told, said_there.partition("\n\n")[0]):
        codes = (OK, REGRESSION, USAGE, NO_DEVICE, NOTHING_MEASURED, INTERRUPTED)
        assert [int(code) for code in re.findall(r"\b\d+\b", text)] == list(codes)


def test_help_is_quick_because_nothing_heavy_is_imported():
    import subprocess

    code = (
        "import sys; import archsearch.cli.app; "
        "print([m for m in ('plotly', 'numpy', 'sqlalchemy', 'torch', 'rich.table') if m in sys.modules])"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env).stdout
    assert out.strip() == "[]"
