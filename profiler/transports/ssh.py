"""Devices over SSH, by paramiko.

Hosts and their keys are in `_ssh_hosts.py`, what carries a link to them and goes wrong on it in `_ssh_links.py`.

Files travel by SFTP. Commands are scripts for `sh` (`_dialects.py`); where the server says that it is Windows', it is
asked once which shell it gives, cmd.exe or PowerShell, and commands are a Python program.
"""

from __future__ import annotations

import io
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar, Self

from profiler.errors import ConnectionLost, RemoteFileMissing, TransferError, TransportError
from profiler.transports._base import MAX_OUTPUT_BYTES, Completed
from profiler.transports._dialects import Dialect, PosixDialect, PythonDialect
from profiler.transports._quoting import cmd_line, powershell_line
from profiler.transports._shell import WINDOWS_NEEDS, ShellTransport, TimedOut, WroteTooMuch, heard
from profiler.transports._ssh_hosts import Endpoint, Unknown, endpoint, hops, host_key_policy, host_keys, refuse_revoked
from profiler.transports._ssh_links import link_errors, link_over, socket_to
from profiler.transports._ssh_login import Login

if TYPE_CHECKING:
    import paramiko

    from profiler.devices import SshDevice

CONNECT_S = 15.0
KEEPALIVE_S = 10
LOST_AFTER_S = 40.0
"""A link on which sent data stays unanswered for so long is lost (TCP_USER_TIMEOUT, where there is one)."""
_BLOCK = 1 << 15
_WHICH_SHELL = 'echo "%OS%,$env:OS,"'
"""A line that every shell understands, and answers in its own way: cmd.exe replaces the first word, PowerShell the
second; a POSIX shell neither by Windows' name, as it has no variable `env`."""

# What paramiko has to say of a link comes as an exception; its log would go to the terminal, in the middle of ours.
logging.getLogger("paramiko").addHandler(logging.NullHandler())


def _active(client: paramiko.SSHClient) -> bool:
    link = client.get_transport()
    return link is not None and link.is_active()


def _feed(channel: paramiko.Channel, data: bytes) -> None:
    """Write all of a command's input; it may end before it has read it."""
    with suppress(OSError, EOFError):
        channel.sendall(data)
        channel.shutdown_write()


@contextmanager
def _as_file(source: bytes | Path) -> Iterator[BinaryIO]:
    if isinstance(source, bytes):
        yield io.BytesIO(source)
    else:
        with source.open("rb") as file:
            yield file


def shell_of(answer: bytes) -> Callable[[Sequence[str]], str] | None:
    """What makes command lines for the shell that answered `_WHICH_SHELL`; None for a POSIX shell."""
    first, _, rest = answer.decode(errors="replace").partition(",")
    if "Windows_NT" in first:
        return cmd_line
    return powershell_line if rest.startswith("Windows_NT") else None


class SshTransport(ShellTransport):
    """Commands over channels of one connection, files by SFTP."""

    name: ClassVar[str] = "ssh"
    poll_s: ClassVar[float] = 0.5
    connect_s: float = CONNECT_S
    """How long each step of connecting, and a new channel, is waited for."""
    lost_after_s: float = LOST_AFTER_S
    """How long any other answer of the server is waited for; one that never comes is a lost link."""

    def __init__(self, place: Endpoint, *, device: str, work_dir: str, python: str | None = None) -> None:
        super().__init__(work_dir, python)
        self._place = place
        self._device = device
        self._clients: list[paramiko.SSHClient] = []  # through jump hosts, the device last
        self._files: paramiko.SFTPClient | None = None

    @classmethod
    def from_device(cls, device: SshDevice) -> Self:
        """As the device file says."""
        place = endpoint(
            device.host, port=device.port, user=device.user, key_file=device.key_file, jump=device.jump,
            known_hosts=device.known_hosts,
        )  # fmt: skip
        return cls(place, device=device.name, work_dir=device.work_dir, python=device.python)

    def open(self) -> None:
        """Connect, through every jump host, and create the work folder."""
        if self._clients and _active(self._clients[-1]):
            return
        self.close()
        try:
            for place in (*hops(self._place), self._place):
                self._connect(place)
            self._dialect = self._find_dialect()
            self._make_work_dir()
            self._find_python()
        except BaseException:
            self.close()
            raise

    def _find_dialect(self) -> Dialect:
        """What the account's shell understands; asked only where the server's version names Windows."""
        self.windows = False
        link = self._clients[-1].get_transport()
        if link is None or "windows" not in str(link.remote_version).lower():
            return PosixDialect()
        try:
            done = self._execute(_WHICH_SHELL, stdin=b"", timeout_s=self.short_s)
        except (TimedOut, WroteTooMuch) as error:
            raise ConnectionLost(f"{self._place.title}: its shell does not answer a question") from error
        line = shell_of(done.stdout)
        if line is None:
            return PosixDialect()
        python = self._configured_python or PythonDialect.python
        dialect = PythonDialect(line, python, windows=True)
        command, head = dialect.command("nothing")
        try:
            heard(self._execute(command, stdin=head, timeout_s=self.short_s))
        except (TimedOut, WroteTooMuch, ConnectionLost) as error:
            raise ConnectionLost(f"{self._place.title}: its Python does not answer") from error
        except TransportError as error:
            raise TransportError(
                f"{self._place.title} runs Windows, and no Python {python!r} starts there ({error})", hint=WINDOWS_NEEDS
            ) from error
        self.windows = True
        return dialect

    def _connect(self, place: Endpoint) -> None:
        import paramiko

        known, login = host_keys(place), Login(place)
        client = paramiko.SSHClient()
        client.set_missing_host_key_policy(host_key_policy(place, self._device, known))
        with link_errors(place, self.connect_s):
            way = self._socket(place)
            self._clients.append(client)  # from now on `close` ends it, however far it came
            client.connect(  # over a link of ours: the name is only that of the key
                place.key_name, username=place.user, sock=way, auth_strategy=login,
                transport_factory=partial(link_over, known=known), timeout=self.connect_s,
                banner_timeout=self.connect_s, auth_timeout=self.connect_s, channel_timeout=self.connect_s,
            )  # fmt: skip
            link = client.get_transport()
            assert link is not None
            link.set_keepalive(KEEPALIVE_S)

    def _socket(self, place: Endpoint) -> Any:
        before = self._clients[-1].get_transport() if self._clients else None
        if self._clients and before is None:  # never around a jump host
            raise ConnectionLost(f"{place.title}: the link to the host before it is closed")
        return socket_to(place, before, timeout_s=self.connect_s, lost_after_s=self.lost_after_s)

    def close(self) -> None:
        """End the connection; detached processes go on."""
        self._files = None
        self._hang_up()  # the connection before its channels: they would say farewell to whoever does not listen
        self._clients.clear()

    def _hang_up(self) -> None:
        for client in reversed(self._clients):
            with suppress(Exception):
                client.close()

    @contextmanager
    def _watched(self, seconds: float) -> Iterator[None]:
        """End the connection after so long: paramiko waits for some answers without a limit."""
        watchdog = threading.Timer(seconds, self._hang_up)
        watchdog.daemon = True
        watchdog.start()
        try:
            yield
        finally:
            watchdog.cancel()

    def first_unknown(self) -> Unknown | None:
        """The first host on the way whose key is not known, or is not the known one; None when all are.

        Raises:
            TransportError: A host does not answer, or a known one before it does not let us in.
        """
        self.close()
        try:
            for place in (*hops(self._place), self._place):
                unknown = self._look(place)
                if unknown is not None:
                    return unknown
                if place != self._place:
                    self._connect(place)
        finally:
            self.close()
        return None

    def _look(self, place: Endpoint) -> Unknown | None:
        known = host_keys(place)
        with link_errors(place, self.connect_s), closing(link_over(self._socket(place), known)) as link:
            link.banner_timeout = self.connect_s
            link.start_client(timeout=self.connect_s)
            key = link.get_remote_server_key()
        refuse_revoked(place, known, key)
        return None if known.accepts(key) else Unknown(place=place, key=key, before=known.instead_of(key))

    def _channel(self) -> paramiko.Channel:
        import paramiko

        link = self._clients[-1].get_transport() if self._clients else None
        if link is None or not link.is_active():
            raise ConnectionLost(f"{self._place.title}: not connected")
        with link_errors(self._place, self.connect_s), self._watched(self.connect_s + 1):
            try:
                return link.open_session(timeout=self.connect_s)
            except paramiko.ChannelException as error:
                raise TransportError(f"{self._place.title} gives no channel: {error}") from error
            except Exception:
                self._hang_up()
                raise

    def _require_link(self) -> None:
        self._channel().close()

    def _execute(self, line: str, *, stdin: bytes, timeout_s: float) -> Completed:
        until = time.monotonic() + timeout_s
        channel = self._channel()
        out, err = bytearray(), bytearray()
        heard_of = threading.Event()  # not select: a channel's pipe may be closed while paramiko's thread writes to it
        for stream in (channel.in_buffer, channel.in_stderr_buffer):
            stream.set_event(heard_of)
        watched = self._watched(timeout_s + self.lost_after_s)
        with link_errors(self._place, self.connect_s), watched, closing(channel):
            channel.exec_command(line)
            feeder = threading.Thread(target=_feed, args=(channel, stdin), daemon=True)
            feeder.start()  # beside us: a command may write much before it has read all
            while not (channel.eof_received or channel.closed) or channel.recv_ready() or channel.recv_stderr_ready():
                left = until - time.monotonic()
                if left <= 0:
                    raise TimedOut(bytes(err))
                if not (channel.recv_ready() or channel.recv_stderr_ready()):
                    heard_of.wait(min(left, 1.0))
                if channel.recv_ready():
                    out += channel.recv(_BLOCK)
                if channel.recv_stderr_ready():
                    err += channel.recv_stderr(_BLOCK)
                if len(out) + len(err) > MAX_OUTPUT_BYTES:
                    raise WroteTooMuch(bytes(err[:100]))
            if not channel.status_event.wait(max(0.1, until - time.monotonic())):
                raise TimedOut(bytes(err))
            code = channel.exit_status
        if code == -1:  # closed without one: the link broke, or the command died by a signal
            if not _active(self._clients[-1]):
                raise ConnectionLost(f"{self._place.title}: the connection closed before the command ended")
            code = -9
        return Completed(exit_code=code, stdout=bytes(out), stderr=bytes(err))

    def _sftp(self) -> paramiko.SFTPClient:
        import paramiko

        if self._files is None or self._files.get_channel().closed:
            channel = self._channel()
            channel.settimeout(self.lost_after_s)
            try:
                with self._watched(self.lost_after_s):
                    channel.invoke_subsystem("sftp")
                    self._files = paramiko.SFTPClient(channel)
            except paramiko.SSHException as error:
                if not _active(self._clients[-1]):
                    raise ConnectionLost(f"{self._place.title}: the connection was closed") from error
                raise TransportError(
                    f"{self._place.title} has no SFTP",
                    hint="Enable it: `Subsystem sftp internal-sftp` in its sshd_config.",
                ) from error
        return self._files

    def _upload(self, source: bytes | Path, path: str) -> int:
        size = 0
        with (
            _as_file(source) as data,
            link_errors(self._place, self.connect_s),
            self._file(path),
            self._sftp().open(self._dialect.for_sftp(path), "wb") as target,
            self._file(path),  # before the file is closed, which waits for an answer too
        ):
            while chunk := data.read(_BLOCK):  # each is answered: pipelined, paramiko drops what goes wrong
                target.write(chunk)
                size += len(chunk)
        return size

    def _download(self, path: str, max_bytes: int) -> bytes:
        with (
            link_errors(self._place, self.connect_s),
            self._file(path),
            self._sftp().open(self._dialect.for_sftp(path), "rb") as source,
            self._file(path),
        ):
            size = source.stat().st_size or 0
            if size > max_bytes:
                raise TransferError(f"{path}: {size} bytes, more than the {max_bytes} allowed")
            data = bytearray()  # piece by piece: paramiko asks ahead in a thread of its own, which a lost link breaks
            while len(data) < size and (piece := source.read(min(_BLOCK, size - len(data)))):
                data += piece
            return bytes(data)

    @contextmanager
    def _file(self, path: str) -> Iterator[None]:
        """What the device says of a file, apart from what happens to the link: paramiko has one class for both."""
        try:
            yield
        except FileNotFoundError as error:
            raise RemoteFileMissing(f"no such file: {path}") from error
        except TimeoutError as error:
            self._hang_up()
            raise ConnectionLost(f"{self._place.title}: no answer within {self.lost_after_s:g} s") from error
        except OSError as error:
            if self._files is None or self._files.get_channel().closed:
                raise  # nobody answered
            raise TransportError(
                f"{path}: {error.strerror or error}",
                hint="Is there space left on the device, and may the account write there? work_dir says where.",
            ) from error
