"""Workers on systems without `posix_spawn`: started by `subprocess`, heard by one thread each."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

from .platforms import HERE
from .processes import QUIET_LIBRARIES, Waiter, Worker, launcher
from .protocol import Json

_NO_WINDOW = 0x0800_0000
"""CREATE_NO_WINDOW: a console of its own, which is not shown."""


class PipedWorker(Worker):
    """One `agent worker` process; `status` is its exit code."""

    def __init__(self, log: int) -> None:
        command = [*launcher(), "worker", str(os.getpid())]
        environment = {**os.environ, **QUIET_LIBRARIES}
        options: dict[str, Any] = {}
        if sys.platform == "win32":
            from .windows import interpreter

            command[0], more = interpreter()
            environment.update(more)
            options["creationflags"] = _NO_WINDOW
        self.spawned = time.monotonic()
        self._process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, bufsize=0, **options
        )
        assert self._process.stdout is not None
        self.pid = self._process.pid
        self.status: int | None = None
        self.peak_mib = 0.0
        self.ready: Json | None = None
        self._pending = b""
        self._heard: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._next: bytes | None = None
        self._listener = threading.Thread(target=self._listen, args=(self._process.stdout.fileno(),), daemon=True)
        self._listener.start()

    def _listen(self, descriptor: int) -> None:
        chunk = b"-"
        while chunk:
            try:
                chunk = os.read(descriptor, 1 << 20)
            except OSError:
                chunk = b""
            self._heard.put(chunk)

    def wait(self, timeout_s: float) -> bool:
        """Whether it says something in time, or has closed its pipe."""
        if self._next is None:
            with contextlib.suppress(queue.Empty):
                self._next = self._heard.get(timeout=timeout_s)
        return self._next is not None

    def send(self, task: Json) -> None:
        """Hand over the task; a worker that has died already is noticed by its silence."""
        assert self._process.stdin is not None
        data = memoryview(json.dumps(task).encode() + b"\n")
        with contextlib.suppress(OSError):
            while data:
                data = data[self._process.stdin.write(data) or 0 :]

    def events(self) -> Sequence[Json] | None:
        """What has arrived; None at the end."""
        chunk = self._heard.get() if self._next is None else self._next
        self._next = None if chunk else chunk  # the end is told again
        if not chunk:
            return None
        *lines, self._pending = (self._pending + chunk).split(b"\n")
        return [json.loads(line) for line in lines if line.strip()]

    def reap(self, *, kill: bool = False) -> int:
        """Wait for its end, which `kill` brings about; its exit code. May be repeated."""
        if self.status is None:
            living = HERE.peak_of(self._process) or 0.0
            if kill:
                with contextlib.suppress(OSError):
                    self._process.kill()
            self.status = self._process.wait()
            self.peak_mib = max(living, HERE.peak_of(self._process) or 0.0)
            self._listener.join(1.0)
            for stream in (self._process.stdin, self._process.stdout):
                if stream is not None:
                    with contextlib.suppress(OSError):
                        stream.close()
        return self.status

    def describe_exit(self) -> str:
        """How it ended: `ok`, `exit 3`, `exit 0xC0000005`. Waits for the end."""
        code = self.reap()
        if code == 0:
            return "ok"
        return f"exit 0x{code:08X}" if code > 0xFFFF else f"exit {code}"


class PipedWaiter(Waiter):
    """Waits for a worker's thread; a signal is noticed when the time is over."""

    def __init__(self) -> None:
        """Nothing is held."""

    def wait(self, worker: Worker | None, timeout_ms: float) -> bool:
        """Whether `worker` has something to say, or has closed its pipe."""
        if worker is None:
            time.sleep(timeout_ms / 1000)
            return False
        assert isinstance(worker, PipedWorker)
        return worker.wait(timeout_ms / 1000)
