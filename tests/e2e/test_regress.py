"""`archsearch regress`: nights as people meet them, of tiny models on this machine.

Other tests use the same cores meanwhile, so that only changes by more than a factor of two count here
(`minimum_effect: 1.0`); what smaller ones do is tested with given numbers, in `tests/unit`.
"""

from __future__ import annotations

import multiprocessing
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from reports.nights import FRESH_RUNS
from tests.e2e.conftest import Cli, Done, wait_until
from tests.e2e.regress_nights import add_earlier, first_night, night

SUITE = """\
anchors: ["CC:width=64,vocab=512,ffn=128"]
workloads: ["1536/4"]
minimum_effect: 1.0
pause_s: 1
measure:
  - layout: "WW:width=64,vocab=512,ffn=64,head_dim=16,window=32"
    name: windows
"""
TONIGHT = ("regress", "run", "--suite", "suite.yaml", "--no-tune", "--format", "json")
FAST, SLOW = ("--lowering", "swa=banded"), ("--lowering", "swa=standard")


def folder_of(cli: Cli) -> None:
    (cli.folder / "suite.yaml").write_text(SUITE, encoding="utf-8")


def kinds(done: Done, **where: Any) -> dict[str, str]:
    """The verdict of each quantity of what is no anchor."""
    rows = [row for row in done.json() if all(row[name] == value for name, value in {"anchor": False, **where}.items())]
    return {row["quantity"]: row["kind"] for row in rows}


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """Others who use the processor."""
    workers = [multiprocessing.get_context("spawn").Process(target=_burn, daemon=True) for _ in range(processes)]
    for worker in workers:
        worker.start()
    try:
        yield
    finally:
        for worker in workers:
            worker.kill()
            worker.join()


def _burn() -> None:
    while True:
        pass


@pytest.fixture(scope="module")
def sixteen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with one measured night and fifteen before it, and the suite that they are of.

    A device that cannot be used is to take part too: it hides nothing of the other.
    """
    folder = tmp_path_factory.mktemp("nights")
    cli = Cli(folder=folder, work=folder / "device")
    cli.devices(f"\n  - {{name: gone, transport: local, work_dir: {folder}/gone, python: /nowhere/python3}}")
    folder_of(cli)
    done = first_night(cli, *TONIGHT, *FAST)
    assert {row["device"] for row in done.json()} == {"local"}
    assert "gone has no verdicts of its own" in done.err
    assert set(kinds(done).values()) == {"AMBIGUOUS"}, "a series of one night"
    assert "about" in done.err, "the time that is left"
    with cli.store("regress") as store:
        [(_, _, lost)] = store.events("regress", "device lost")
        add_earlier(store, 15)
    assert lost["device"] == "gone"
    assert "/nowhere/python3" in lost["reason"]
    return folder


@pytest.fixture
def nights(sixteen: Path, tmp_path: Path) -> Iterator[Cli]:
    """The same, to be spoilt."""
    folder = tmp_path / "nights"
    shutil.copytree(sixteen, folder)
    cli = Cli(folder=folder, work=folder / "device")
    cli.devices()
    yield cli
    for process in cli.running:
        process.kill()
        process.communicate()


def test_nothing_changed_then_a_slower_lowering_then_it_is_accepted(nights: Cli):
    same = night(nights, *TONIGHT, *FAST)
    for row in same.json():
        assert row["kind"] in ("SAME", "AMBIGUOUS") or "the anchor" in row["why"], row
    assert "fine" in same.err.splitlines()[-1] or "WARN" in same.err.splitlines()[-1]

    slow = night(nights, *TONIGHT, *SLOW)
    assert kinds(slow)["ttft_ms"] == "SLOWER", slow.out
    [row] = [row for row in slow.json() if row["quantity"] == "ttft_ms" and not row["anchor"]]
    assert row["level"] == "WARN", "the first night"
    assert row["change"] > 1
    assert "lowering of swa banded -> standard" in row["why"]
    assert "an alarm; fresh runs decide: windows" in slow.err
    assert row["night_unix"] == row["since_unix"]
    at = row["night_unix"]
    parts = [record.info["notes"]["part"] for record in nights.measurements("regress")]
    assert parts.count("confirmation") >= 2 * FRESH_RUNS, "of the anchor too"

    shown = nights("regress", "accept", "*windows* ttft_ms", "--reason", "bands are wrong there", "--format", "json")
    [accepted] = shown.json()
    assert accepted["series"] == row["series"]
    assert accepted["accepted_reason"] == "bands are wrong there"
    assert "@" in accepted["accepted_by"]
    listed = {one["series"]: one for one in nights("regress", "series", "--format", "json").json()}
    assert len(listed) == 6
    assert listed[row["series"]]["night_unix"] == at
    assert listed[row["series"]]["kind"] == "AMBIGUOUS", "a level that is learned"
    later = nights("regress", "accept", "*windows* decode_ms", "--reason", "a new driver", "--since", "now")
    assert "this holds from the first night after" in later.err


def test_a_device_that_others_use_is_no_regression(nights: Cli):
    with busy(4):
        done = nights(*TONIGHT, *FAST, code=None)
    assert done.code in (0, 5)
    for row in done.json():
        assert row["kind"] in ("device-wide", "NO-DATA", "AMBIGUOUS", "SAME"), row


def test_a_second_run_gives_up_or_waits_and_ctrl_c_keeps_what_is_there(cli: Cli):
    long = SUITE.replace('["1536/4"]', '["1536/4", "1536/5", "1536/6", "1536/7"]')
    (cli.folder / "suite.yaml").write_text(long, encoding="utf-8")
    first = cli.start(*TONIGHT)
    wait_until(lambda: any(state == "timing" for _, state, _ in cli.jobs()), 60)
    log = cli.folder / "waiting.log"
    with log.open("w") as stream:
        waiting = cli.start(*TONIGHT, "--wait", "5m", stderr=stream)
    said = cli.refused(*TONIGHT, code=3)
    assert "another run measures a night" in said
    assert "--wait" in said
    wait_until(lambda: "waiting for it to end" in log.read_text(), 60)
    wait_until(lambda: any(record.status == "ok" for record in _kept(cli)), 60)
    first.send_signal(signal.SIGINT)
    assert "are kept" in cli.finish(first, code=130).err
    wait_until(lambda: len({record.info["notes"]["night"] for record in _kept(cli)}) == 2, 60)
    waiting.send_signal(signal.SIGINT)
    waiting.communicate(timeout=60)
    assert waiting.returncode == 130
    listed = cli("regress", "series", "--format", "json").json()
    assert {row["kind"] for row in listed} == {"NO-DATA"}
    assert all("the run ended before the anchor" in row["why"] for row in listed)


def _kept(cli: Cli) -> list[Any]:
    return cli.measurements("regress") if (cli.folder / "runs" / "regress" / "study.db").exists() else []


def test_nothing_measured_has_its_own_exit_code(cli: Cli):
    cli.devices("timeout_s: 0.02")
    folder_of(cli)
    done = cli(*TONIGHT, code=5)
    assert {row["kind"] for row in done.json()} == {"NO-DATA"}
    assert "timeout" in done.json()[0]["why"]


def test_what_a_suite_cannot_mean_is_said_before_any_device_is_opened(cli: Cli):
    cli.devices("python: /nowhere/python3")  # to open it would be another exit code
    (cli.folder / "suite.yaml").write_text(
        "measure:\n  - layout: lfm2.5-350\n  - study: nightmare\n  - onnx: nothing.onnx\n", encoding="utf-8"
    )
    done = cli("regress", "run", "--suite", "suite.yaml", code=2)
    lines = done.err.splitlines()
    assert "suite.yaml:2:" in lines[0]
    assert "lfm2.5-350m" in lines[0]
    assert "suite.yaml:3: there is no study 'nightmare'" in lines[1]
    assert "suite.yaml:4: there is no ONNX file at" in lines[2]
    assert "swa" in cli.refused("regress", "run", "--lowering", "gla=chunked")
    assert "no night was measured yet" in cli.refused("regress", "series")


def test_a_store_of_another_version_is_refused(nights: Cli):
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(nights.folder / "runs" / "regress" / "study.db")) as connection:
        connection.execute("UPDATE meta SET value = '0' WHERE name = 'schema_version'")
        connection.commit()
    for command in (TONIGHT, ("regress", "series"), ("regress", "accept", "*", "--reason", "x")):
        assert "has store version 0" in nights.refused(*command)


@pytest.mark.long  # needs the machine for itself: elsewhere with given numbers, in tests/unit/archsearch/regress
def test_half_the_threads_are_slower(cli: Cli):
    """Two threads of a machine with two cores meet whatever else runs there, so some nights say nothing, and say so."""
    cli.devices()
    one = (cli.folder / "devices.yaml").read_text()
    two = one.replace("threads: 1", "threads: 2")
    suite = SUITE.replace("minimum_effect: 1.0", "minimum_effect: 0.25").replace("width=64", "width=512")
    (cli.folder / "suite.yaml").write_text(suite.replace("ffn=128", "ffn=2048").replace("ffn=64", "ffn=2048"))
    (cli.folder / "devices.yaml").write_text(two)
    first_night(cli, *TONIGHT, *FAST)
    with cli.store("regress") as store:
        add_earlier(store, 15)
    same = cli(*TONIGHT, *FAST, code=None, timeout=400)
    assert {row["kind"] for row in same.json()} <= {"SAME", "AMBIGUOUS", "NO-DATA"}, same.out

    (cli.folder / "devices.yaml").write_text(one)
    seen: dict[bool, list[str]] = {False: [], True: []}  # of the anchor, and of what stands beside it
    for _ in range(6):
        slow = cli(*TONIGHT, *FAST, code=None, timeout=400)  # what lies between anchors that moved is measured again
        rows = {row["anchor"]: row for row in slow.json() if row["quantity"] == "ttft_ms"}
        for anchor, row in rows.items():
            if row["kind"] == "SLOWER":
                assert row["change"] > 0.25
                assert "threads 2 -> 1" in row["why"]
                seen[anchor].append(row["level"])
            else:
                assert row["kind"] == "NO-DATA" or "says nothing" in row["why"] or "not confirmed" in row["why"], row
        assert slow.code == int(any(row["level"] == "FAIL" for row in slow.json())), slow.out
        if all("FAIL" in levels for levels in seen.values()):
            break
    for levels in seen.values():
        assert levels[0] == "WARN", "the first night"
        assert levels[-1] == "FAIL", seen
