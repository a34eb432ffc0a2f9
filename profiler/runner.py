"""Drives one device: installs the agent, hands it jobs, watches them, brings results back.

Threads: a session belongs to one thread; only `cancel` events may be set from others.
Ownership: the agent owns its measurement. A session that ends, or a driver that is killed, leaves it running; `attach`
finds it again. Polling is a sleep and one small read: on the local device the driver shares the cores with the work.
Retries: a lost connection is made again (`patience.py`). A measurement is never started twice.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import PurePosixPath
from threading import Event
from types import TracebackType
from typing import Final, Self

from profiler.agent.protocol import METHOD
from profiler.devices import Device
from profiler.errors import (
    AgentDied,
    ConnectionLost,
    DeviceUnavailable,
    JobError,
    RemoteFileMissing,
    ResultError,
    TransferError,
)
from profiler.installed import AgentFile, ask_environment, identity, place_agent
from profiler.jobs import Job, MeasurementKey, Runtime, pack_files, require_job_id
from profiler.patience import PatientLink
from profiler.results import (
    MAX_RESULT_BYTES,
    MAX_STATUS_BYTES,
    Environment,
    JobStatus,
    parse_status,
)
from profiler.transports import Transport, make_transport

TRUSTED_S: Final = 3.0
"""After a heartbeat was seen to move, a process counts as alive for so long without being asked for: every question
costs the device time that a measurement would have."""
STALE_S: Final = 60.0
COMPRESS_ABOVE: Final = 192 * 2**10
STARTED_S: Final = 15.0
"""An agent that was started has said so within this time."""
_CANCEL_GRACE_S: Final = 10.0
_KILLED_S: Final = 5.0
"""A process that was killed is gone within this time."""


@dataclass(slots=True, kw_only=True)
class JobHandle:
    """A job on the device.

    Attributes:
        job_id: Its id.
        folder: Its folder on the device.
        pid: The agent's process id, or None when it ended before we came.
        bytes_sent: Bytes that crossed the link for this job, pushes that broke among them; 0 for one that was attached.
    """

    job_id: str
    folder: str
    pid: int | None
    bytes_sent: int = 0
    _heartbeat: float | None = None
    _seen_at: float = 0.0
    _moved_at: float = -math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Poll:
    """One look at a job.

    Attributes:
        done: A result can be fetched.
        status: What the agent said last; None before its first word.
    """

    done: bool
    status: JobStatus | None


class DeviceSession:
    """An open device. Use it as a context manager, from one thread.

    Args:
        device: Which one.
        transport: In place of the one that the device names.
        agent: In place of the bundled one.
        python: Argument prefix that starts Python there, in place of the transport's.
        poll_s: Pause between two looks at a job; default: the transport's.
        stale_s: A heartbeat that has not moved for so long is a dead agent.

    Attributes:
        link: The way to the device; it waits for a lost one.
        bytes_sent: Bytes that crossed the link for all jobs of this session, those not taken too. A push that broke
            counts as a whole: how far it came is not known.
    """

    def __init__(
        self,
        device: Device,
        *,
        transport: Transport | None = None,
        agent: AgentFile | None = None,
        python: Sequence[str] | None = None,
        poll_s: float | None = None,
        stale_s: float = STALE_S,
    ) -> None:
        self.device = device
        self.link = PatientLink(transport or make_transport(device), device.reconnect_s)
        self._agent = agent
        self._own_python = tuple(python or ())
        self._poll_s = max(self.link.transport.poll_s if poll_s is None else poll_s, 0.02)
        self._stale_s = stale_s
        self._environment: Environment | None = None
        self._agent_path = ""
        self.bytes_sent = 0

    def open(self) -> None:
        """Connect, install the agent and ask it for the device's environment.

        Raises:
            UnsupportedTransport: This version cannot reach such a device.
            TransportError: The device does not answer.
            DeviceUnavailable: It answers but lacks Python, numpy or onnxruntime.
        """
        self.link.call(self.link.transport.open)
        try:
            self._agent_path = self.link.call(lambda: place_agent(self.link.transport, self._agent))
            self._environment = ask_environment(self.device, self.link, self._agent_path, self._python)
            self.link.known = True
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Release the link; jobs go on."""
        self.link.transport.close()

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def environment(self) -> Environment:
        """The device as it described itself when the session was opened."""
        if self._environment is None:
            raise DeviceUnavailable(f"device {self.device.name!r} is not open")
        return self._environment

    @property
    def _python(self) -> tuple[str, ...]:
        """What starts Python there."""
        return self._own_python or self.link.transport.python

    @property
    def runtime_version(self) -> str:
        """Version of ONNX Runtime on the device."""
        return self.environment.onnxruntime or "unknown"

    @property
    def fingerprint(self) -> str:
        """Identity of the device and its fixed conditions, 16 hex digits.

        Hashed: its name in the device file (two of one make are not one: silicon and cooling differ), machine,
        processor, core count, memory in GiB, operating system, libc, governor, clock policy. Host name, kernel and
        addresses are not: they change without changing a number.
        """
        fields = {
            "name": self.device.name,
            "clock_policy": self.device.clock_policy,
            "clock_mhz": self.device.clock_mhz,
            **identity(self.environment),
        }
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:16]

    def changed(self, environment: Environment) -> str:
        """How a device, as it describes itself now, is not what it was when the session was opened; or an empty text.

        An update, another governor, another device behind the same address: what it measures belongs to another series.
        """
        before, now = identity(self.environment), identity(environment)
        return ", ".join(f"{name}: {before[name]} -> {now[name]}" for name in before if before[name] != now[name])

    def refresh(self) -> None:
        """Ask the device anew who it is.

        Raises:
            TransportError: It does not answer.
            DeviceUnavailable: It can no longer measure.
        """
        self._environment = ask_environment(self.device, self.link, self._agent_path, self._python)

    def repair(self) -> None:
        """Put the agent back if somebody has removed it; for the time after a job that failed.

        Raises:
            TransportError: The device could not be reached or written to.
        """
        self._agent_path = self.link.call(lambda: place_agent(self.link.transport, self._agent))

    def runtime(self, session_config: Mapping[str, str] | None = None) -> Runtime:
        """The device's runtime settings with every default resolved to a number.

        Raises:
            DeviceUnavailable: No thread count is configured and the device does not tell its cores.
        """
        cores = self.device.cores
        threads = self.device.threads or (len(cores) if cores else None)
        if threads is None:
            usable = self.environment.further("usable_cores")
            threads = usable if isinstance(usable, int) and usable > 0 else self.environment.cores
        if threads is None:
            raise DeviceUnavailable(
                f"device {self.device.name!r} does not tell its cores",
                hint="Set `threads` for it in the device file.",
            )
        return Runtime(
            threads=threads, cores=cores, providers=self.device.providers, session_config=dict(session_config or {})
        )

    def key(self, job: Job) -> MeasurementKey:
        """What this job's numbers would depend on here: job, device, runtime version and measuring code."""
        return job.key(method=METHOD, runtime_version=self.runtime_version, device_fingerprint=self.fingerprint)

    def submit(self, job: Job, files: Mapping[str, bytes]) -> JobHandle:
        """Send a job and start its agent, detached. Returns at once; the agent waits for the device's lease itself.

        Args:
            job: What to measure.
            files: Content of `job.file_names()`, by name.

        Raises:
            JobError: A file is missing or unexpected, or a job of this id is already on the device.
            TransportError: The device could not be reached or written to.
        """
        folder = self._folder(job.job_id)
        if self.link.call(lambda: self.link.transport.exists(folder)):
            raise JobError(f"job {job.job_id} is already on {self.device.name!r}", hint="Attach to it, or clean it up.")
        before = self.bytes_sent
        self._send(pack_files(job, files), folder)
        sent = self.bytes_sent - before
        return JobHandle(
            job_id=job.job_id, folder=folder, pid=self._start(folder), bytes_sent=sent, _seen_at=time.monotonic()
        )

    def poll(self, handle: JobHandle) -> Poll:
        """Look once at a job, without waiting.

        Raises:
            AgentDied: Its process is gone, or its heartbeat stopped, and there is no result.
            ResultError: Its status file is not one.
        """
        status = self._status(handle.folder)
        now = time.monotonic()
        if status is not None:
            if status.heartbeat_unix != handle._heartbeat:
                if handle._heartbeat is not None:
                    handle._moved_at = now
                handle._heartbeat, handle._seen_at = status.heartbeat_unix, now
            handle.pid = handle.pid or status.pid
            if status.state == "done" and self._has_result(handle.folder):
                return Poll(done=True, status=status)
            if now - handle._moved_at < TRUSTED_S:
                return Poll(done=False, status=status)
        pid = handle.pid
        if pid is not None and self.link.call(lambda: self.link.transport.alive(pid)):
            if now - handle._seen_at <= self._stale_s:
                return Poll(done=False, status=status)
            what = f"gave no sign for {self._stale_s:g} s"
        else:
            what = "ended without a result"
        if self._has_result(handle.folder):
            return Poll(done=True, status=status)
        raise AgentDied(
            f"the agent of job {handle.job_id} on {self.device.name!r} {what}{self._log_tail(handle.folder)}"
        )

    def wait(
        self,
        handle: JobHandle,
        on_status: Callable[[JobStatus | None], None] | None = None,
        cancel: Event | None = None,
    ) -> bytes:
        """Wait for a job and bring its result.

        Args:
            handle: Which.
            on_status: Called after each look with what the agent said last.
            cancel: When set, the job is asked to stop and its `cancelled` result is awaited for 10 s; then it is
                killed.

        Returns:
            The raw bytes of result.json, for `parse_result`.

        Raises:
            AgentDied: It ended without a result, was killed, or stopped giving signs.
            ResultError: What it wrote is too large to be one.
        """
        pause = cancel or Event()
        cancelled_at: float | None = None
        while True:
            look = self.poll(handle)
            if on_status is not None:
                on_status(look.status)
            if look.done:
                return self._written(f"{handle.folder}/result.json", MAX_RESULT_BYTES)
            if cancel is not None and cancel.is_set():
                if cancelled_at is None:
                    cancelled_at = time.monotonic()
                    self.cancel(handle)
                elif time.monotonic() - cancelled_at > _CANCEL_GRACE_S:
                    self.kill(handle)
                time.sleep(self._poll_s)
            else:
                pause.wait(self._poll_s)

    def cancel(self, handle: JobHandle) -> None:
        """Ask a job to stop; it then writes a result with status `cancelled`."""
        self.link.call(lambda: self.link.transport.push(b"", f"{handle.folder}/cancel"))

    def kill(self, handle: JobHandle) -> None:
        """End a job's agent by force; a measurement in flight is lost."""
        pid = handle.pid
        handle._moved_at = -math.inf
        if pid is not None:
            self.link.call(lambda: self.link.transport.terminate(pid, force=True))
            until = time.monotonic() + _KILLED_S
            while self.link.call(lambda: self.link.transport.alive(pid)) and time.monotonic() < until:
                time.sleep(self._poll_s)

    def attach(self, job_id: str) -> JobHandle | None:
        """Find a job that a driver before us submitted.

        Returns:
            A handle when it still runs or has a result; None when it is unknown or died (then `cleanup` it).
        """
        folder = self._folder(job_id)
        if not self.link.call(lambda: self.link.transport.exists(folder)):
            return None
        handle = JobHandle(job_id=job_id, folder=folder, pid=None, _seen_at=time.monotonic())
        try:
            self.poll(handle)
        except (AgentDied, ResultError):
            return None
        return handle

    def cleanup(self, job_id: str) -> None:
        """Remove a job's folder from the device; weights and agent stay for the next job.

        Raises:
            JobError: Its agent still runs.
        """
        folder = self._folder(job_id)
        status = None
        with suppress(ResultError):  # a damaged status does not keep a folder
            status = self._status(folder)
        if status is not None and status.state != "done":
            pid = status.pid
            if self.link.call(lambda: self.link.transport.alive(pid)):
                raise JobError(f"job {job_id} still runs on {self.device.name!r}", hint="Cancel it first.")
        self.link.call(lambda: self.link.transport.remove(folder))

    def _folder(self, job_id: str) -> str:
        require_job_id(job_id)  # it may come out of a shared store, and its folder is going to be removed
        return str(PurePosixPath(self.link.transport.work_dir) / "jobs" / job_id)

    def _send(self, files: Mapping[str, bytes], folder: str) -> None:
        """Push the files, job.json last; above `COMPRESS_ABOVE` as one archive that Python there unpacks."""
        if sum(map(len, files.values())) <= COMPRESS_ABOVE:
            for name in sorted(files, key=lambda name: name == "job.json"):
                self._push(files[name], f"{folder}/{name}")
            return
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
            for name, data in files.items():
                archive.writestr(name, data)
        target = f"{folder}/files.zip"
        self._push(packed.getvalue(), target)
        argv = (*self._python, "-I", "-S", "-m", "zipfile", "-e", target, folder)
        done = self.link.call(lambda: self.link.transport.run(argv, timeout_s=60))
        if done.exit_code != 0:
            lines = done.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"]
            raise DeviceUnavailable(f"device {self.device.name!r} could not unpack a job: {lines[-1][:300]}")
        self.link.call(lambda: self.link.transport.remove(target))

    def _push(self, data: bytes, remote: str) -> None:
        def once() -> None:
            self.bytes_sent += len(data)  # unless the transport knows better
            self.bytes_sent += self.link.transport.push(data, remote) - len(data)

        self.link.call(once)

    def _start(self, folder: str) -> int | None:
        """Start the agent; its process id.

        When the link is lost on the way, nobody knows whether it was started: its status tells, once the device is
        there again. Without a status it is started anew; of two agents on one job the second ends at once.
        """
        argv = (*self._python, self._agent_path, "run", folder)
        try:
            return self.link.transport.start_detached(argv, log=f"{folder}/agent.log")
        except ConnectionLost:
            until = time.monotonic() + STARTED_S
            while (status := self._status(folder)) is None and time.monotonic() < until:
                self.link.stop.wait(self._poll_s)
            if status is not None:
                return status.pid
        return self.link.call(lambda: self.link.transport.start_detached(argv, log=f"{folder}/agent.log"))

    def _status(self, folder: str) -> JobStatus | None:
        try:
            raw = self._written(f"{folder}/status.json", MAX_STATUS_BYTES)
        except RemoteFileMissing:
            return None
        return parse_status(raw)

    def _written(self, remote: str, most: int) -> bytes:
        """What an agent wrote.

        Raises:
            ResultError: It is larger than anything an agent writes.
            RemoteFileMissing: It is not there.
        """
        try:
            return self.link.call(lambda: self.link.transport.pull(remote, max_bytes=most))
        except TransferError as error:
            raise ResultError(f"the agent on {self.device.name!r} wrote nonsense: {error}") from error

    def _has_result(self, folder: str) -> bool:
        return self.link.call(lambda: self.link.transport.exists(f"{folder}/result.json"))

    def _log_tail(self, folder: str) -> str:
        try:
            raw = self.link.transport.pull(f"{folder}/agent.log", max_bytes=2**20)
        except Exception:  # noqa: BLE001 - the log only adds to a message
            return ""
        lines = raw.decode(errors="replace").strip().splitlines()
        return f": {lines[-1][:300]}" if lines else ""
