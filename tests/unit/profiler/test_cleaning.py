"""Only what is ours is removed, and nothing from under a job."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from profiler.cleaning import clean, survey
from profiler.conformance import eventually
from profiler.errors import DeviceUnavailable
from profiler.transports.local import LocalTransport

OURS = ("agent-0123456789ab.pyz", "lease", ".0123456789abcdef.77.part", ".0123456789abcdef.a1b2c3d4.part")
OTHERS = ("exported", "agent-of-mine.pyz", "notes.part", "Jobs")


@pytest.fixture
def work(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    for name in ("jobs/one", "weights/aa", "weights/bb", "python/venv-1/bin"):
        (folder / name).mkdir(parents=True)
    for name in OURS:
        (folder / name).write_bytes(b"x" * 5000)
    (folder / "weights" / "aa" / "weights.bin").write_bytes(b"x" * 100_000)
    return folder


@pytest.fixture
def transport(work: Path) -> Iterator[LocalTransport]:
    with LocalTransport(work) as transport:
        yield transport


def test_what_is_not_ours_stays_and_is_named(work: Path, transport: LocalTransport) -> None:
    for name in OTHERS:
        (work / name).mkdir()
    found = survey(transport)
    assert set(found.ours) == {*OURS, "jobs", "weights", "python"}
    assert found.others == tuple(sorted(OTHERS))
    assert found.disk_bytes >= 100_000 + 4 * 5000
    assert not clean(transport, found)
    assert sorted(path.name for path in work.iterdir()) == sorted(OTHERS)


def test_an_empty_folder_goes_too(work: Path, transport: LocalTransport) -> None:
    assert clean(transport, survey(transport))
    assert not work.exists()


def test_a_link_is_removed_and_not_followed(work: Path, transport: LocalTransport, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept").write_text("")
    (work / "weights" / "cc").symlink_to(elsewhere)
    clean(transport, survey(transport))
    assert (elsewhere / "kept").exists()


def test_only_weights(work: Path, transport: LocalTransport) -> None:
    found = survey(transport, weights_only=True)
    assert found.ours == ("weights/aa", "weights/bb")
    assert not clean(transport, found)
    assert list((work / "weights").iterdir()) == []
    assert (work / "jobs" / "one").exists()
    assert survey(transport, weights_only=True).disk_bytes == 0


def test_a_job_at_work_keeps_everything_until_it_is_ended(work: Path, transport: LocalTransport) -> None:
    command = [sys.executable, "-c", "import time; time.sleep(60)", str(work / "jobs" / "one")]
    pid = transport.start_detached(command, log="jobs/one/agent.log")
    status = {"state": "timing", "heartbeat_unix": 1.0, "pid": pid}
    (work / "jobs" / "one" / "status.json").write_text(json.dumps(status))
    found = survey(transport)
    assert [(job.job_id, job.pid) for job in found.running] == [("one", pid)]
    with pytest.raises(DeviceUnavailable, match="a job is at work there: one; nothing was removed"):
        clean(transport, found)
    assert set(found.ours) <= {path.name for path in work.iterdir()}
    clean(transport, found, force=True)
    assert eventually(lambda: not transport.alive(pid))
    assert not work.exists()


@pytest.mark.parametrize(
    "text",
    [
        "no json",
        '{"state": "done", "heartbeat_unix": 1.0, "pid": %d}',
        '{"state": "timing", "heartbeat_unix": 1.0, "pid": %d}',
    ],
)
def test_the_number_of_a_dead_agent_may_be_anothers(work: Path, transport: LocalTransport, text: str) -> None:
    (work / "jobs" / "one" / "status.json").write_text(text.replace("%d", str(os.getpid())))
    found = survey(transport)
    assert (found.running, found.finished) == ((), 1)
