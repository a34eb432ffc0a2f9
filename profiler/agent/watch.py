"""The supervisor's eyes: heartbeat, cancellation, deadline, and a worker's memory, looked at between long sleeps."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .limits import resident_mib
from .processes import Worker, waiter
from .protocol import JobFailure, Json, write_json

_HEARTBEAT_S = 1.0
_IDLE_POLL_MS = 500
_MEMORY_POLL_MS = 100


class Watch:
    """Waits on behalf of a job. Every wait ends at once with a `JobFailure` when the job has to end.

    It wakes twice a second, ten times where it has to watch a memory limit: some 100 us of processor time each.

    Attributes:
        deadline: Monotonic time at which the job has timed out.
        timeout_s: The limit that the deadline came from, for the message.
        limit_mib: Memory limit that we ourselves must hold a worker to, or None.
    """

    def __init__(self, folder: Path) -> None:
        self.deadline = math.inf
        self.timeout_s = math.inf
        self.limit_mib: int | None = None
        self._folder = folder
        self._status: Json = {
            "state": "waiting_lease", "detail": "", "process": 0, "processes": 0, "heartbeat_unix": 0.0,
            "pid": os.getpid(), "started_unix": time.time(),
        }  # fmt: skip
        self._beat = -math.inf
        self._signalled = False
        self._waiter = waiter()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        if hasattr(signal, "SIGHUP"):
            signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def _on_signal(self, _number: int, _frame: Any) -> None:
        self._signalled = True

    def start_deadline(self, timeout_s: float) -> None:
        """Begin to count the job's time: waiting for the lease and for a cool device is not in it."""
        self.timeout_s = timeout_s
        self.deadline = time.monotonic() + timeout_s

    def tell(self, state: str, detail: str = "", **counts: int) -> None:
        """Write the status file; a full disk must not end the job here."""
        self._beat = time.monotonic()
        self._status.update(state=state, detail=detail, heartbeat_unix=time.time(), **counts)
        with contextlib.suppress(OSError):
            write_json(self._folder / "status.json", self._status)

    def sleep(self, seconds: float, *, beside: Worker | None = None) -> None:
        """Wait, and notice meanwhile that the job was cancelled or that a worker `beside` us takes too much memory."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._tick(beside)
            self._waiter.wait(None, min(left * 1000, _MEMORY_POLL_MS if beside else _IDLE_POLL_MS))

    def events(self, worker: Worker, *, working: bool) -> Iterator[Json]:
        """The worker's messages until it closes its pipe; one that is `working` is held to the memory limit."""
        watched = worker if working and self.limit_mib is not None else None
        while True:
            self._tick(watched)
            if self._waiter.wait(worker, _MEMORY_POLL_MS if watched else _IDLE_POLL_MS):
                events = worker.events()
                if events is None:
                    return
                yield from events

    def _tick(self, worker: Worker | None) -> None:
        now = time.monotonic()
        if now - self._beat >= _HEARTBEAT_S:
            self.tell(self._status["state"], self._status["detail"])
        if self._signalled or (self._folder / "cancel").exists():
            raise JobFailure("cancelled", "cancelled on request")
        if now > self.deadline:
            doing = f"{self._status['state']} {self._status['detail']}".strip()
            raise JobFailure("timeout", f"not finished after {self.timeout_s:g} s ({doing})")
        if worker is not None and self.limit_mib is not None and (resident_mib(worker.pid) or 0.0) > self.limit_mib:
            raise JobFailure("out_of_memory", f"a process went over its limit of {self.limit_mib} MiB")
