"""Devices reached through a shell: what SSH and ADB have in common.

A subclass executes one command line and moves the bytes of one file. What else a transport does are operations, which a
dialect (`_dialects.py`) says in scripts for `sh` or in Python.
"""

from __future__ import annotations

import hashlib
import posixpath
import secrets
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from profiler.errors import CommandTimeout, ConnectionLost, RemoteFileMissing, TransferError, TransportError
from profiler.transports._base import (
    MAX_OUTPUT_BYTES,
    PYTHON_SCRIPT,
    SPAWN,
    Completed,
    Transport,
    checksum,
    process_id,
)  # fmt: skip
from profiler.transports._dialects import DIFFERENT, MARK, MISSING, OUTSIDE, Dialect, PosixDialect
from profiler.untrusted import printable

_SHORT_S = 30.0
"""For commands that touch a few files."""
_LONGEST_PATH = 4096
WINDOWS_NEEDS = (
    "Install Python for Windows (python.org, 64 bits, 3.11 or newer) there, `py -m pip install numpy onnxruntime`, and "
    "name it in the device file, such as `python: C:/Users/me/AppData/Local/Programs/Python/Python312/python.exe`. "
    "Windows was only tried through Wine; a Linux in WSL2 with an sshd of its own is a Linux device like any other."
)


class TimedOut(Exception):  # noqa: N818 - caught here and nowhere else
    """A command line did not end in time; what it had written to stderr until then says which process it is."""

    def __init__(self, stderr: bytes) -> None:
        super().__init__()
        self.stderr = stderr


class WroteTooMuch(Exception):  # noqa: N818 - caught here and nowhere else
    """A command line wrote more than `MAX_OUTPUT_BYTES` and still runs.

    Args:
        stderr: The beginning of what it wrote there.
    """

    def __init__(self, stderr: bytes) -> None:
        super().__init__()
        self.stderr = stderr


def heard(done: Completed) -> Completed:
    """What a script of ours wrote, without what the shell said before it began.

    Raises:
        TransportError: It did not begin.
    """
    out, err = _after_mark(done.stdout), _after_mark(done.stderr)
    if out is None or err is None:
        told = said(done if done.stderr.strip() else replace(done, stderr=done.stdout))
        raise TransportError(
            f"the device's shell does not run scripts: {told}",
            hint="It needs a POSIX shell, and start-up files that do not end it.",
        )
    return Completed(exit_code=done.exit_code, stdout=out, stderr=err)


def _after_mark(data: bytes) -> bytes | None:
    _, mark, rest = data.partition(MARK)
    return rest if mark else None


class ShellTransport(Transport):
    """What SSH and ADB have in common.

    Args:
        work_dir: As configured: absolute, or ``~/`` for the account's home.
        python: As configured; None for what `archsearch devices setup` made, or else ``python3``.
    """

    short_s: float = _SHORT_S
    """How long commands that touch a few files are waited for."""

    def __init__(self, work_dir: str, python: str | None = None) -> None:
        self._configured = work_dir
        self._configured_python = python
        self._work = ""
        self._dialect: Dialect = PosixDialect()
        self._python: tuple[str, ...] = (python or self._dialect.python,)
        self._left: list[str] = []  # absolute paths of files that a lost link left half written

    @abstractmethod
    def _execute(self, line: str, *, stdin: bytes, timeout_s: float) -> Completed:
        """Have the device's shell run one command line.

        Raises:
            TimedOut: It still runs. Nothing was killed.
            WroteTooMuch: As `TimedOut`.
            ConnectionLost: The link broke.
        """

    @abstractmethod
    def _upload(self, source: bytes | Path, path: str) -> int:
        """Write all bytes to an absolute path; the bytes that crossed the link."""

    @abstractmethod
    def _download(self, path: str, max_bytes: int) -> bytes:
        """Read an absolute path whole.

        Raises:
            RemoteFileMissing: There is no such file.
            TransferError: It is larger.
        """

    def _require_link(self) -> None:
        """Raise ConnectionLost if the device does not answer at all; asked when a command did not end in time."""

    @property
    def work_dir(self) -> str:
        """As configured until open, then absolute and without links."""
        return self._work or self._configured

    @property
    def named_work_dir(self) -> str:
        """As configured."""
        return self._configured

    @property
    def python(self) -> tuple[str, ...]:
        """What the device file names, else what set-up made there, else ``python3``; known once open."""
        return self._python

    def _find_python(self) -> None:
        """Look whether the device was set up; called by `open` once the work folder is there."""
        if self._configured_python is None:
            made = self._path(PYTHON_SCRIPT)
            set_up = not self._dialect.starts and self.exists(made)
            self._python = ("sh", made) if set_up else (self._dialect.python,)

    def _make_work_dir(self) -> None:
        """Create the work folder; called by `open` once commands can run.

        Raises:
            TransportError: It cannot be created or written to.
        """
        done = self._do("open", self._configured)
        if done.exit_code != 0:
            raise TransportError(
                f"{self._configured}: {said(done)}",
                hint="Set work_dir to a folder that you may write to.",
            )
        found = done.stdout.decode("utf-8", "surrogateescape").removesuffix("\n")
        if not self._dialect.absolute(found) or "\n" in found or len(found) > _LONGEST_PATH:
            raise TransportError(
                f"{self._configured}: the device says that this folder is {found[:200]!r}",
                hint="Set work_dir to an absolute path.",
            )
        self._work = found

    def _do(self, operation: str, *arguments: str, timeout_s: float | None = None) -> Completed:
        """Carry out one operation.

        Raises:
            ConnectionLost: It did not end, which none of them can take so long for: nobody is there.
        """
        timeout_s = self.short_s if timeout_s is None else timeout_s
        line, head = self._dialect.command(operation, *arguments)
        try:
            return heard(self._execute(line, stdin=head, timeout_s=timeout_s))
        except TimedOut as error:
            raise ConnectionLost(f"the device's shell did not answer within {timeout_s:g} s") from error
        except WroteTooMuch as error:
            raise TransportError("the device's shell does not stop writing") from error

    def run(self, argv: Sequence[str], *, timeout_s: float, stdin: bytes = b"") -> Completed:
        """Run in the work folder; at the time-out its process group is killed.

        Both servers begin a command in a session of its own, so that the shell's number is that of the group.
        """
        line, head = self._dialect.command("run", self._work, *argv)
        try:
            done = heard(self._execute(line, stdin=head + stdin, timeout_s=timeout_s))
        except TimedOut as error:
            self._kill(error.stderr)
            raise CommandTimeout(f"{argv[0]} did not end within {timeout_s:g} s") from error
        except WroteTooMuch as error:
            self._kill(error.stderr)
            raise TransportError(f"{argv[0]} wrote more than {MAX_OUTPUT_BYTES >> 20} MiB") from error
        first, _, stderr = done.stderr.partition(b"\n")
        if first.endswith(b" missing"):
            raise RemoteFileMissing(f"no such file: {argv[0]}")
        if not first.endswith(b" found"):
            raise TransportError(f"{argv[0]} could not be started: {said(done)}")
        return Completed(exit_code=done.exit_code, stdout=done.stdout, stderr=stderr)

    def _kill(self, stderr: bytes) -> None:
        """End a command by the number that `run` wrote first."""
        number = (_after_mark(stderr) or b"")[:20].partition(b" ")[0]
        if number.isdigit() and int(number) > 1:
            self._do("kill", number.decode())
        else:
            self._require_link()

    def start_detached(self, argv: Sequence[str], *, log: str) -> int:
        """Start through a Python helper there that hands the process to the system's reaper."""
        target = self._path(log)
        if self._dialect.starts:
            done = self._do("start", self._work, target, *argv)
        else:
            if self._do("find", self._work, argv[0]).exit_code != 0:
                raise RemoteFileMissing(f"no such program: {argv[0]}")
            self.mkdir(posixpath.dirname(target))
            done = self.run([*(self.helper or self.python), "-c", SPAWN, target, *argv], timeout_s=self.short_s)
        pid = process_id(done.stdout)
        if done.exit_code != 0 or pid is None:
            raise TransportError(f"{argv[0]} could not be started: {said(done)}")
        return pid

    def alive(self, pid: int) -> bool:
        """Ask the process table; a zombie is not alive."""
        return self._do("alive", str(pid)).exit_code == 0

    def terminate(self, pid: int, *, force: bool = False) -> None:
        """SIGTERM to the process, or SIGKILL to its group; one that is gone is fine."""
        if pid <= 1:
            raise TransportError(f"{pid} is no process of ours")
        self._do("kill" if force else "terminate", str(pid))

    def push(self, source: bytes | Path, remote: str) -> int:
        """Write beside the target, have the device compute its checksum, rename."""
        target = self._path(remote)
        size, digest = checksum(source)
        folder, name = posixpath.split(target)
        mark = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:16]
        partial = f"{folder}/.{mark}.{secrets.token_hex(4)}.part"
        self.mkdir(folder)
        self._left.append(partial)  # until we know better
        try:
            sent = self._upload(source, partial)
        except ConnectionLost:
            raise
        except TransportError:
            self._do("discard", partial)  # a full disk has no room for half a file
            raise
        rubbish = [path for path in self._left if path != partial]
        timeout_s = self.short_s + size / 1e6
        done = self._do("arrived", partial, target, digest, folder, *rubbish, timeout_s=timeout_s)
        self._left.clear()
        if done.exit_code == DIFFERENT:
            arrived = done.stdout.decode(errors="replace").strip() or "no"  # somebody removed the folder
            raise TransferError(f"{remote}: {arrived} bytes arrived of {size}, or their checksum differs")
        if done.exit_code != 0:
            raise TransportError(f"{remote}: {said(done)}", hint=_disk_hint(done))
        return sent

    def pull(self, remote: str, *, max_bytes: int) -> bytes:
        """Read a file whole."""
        return self._download(self._path(remote), max_bytes)

    def exists(self, remote: str) -> bool:
        """Whether a file or folder of this name is there, a broken link too."""
        return self._do("exists", self._path(remote)).exit_code == 0

    def listdir(self, remote: str) -> tuple[str, ...]:
        """Names in a folder, sorted."""
        done = self._do("list", self._path(remote))
        if done.exit_code == MISSING:
            raise RemoteFileMissing(f"no such folder: {remote}")
        if done.exit_code != 0:
            raise TransportError(f"{remote}: {said(done)}")
        names = done.stdout.decode("utf-8", "surrogateescape").split("\0")[:-1]
        return tuple(sorted(name.removeprefix("./") for name in names))

    def mkdir(self, remote: str) -> None:
        """Create a folder and its parents."""
        done = self._do("mkdir", self._path(remote))
        if done.exit_code != 0:
            raise TransportError(f"{remote}: {said(done)}", hint=_disk_hint(done))

    def remove(self, remote: str) -> None:
        """Remove a file or folder inside the work folder; links on the way must not lead out of it."""
        path = self._dialect.plain(self._path(remote))
        if not path.startswith(f"{self._work}/"):
            raise TransportError(f"{remote}: not inside {self._work}; nothing was removed")
        done = self._do("remove", self._work, posixpath.dirname(path), path)
        if done.exit_code == OUTSIDE:
            raise TransportError(f"{remote}: a link leads out of {self._work}; nothing was removed")
        if done.exit_code != 0:
            raise TransportError(f"{remote}: {said(done)}")

    def _path(self, remote: str) -> str:
        return self._dialect.join(self._work, remote)


def said(done: Completed) -> str:
    """The last line that a command complained with, without what a terminal would obey; or its exit code."""
    lines = done.stderr.decode(errors="replace").strip().splitlines()
    return printable(lines[-1][:300]) if lines else f"exit code {done.exit_code}"


def _disk_hint(done: Completed) -> str | None:
    if b"No space left" in done.stderr or b"quota" in done.stderr:
        return "The disk is full: free some space, or set work_dir to another disk."
    if b"ermission denied" in done.stderr or b"Read-only" in done.stderr:
        return "Set work_dir to a folder that you may write to."
    return None
