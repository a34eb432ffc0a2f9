"""The local transport: the device is the machine that the driver runs on.

Commands and the detached agent run in sessions of their own, so that neither Ctrl-C in the terminal nor the death of
the driver (`kill -9` included) reaches them. A detached process is started by a short-lived helper process, which makes
it a child of the system's reaper rather than ours: nothing of it is left to the driver.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import selectors
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

from profiler.agent.folder import PARTIAL
from profiler.errors import CommandTimeout, RemoteFileMissing, TransferError, TransportError
from profiler.transports._base import MAX_OUTPUT_BYTES, SPAWN, Completed, Transport, checksum, process_id

if TYPE_CHECKING:
    from profiler.devices import LocalDevice

_CHUNK = 1 << 20
_RESTED_S = 86_400.0


@contextmanager
def _mapped(remote: str) -> Iterator[None]:
    """Operating system errors as ours, most specific first."""
    try:
        yield
    except FileNotFoundError as error:
        raise RemoteFileMissing(f"no such file: {remote}") from error
    except OSError as error:
        hint = None
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            hint = "The disk is full: free some space, or set work_dir to another disk."
        elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            hint = "Set work_dir to a folder that you may write to."
        raise TransportError(f"{remote}: {error.strerror or error}", hint=hint) from error


class LocalTransport(Transport):
    """Files by the file system, commands by `subprocess`."""

    name: ClassVar[str] = "local"

    def __init__(self, work_dir: str | Path, *, python: Sequence[str] = ()) -> None:
        self._work = Path(work_dir).expanduser()
        self._python = tuple(python) or (sys.executable,)

    @classmethod
    def from_device(cls, device: LocalDevice) -> Self:
        """Use the device's work folder and, where given, its Python."""
        return cls(device.work_dir, python=(device.python,) if device.python else ())

    @property
    def work_dir(self) -> str:
        """Absolute path of the work folder."""
        return str(self._work.absolute())

    @property
    def python(self) -> tuple[str, ...]:
        """The driver's own Python unless the device names another."""
        return self._python

    def open(self) -> None:
        """Create the work folder."""
        with _mapped(self.work_dir):
            self._work.mkdir(parents=True, exist_ok=True)
        if not os.access(self._work, os.W_OK | os.X_OK):
            raise TransportError(
                f"{self.work_dir}: not writable", hint="Set work_dir to a folder that you may write to."
            )

    def close(self) -> None:
        """Nothing is held."""

    def run(self, argv: Sequence[str], *, timeout_s: float, stdin: bytes = b"") -> Completed:
        """Run in a session of its own; at the time-out the whole group is killed."""
        with (
            _mapped(argv[0]),
            subprocess.Popen(
                list(argv),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=self.work_dir,
                start_new_session=True,
            ) as process,
        ):
            try:
                stdout, stderr = _talk(process, argv[0], stdin, timeout_s)
            except subprocess.TimeoutExpired as error:
                raise CommandTimeout(f"{argv[0]} did not end within {timeout_s:g} s") from error
            finally:
                if process.returncode is None:
                    with suppress(ProcessLookupError, PermissionError):
                        os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
        return Completed(exit_code=process.returncode, stdout=stdout, stderr=stderr)

    def start_detached(self, argv: Sequence[str], *, log: str) -> int:
        """Start through a helper that hands the process to the system's reaper."""
        if shutil.which(argv[0], path=None) is None:
            raise RemoteFileMissing(f"no such program: {argv[0]}")
        target = self._path(log)
        with _mapped(log):
            target.parent.mkdir(parents=True, exist_ok=True)
        done = self.run([sys.executable, "-I", "-S", "-c", SPAWN, str(target), *argv], timeout_s=30)
        pid = process_id(done.stdout)
        if done.exit_code != 0 or pid is None:
            lines = done.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"]
            raise TransportError(f"{argv[0]} could not be started: {lines[-1][:300]}")
        return pid

    def alive(self, pid: int) -> bool:
        """Ask the process table; a zombie is not alive."""
        import psutil

        try:
            return bool(psutil.Process(pid).status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD))
        except (psutil.NoSuchProcess, ValueError, OverflowError):
            return False
        except psutil.AccessDenied:
            return True

    def terminate(self, pid: int, *, force: bool = False) -> None:
        """SIGTERM to the process, or SIGKILL to its group; one that is gone is fine."""
        if pid <= 1:
            raise TransportError(f"{pid} is no process of ours")
        with _mapped(f"process {pid}"), suppress(ProcessLookupError):
            if force:
                group = os.getpgid(pid)
                if group == os.getpgrp():
                    os.kill(pid, signal.SIGKILL)
                else:
                    os.killpg(group, signal.SIGKILL)
            else:
                os.kill(pid, signal.SIGTERM)

    def push(self, source: bytes | Path, remote: str) -> int:
        """Write beside the target, read back, compare, rename."""
        target = self._path(remote)
        mark = hashlib.sha256(os.fsencode(target.name)).hexdigest()[:16]
        partial = target.with_name(f".{mark}.{secrets.token_hex(4)}.part")
        with _mapped(remote):
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                size, digest = _write(source, partial)
                arrived = checksum(partial)
                if arrived != (size, digest):
                    raise TransferError(f"{remote}: {arrived[0]} bytes arrived of {size}, or their checksum differs")
                partial.replace(target)
            finally:
                partial.unlink(missing_ok=True)
            _sweep(target.parent)
        return size

    def pull(self, remote: str, *, max_bytes: int) -> bytes:
        """Read at most one byte more than allowed, to notice a larger file."""
        with _mapped(remote), self._path(remote).open("rb") as file:
            data = file.read(max_bytes + 1)
        if len(data) > max_bytes:
            raise TransferError(f"{remote}: larger than {max_bytes} bytes")
        return data

    def exists(self, remote: str) -> bool:
        """Whether a file or folder of this name is there."""
        return self._path(remote).exists()

    def listdir(self, remote: str) -> tuple[str, ...]:
        """Names in a folder, sorted."""
        with _mapped(remote):
            return tuple(sorted(path.name for path in self._path(remote).iterdir()))

    def mkdir(self, remote: str) -> None:
        """Create a folder and its parents."""
        with _mapped(remote):
            self._path(remote).mkdir(parents=True, exist_ok=True)

    def remove(self, remote: str) -> None:
        """Remove a file or a folder with everything in it; only inside the work folder, wherever links lead."""
        target = Path(os.path.normpath(self._path(remote)))
        if Path(os.path.normpath(self._work.absolute())) not in target.parents:
            raise TransportError(f"{remote!r}: only what lies inside the work folder is ever removed")
        with suppress(RemoteFileMissing), _mapped(remote):
            work, parent = self._work.resolve(), target.parent.resolve()
            if parent != work and work not in parent.parents:
                raise TransportError(f"{remote}: a link leads out of {work}; nothing was removed")
            if target.is_dir() and not target.is_symlink():
                shutil.rmtree(target)
            else:
                target.unlink()

    def _path(self, remote: str) -> Path:
        return self._work.absolute() / remote


def _talk(process: subprocess.Popen[bytes], name: str, stdin: bytes, timeout_s: float) -> tuple[bytes, bytes]:
    """Write a process's input while reading what it says, until both streams end and it has ended.

    Raises:
        TimeoutExpired: It has not.
        TransportError: It said too much.
    """
    until = time.monotonic() + timeout_s
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdin is not None
    out, err, unsent = bytearray(), bytearray(), memoryview(stdin)
    with selectors.DefaultSelector() as ready:
        os.set_blocking(process.stdin.fileno(), False)
        ready.register(process.stdin, selectors.EVENT_WRITE)
        ready.register(process.stdout, selectors.EVENT_READ, out)
        ready.register(process.stderr, selectors.EVENT_READ, err)
        while ready.get_map():
            left = until - time.monotonic()
            if left <= 0:
                raise subprocess.TimeoutExpired(process.args, timeout_s)
            for key, _ in ready.select(left):
                if key.data is None:
                    try:
                        unsent = unsent[os.write(key.fd, unsent[:_CHUNK]) :]
                    except BlockingIOError:
                        continue
                    except BrokenPipeError:  # it may end before it has read all
                        unsent = unsent[:0]
                    if not unsent:
                        ready.unregister(process.stdin)
                        process.stdin.close()
                elif data := os.read(key.fd, _CHUNK):
                    key.data.extend(data)
                else:
                    ready.unregister(key.fileobj)
            if len(out) + len(err) > MAX_OUTPUT_BYTES:
                raise TransportError(f"{name} wrote more than {MAX_OUTPUT_BYTES >> 20} MiB")
    process.wait(max(0.0, until - time.monotonic()))
    return bytes(out), bytes(err)


def _sweep(folder: Path) -> None:
    """Remove what drivers that were killed while they wrote have left."""
    for path in folder.glob(".*.part"):
        if not PARTIAL.fullmatch(path.name):
            continue
        with suppress(FileNotFoundError):
            if time.time() - path.lstat().st_mtime > _RESTED_S:
                path.unlink()


def _write(source: bytes | Path, target: Path) -> tuple[int, str]:
    digest, size = hashlib.sha256(), 0
    with target.open("wb") as out:
        if isinstance(source, bytes):
            out.write(source)
            return len(source), hashlib.sha256(source).hexdigest()
        with source.open("rb") as file:
            while chunk := file.read(_CHUNK):
                out.write(chunk)
                digest.update(chunk)
                size += len(chunk)
    return size, digest.hexdigest()
