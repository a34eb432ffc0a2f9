"""What every transport must do while its link holds."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from profiler.errors import CommandTimeout, RemoteFileMissing, TransferError, TransportError
from profiler.transports import Completed, Transport

AWKWARD = ["with space", "quote'\"quote", "new\nline", "-dash", "$HOME `id` ;|&*?[]", "ümläut", "back\\slash", ""]
NAMES = ["with space.bin", "quote'\".bin", "new\nline.bin", "$(touch x).bin", "ü.bin"]


def eventually(condition: Callable[[], bool], timeout_s: float = 20.0) -> bool:
    """Whether a condition comes true in time."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return condition()


class TransportConformance:
    """Subclass, name it Test..., and give the fixture `transport`: open, its work folder empty, Python 3 there."""

    start_s: float = 1.0
    """How long two Pythons, one started by the other, take at most to start on the device."""

    def python(
        self, transport: Transport, code: str, *args: str, timeout_s: float = 30, stdin: bytes = b""
    ) -> Completed:
        """Run Python code on the device."""
        return transport.run([*transport.python, "-c", code, *args], timeout_s=timeout_s, stdin=stdin)

    def pid_of(self, transport: Transport, name: str) -> int:
        """The process id that a process on the device wrote into a file."""
        assert eventually(lambda: transport.exists(name) and transport.pull(name, max_bytes=100) != b"")
        return int(transport.pull(name, max_bytes=100))

    @pytest.mark.parametrize("code", [0, 1, 3, 255])
    def test_exit_codes_arrive(self, transport: Transport, code: int) -> None:
        """A command that fails is no error of the transport."""
        assert self.python(transport, f"raise SystemExit({code})").exit_code == code

    def test_stdout_and_stderr_are_apart(self, transport: Transport) -> None:
        """Two streams, nothing added to either."""
        done = self.python(transport, "import os; os.write(1, b'out\\n'); os.write(2, b'err\\n')")
        assert (done.stdout, done.stderr) == (b"out\n", b"err\n")

    def test_streams_are_binary_safe(self, transport: Transport) -> None:
        """No terminal in between: no byte is changed."""
        data = bytes(range(256)) * 64 + b"\r\n\0\xff"
        done = self.python(transport, "import sys; sys.stdout.buffer.write(sys.stdin.buffer.read())", stdin=data)
        assert done.stdout == data

    def test_large_output_on_both_streams_does_not_block(self, transport: Transport) -> None:
        """Both are read while the command writes."""
        done = self.python(
            transport, "import os\nfor _ in range(64): os.write(1, b'o' * 8192); os.write(2, b'e' * 8192)"
        )
        assert (len(done.stdout), len(done.stderr)) == (64 * 8192, 64 * 8192)

    def test_endless_output_is_refused(self, transport: Transport) -> None:
        """A device cannot fill our memory; what writes is killed."""
        code = (
            "import os\nopen('writer', 'w').write(str(os.getpid()))\n"
            "for _ in range(2048): os.write({stream}, b'o' * 65536)\nimport time; time.sleep(60)"
        )
        for stream in (1, 2):
            start = time.monotonic()
            with pytest.raises(TransportError, match="wrote more than 64 MiB"):
                self.python(transport, code.format(stream=stream), timeout_s=50)
            assert time.monotonic() - start < 50
            pid = self.pid_of(transport, "writer")
            assert eventually(lambda pid=pid: not transport.alive(pid))  # type: ignore[misc]
            transport.remove("writer")

    def test_arguments_arrive_unchanged(self, transport: Transport) -> None:
        """Whatever they hold, none is read as code."""
        done = self.python(transport, "import sys, json; print(json.dumps(sys.argv[1:]))", *AWKWARD)
        assert json.loads(done.stdout) == AWKWARD

    def test_commands_run_in_the_work_folder(self, transport: Transport) -> None:
        """Relative names are those of the work folder."""
        transport.push(b"here", "marker")
        assert self.python(transport, "print(open('marker').read())").stdout.strip() == b"here"

    def test_unknown_program_is_missing(self, transport: Transport) -> None:
        """It is told apart from a program that fails."""
        with pytest.raises(RemoteFileMissing):
            transport.run(["/no/such/program"], timeout_s=10)

    def test_time_out_kills_the_command_and_its_children(self, transport: Transport) -> None:
        """Nothing goes on using the device."""
        code = (
            "import subprocess, sys, time\n"
            "child = subprocess.Popen([*sys.argv[1:], '-c', 'import time; time.sleep(60)'])\n"
            "open('child', 'w').write(str(child.pid)); time.sleep(60)"
        )
        start = time.monotonic()
        with pytest.raises(CommandTimeout):
            self.python(transport, code, *transport.python, timeout_s=1 + self.start_s)
        assert time.monotonic() - start < 10 + self.start_s
        pid = self.pid_of(transport, "child")
        assert eventually(lambda: not transport.alive(pid))

    @pytest.mark.parametrize("name", NAMES)
    def test_file_names_are_taken_literally(self, transport: Transport, name: str) -> None:
        """No name is read as code or as a pattern."""
        transport.push(b"content", f"folder/{name}")
        assert transport.listdir("folder") == (name,)
        assert transport.pull(f"folder/{name}", max_bytes=100) == b"content"
        transport.remove(f"folder/{name}")
        assert transport.listdir("folder") == ()

    @pytest.mark.parametrize(
        "data", [b"", b"\0", bytes(range(256)), b"\r\n" * 5000], ids=["empty", "nul", "all", "crlf"]
    )
    def test_contents_survive(self, transport: Transport, data: bytes) -> None:
        """Files are bytes."""
        sent = transport.push(data, "file")
        assert transport.pull("file", max_bytes=len(data)) == data
        assert sent >= len(data)

    def test_20_mb_arrive_whole(self, transport: Transport, tmp_path: Path) -> None:
        """Short writes and large files."""
        data = hashlib.shake_256(b"anything").digest(20_000_000)
        source = tmp_path / "source"
        source.write_bytes(data)
        transport.push(source, "large")
        done = self.python(transport, "import hashlib; print(hashlib.sha256(open('large','rb').read()).hexdigest())")
        assert done.stdout.decode().strip() == hashlib.sha256(data).hexdigest()
        assert transport.pull("large", max_bytes=len(data)) == data

    def test_push_replaces_and_leaves_nothing_beside(self, transport: Transport) -> None:
        """The temporary file is gone."""
        transport.push(b"first, longer", "folder/file")
        transport.push(b"second", "folder/file")
        assert transport.pull("folder/file", max_bytes=100) == b"second"
        assert transport.listdir("folder") == ("file",)

    def test_what_broken_transfers_left_goes(self, transport: Transport) -> None:
        """A stranger's file may still be written to; after a day it is not."""
        for name, days in ((".0123456789abcdef.old.part", 3), (".0123456789abcdef.new.part", 0)):
            transport.push(b"half a file", f"folder/{name}")
            code = f"import os, time; at = time.time() - {days} * 86400; os.utime('folder/{name}', (at, at))"
            self.python(transport, code)
        transport.push(b"whole", "folder/file")
        assert transport.listdir("folder") == (".0123456789abcdef.new.part", "file")

    def test_what_others_left_stays(self, transport: Transport) -> None:
        """Names of broken transfers are ours, and not all that end like them."""
        transport.push(b"half a file", "folder/.download.part")
        self.python(transport, "import os; os.utime('folder/.download.part', (1, 1))")
        transport.push(b"whole", "folder/file")
        assert transport.listdir("folder") == (".download.part", "file")

    def test_push_of_a_missing_source_changes_nothing(self, transport: Transport, tmp_path: Path) -> None:
        """What stood there stays."""
        transport.push(b"kept", "folder/file")
        with pytest.raises((TransportError, FileNotFoundError)):
            transport.push(tmp_path / "absent", "folder/file")
        assert transport.pull("folder/file", max_bytes=100) == b"kept"
        assert transport.listdir("folder") == ("file",)

    def test_pull_is_bounded(self, transport: Transport) -> None:
        """A device cannot fill our memory."""
        transport.push(b"x" * 101, "file")
        with pytest.raises(TransferError):
            transport.pull("file", max_bytes=100)

    def test_missing_files_are_told(self, transport: Transport) -> None:
        """`RemoteFileMissing`, and no other error."""
        with pytest.raises(RemoteFileMissing):
            transport.pull("absent", max_bytes=10)
        with pytest.raises(RemoteFileMissing):
            transport.listdir("absent")
        assert not transport.exists("absent")

    def test_remove_and_mkdir_may_be_repeated(self, transport: Transport) -> None:
        """Both end in the same state."""
        transport.mkdir("a/b/c")
        transport.mkdir("a/b/c")
        transport.push(b"", "a/b/c/file")
        transport.remove("a")
        transport.remove("a")
        assert not transport.exists("a")

    @pytest.mark.parametrize("path", [".", "", "..", "a/../.."])
    def test_the_work_folder_itself_is_never_removed(self, transport: Transport, path: str) -> None:
        """Nor what lies outside."""
        transport.push(b"kept", "file")
        with pytest.raises(TransportError):
            transport.remove(path)
        assert transport.exists("file")

    def test_a_link_is_removed_and_never_what_lies_behind_it(self, transport: Transport) -> None:
        """Also where it stands in the middle of a path."""
        if transport.windows:
            pytest.skip("an account of Windows may make no links")
        code = "import os; os.makedirs('../{0}/inner'); os.symlink('../{0}', 'link')"
        name = f"outside-{id(transport)}"
        assert self.python(transport, code.format(name)).exit_code == 0
        try:
            with pytest.raises(TransportError, match="a link leads out of"):
                transport.remove("link/inner")
            transport.remove("link")
            assert not transport.exists("link")
            assert transport.exists(f"../{name}/inner")
        finally:
            self.python(transport, f"import shutil; shutil.rmtree('../{name}')")

    def test_detached_process_survives_the_link(self, transport: Transport) -> None:
        """It belongs to the device."""
        code = (
            "import os, time\nopen('pid.tmp', 'w').write(str(os.getpid())); os.rename('pid.tmp', 'pid')\n"
            "os.write(1, b'said\\n')\nwhile not os.path.exists('stop'): time.sleep(0.02)\n"
            "open('stopped', 'w').close()"
        )
        pid = transport.start_detached([*transport.python, "-c", code], log="folder/log")
        assert self.pid_of(transport, "pid") == pid
        transport.close()
        transport.open()
        assert transport.alive(pid)
        assert eventually(lambda: transport.pull("folder/log", max_bytes=100) == b"said\n")
        transport.push(b"", "stop")
        assert eventually(lambda: transport.exists("stopped"))
        assert eventually(lambda: not transport.alive(pid))

    def test_starting_an_unknown_program_is_an_error(self, transport: Transport) -> None:
        """A process id is only told of what runs."""
        with pytest.raises(TransportError):
            transport.start_detached(["/no/such/program"], log="log")

    @pytest.mark.parametrize("force", [False, True])
    def test_terminate_ends_a_detached_process(self, transport: Transport, force: bool) -> None:
        """By both ways, and again when it is gone."""
        pid = transport.start_detached([*transport.python, "-c", "import time; time.sleep(60)"], log="log")
        assert transport.alive(pid)
        transport.terminate(pid, force=force)
        assert eventually(lambda: not transport.alive(pid))
        transport.terminate(pid, force=force)

    def test_force_ends_the_whole_group(self, transport: Transport) -> None:
        """Children too."""
        code = (
            "import subprocess, sys, time\n"
            "child = subprocess.Popen([*sys.argv[1:], '-c', 'import time; time.sleep(60)'])\n"
            "open('child', 'w').write(str(child.pid)); time.sleep(60)"
        )
        pid = transport.start_detached([*transport.python, "-c", code, *transport.python], log="log")
        child = self.pid_of(transport, "child")
        transport.terminate(pid, force=True)
        assert eventually(lambda: not transport.alive(child) and not transport.alive(pid))

    def test_close_and_open_may_be_repeated(self, transport: Transport) -> None:
        """In any order."""
        transport.close()
        transport.close()
        transport.open()
        transport.open()
        assert transport.run([*transport.python, "-c", "pass"], timeout_s=30).exit_code == 0
