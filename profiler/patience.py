"""A link that may be lost at any moment, and is made again.

A lost connection is tried anew with back-off: while a device is opened for a moment, later for as long as the device
file says (`reconnect_s`). What is repeated must bear being repeated: nothing here knows whether a command that lost its
link was heard.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Event
from typing import Final, TypeVar

from profiler.errors import AccessRefused, ConnectionLost, TransportError
from profiler.transports import Transport

OPENING_S: Final = 3.0
"""How long a device that does not answer is tried when a session is opened."""
_LONGEST_WAIT_S: Final = 8.0
T = TypeVar("T")


class PatientLink:
    """Runs actions over a transport, and over a new connection of it where the old one is lost.

    Args:
        transport: Opened by its owner, and again by this.
        reconnect_s: How long a device is waited for once it has answered.

    Attributes:
        known: The device has answered: from now on a lost link is waited for, and told.
        on_link: Told when the link is lost, and when it is there again.
        stop: Once set, a lost link is no longer waited for.
    """

    def __init__(self, transport: Transport, reconnect_s: float) -> None:
        self.transport = transport
        self.known = False
        self.on_link: Callable[[str], None] = lambda _: None
        self.stop = Event()
        self._reconnect_s = reconnect_s

    def call(self, action: Callable[[], T]) -> T:
        """Run an action that may be repeated, over a new connection where the old one is lost.

        Raises:
            ConnectionLost: It stayed lost for as long as the device is waited for, or `stop` was set.
            TransportError: What the action had to say, or a device that no longer lets us in.
        """
        patience = self._reconnect_s if self.known else OPENING_S
        until: float | None = None
        wait_s, told = 0.5, False
        while True:
            try:
                if until is not None:
                    self._reopen()
                done = action()
            except ConnectionLost as error:
                now = time.monotonic()
                until = now + patience if until is None else until
                if now >= until or self.stop.is_set():
                    raise
                if not told and self.known:
                    told = True
                    self.on_link(f"the link is lost ({error}); the device is waited for, up to {patience:g} s")
                self.stop.wait(min(wait_s, until - now))
                wait_s = min(2 * wait_s, _LONGEST_WAIT_S)
            except TransportError as error:
                if told and not isinstance(error, AccessRefused):  # it answers, if only that a file is not there
                    self.on_link("the link is there again")
                raise
            else:
                if told:
                    self.on_link("the link is there again")
                return done

    def _reopen(self) -> None:
        """Connect anew. What a device says that has only just come back (no shell yet, no folder) may pass."""
        self.transport.close()
        try:
            self.transport.open()
        except AccessRefused:
            raise
        except TransportError as error:
            raise ConnectionLost(str(error), hint=error.hint) from error
