"""A device for tests: real files and real processes in a folder, over a link that fails as it is told.

    faults = [Fault("poll", lose(), nth=3), Fault("fetch", answer(lambda raw: raw[:100]))]
    with DeviceSession(device, transport=FakeTransport(folder, faults), agent=waiting_agent(0.5)) as session:
        ...

`FakeTransport` keeps the contract of every transport (`profiler.conformance`). It is no `transport:` of a device file,
so that no study meets it by mistake. `waiting_agent` measures nothing: its jobs wait, and its results say so.
"""

from __future__ import annotations

import errno
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, Self, TypeVar

from profiler.errors import CommandTimeout, ConnectionLost, TransferError, TransportError
from profiler.installed import AgentFile
from profiler.transports import Completed, Transport
from profiler.transports.local import LocalTransport

T = TypeVar("T")
Effect = Callable[["FakeTransport", str, Callable[[], Any]], Any]
"""What becomes of a call: given the transport, the call's name and the call itself, which it may make or not."""

PHASES = ("open", "install", "info", "submit", "start", "poll", "fetch", "cancel", "cleanup")
"""Parts of a job's way that a fault may name in place of a method: connecting, sending the agent, asking it for the
environment, sending a job, starting it, looking at it, bringing its result, asking it to stop, removing its folder."""


def lose(*, after: bool = False, opens: int = 0) -> Effect:
    """The link breaks, and stays broken until it is opened again.

    Args:
        after: The call takes effect on the device first; only its answer is lost.
        opens: How many attempts to open it again fail too.
    """

    def effect(transport: FakeTransport, call: str, action: Callable[[], Any]) -> Any:
        if after:
            action()
        transport.break_link(opens=opens)
        raise ConnectionLost(f"the link broke {'after' if after else 'at'} {call}")

    return effect


def time_out() -> Effect:
    """The device takes too long: a command is killed, anything else is given up."""

    def effect(transport: FakeTransport, call: str, action: Callable[[], Any]) -> Any:  # noqa: ARG001
        kind = CommandTimeout if call == "run" else TransportError
        raise kind(f"{call} did not end in time")

    return effect


def disk_full() -> Effect:
    """The device has no space left."""

    def effect(transport: FakeTransport, call: str, action: Callable[[], Any]) -> Any:  # noqa: ARG001
        raise TransportError(f"{call}: {os.strerror(errno.ENOSPC)}", hint="The disk is full: free some space.")

    return effect


def delay(seconds: float) -> Effect:
    """The call is made, so much later."""

    def effect(transport: FakeTransport, call: str, action: Callable[[], Any]) -> Any:  # noqa: ARG001
        time.sleep(seconds)
        return action()

    return effect


def answer(change: bytes | Callable[[bytes], bytes]) -> Effect:
    """What a file or a command's output holds, in place of the truth: other bytes, or what a function makes of it."""

    def effect(transport: FakeTransport, call: str, action: Callable[[], Any]) -> Any:  # noqa: ARG001
        found = action()
        raw = found.stdout if isinstance(found, Completed) else found
        data = change if isinstance(change, bytes) else change(raw)
        return replace(found, stdout=data) if isinstance(found, Completed) else data

    return effect


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong.

    Attributes:
        at: A method of `Transport`, or one of `PHASES`.
        effect: What happens: `lose()`, `time_out()`, `disk_full()`, `delay(s)`, `answer(...)`, or a function of yours.
        nth: From which such call on, counted from 1.
        times: At how many calls; None for all that follow.
        name: Only calls on a file of this name (`status.json`); None for all.
    """

    at: str
    effect: Effect
    nth: int = 1
    times: int | None = 1
    name: str | None = None


class FakeTransport(Transport):
    """A device in a folder of this machine.

    Attributes:
        calls: How often each method, and each phase, was called.
        faults: What goes wrong; tests may add to it at any time. Of several that apply, the first counts.

    Args:
        work_dir: The device's folder.
        faults: What goes wrong.
        python: Argument prefix that starts Python; default: the running one.
    """

    name: ClassVar[str] = "fake"

    def __init__(self, work_dir: str | Path, faults: Sequence[Fault] = (), *, python: Sequence[str] = ()) -> None:
        self.calls: Counter[str] = Counter()
        self.faults = list(faults)
        self._device = LocalTransport(work_dir, python=python)
        self._seen: Counter[int] = Counter()
        self._connected = False
        self._failing_opens = 0

    @classmethod
    def from_device(cls, device: Any) -> Self:
        """In the device's work folder, without faults."""
        return cls(device.work_dir)

    @property
    def work_dir(self) -> str:
        """Absolute path of the folder."""
        return self._device.work_dir

    @property
    def python(self) -> tuple[str, ...]:
        """Argument prefix that starts Python."""
        return self._device.python

    def break_link(self, *, opens: int = 0) -> None:
        """From now on every call fails until `open`, of which the next so many fail too."""
        self._connected = False
        self._failing_opens = opens

    def open(self) -> None:
        """Create the work folder."""

        def action() -> None:
            if self._failing_opens > 0:
                self._failing_opens -= 1
                raise ConnectionLost("the device is out of reach")
            self._device.open()
            self._connected = True

        self._through("open", "", action, linked=False)

    def close(self) -> None:
        """Release the link."""
        self._connected = False

    def run(self, argv: Sequence[str], *, timeout_s: float, stdin: bytes = b"") -> Completed:
        """Run a command, a real one."""
        return self._through(
            "run", argv[-1], lambda: self._device.run(argv, timeout_s=timeout_s, stdin=stdin)
        )  # `info` is the last word of what asks for the environment

    def start_detached(self, argv: Sequence[str], *, log: str) -> int:
        """Start a process, a real one."""
        return self._through("start_detached", log, lambda: self._device.start_detached(argv, log=log))

    def alive(self, pid: int) -> bool:
        """Ask the process table."""
        return self._through("alive", str(pid), lambda: self._device.alive(pid))

    def terminate(self, pid: int, *, force: bool = False) -> None:
        """End a process."""
        self._through("terminate", str(pid), lambda: self._device.terminate(pid, force=force))

    def push(self, source: bytes | Path, remote: str) -> int:
        """Write a file."""
        return self._through("push", remote, lambda: self._device.push(source, remote))

    def pull(self, remote: str, *, max_bytes: int) -> bytes:
        """Read a file; what a fault makes of it is bounded as the file is."""
        data = self._through("pull", remote, lambda: self._device.pull(remote, max_bytes=max_bytes))
        if len(data) > max_bytes:
            raise TransferError(f"{remote}: larger than {max_bytes} bytes")
        return data

    def exists(self, remote: str) -> bool:
        """Whether a file or folder is there."""
        return self._through("exists", remote, lambda: self._device.exists(remote))

    def listdir(self, remote: str) -> tuple[str, ...]:
        """Names in a folder."""
        return self._through("listdir", remote, lambda: self._device.listdir(remote))

    def mkdir(self, remote: str) -> None:
        """Create a folder."""
        self._through("mkdir", remote, lambda: self._device.mkdir(remote))

    def remove(self, remote: str) -> None:
        """Remove a file or a folder."""
        self._through("remove", remote, lambda: self._device.remove(remote))

    def _through(self, call: str, remote: str, action: Callable[[], T], *, linked: bool = True) -> T:
        name = PurePosixPath(remote).name
        phase = _phase(call, remote, name)
        self.calls.update({call, phase} - {""})
        if linked and not self._connected:
            raise ConnectionLost("the device is not connected")
        for fault in self.faults:
            if fault.at not in (call, phase) or fault.name not in (None, name):
                continue
            self._seen[id(fault)] += 1
            late = self._seen[id(fault)] - fault.nth
            if late >= 0 and (fault.times is None or late < fault.times):
                found: T = fault.effect(self, call, action)
                return found
        return action()


def _phase(call: str, remote: str, name: str) -> str:
    """Which part of a job's way a call belongs to; nothing where it is none."""
    of_job = "/jobs/" in remote
    if call in ("open", "run"):
        return {"open": "open", "info": "info"}.get(name or call, "")
    if call == "push":
        return "install" if not of_job else "cancel" if name == "cancel" else "submit"
    if call in ("pull", "exists", "alive"):
        return "fetch" if (call, name) == ("pull", "result.json") else "poll" if of_job or call == "alive" else ""
    return {"start_detached": "start", "remove": "cleanup"}.get(call, "")


def waiting_agent(seconds: float, *, ttft_ms: float = 5.0, decode_ms: float = 1.0, onnxruntime: str = "0") -> AgentFile:
    """An agent whose every job waits so long and then tells of constant times: a device without the device.

    It takes the device's lease, beats, can be cancelled and writes results that `parse_result` accepts; their
    `method` is `waiting`, so that they are in no series with measurements. It needs Python alone.

    Args:
        seconds: How long a job takes.
        ttft_ms: Time to the first token that it tells.
        decode_ms: Time of a decode step that it tells.
        onnxruntime: Version that it tells.
    """
    told = {
        "seconds": seconds, "ttft_ns": int(ttft_ms * 1e6), "decode_ns": int(decode_ms * 1e6),
        "onnxruntime": onnxruntime,
    }  # fmt: skip
    code = f"TOLD = {told!r}\n{_WAITING}".encode()
    return AgentFile(name="agent-waiting.py", data=code)


_WAITING = """
import fcntl, json, os, pathlib, sys, time

ENVIRONMENT = {
    "host": "fake", "machine": "fake", "cpu_model": "a stand-in that waits", "cores": 1, "memory_mib": 1024.0,
    "os": "none", "numpy": "0", "onnxruntime": TOLD["onnxruntime"], "usable_cores": 1,
    "providers": ["CPUExecutionProvider"],
}
if sys.argv[1] == "info":
    print(json.dumps(ENVIRONMENT))
    raise SystemExit
folder = pathlib.Path(sys.argv[2])
job = json.loads((folder / "job.json").read_text())

def write(name, value):
    (folder / ("." + name)).write_text(json.dumps(value))
    (folder / ("." + name)).replace(folder / name)

def status(state):
    write("status.json", {"state": state, "heartbeat_unix": time.time(), "pid": os.getpid()})

def pause(seconds, state):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        status(state)
        if (folder / "cancel").exists():
            return False
        time.sleep(max(0.0, min(0.2, until - time.monotonic())))
    return True

def take_lease():
    until = time.monotonic() + job["limits"]["lease_s"]
    while True:
        try:
            fcntl.flock(lease, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return "ok"
        except OSError:
            if time.monotonic() >= until:
                return "busy"
            if not pause(0.1, "waiting_lease"):
                return "cancelled"

status("waiting_lease")
lease = open(folder.parent.parent / "lease", "a")
outcome = take_lease()
if outcome == "ok" and not pause(TOLD["seconds"], "timing"):
    outcome = "cancelled"
going = outcome == "ok"

def sequence(point):
    ttft_ns, decode_ns = TOLD["ttft_ns"], [TOLD["decode_ns"]] * point["decode"]
    return {"prefill_ns": ttft_ns, "ttft_ns": ttft_ns, "decode_ns": decode_ns}

timing = [
    {"index": index, "kind": "timing", "points": [
        {"point": at, "warm": True, "repeats": [sequence(point)] * job["protocol"]["min_repeats"]}
        for at, point in enumerate(job["points"])]}
    for index in range(job["protocol"]["min_processes"])
]
memory = {"peak_rss_mib": 1.0, "source": "none"}
write("result.json", {
    "format": 1, "job_id": job["job_id"], "method": "waiting", "status": outcome,
    "reason": "the lease is held" if outcome == "busy" else "",
    "environment": ENVIRONMENT, "seconds": {"total": TOLD["seconds"]},
    "processes": timing + [{"index": len(timing), "kind": "memory", "memory": memory}] if going else [],
    "checks": [{"name": check["name"], "ok": True} for check in job["checks"]],
    "contenders": [
        {"name": contender["name"],
         "points": [at for at, point in enumerate(job["points"]) if point["contender"] == index]}
        for index, contender in enumerate(job["model"].get("contenders", []))
    ],
})
status("done")
"""
