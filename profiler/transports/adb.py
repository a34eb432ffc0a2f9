"""Android devices, by the Android Debug Bridge: over USB, TCP, or a running adb server.

Everything is a command of the device's shell, by its protocol version 2 (exit codes; standard input, output and error
apart and binary-safe); a file is what `cat` reads or writes. So what a device says of a full disk or of a missing file
arrives whole, and the two libraries that make connections need only carry bytes (`_adb_direct.py`, `_adb_server.py`).
"""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

from profiler.errors import ConnectionLost, RemoteFileMissing, TransferError, TransportError
from profiler.transports._adb_direct import TcpLink, UsbLink
from profiler.transports._adb_links import LOST_AFTER_S, Link, StreamEnded
from profiler.transports._adb_server import ServerLink
from profiler.transports._base import MAX_OUTPUT_BYTES, Completed
from profiler.transports._dialects import MISSING, quoted
from profiler.transports._shell import ShellTransport, TimedOut, WroteTooMuch, heard, said

if TYPE_CHECKING:
    from profiler.devices import AdbDevice

_SERVICE = "shell,v2,raw:"
_HEADER = struct.Struct("<BI")
_STDIN, _STDOUT, _STDERR, _EXIT, _CLOSE_STDIN = range(5)
_LARGEST_FRAME = 1 << 24
"""adbd sends at most what fits one packet, 1 MiB; more is no frame."""

_ANSWER_S = 5.0
"""A device that is there says something within this time."""

_WRITE = 'cat >"$1"'
_READ = '[ -f "$1" ] || exit 64; head -c "$2" <"$1"'


class _Frames:
    """Frames of the shell protocol, put together from what arrives: a kind, a length, so many bytes.

    Attributes:
        output: What arrived so far, of `_STDOUT` and `_STDERR`.
        exit_code: Once the command has ended.
    """

    def __init__(self) -> None:
        self.output = {_STDOUT: bytearray(), _STDERR: bytearray()}
        self.exit_code: int | None = None
        self._pending = bytearray()

    def add(self, data: bytes) -> None:
        """Take more bytes.

        Raises:
            ConnectionLost: They are no frames.
        """
        self._pending += data
        while len(self._pending) >= _HEADER.size:
            kind, size = _HEADER.unpack_from(self._pending)
            if size > _LARGEST_FRAME:
                raise ConnectionLost(f"the device sent no frames of a shell (one of {size} bytes)")
            end = _HEADER.size + size
            if len(self._pending) < end:
                return
            content = bytes(self._pending[_HEADER.size : end])
            del self._pending[:end]
            if kind == _EXIT and content:
                self.exit_code = content[0]
            elif kind in self.output:
                self.output[kind] += content


def _frame(kind: int, content: bytes = b"") -> bytes:
    return _HEADER.pack(kind, len(content)) + content


def _pieces(source: bytes | Path, size: int) -> Iterator[bytes]:
    """A file or bytes in frames of standard input, each at most `size` bytes long, and its end."""
    most = size - _HEADER.size
    if isinstance(source, bytes):
        for start in range(0, len(source), most):
            yield _frame(_STDIN, source[start : start + most])
    else:
        with source.open("rb") as file:
            while content := file.read(most):
                yield _frame(_STDIN, content)
    yield _frame(_CLOSE_STDIN)


class AdbTransport(ShellTransport):
    """Commands and files over streams of one link."""

    name: ClassVar[str] = "adb"
    poll_s: ClassVar[float] = 0.5
    lost_after_s: float = LOST_AFTER_S
    """How long nothing may move while a file travels; then the link is lost."""

    def __init__(self, link: Link, *, work_dir: str, python: str | None = None) -> None:
        super().__init__(work_dir, python)
        self._link = link
        self._opened = False

    @classmethod
    def from_device(cls, device: AdbDevice) -> Self:
        """As the device file says."""
        link: Link
        if device.connection == "tcp":
            assert device.host is not None  # the device file was checked
            link = TcpLink(device.host, *([device.port] if device.port else []))
        elif device.connection == "server":
            place = {"host": device.host, "port": device.port}
            link = ServerLink(device.serial, **{name: value for name, value in place.items() if value is not None})  # type: ignore[arg-type]
        else:
            link = UsbLink(device.serial)
        return cls(link, work_dir=device.work_dir)

    def open(self) -> None:
        """Connect and create the work folder."""
        if self._opened and self._answers():
            return
        self.close()
        try:
            self._link.open()
            self._make_work_dir()
            self._find_python()
        except BaseException:
            self.close()
            raise
        self._opened = True

    def _answers(self) -> bool:
        try:
            return self._do("nothing", timeout_s=_ANSWER_S).exit_code == 0
        except TransportError:
            return False

    def _require_link(self) -> None:
        self._do("nothing", timeout_s=_ANSWER_S)

    def close(self) -> None:
        """End the connection; detached processes go on."""
        self._opened = False
        self._link.close()

    def _execute(self, line: str, *, stdin: bytes, timeout_s: float) -> Completed:
        return self._shell(line, stdin, timeout_s=timeout_s)

    def _shell(
        self, line: str, source: bytes | Path, *, timeout_s: float | None, most: int = MAX_OUTPUT_BYTES
    ) -> Completed:
        """Run a command line; without a time-out, as long as bytes move.

        Raises:
            TimedOut: It still runs.
            WroteTooMuch: It still runs, and wrote more than `most` bytes.
            ConnectionLost: The link broke, or nothing moved for `lost_after_s`.
        """
        frames = _Frames()
        moved = time.monotonic()
        until = None if timeout_s is None else moved + timeout_s

        def outgoing() -> Iterator[bytes]:
            nonlocal moved
            for piece in _pieces(source, self._link.max_piece):
                moved = time.monotonic()
                yield piece

        with closing(self._link.stream(_SERVICE + line, outgoing())) as stream:
            while frames.exit_code is None:
                now = time.monotonic()
                left = 1.0 if until is None else until - now
                if left <= 0:
                    raise TimedOut(bytes(frames.output[_STDERR]))
                if until is None and now - moved > self.lost_after_s:
                    raise ConnectionLost(f"{self._link.title}: nothing moved for {self.lost_after_s:g} s")
                if sum(map(len, frames.output.values())) > most:
                    raise WroteTooMuch(bytes(frames.output[_STDERR][:100]))
                try:
                    data = stream.step(min(left, 1.0))
                except StreamEnded:
                    raise ConnectionLost(f"{self._link.title}: the command's end was not told") from None
                if data:
                    moved = time.monotonic()
                    frames.add(data)
        output = frames.output
        return Completed(
            exit_code=frames.exit_code, stdout=bytes(output[_STDOUT]), stderr=bytes(output[_STDERR])
        )  # fmt: skip

    def _upload(self, source: bytes | Path, path: str) -> int:
        size = len(source) if isinstance(source, bytes) else source.stat().st_size
        done = heard(self._shell(quoted(_WRITE, path), source, timeout_s=None))
        if done.exit_code != 0:
            raise TransportError(
                f"{path}: {said(done)}",
                hint="Is there space left on the device, and may the shell write there? work_dir says where.",
            )
        return size

    def _download(self, path: str, max_bytes: int) -> bytes:
        line = quoted(_READ, path, str(max_bytes + 1))
        done = heard(self._shell(line, b"", timeout_s=None, most=max_bytes + MAX_OUTPUT_BYTES))
        if done.exit_code == MISSING:
            raise RemoteFileMissing(f"no such file: {path}")
        if done.exit_code != 0:
            raise TransportError(f"{path}: {said(done)}")
        if len(done.stdout) > max_bytes:
            raise TransferError(f"{path}: larger than {max_bytes} bytes")
        return done.stdout
