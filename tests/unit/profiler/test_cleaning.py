"""Only what is ours is removed, and nothing from under a job."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.agent.folder import JOB, is_record, is_script
from profiler.cleaning import clean, survey
from profiler.conformance import eventually
from profiler.errors import DeviceUnavailable, TransportError
from profiler.jobs import new_job_id
from profiler.transports import Completed
from profiler.transports.local import LocalTransport

TOP = (
    ".0123456789abcdef.77.part",
    ".0123456789abcdef.a1b2c3d4.part",
    "agent-0123456789ab.pyz",
    "lease",
)
JOB_ID = "a-layout-20260101T101500-0123abcd"
AA, BB = 64 * "a", 64 * "b"
VENV, SCRATCH = "venv-0123456789ab-0123abcd", "scratch-0123abcd"
OURS = (*TOP, f"jobs/{JOB_ID}", "python/python.sh", f"python/{VENV}", f"weights/{AA}", f"weights/{BB}")
OTHERS = (
    ".download.part", "Jobs", "agent-of-mine.pyz", "clocks", "exported", "jobs/2024", "jobs/one", "notes.part",
    "python/myproject/thesis.py", "python/scratch", "python/venv", "weights/llama/model.bin", f"weights/{AA[1:]}",
)  # fmt: skip


@pytest.fixture
def work(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    for name in (f"jobs/{JOB_ID}", f"weights/{AA}", f"weights/{BB}", f"python/{VENV}/bin"):
        (folder / name).mkdir(parents=True)
    for name in TOP:
        (folder / name).write_bytes(b"x" * 5000)
    (folder / "lease").write_text("")
    script = f'unset PYTHONHOME PYTHONPATH; exec "${{0%/*}}/{VENV}/bin/python" "$@"\n'
    (folder / "python" / "python.sh").write_text(script)
    (folder / "weights" / AA / "weights.bin").write_bytes(b"x" * 100_000)
    rest(folder)
    return folder


def rest(folder: Path, seconds: float = 3600) -> None:
    """Nobody has touched anything in it for so long."""
    then = time.time() - seconds
    for path in [folder, *folder.rglob("*")]:
        os.utime(path, (then, then), follow_symlinks=False)


@pytest.fixture
def transport(work: Path) -> Iterator[LocalTransport]:
    with LocalTransport(work) as transport:
        yield transport


@given(st.text())
def test_every_job_id_that_is_made_is_known_for_one(stem: str) -> None:
    assert JOB.fullmatch(new_job_id(stem))


def test_what_is_not_ours_stays_and_is_named(work: Path, transport: LocalTransport) -> None:
    for name in OTHERS:
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).write_text("somebody else's")
    found = survey(transport)
    assert set(found.ours) == set(OURS)
    top = {"/".join(name.split("/")[:2]) for name in OTHERS}
    assert set(found.others) == top
    assert found.disk_bytes >= 100_000 + 3 * 5000
    assert found.text == f"{', '.join(TOP)}, 1 in jobs, 2 in python, 2 in weights"
    assert not clean(transport, found)
    left = {str(path.relative_to(work)) for path in work.rglob("*") if path.is_file()}
    assert left == set(OTHERS)


def test_general_names_are_ours_only_with_our_content(work: Path, transport: LocalTransport) -> None:
    (work / "lease").write_text("of my flat")
    (work / "python" / "python.sh").write_text("exec /my/own/python\n")
    assert set(survey(transport).others) == {"lease", "python/python.sh"}
    assert [is_record(text) for text in (b"", b"\0\0", b'{"pid": 3}', b"[]", b"of my flat")] == [1, 1, 1, 0, 0]
    started = b'exec sh "${0%%/*}/%s" "$@"\n'
    assert is_script(started % b"bundle-0123456789ab-0123abcd/python.sh")
    assert not is_script(started % b"mine/python.sh")
    assert not is_script(started % b"bundle-0123456789ab-0123abcd/python.sh" + b"echo mine\n")


@pytest.mark.parametrize("name", ["weights", "jobs", "python"])
def test_a_file_in_place_of_a_folder_stays(tmp_path: Path, name: str) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / name).write_text("mine")
    with LocalTransport(tmp_path / "work") as transport:
        found = survey(transport)
        assert (found.ours, found.others) == ((), (name,))
        assert not clean(transport, found)
    assert (tmp_path / "work" / name).exists()


def test_an_empty_folder_goes_too(work: Path, transport: LocalTransport) -> None:
    assert clean(transport, survey(transport))
    assert not work.exists()


def test_a_link_to_the_work_folder_stays_whole(work: Path, tmp_path: Path) -> None:
    for way in (tmp_path / "link", tmp_path / "link" / "."):
        work.mkdir(exist_ok=True)
        (tmp_path / "link").unlink(missing_ok=True)
        (tmp_path / "link").symlink_to(work)
        with LocalTransport(way) as transport:
            assert not clean(transport, survey(transport))
        assert list((tmp_path / "link").iterdir()) == []


def test_a_link_is_removed_and_not_followed(work: Path, transport: LocalTransport, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept").write_text("")
    (work / "weights" / (64 * "c")).symlink_to(elsewhere)
    clean(transport, survey(transport))
    assert (elsewhere / "kept").exists()
    assert not work.exists()


@pytest.mark.parametrize("weights_only", [False, True])
def test_what_lies_behind_a_link_stays(tmp_path: Path, weights_only: bool) -> None:
    (tmp_path / "elsewhere" / AA).mkdir(parents=True)
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "weights").symlink_to(tmp_path / "elsewhere")
    with LocalTransport(tmp_path / "work") as transport:
        found = survey(transport, weights_only=weights_only)
        assert (found.ours, found.others) == ((), ("weights",))
        clean(transport, found)
        with pytest.raises(TransportError, match="a link leads out of"):
            transport.remove(f"weights/{AA}")
    assert (tmp_path / "elsewhere" / AA).exists()
    assert (tmp_path / "work" / "weights").is_symlink()


def test_only_weights(work: Path, transport: LocalTransport) -> None:
    (work / "weights" / "llama").mkdir()
    found = survey(transport, weights_only=True)
    assert found.ours == (f"weights/{AA}", f"weights/{BB}")
    assert not clean(transport, found)
    assert [path.name for path in (work / "weights").iterdir()] == ["llama"]
    assert (work / "jobs" / JOB_ID).exists()
    assert survey(transport, weights_only=True).disk_bytes == 0


@pytest.mark.parametrize("job_id", [JOB_ID, "one"])
def test_a_job_at_work_keeps_everything_until_it_is_ended(work: Path, transport: LocalTransport, job_id: str) -> None:
    job = work / "jobs" / job_id
    pid = transport.start_detached(
        [sys.executable, "-c", "import time; time.sleep(60)", str(job)], log=f"jobs/{job_id}/agent.log"
    )
    status = {"state": "timing", "heartbeat_unix": 1.0, "pid": pid}
    (job / "status.json").write_text(json.dumps(status))
    rest(work)
    found = survey(transport)
    assert [(job.job_id, job.pid) for job in found.running] == [(job_id, pid)]
    with pytest.raises(DeviceUnavailable, match=f"a job is at work there: {job_id}; nothing was removed"):
        clean(transport, found)
    assert all((work / name).exists() for name in found.ours)
    clean(transport, found, force=True)
    assert eventually(lambda: not transport.alive(pid))
    assert work.exists() == (job_id == "one")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (f"jobs/{JOB_ID}", f"a job is at work there: {JOB_ID}, whose agent is not there"),
        (f"jobs/{JOB_ID}/files.zip", f"a job is at work there: {JOB_ID}, whose agent is not there"),
        (f"python/{SCRATCH}/pip/wheel", f"a set-up is at work there (python/{SCRATCH} changed "),
        ("lease", "a job ended there "),
    ],
)
def test_what_is_young_is_somebodys_at_work(work: Path, transport: LocalTransport, changed: str, said: str) -> None:
    if not (work / changed).exists():
        (work / changed).parent.mkdir(parents=True, exist_ok=True)
        (work / changed).write_text("")
        rest(work)
    found = survey(transport)
    assert found.signs == ()
    for age, old in ((590, False), (700, True)) if changed != "lease" else ((50, False), (70, True)):
        os.utime(work / changed, (time.time() - age,) * 2)
        assert bool(survey(transport).signs) != old
    os.utime(work / changed)
    [sign] = survey(transport).signs
    assert sign.startswith(said)
    with pytest.raises(DeviceUnavailable, match="nothing was removed"):
        clean(transport, found)
    assert all((work / name).exists() for name in found.ours)
    assert clean(transport, survey(transport), force=True)


def test_somebody_elses_folder_is_no_sign(work: Path, transport: LocalTransport) -> None:
    for name in ("jobs/2024", "python/scratch", "python/myproject"):
        (work / name).mkdir()
    assert survey(transport).signs == ()


@pytest.mark.parametrize(
    "text",
    [
        "no json",
        '{"state": "done", "heartbeat_unix": 1.0, "pid": %d}',
        '{"state": "timing", "heartbeat_unix": 1.0, "pid": %d}',
        " " * 2**21,
    ],
)
def test_the_number_of_a_dead_agent_may_be_anothers(work: Path, transport: LocalTransport, text: str) -> None:
    (work / "jobs" / JOB_ID / "status.json").write_text(text.replace("%d", str(os.getpid())))
    assert bool(survey(transport).signs) == ("done" not in text)
    rest(work)
    found = survey(transport)
    assert (found.running, found.signs, found.finished) == ((), (), 1)


def test_names_of_any_bytes_harm_nobody(work: Path, transport: LocalTransport) -> None:
    for folder in ("jobs", "weights", "python", "."):
        (work / folder / "\udcff\n7 lease").mkdir()
    found = survey(transport)
    assert (set(found.ours), found.signs) == (set(OURS), ())
    assert not clean(transport, found)
    assert {path.name for path in work.iterdir()} == {"jobs", "weights", "python", "\udcff\n7 lease"}


class Boasting(LocalTransport):
    """A device whose `du` counts what nobody has."""

    def run(self, argv: Sequence[str], *, timeout_s: float, stdin: bytes = b"") -> Completed:
        done = super().run(argv, timeout_s=timeout_s, stdin=stdin)
        return Completed(exit_code=0, stdout=b"9" * 5000 + b"\tx\n", stderr=b"") if argv[0] == "du" else done


def test_a_size_that_is_no_number_is_not_counted(work: Path) -> None:
    with Boasting(work) as transport:
        assert survey(transport).disk_bytes == 0
