"""Through a running adb server, by adbutils: how most phones are attached, and the only way to wireless debugging."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import ClassVar

from profiler.errors import ConnectionLost, TransportError
from profiler.transports._adb_links import CHUNK, CONNECT_S, PACKET_S, Link, Stream, StreamEnded, set_up

SERVER_PORT = 5037


class ServerLink(Link):
    """Through a running adb server, which holds USB and knows wireless debugging."""

    max_piece = CHUNK
    _STATES: ClassVar[dict[str, str]] = {
        "unauthorized": 'Unlock the phone, and answer "Allow USB debugging?" with "Always allow".',
        "offline": "Take the cable out and put it in again, or type `adb reconnect offline`.",
        "no permissions": "On Debian and Ubuntu: apt-get install android-sdk-platform-tools-common, then plug it in "
        "again and type `adb kill-server`.",
    }

    def __init__(self, serial: str | None = None, host: str = "127.0.0.1", port: int = SERVER_PORT) -> None:
        self._wanted = serial
        self._serial = ""
        self._host, self._port = host, port

    @property
    def title(self) -> str:
        """Serial number and server."""
        return f"{self._wanted or self._serial or 'the phone'} at the adb server {self._host}:{self._port}"

    def open(self) -> None:
        import adbutils

        try:  # adbutils would start a server of its own, unasked
            socket.create_connection((self._host, self._port), timeout=CONNECT_S).close()
        except OSError as error:
            raise ConnectionLost(
                f"no adb server answers at {self._host}:{self._port}: {error.strerror or error}",
                hint="Type `adb start-server`, or set `connection: usb` or `tcp`.",
            ) from error
        with self._lost():
            listed = adbutils.AdbClient(self._host, self._port, socket_timeout=CONNECT_S).list(extended=False)
        states = {device.serial: device.state for device in listed}
        if self._wanted is None and len(states) > 1:
            raise TransportError(f"several phones are attached: {', '.join(states)}", hint="Name one: `serial: ...`.")
        serial = self._wanted or next(iter(states), "")
        state = states.get(serial)
        if state is None:
            there = f"; it knows {', '.join(states)}" if states else ""
            raise ConnectionLost(
                f"{self.title} is not there{there}",
                hint="`adb devices` shows what is attached; is USB debugging enabled, or `adb connect` needed?",
            )
        if state != "device":
            raise TransportError(
                f"{serial} is {state}", hint=self._STATES.get(state, "`adb devices` should say device.")
            )
        self._serial = serial

    def close(self) -> None:
        self._serial = ""

    @contextmanager
    def _lost(self) -> Iterator[None]:
        import adbutils

        try:
            yield
        except (adbutils.AdbError, OSError, EOFError, ValueError) as error:
            what = getattr(error, "strerror", None) or str(error).strip() or "the connection was closed"
            raise ConnectionLost(f"{self.title}: {what}") from error

    def stream(self, service: str, outgoing: Iterator[bytes]) -> Stream:
        import adbutils

        if not self._serial:
            raise ConnectionLost(f"{self.title}: not connected")
        with self._lost():
            client = adbutils.AdbClient(self._host, self._port, socket_timeout=PACKET_S)
            connection = client.make_connection()  # its `open_transport` leaves it open when the server refuses
            try:
                for request in (f"host:transport:{self._serial}", service):
                    connection.send_command(request)
                    connection.check_okay()
            except BaseException:
                connection.close()
                raise
            return _ServerStream(self, connection.conn, outgoing)


class _ServerStream(Stream):
    def __init__(self, link: ServerLink, connection: socket.socket, outgoing: Iterator[bytes]) -> None:
        self._link, self._connection, self._outgoing = link, connection, outgoing
        connection.setblocking(False)
        set_up(connection)
        self._rest: memoryview | None = memoryview(b"")

    def step(self, timeout_s: float) -> bytes:
        if not self._rest and self._rest is not None:
            piece = next(self._outgoing, None)
            self._rest = None if piece is None else memoryview(piece)
        sending = [self._connection] if self._rest else []
        with self._link._lost():
            readable, writable, _ = select.select([self._connection], sending, [], timeout_s)
            if writable and self._rest:
                with suppress(BrokenPipeError, ConnectionResetError):  # the command ended; its last words are there
                    self._rest = self._rest[self._connection.send(self._rest) :]
            if not readable:
                return b""
            data = self._connection.recv(CHUNK)
        if not data:
            raise StreamEnded
        return data

    def close(self) -> None:
        self._connection.close()
