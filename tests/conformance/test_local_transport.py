"""The local transport passes the suite, and outlives its driver."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from profiler.conformance import TransportConformance, eventually
from profiler.errors import RemoteFileMissing, TransferError, TransportError
from profiler.transports import local
from profiler.transports.local import LocalTransport


class TestLocalTransport(TransportConformance):
    @pytest.fixture
    def transport(self, tmp_path: Path):
        with LocalTransport(tmp_path / "work") as transport:
            yield transport


DRIVER = """
import signal, sys, time
from profiler.transports.local import LocalTransport
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs are started to ignore it
transport = LocalTransport(sys.argv[1]); transport.open()
code = "import os, time\\nwhile not os.path.exists('stop'): time.sleep(0.02)\\nopen('stopped', 'w').close()"
print(transport.start_detached([sys.executable, "-c", code], log="log"), flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGINT], ids=["kill -9", "ctrl-c"])
def test_detached_work_survives_the_death_of_the_driver(tmp_path: Path, signum: int):
    with subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as driver:
        assert driver.stdout is not None
        pid = int(driver.stdout.readline())
        os.killpg(driver.pid, signum)  # the terminal signals the whole foreground group
    with LocalTransport(tmp_path) as transport:
        assert transport.alive(pid)
        transport.push(b"", "stop")
        assert eventually(lambda: transport.exists("stopped") and not transport.alive(pid))


def test_a_transfer_that_arrives_damaged_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with LocalTransport(tmp_path) as transport:
        transport.push(b"kept", "file")
        monkeypatch.setattr(local, "checksum", lambda path: (3, "wrong"))
        with pytest.raises(TransferError, match="bytes arrived"):
            transport.push(b"new content", "file")
        assert transport.pull("file", max_bytes=10) == b"kept"
        assert transport.listdir(".") == ("file",)


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    with LocalTransport(tmp_path) as transport:
        monkeypatch.setattr(local, "_write", full)
        with pytest.raises(TransportError, match="No space left") as caught:
            transport.push(b"data", "file")
        assert caught.value.hint is not None
        assert "disk" in caught.value.hint


def test_a_work_folder_that_is_a_file_is_an_error(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(TransportError, match="file"):
        LocalTransport(tmp_path / "file").open()


def test_no_process_of_ours_is_refused():
    with pytest.raises(TransportError):
        LocalTransport("/tmp").terminate(1)


def test_a_program_missing_on_the_path_is_told(tmp_path: Path):
    with LocalTransport(tmp_path) as transport, pytest.raises(RemoteFileMissing):
        transport.run(["no-such-program-at-all"], timeout_s=5)
