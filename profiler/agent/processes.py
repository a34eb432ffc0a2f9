"""Worker processes seen from outside: started ahead of need, idle until they get their task, never left behind."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
import time
from collections.abc import Sequence

from .platforms import HERE
from .protocol import Json

QUIET_LIBRARIES = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
"""Thread pools of numpy, which the agent uses for arg-max and weights only; they would take memory and start time."""


def launcher() -> list[str]:
    """The command that started this interpreter, up to and including the agent's file.

    It is taken from the kernel where that tells: `sys.executable` is wrong where Python was started through a dynamic
    loader, as on Android.
    """
    try:
        with open("/proc/self/cmdline", "rb") as file:  # noqa: PTH123
            words = [os.fsdecode(word) for word in file.read().split(b"\0")[:-1]]
        return words[: words.index(sys.argv[0]) + 1]
    except (OSError, ValueError):
        pass
    flags = sys.orig_argv[1:]
    return [sys.executable, *(flags[: flags.index(sys.argv[0])] if sys.argv[0] in flags else []), sys.argv[0]]


class Worker:
    """One `agent worker` process.

    Attributes:
        pid: Its process id.
        status: Exit status as `os.wait4` gives it, once reaped.
        peak_mib: Largest resident memory of its life, once reaped; 0 where nobody tells.
    """

    def __init__(self, log: int) -> None:
        command = [*launcher(), "worker", str(os.getpid())]
        environment = {**os.environ, **QUIET_LIBRARIES}
        task_read, self._task = os.pipe()
        self.answers, answers_write = os.pipe()
        self.spawned = time.monotonic()
        try:
            self.pid = os.posix_spawnp(
                command[0],
                command,
                environment,
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, task_read, 0),
                    (os.POSIX_SPAWN_DUP2, answers_write, 1),
                    (os.POSIX_SPAWN_DUP2, log, 2),
                ],
            )
        finally:
            os.close(task_read)
            os.close(answers_write)
        self.status: int | None = None
        self.peak_mib = 0.0
        self.ready: Json | None = None
        self._pending = b""

    def send(self, task: Json) -> None:
        """Hand over the task; a worker that has died already is noticed by its silence."""
        data = memoryview(json.dumps(task).encode() + b"\n")
        with contextlib.suppress(BrokenPipeError):
            while data:
                data = data[os.write(self._task, data) :]

    def events(self) -> Sequence[Json] | None:
        """Read what has arrived, without waiting longer than for the first byte; None at the end."""
        chunk = os.read(self.answers, 1 << 20)
        if not chunk:
            return None
        *lines, self._pending = (self._pending + chunk).split(b"\n")
        return [json.loads(line) for line in lines if line]

    def reap(self, *, kill: bool = False) -> int:
        """Wait for its end, which `kill` brings about; the exit status as `os.wait4` gives it. May be repeated."""
        if self.status is None:
            if kill:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.pid, signal.SIGKILL)
            _, self.status, usage = os.wait4(self.pid, 0)
            self.peak_mib = usage.ru_maxrss * HERE.maxrss_bytes / 2**20
            os.close(self._task)
            os.close(self.answers)
        return self.status

    def describe_exit(self) -> str:
        """How it ended: `ok`, `exit 3`, `SIGSEGV`. Waits for the end."""
        status = self.reap()
        if os.WIFSIGNALED(status):
            with contextlib.suppress(ValueError):
                return signal.Signals(os.WTERMSIG(status)).name
            return f"signal {os.WTERMSIG(status)}"
        code = os.WEXITSTATUS(status)
        return "ok" if code == 0 else f"exit {code}"


class Waiter:
    """Sleeps until a worker says something, a signal comes, or the time is over."""

    def __init__(self) -> None:
        self._wake, wake_write = os.pipe()
        os.set_blocking(wake_write, False)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)

    def wait(self, worker: Worker | None, timeout_ms: float) -> bool:
        """Whether `worker` has something to say, or has closed its pipe."""
        poll = select.poll()
        for descriptor in (self._wake,) if worker is None else (worker.answers, self._wake):
            poll.register(descriptor, select.POLLIN)
        ready = {descriptor for descriptor, _ in poll.poll(timeout_ms)}
        if self._wake in ready:
            os.read(self._wake, 512)
        return worker is not None and worker.answers in ready


def hire(log: int) -> Worker:
    """Start a worker in the way of this system."""
    if hasattr(os, "posix_spawnp"):
        return Worker(log)
    from .piped import PipedWorker

    return PipedWorker(log)


def waiter() -> Waiter:
    """What waits for such workers."""
    if hasattr(os, "posix_spawnp"):
        return Waiter()
    from .piped import PipedWaiter

    return PipedWaiter()
