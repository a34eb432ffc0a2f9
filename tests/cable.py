"""A cable between a transport and its server: TCP over loopback that a test cuts, freezes, mends and slows.

One thread moves all bytes, so that what a test asks for has happened when the call returns.
"""

from __future__ import annotations

import selectors
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Event, Lock, Thread
from types import TracebackType
from typing import Self

_BLOCK = 1 << 16
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER with no time: closing sends RST


@dataclass(slots=True, eq=False)
class _End:
    """One socket of a connection, and what waits to be written to it."""

    socket: socket.socket
    waiting: bytearray = field(default_factory=bytearray)
    peer: _End | None = None
    ended: bool = False  # it will send no more
    told: bool = False  # and its peer knows
    forward: bool = False  # from the transport to the server


class Cable:
    """A context manager; the transport connects to `port`.

    Attributes:
        port: On 127.0.0.1.
        sent: Bytes moved towards the server.
        received: Bytes moved back.
        bytes_per_s: Both ways together, or None for all that the machine moves.

    Args:
        server: Port of the server on 127.0.0.1.
    """

    def __init__(self, server: int) -> None:
        self.sent = self.received = 0
        self.bytes_per_s: float | None = None
        self._server = server
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self._ends: list[_End] = []
        self._frozen = self._refusing = False
        self._orders: list[tuple[Callable[[], None], Event]] = []
        self._lock = Lock()
        self._ear, self._mouth = socket.socketpair()
        self._ear.setblocking(False)
        self._over = False
        self._allowed_at = 0.0
        self._thread = Thread(target=self._work, name="cable")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ask(self._end)
        self._thread.join()
        for each in (self._listener, self._ear, self._mouth):
            each.close()

    @property
    def crossed(self) -> int:
        """Bytes moved both ways."""
        return self.sent + self.received

    def cut(self) -> None:
        """Reset every connection, on both sides; new ones are refused until `mend`."""
        self._ask(self._cut)

    def freeze(self) -> None:
        """Keep every connection, and move no byte until `mend`; new ones are taken and stay silent."""
        self._ask(lambda: setattr(self, "_frozen", True))

    def refuse(self) -> None:
        """Reset new connections; those that are there go on."""
        self._ask(lambda: setattr(self, "_refusing", True))

    def mend(self) -> None:
        """Move bytes and take connections again."""
        self._ask(self._mend)

    def _mend(self) -> None:
        self._frozen = self._refusing = False

    def _cut(self) -> None:
        self._refusing = True
        for end in list(self._ends):
            self._drop(end)

    def _end(self) -> None:
        self._over = True
        self._cut()

    def _ask(self, action: Callable[[], None]) -> None:
        done = Event()
        with self._lock:
            self._orders.append((action, done))
        self._mouth.send(b".")
        assert done.wait(10), "the cable's thread has died"

    def _work(self) -> None:
        while not self._over:
            with selectors.DefaultSelector() as ready:
                ready.register(self._ear, selectors.EVENT_READ)
                ready.register(self._listener, selectors.EVENT_READ)
                pause = self._allowed_at - time.monotonic()
                if not self._frozen and pause <= 0:
                    self._listen(ready)
                events = ready.select(max(pause, 0.001) if pause > 0 else None)
            self._obey()
            for key, mask in events:
                if key.fileobj is self._listener:
                    self._accept()
                elif isinstance(key.data, _End) and key.data in self._ends and not self._frozen:
                    self._move(key.data, mask)

    def _listen(self, ready: selectors.BaseSelector) -> None:
        for end in self._ends:
            assert end.peer is not None
            mask = selectors.EVENT_WRITE if end.waiting else 0
            if not end.ended and len(end.peer.waiting) < _BLOCK:
                mask |= selectors.EVENT_READ
            if mask:
                ready.register(end.socket, mask, end)

    def _obey(self) -> None:
        try:
            while self._ear.recv(4096):
                pass
        except BlockingIOError:
            pass
        with self._lock:
            orders, self._orders = self._orders, []
        for action, done in orders:
            action()
            done.set()

    def _accept(self) -> None:
        try:
            near, _ = self._listener.accept()
        except BlockingIOError:
            return
        try:
            if self._refusing:
                raise ConnectionRefusedError
            far = socket.create_connection(("127.0.0.1", self._server), timeout=5)
        except OSError:
            near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            near.close()
            return
        one, other = _End(near, forward=True), _End(far)
        one.peer, other.peer = other, one
        for end in (one, other):
            end.socket.setblocking(False)
            end.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._ends += [one, other]

    def _move(self, end: _End, mask: int) -> None:
        peer = end.peer
        assert peer is not None
        try:
            if mask & selectors.EVENT_WRITE and end.waiting:
                moved = end.socket.send(end.waiting)
                del end.waiting[:moved]
                self._count(end, moved)
            if mask & selectors.EVENT_READ:
                data = end.socket.recv(_BLOCK)
                peer.waiting += data
                end.ended = not data
            for this, that in ((end, peer), (peer, end)):
                if this.ended and not this.told and not that.waiting:
                    this.told = True
                    that.socket.shutdown(socket.SHUT_WR)
        except BlockingIOError:
            return
        except OSError:  # one side has gone: so has the connection
            self._drop(end)
            return
        if end.told and peer.told:
            self._drop(end)

    def _count(self, end: _End, moved: int) -> None:
        if end.forward:
            self.received += moved  # written to the transport
        else:
            self.sent += moved
        if self.bytes_per_s is not None:
            self._allowed_at = max(self._allowed_at, time.monotonic()) + moved / self.bytes_per_s

    def _drop(self, end: _End) -> None:
        for each in (end, end.peer):
            if each in self._ends:
                assert each is not None
                self._ends.remove(each)
                if not (end.told and each.told):
                    each.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                each.socket.close()
