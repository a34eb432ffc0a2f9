"""Directly to an adbd, over TCP or USB, by adb-shell.

The corrections that adb-shell 0.4 needs are here and nowhere else: short writes over TCP, small packets that wait for
each other, and reading without losing half a packet to a time-out.
"""

from __future__ import annotations

import os
import select
import time
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from profiler.errors import AccessRefused, ConnectionLost, TransportError
from profiler.transports._adb_links import CHUNK, CONNECT_S, PACKET_S, Link, Stream, StreamEnded, set_up

CONFIRM_S = 20.0
"""How long the phone's owner has to allow a key that is new to it."""
ADBD_PORT = 5555


def own_key() -> Path:
    """The RSA key that phones are asked to allow, for connections that no adb server makes."""
    base = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(base).expanduser() / "archsearch" / "adbkey"


def _make_key(path: Path) -> None:
    """Write a new key pair: the private part for its owner's eyes alone, from its first byte on.

    One that is there is kept, for phones know it: only its public half is then made.
    """
    from adb_shell.auth.keygen import keygen, write_public_keyfile

    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    beside = path.with_name(f".adbkey.{os.getpid()}")
    old_mask = os.umask(0o077)
    public = beside.with_name(beside.name + ".pub")
    kept = path.exists()
    try:
        if kept:
            write_public_keyfile(str(path), str(public))
        else:
            keygen(str(beside))
    finally:
        os.umask(old_mask)
    public.replace(path.with_name(path.name + ".pub"))
    if not kept:
        beside.replace(path)


def _signers() -> list[Any]:
    """Our own key, and that of the user's adb, which most phones know already; made on first use.

    Raises:
        TransportError: A key cannot be read or written.
    """
    from adb_shell.auth.sign_cryptography import CryptographySigner

    path = own_key()
    found = []
    try:
        if not (path.exists() and path.with_name(path.name + ".pub").exists()):
            _make_key(path)
        found.append(CryptographySigner(str(path)))
    except (OSError, ValueError) as error:
        raise TransportError(f"{path}: {error}", hint="Remove it, and it is made anew.") from error
    with suppress(OSError, ValueError):  # one that cannot be used is not needed either
        found.append(CryptographySigner(str(Path("~/.android/adbkey").expanduser())))
    return found


class _Direct(Link):
    """A link by adb-shell; a subclass says over what."""

    _failures: tuple[type[BaseException], ...] = ()

    def __init__(self) -> None:
        self._device: Any = None
        self._wire: Any = None

    @abstractmethod
    def _connect(self) -> Any:
        """The wire: adb-shell's transport with a `wait(timeout_s)` that tells whether a packet begins to arrive."""

    @contextmanager
    def lost(self) -> Iterator[None]:
        """What goes wrong on the wire as a lost connection."""
        from adb_shell import exceptions

        broken = (
            exceptions.AdbTimeoutError, exceptions.TcpTimeoutException, exceptions.InvalidChecksumError,
            exceptions.InvalidCommandError, exceptions.AdbConnectionError, exceptions.UsbReadFailedError,
            exceptions.UsbWriteFailedError, OSError,
        )  # fmt: skip
        try:
            yield
        except broken as error:
            self.close()
            what = getattr(error, "strerror", None) or str(error) or "the connection was closed"
            raise ConnectionLost(f"{self.title}: {what}") from error

    def open(self) -> None:
        from adb_shell import exceptions
        from adb_shell.adb_device import AdbDevice

        self.close()
        signers = _signers()
        asked = False

        def on_ask(_: object) -> None:
            nonlocal asked
            asked = True

        with self.lost():
            try:
                self._wire = self._connect()
                self._device = AdbDevice(self._wire, default_transport_timeout_s=PACKET_S, banner="archsearch")
                self._device.connect(
                    rsa_keys=signers, transport_timeout_s=CONNECT_S, read_timeout_s=CONNECT_S, auth_timeout_s=CONFIRM_S,
                    auth_callback=on_ask,
                )  # fmt: skip
            except exceptions.InvalidCommandError as error:
                if "STLS" not in str(error):
                    raise
                raise TransportError(
                    f"{self.title} speaks TLS: it is the port of Android's wireless debugging",
                    hint="Let an adb server make the connection (`adb pair`, `adb connect`) and set `connection: "
                    "server`; or connect a cable once and type `adb tcpip 5555`.",
                ) from error
            except (exceptions.DeviceAuthError, exceptions.InvalidResponseError) as error:
                raise self._unauthorised() from error
            except BaseException as error:
                if asked and not isinstance(error, KeyboardInterrupt):
                    raise self._unauthorised() from error
                raise
        self.max_piece = min(CHUNK, max(4096, int(self._device._maxdata)))

    def _unauthorised(self) -> TransportError:
        self.close()
        return AccessRefused(
            f"{self.title} does not know our key ({own_key()}), and nobody allowed it within {CONFIRM_S:g} s",
            hint='Unlock the phone, and answer "Allow USB debugging?" with "Always allow"; then try again.',
        )

    def close(self) -> None:
        device, self._device, self._wire = self._device, None, None
        if device is not None:
            with suppress(Exception):
                device.close()

    def stream(self, service: str, outgoing: Iterator[bytes]) -> Stream:
        if self._device is None:
            raise ConnectionLost(f"{self.title}: not connected")
        with self.lost():
            return _DirectStream(self, self._device, self._wire, service, outgoing)


class _DirectStream(Stream):
    """The three kinds of packet of a stream: WRTE carries data, OKAY asks for the next, CLSE ends it."""

    def __init__(self, link: _Direct, device: Any, wire: Any, service: str, outgoing: Iterator[bytes]) -> None:
        from adb_shell import constants
        from adb_shell.adb_message import AdbMessage
        from adb_shell.hidden_helpers import _AdbTransactionInfo

        self._words, self._message = constants, AdbMessage
        self._link, self._wire, self._packets = link, wire, device._io_manager
        self._outgoing = outgoing
        self._open, self._may_send = True, True
        device._local_id = device._local_id % (2**32 - 1) + 1
        self._info = _AdbTransactionInfo(device._local_id, None, PACKET_S, PACKET_S)
        self._send(constants.OPEN, service.encode("utf-8", "surrogateescape") + b"\0")
        until = time.monotonic() + PACKET_S
        while self._info.remote_id is None:
            if not wire.wait(max(0.0, until - time.monotonic())):
                raise OSError(f"{service.partition(':')[0]} was not answered within {PACKET_S:g} s")
            kind, remote, _ = self._packet()
            if kind == constants.OKAY:
                self._info.remote_id = remote
            elif kind == constants.CLSE:
                raise TransportError(
                    f"{link.title} refuses {service.partition(':')[0]}", hint="It needs Android 7 or newer."
                )

    def _send(self, kind: bytes, data: bytes = b"") -> None:
        info = self._info
        self._packets.send(self._message(kind, info.local_id, info.remote_id or 0, data), info)

    def _packet(self) -> tuple[bytes, int, bytes]:
        """The next packet; of an earlier stream, one without a kind."""
        kind, remote, local, data = self._packets._read_packet_from_device(self._info)
        mine = local == self._info.local_id and self._info.remote_id in (None, remote, 0)
        return (kind, remote, bytes(data)) if mine or (local == self._info.local_id and not remote) else (b"", 0, b"")

    def step(self, timeout_s: float) -> bytes:
        if not self._open:
            raise StreamEnded
        with self._link.lost():
            if self._may_send and (piece := next(self._outgoing, None)) is not None:
                self._send(self._words.WRTE, piece)
                self._may_send = False
            if not self._wire.wait(timeout_s):
                return b""
            kind, _, data = self._packet()
            if kind == self._words.OKAY:
                self._may_send = True
            elif kind == self._words.WRTE:
                self._send(self._words.OKAY)
                return data
            elif kind == self._words.CLSE:
                self.close()
                raise StreamEnded
        return b""

    def close(self) -> None:
        if self._open:
            self._open = False
            if self._link._wire is not self._wire:
                return  # the link was lost, and is closed already
            with suppress(ConnectionLost), self._link.lost():
                self._send(self._words.CLSE)


class TcpLink(_Direct):
    """To an adbd that listens on TCP, as after `adb tcpip 5555`."""

    def __init__(self, host: str, port: int = ADBD_PORT) -> None:
        super().__init__()
        self._host, self._port = host, port

    @property
    def title(self) -> str:
        """``host:port``."""
        return f"{self._host}:{self._port}"

    def _connect(self) -> Any:
        from adb_shell.transport.tcp_transport import TcpTransport

        class Wire(TcpTransport):  # type: ignore[misc]
            def connect(self, transport_timeout_s: float) -> None:
                super().connect(transport_timeout_s)
                set_up(self._connection)

            def wait(self, timeout_s: float) -> bool:
                return bool(select.select([self._connection], [], [], timeout_s)[0])

            def bulk_read(self, numbytes: int, transport_timeout_s: float) -> bytes:
                data: bytes = super().bulk_read(numbytes, transport_timeout_s)
                if not data:
                    raise ConnectionResetError("the connection was closed")
                return data

            def bulk_write(self, data: bytes, transport_timeout_s: float) -> int:
                left = memoryview(data)
                while left:  # one `send` takes what fits the system's buffer, and says nothing of the rest
                    left = left[super().bulk_write(left, transport_timeout_s) :]
                return len(data)

        return Wire(self._host, self._port)


class UsbLink(_Direct):
    """To a phone on a cable that no adb server holds."""

    def __init__(self, serial: str | None = None) -> None:
        super().__init__()
        self._serial = serial

    @property
    def title(self) -> str:
        """Its serial number."""
        return f"phone {self._serial}" if self._serial else "the phone on USB"

    def _connect(self) -> Any:
        try:
            import usb1
            from adb_shell.transport.usb_transport import UsbTransport
        except (ImportError, OSError) as error:
            raise TransportError(
                f"USB cannot be used here: {error}",
                hint="Install libusb (Debian: apt-get install libusb-1.0-0), or set `connection: server`.",
            ) from error

        class Wire(UsbTransport):  # type: ignore[misc]
            _begun = b""

            def connect(self, transport_timeout_s: float | None = None) -> None:
                try:
                    super().connect(transport_timeout_s)
                except usb1.USBErrorBusy as error:
                    raise TransportError(
                        "another program holds the phone's USB interface, most likely an adb server",
                        hint="Type `adb kill-server`; or leave it and set `connection: server`.",
                    ) from error
                except usb1.USBErrorAccess as error:
                    raise TransportError(
                        "this account may not use the phone's USB interface",
                        hint="On Debian and Ubuntu: apt-get install android-sdk-platform-tools-common, then plug it in "
                        "again.",
                    ) from error
                except usb1.USBError as error:
                    raise ConnectionResetError(str(error)) from error

            def wait(self, timeout_s: float) -> bool:
                if not self._begun:
                    try:
                        self._begun = bytes(
                            self._transport.bulkRead(self._read_endpoint, 24, timeout=max(1, int(timeout_s * 1000)))
                        )
                    except usb1.USBErrorTimeout as error:
                        self._begun = bytes(error.received or b"")
                    except usb1.USBError as error:
                        raise ConnectionResetError(str(error)) from error
                return bool(self._begun)

            def bulk_read(self, numbytes: int, transport_timeout_s: float | None = None) -> bytes:
                if self._begun:
                    data, self._begun = self._begun[:numbytes], self._begun[numbytes:]
                    return data
                return bytes(super().bulk_read(numbytes, transport_timeout_s))

        found = list(Wire.find_all_adb_devices())
        if self._serial is not None:
            found = [wire for wire in found if wire.serial_number == self._serial]
        if not found:
            raise ConnectionLost(
                f"{self.title} is not there",
                hint="Is the cable in, the phone on, and USB debugging enabled (Settings, Developer options)?",
            )
        if len(found) > 1:
            serials = ", ".join(str(wire.serial_number) for wire in found)
            raise TransportError(f"several phones are on USB: {serials}", hint="Name one: `serial: ...`.")
        return found[0]
