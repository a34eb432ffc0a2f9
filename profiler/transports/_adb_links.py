"""What every way to an adbd gives: streams, each one service of the device, bytes in both directions."""

from __future__ import annotations

import socket
from abc import ABC, abstractmethod
from collections.abc import Iterator

CONNECT_S = 10.0
PACKET_S = 10.0
"""A packet that began to arrive, or a stream that was asked for, comes within so long, or the link is lost."""
LOST_AFTER_S = 40.0
"""A TCP link on which sent data stays unanswered for so long is lost (where the system has such a setting)."""
CHUNK = 1 << 18


class StreamEnded(Exception):  # noqa: N818 - how every stream ends
    """The device closed its end, and all that it sent was read."""


class Stream(ABC):
    """One service: what is to be sent is given at the start, `step` moves bytes both ways."""

    @abstractmethod
    def step(self, timeout_s: float) -> bytes:
        """Send what the device takes now, wait for what it says at most so long; what came, maybe nothing.

        Raises:
            StreamEnded: No more will come.
            ConnectionLost: The link broke.
        """

    @abstractmethod
    def close(self) -> None:
        """End the service; may be repeated."""


class Link(ABC):
    """A connection to one device; `open` before use, from one thread."""

    @property
    @abstractmethod
    def title(self) -> str:
        """For messages."""

    @abstractmethod
    def open(self) -> None:
        """Connect.

        Raises:
            ConnectionLost: Nobody answers; it may be tried again.
            TransportError: The device does not let us in, or is not there; says what to do.
        """

    @abstractmethod
    def close(self) -> None:
        """End the connection; may be repeated."""

    @abstractmethod
    def stream(self, service: str, outgoing: Iterator[bytes]) -> Stream:
        """Ask for a service.

        Args:
            service: Its name with its arguments, such as ``shell,v2,raw:ls``.
            outgoing: What the device shall read, in pieces of at most `max_piece` bytes.

        Raises:
            TransportError: The device has no such service.
            ConnectionLost: The link broke.
        """

    max_piece: int = 1 << 16
    """Largest piece of `outgoing`."""


def set_up(link: socket.socket) -> None:
    """Packets leave at once, and a peer that has gone is noticed."""
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, name):
            link.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(LOST_AFTER_S * 1000))
