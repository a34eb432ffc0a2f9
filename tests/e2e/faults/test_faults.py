"""A short campaign, and whether its judge notices what must not be."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from random import Random

import pytest

from tests.e2e.conftest import TINY, Cli
from tests.e2e.faults.campaign import Deck, play_run
from tests.e2e.faults.invariants import judge, words
from tests.e2e.faults.kinds import SPOILT
from tests.e2e.faults.report import markdown
from tests.e2e.faults.scene import STUDY, Line, Scene
from tests.e2e.faults.world import World

FAULTS = 8


@pytest.mark.needs("sshd")
def test_a_study_survives_what_may_happen(tmp_path: Path):
    deck = Deck(Random(5), slow=False)
    run = play_run(
        1, tmp_path / "run", Random(5), deck, devices=("local", "ssh"), faults=FAULTS, phone=None, pause_s=0.5,
        say=print, hurry=True,
    )  # fmt: skip
    assert run.violations == [], markdown([run.to_json()])
    assert len(run.faults) == FAULTS
    assert all(fault.outcome for fault in run.faults)


@pytest.mark.parametrize(
    "text",
    [
        "Traceback (most recent call last):",
        "Exception in thread Thread-3:",
        "[10:00:00] box: the link is lost ([Errno 104] Connection reset by peer)",
        "[10:00:00] box: #1 CCG: paramiko.ssh_exception.SSHException: no",
        "archsearch: this is a bug in archsearch; nothing that was measured before is lost",
        "whatever",
    ],
)
def test_words_that_are_not_for_users_are_noticed(text: str):
    assert len(words([Line(0.0, 0, text)])) == 1


@pytest.mark.parametrize(
    "text",
    [
        "[10:00:00] box: #1 CCG: 16/4: TTFT 1 ms ±1.0%, decode 1 ms ±1.0%, peak 64 MiB",
        "[10:00:00] box: #1 CCG: the agent of job x ended without a result: python: [Errno 2]; it is run again",
        "archsearch: stopping, once more stops at once",
    ],
)
def test_words_of_ours_are_none(text: str):
    assert words([Line(0.0, 0, text)]) == []


def test_what_does_not_hold_is_noticed(cli: Cli, tmp_path: Path):
    """A complete study in which nothing is wrong; then one thing after the other is."""
    cli("run", *TINY, "--study", STUDY, "--trials", "1")
    scene = Scene(World(cli.folder), Random(0), trials=1)
    assert judge(scene) == []

    def now(*statements: str) -> list[str]:
        import sqlite3
        from contextlib import closing

        kept = tmp_path / "kept.db"
        file = scene.world.database(STUDY)
        shutil.copy(file, kept)
        with closing(sqlite3.connect(file)) as database, database:
            for statement in statements:
                database.execute(statement)
        found = judge(scene)
        shutil.copy(kept, file)
        return sorted({violation.partition(":")[0] for violation in found})

    assert now("INSERT INTO claims VALUES ('k', 'j', 'o', 0)") == ["claim"]
    assert now("UPDATE trials SET state = 'open'") == ["trial"]
    assert now("UPDATE measurements SET key_hash = 'k'") == ["twice"]
    scene.lines.append(Line(0.0, 0, "[10:00:00] local: #7 CCG: 16/4: TTFT 1 ms"))
    assert now() == ["lost"]


def test_a_damaged_copy_is_noticed(cli: Cli):
    cli("run", *TINY, "--study", STUDY, "--trials", "1")
    scene = Scene(World(cli.folder), Random(0), trials=1)
    scene.judge_copy()
    assert scene.violations == []
    file = scene.world.database(STUDY)
    raw = bytearray(file.read_bytes())
    raw[4096:12288] = bytes(8192)
    file.write_bytes(raw)
    scene.judge_copy()
    assert len(scene.violations) == 1


@pytest.mark.parametrize("how", [name for name in SPOILT if name != "larger than allowed"])
def test_spoilt_results_are_spoilt(how: str):
    raw = json.dumps({"job_id": "a", "processes": [{"prefill_ns": 12, "ttft_ns": 13}]}).encode()
    assert SPOILT[how](raw) != raw
