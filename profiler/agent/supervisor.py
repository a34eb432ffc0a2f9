"""Runs one job: lease, cooling, checks, timing processes, memory pass; always ends in a result.json.

It imports neither numpy nor onnxruntime and sleeps while a worker works: it wakes twice a second, or ten times where it has to
watch a memory limit itself.
"""

from __future__ import annotations

import contextlib
import math
import os
import select
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .agreement import disagreement, widest_interval
from .conditions import (
    OtherLoad,
    busiest_others,
    clocks_mhz,
    environment,
    out_of_memory_kills,
    process_seconds,
    temperature_c,
)  # fmt: skip
from .lease import Lease
from .limits import MemoryCgroup, peak_mib, resident_mib
from .processes import Worker
from .protocol import (
    FORMAT,
    JOB_SECONDS,
    METHOD,
    P95_SAMPLES,
    PROCESS_SECONDS,
    PROTOCOL_DEFAULTS,
    JobFailure,
    Json,
    one_line,
    read_json,
    write_json,
)  # fmt: skip

_STATES = {
    "weights": "weights", "check": "checking", "load": "timing", "warmup": "timing", "timed": "timing", "memory": "memory",
}  # fmt: skip
_COOLING_WINDOW_S = 0.5
_LEASE_POLL_S = 0.2


class Supervisor:
    """One job folder, from `run` to result."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.work = folder.parent.parent
        self.begun = _process_begin()
        self.job: Json = {}
        self.protocol: Json = dict(PROTOCOL_DEFAULTS)
        self.seconds = dict.fromkeys(JOB_SECONDS, 0.0)
        self.result: Json = {
            "format": FORMAT, "job_id": folder.name, "method": METHOD, "status": "failed", "reason": "", "environment": {},
            "processes": [], "checks": [], "seconds": self.seconds, "stopped_because": None, "weights": None,
        }  # fmt: skip
        self.status: Json = {
            "state": "waiting_lease", "detail": "", "process": 0, "processes": 0, "heartbeat_unix": 0.0,
            "pid": os.getpid(), "started_unix": time.time(),
        }  # fmt: skip
        self.lease = Lease(self.work / "lease")
        self.limit_mib: int | None = None
        self.cgroup: MemoryCgroup | None = None
        self.deadline = math.inf
        self.model = ""
        self._spares: list[Worker] = []
        self._all: list[Worker] = []
        self._signalled = False
        self._beat = 0.0
        self._wake, wake_write = os.pipe()
        os.set_blocking(wake_write, False)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        self._log = os.open(folder / "agent.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)

    # -- the job ---------------------------------------------------------------------------------------------------

    def run(self) -> int:
        """Do the job. Returns 0 once a result is written, whatever its status."""
        self.seconds["start"] += time.monotonic() - self.begun
        try:
            self._read_job()
            self._take_lease()
            self._spawn()
            self.result["environment"] = environment({"numpy": None, "onnxruntime": None})
            self._cool()
            self.deadline = time.monotonic() + float(self.job["limits"]["timeout_s"])
            self._prepare()
            self._time()
            if self.protocol["memory_pass"]:
                self._memory()
            self.result["status"] = "ok"
        except JobFailure as failure:
            self.result.update(status=failure.status, reason=failure.reason)
        except (KeyError, TypeError, ValueError) as error:
            self.result.update(status="failed", reason=f"job.json does not have the agreed form: {one_line(error)}")
        except Exception as error:  # noqa: BLE001 - whatever happens, the host gets a result
            self.result.update(status="failed", reason=one_line(error))
        return self._finish()

    def _read_job(self) -> None:
        self.job = read_json(self.folder / "job.json")
        self.result["job_id"] = str(self.job["job_id"])
        if self.job["format"] != FORMAT:
            raise JobFailure("failed", f"job format {self.job['format']} is not {FORMAT}, the only one this agent knows")
        self.protocol.update(self.job["protocol"])
        self.job["protocol"] = self.protocol
        if not self.job["points"]:
            raise JobFailure("failed", "the job has no points")
        self.status["processes"] = int(self.protocol["max_processes"])
        self.limit_mib = self.job["limits"].get("memory_mib")
        if self.limit_mib is not None:
            self.cgroup = MemoryCgroup(int(self.limit_mib))

    def _take_lease(self) -> None:
        label = str(self.job.get("label") or self.job["job_id"])
        begun = time.monotonic()
        while not self.lease.try_acquire(label):
            self._tell("waiting_lease", self.lease.holder())
            self._sleep(_LEASE_POLL_S)
        self.seconds["waiting"] += time.monotonic() - begun

    def _cool(self) -> None:
        """Wait until nobody else works and the processor is cool."""
        rules = self.job.get("cooling") or {}
        limit = float(rules.get("max_other_cpu", 0.10))
        hottest = rules.get("max_temperature_c")
        begun = time.monotonic()
        until = begun + float(rules.get("timeout_s", 60))
        load = OtherLoad(lambda: time.process_time() + sum(process_seconds(worker.pid) for worker in self._all))
        self._tell("cooling", "")
        try:
            while True:
                load.mark()
                self._sleep(_COOLING_WINDOW_S)
                other = load.since_mark() or 0.0
                heat = temperature_c() if hottest is not None else None
                hot = heat is not None and hottest is not None and heat > hottest
                if other <= limit and not hot:
                    return
                busy = f"others use {other:.0%} of the processor (limit {limit:.0%})" if other > limit else ""
                warm = f"{heat:.0f} C (limit {hottest:.0f} C)" if hot else ""
                reason = ", ".join(filter(None, (busy, warm)))
                self._tell("cooling", reason)
                if time.monotonic() >= until:
                    named = f": {busiest_others(self._own_pids())}" if busy else ""
                    raise JobFailure("not_cooled", reason + named)
        finally:
            self.seconds["waiting"] += time.monotonic() - begun

    def _prepare(self) -> None:
        """Weights, block checks and operators in one process, while the next ones start and stand by."""
        worker = self._spares.pop()
        for _ in range(int(self.protocol["min_processes"]) + bool(self.protocol["memory_pass"])):
            self._spawn()
        task = {"kind": "check", "job": self.job, "folder": str(self.folder), "weights": str(self.work / "weights")}
        record = self._run(worker, "check", task)
        self.model = record["placed"]["model"]

    def _time(self) -> None:
        """Fresh processes until the interval is narrow, or the budget or their number ends."""
        rules = self.protocol
        least, most = int(rules["min_processes"]), int(rules["max_processes"])
        budget = float(rules["time_budget_s"])
        repeats = [wanted_repeats(rules, int(point["decode"])) for point in self.job["points"]]
        job = {key: value for key, value in self.job.items() if key != "checks"}
        task = {"kind": "timing", "job": job, "model": self.model, "repeats": repeats, "slice_s": budget / least}
        begun = time.monotonic()
        done: list[Json] = []
        while True:
            self.status["process"] = len(done) + 1
            worker = self._standby() if len(done) < least else self._spawn_now()
            done.append(self._run(worker, "timing", task))
            if reason := disagreement(done):
                raise JobFailure("invalid", reason)
            if len(done) < least:
                continue
            used = time.monotonic() - begun
            if widest_interval(done) <= float(rules["target_half_width"]):
                self.result["stopped_because"] = "interval"
            elif len(done) >= most:
                self.result["stopped_because"] = "max_processes"
            elif used + used / len(done) > budget:
                self.result["stopped_because"] = "time_budget"
            else:
                continue
            return

    def _memory(self) -> None:
        job = {key: value for key, value in self.job.items() if key != "checks"}
        self._tell("memory", "")
        self._run(self._standby(), "memory", {"kind": "memory", "job": job, "model": self.model})

    # -- workers ---------------------------------------------------------------------------------------------------

    def _spawn(self) -> None:
        worker = Worker(self._log)
        self._all.append(worker)
        self._spares.insert(0, worker)

    def _spawn_now(self) -> Worker:
        self._spawn()
        return self._spares.pop(0)

    def _standby(self) -> Worker:
        """A worker that is ready; all others have ended their start too, so that none disturbs it."""
        for worker in self._spares:
            self._await_ready(worker)
        return self._spares.pop()

    def _await_ready(self, worker: Worker) -> None:
        if worker.ready is None:
            begun = time.monotonic()
            for event in self._events(worker):
                worker.ready = event
                versions = {key: event[key] for key in ("numpy", "onnxruntime")}
                self.result["environment"].update(versions)
                break
            else:
                raise JobFailure("failed", f"a worker process did not start ({worker.describe_exit()}): {self._log_tail()}")
            self.seconds["start"] += time.monotonic() - begun

    def _run(self, worker: Worker, kind: str, task: Json) -> Json:
        """Give a worker its task and wait for its end; its record joins the result, whatever happens.

        Raises:
            JobFailure: It failed, died, or had to be killed.
        """
        self._await_ready(worker)
        assert worker.ready is not None
        begun = time.monotonic()
        kills = out_of_memory_kills()
        if self.cgroup is not None and not self.cgroup.adopt(worker.pid):
            self.cgroup.close()
        record: Json = {}
        phases: list[tuple[str, float]] = []
        failure: JobFailure | None = None
        try:
            worker.send(task)
            for event in self._events(worker, phases):
                if event["event"] == "phase":
                    phases.append((event["name"], time.monotonic()))
                    self._tell(_STATES[event["name"]] if kind == "timing" else self._state(kind, event), _detail(event))
                    continue
                record = event["record"]
                if event["event"] == "error":
                    failure = JobFailure(event["status"], event["reason"])
            worker.reap()
            if not record:
                failure = self._death(worker, kind, kills, phases)
        except JobFailure as stopped:
            failure = stopped
            worker.reap(kill=True)
        ended = time.monotonic()
        self._record(worker, kind, record, phases, begun, ended, failure)
        if failure is not None:
            raise self._explained(failure, worker)
        return {**record, "index": self.result["processes"][-1]["index"]}

    @staticmethod
    def _state(kind: str, event: Json) -> str:
        return "memory" if kind == "memory" else _STATES[event["name"]]

    def _record(
        self, worker: Worker, kind: str, record: Json, phases: list[tuple[str, float]], begun: float, ended: float,
        failure: JobFailure | None,
    ) -> None:  # fmt: skip
        """Book the time and append the process to the result."""
        wall = ended - begun
        spent = {key: float(value) for key, value in record.get("seconds", {}).items()} or _spans(phases, ended)
        for name, seconds in spent.items() if kind != "memory" else [("memory", wall)]:
            self.seconds[name] += seconds
        parts = dict.fromkeys(PROCESS_SECONDS, 0.0)
        parts["start"] = float(worker.ready["at"]) - worker.spawned if worker.ready else 0.0
        for name, seconds in spent.items():
            parts[name if name in parts else "other"] += seconds
        parts["other"] += max(0.0, wall - sum(spent.values()))
        memory = record.get("memory")
        if failure is not None and memory is None and kind != "check":
            memory = {"peak_rss_mib": round(worker.peak_mib, 2), "phases": {}, "source": "ru_maxrss, until it failed"}
        if record.get("placed"):
            self.result["weights"] = {key: record["placed"][key] for key in ("bytes", "cached")}
        self.result["checks"] += record.get("checks", [])
        ended_by = worker.describe_exit() if failure is None or not record else failure.status
        self.result["processes"].append(
            {
                "index": len(self.result["processes"]),
                "kind": kind,
                "pid": worker.pid,
                "seconds": {name: round(max(0.0, value), 4) for name, value in parts.items()},
                "load_ms": record.get("load_ms"),
                "points": record.get("points", []),
                "operators": record.get("operators"),
                "providers": record.get("providers"),
                "memory": memory,
                "exit": ended_by,
            }
        )

    def _death(self, worker: Worker, kind: str, kills: int, phases: list[tuple[str, float]]) -> JobFailure:
        """Why a worker ended without an answer."""
        how = worker.describe_exit()
        where = f"the {kind} process died during {phases[-1][0] if phases else 'its start'}"
        tail = self._log_tail()
        if self.cgroup is not None and self.cgroup.killed():
            return JobFailure("out_of_memory", f"{where}: over its limit of {self.limit_mib} MiB")
        if how == "SIGKILL" and out_of_memory_kills() > kills:
            return JobFailure("out_of_memory", f"{where}: the device ran out of memory")
        if "bad_alloc" in tail:
            return JobFailure("out_of_memory", f"{where}: an allocation failed")
        return JobFailure("failed", f"{where} ({how})" + (f": {tail}" if tail else ""))

    def _explained(self, failure: JobFailure, worker: Worker) -> JobFailure:
        if failure.status == "throttled":
            return JobFailure("throttled", f"{failure.reason}: {busiest_others(self._own_pids())}")
        if failure.status == "out_of_memory":
            return JobFailure("out_of_memory", f"{failure.reason}; {worker.peak_mib:.0f} MiB were seen")
        return failure

    def _own_pids(self) -> list[int]:
        return [os.getpid(), *(worker.pid for worker in self._all if worker.status is None)]

    def _log_tail(self) -> str:
        try:
            text = (self.folder / "agent.log").read_bytes()[-2000:].decode("utf-8", "replace").strip()
        except OSError:
            return ""
        return one_line(text.splitlines()[-1], 300) if text else ""

    # -- waiting ---------------------------------------------------------------------------------------------------

    def _events(self, worker: Worker, phases: list[tuple[str, float]] | None = None) -> Iterator[Json]:
        """The worker's messages until it closes its pipe, ticking meanwhile."""
        poll = select.poll()
        poll.register(worker.answers, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        watching = phases is not None and self.limit_mib is not None and not (self.cgroup and self.cgroup.active)
        while True:
            self._tick(worker if watching else None)
            ready = {descriptor for descriptor, _ in poll.poll(100 if watching else 500)}
            if self._wake in ready:
                os.read(self._wake, 512)
            if worker.answers in ready:
                events = worker.events()
                if events is None:
                    return
                yield from events

    def _sleep(self, seconds: float) -> None:
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        until = time.monotonic() + seconds
        while True:
            self._tick(None)
            left = until - time.monotonic()
            if left <= 0:
                return
            if poll.poll(min(left, 0.5) * 1000):
                os.read(self._wake, 512)

    def _tick(self, worker: Worker | None) -> None:
        """Heartbeat, cancellation, deadline, and the memory of `worker` where we have to watch it.

        Raises:
            JobFailure: One of them ends the job.
        """
        now = time.monotonic()
        if now - self._beat >= 1.0:
            self._tell(self.status["state"], self.status["detail"])
        if self._signalled or (self.folder / "cancel").exists():
            raise JobFailure("cancelled", "cancelled on request")
        if now > self.deadline:
            limit = float(self.job["limits"]["timeout_s"])
            raise JobFailure("timeout", f"not finished after {limit:g} s ({self.status['state']} {self.status['detail']})")
        if worker is not None and self.limit_mib is not None and resident_mib(worker.pid) > self.limit_mib:
            peak = max(peak_mib(worker.pid), resident_mib(worker.pid))
            raise JobFailure("out_of_memory", f"over its limit of {self.limit_mib} MiB ({peak:.0f} MiB)")

    def _tell(self, state: str, detail: str) -> None:
        """Write the status file; a full disk must not end the job here."""
        self._beat = time.monotonic()
        self.status.update(state=state, detail=detail, heartbeat_unix=time.time())
        with contextlib.suppress(OSError):
            write_json(self.folder / "status.json", self.status)

    def _on_signal(self, _number: int, _frame: Any) -> None:
        self._signalled = True

    # -- the end ---------------------------------------------------------------------------------------------------

    def _finish(self) -> int:
        for worker in self._all:
            worker.reap(kill=True)
        if self.cgroup is not None:
            self.cgroup.close()
        record = self.result["environment"] or environment({"numpy": None, "onnxruntime": None})
        record.update(temperature_end_c=temperature_c(), cpu_mhz_end=clocks_mhz())
        self.result["environment"] = record
        self.seconds["total"] = time.monotonic() - self.begun
        booked = sum(value for name, value in self.seconds.items() if name not in {"other", "total"})
        self.seconds["other"] = max(0.0, self.seconds["total"] - booked)
        for name, value in self.seconds.items():
            self.seconds[name] = round(value, 4)
        written = self._write_result()
        self._tell("done", self.result["status"])
        self.lease.release()
        return 0 if written else 1

    def _write_result(self) -> bool:
        path = self.folder / "result.json"
        try:
            write_json(path, self.result)
        except OSError as error:
            self.result.update(status="failed", reason=f"the result could not be written: {error.strerror}", processes=[])
            try:
                write_json(path, self.result)
            except OSError:
                return False
        return True


def wanted_repeats(protocol: Json, decode: int) -> int:
    """Sequences per process that give enough decode samples for a 95th percentile, within the protocol's bounds."""
    least, most = int(protocol["min_repeats"]), int(protocol["max_repeats"])
    if not decode:
        return least
    return max(least, min(most, math.ceil(P95_SAMPLES / (int(protocol["min_processes"]) * decode))))


def _spans(phases: list[tuple[str, float]], ended: float) -> dict[str, float]:
    """Seconds per phase, from when each was announced: for a worker that can no longer say it."""
    spans: dict[str, float] = {}
    for number, (name, begun) in enumerate(phases):
        until = phases[number + 1][1] if number + 1 < len(phases) else ended
        spans[name] = spans.get(name, 0.0) + until - begun
    return spans


def _detail(event: Json) -> str:
    return f"{event['name']}, point {event['point']}" if "point" in event else str(event["name"])


def _process_begin() -> float:
    """When this process was started, on the monotonic clock; the kernel counts in ticks of 10 ms."""
    now = time.monotonic()
    try:
        with open("/proc/self/stat", "rb") as file:  # noqa: PTH123
            ticks = int(file.read().rpartition(b")")[2].split()[19])
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError, ValueError):
        return now
    return now - max(0.0, min(age, 60.0))
