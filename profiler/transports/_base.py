"""The contract of a transport: how bytes and commands reach one device.

A transport moves files, runs short commands and starts detached ones. It knows nothing of jobs or measurements.

Threads: an instance is used by one thread at a time. Nothing is shared between instances.
Ownership: `open` acquires the link and `close` releases it; both may be repeated. A detached process belongs to the
device: it outlives the transport, the driver and the connection.
Commands are argument lists. No text ever passes through a shell of ours; a transport whose protocol knows only command
lines quotes every argument itself.
Errors: everything that fails raises a `TransportError` (or a subclass) and chains its cause. `ConnectionLost` means
that the link broke and that the same call may be tried again; no other error may be.
Paths on the device are strings with forward slashes, absolute (on Windows ``C:/...``) or relative to `work_dir`.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

if TYPE_CHECKING:
    from types import TracebackType


MAX_OUTPUT_BYTES = 64 * 2**20
"""What a command may write, both streams together. Nothing that we run says more; a device cannot fill our memory."""
_CHUNK = 1 << 20
_LONGEST_PID = 10

PYTHON_SCRIPT = "python/python.sh"
"""In the work folder: a script for `sh` that `archsearch devices setup` leaves, which becomes the Python of its own."""

SPAWN = """\
import subprocess, sys
try:
    with open(sys.argv[1], "ab") as log:
        child = subprocess.Popen(sys.argv[2:], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
except OSError as error:
    sys.exit(f"{error.filename}: {error.strerror}")
print(child.pid, flush=True)
child.returncode = 0
"""
"""Python code that starts a detached process from a log file and an argument list, prints its id and ends: what it
started is then a child of the system's reaper."""


def checksum(source: bytes | Path) -> tuple[int, str]:
    """Size and sha256 in hex."""
    if isinstance(source, bytes):
        return len(source), hashlib.sha256(source).hexdigest()
    digest, size = hashlib.sha256(), 0
    with source.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
    return size, digest.hexdigest()


def process_id(said: bytes) -> int | None:
    """The number that a helper wrote; None if it is none."""
    said = said.strip()
    return int(said) if said.isdigit() and len(said) <= _LONGEST_PID else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """A command that ended by itself.

    Attributes:
        exit_code: 0-255; the negative signal number where the platform tells of a death by signal.
        stdout: Every byte it wrote.
        stderr: Every byte it wrote there.
    """

    exit_code: int
    stdout: bytes
    stderr: bytes


class Transport(ABC):
    """A way to one device. One file of this folder holds one subclass, registered by its `name`."""

    name: ClassVar[str]
    """The value of `transport:` in devices.yaml."""
    windows: bool = False
    """The device runs Windows; known once open."""
    helper: tuple[str, ...] = ()
    """Argument prefix of a Python that starts detached processes there in place of `python`; for whoever brings one to
    a device that has none. Empty for `python`."""
    poll_s: ClassVar[float] = 0.1
    """Pause between two looks at a job: a look must cost a device nothing that a measurement would notice."""

    @classmethod
    @abstractmethod
    def from_device(cls, device: Any) -> Self:
        """Make an unopened transport from the device's configuration model."""

    @property
    @abstractmethod
    def work_dir(self) -> str:
        """Folder on the device that we work in; absolute once open."""

    @property
    def named_work_dir(self) -> str:
        """The same as the device file names it: maybe through a link, maybe beginning with ``~/``."""
        return self.work_dir

    @property
    @abstractmethod
    def python(self) -> tuple[str, ...]:
        """Argument prefix that starts Python there, such as `("/usr/bin/python3",)`."""

    @abstractmethod
    def open(self) -> None:
        """Connect and create `work_dir`.

        Raises:
            TransportError: The device does not answer or the folder cannot be created.
        """

    @abstractmethod
    def close(self) -> None:
        """Release the link. Detached processes go on."""

    @abstractmethod
    def run(self, argv: Sequence[str], *, timeout_s: float, stdin: bytes = b"") -> Completed:
        """Run a command to its end, in `work_dir`.

        Raises:
            CommandTimeout: It ran longer than `timeout_s`; it and its children were killed.
            TransportError: It wrote more than `MAX_OUTPUT_BYTES`; it and its children were killed.
            RemoteFileMissing: The program does not exist.
        """

    @abstractmethod
    def start_detached(self, argv: Sequence[str], *, log: str) -> int:
        """Start a command that outlives us: own session, no terminal, output appended to `log`.

        Returns:
            Its process id on the device.
        """

    @abstractmethod
    def alive(self, pid: int) -> bool:
        """Whether the process still runs; one that ended but was not collected does not."""

    @abstractmethod
    def terminate(self, pid: int, *, force: bool = False) -> None:
        """Ask a detached process to end (SIGTERM), or with `force` end it and its session's group (SIGKILL)."""

    @abstractmethod
    def push(self, source: bytes | Path, remote: str) -> int:
        """Write a file: temporary name, size and sha256 checked there, then renamed. Parents are created.

        Several drivers may push one file at once. What a broken transfer left in the folder (a dot, 16 hex digits, and
        ``.*.part``) goes with the next push into it: at once if it was ours, otherwise when it has rested for a day.

        Returns:
            Bytes that crossed the link.

        Raises:
            TransferError: What arrived differs from what was sent; nothing stands under `remote`.
        """

    @abstractmethod
    def pull(self, remote: str, *, max_bytes: int) -> bytes:
        """Read a file whole.

        Raises:
            RemoteFileMissing: There is no such file.
            TransferError: It is larger than `max_bytes`.
        """

    @abstractmethod
    def exists(self, remote: str) -> bool:
        """Whether a file or folder of this name is there."""

    @abstractmethod
    def listdir(self, remote: str) -> tuple[str, ...]:
        """Names in a folder, sorted.

        Raises:
            RemoteFileMissing: There is no such folder.
        """

    @abstractmethod
    def mkdir(self, remote: str) -> None:
        """Create a folder and its parents; one that exists is fine."""

    @abstractmethod
    def remove(self, remote: str) -> None:
        """Remove a file or a whole folder inside `work_dir`; one that does not exist is fine.

        Raises:
            TransportError: It is the work folder itself or lies outside, by its name or because a link on the way to it
                leads there; nothing was removed.
        """

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
