"""The workers of one job: started ahead of need, given one task each, recorded, and explained when they fail."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from pathlib import Path

from .conditions import busiest_others, out_of_memory_kills
from .limits import MemoryCgroup, resident_mib
from .platforms import HERE
from .processes import Worker, hire
from .protocol import JOB_SECONDS, PROCESS_SECONDS, JobFailure, Json, one_line
from .watch import Watch

_STATES = {"weights": "weights", "check": "checking", "profile": "checking", "memory": "memory"}


@dataclass
class Assignment:
    """A worker and its task.

    Attributes:
        kills: Processes that the kernel had killed for want of memory before it began.
        phases: Names of its phases and when they began.
        kept: What it had recorded when it began with what is not needed; empty before.
    """

    worker: Worker
    kind: str
    begun: float
    kills: int
    phases: list[tuple[str, float]] = field(default_factory=list)
    kept: Json = field(default_factory=dict)

    def spans(self, since: float, until: float) -> dict[str, float]:
        """Seconds per announced phase, between two times."""
        spans: dict[str, float] = {}
        for number, (name, begun) in enumerate(self.phases):
            ended = self.phases[number + 1][1] if number + 1 < len(self.phases) else until
            spans[name] = spans.get(name, 0.0) + max(0.0, ended - max(begun, since))
        return spans


class Crew:
    """All workers of a job.

    Attributes:
        seconds: Where the job's time went, by `JOB_SECONDS`.
        processes: Records of the workers that had a task.
        versions: Of numpy and onnxruntime, from the first worker that was ready.
    """

    def __init__(self, folder: Path, watch: Watch) -> None:
        self.seconds = dict.fromkeys(JOB_SECONDS, 0.0)
        self.processes: list[Json] = []
        self.versions: dict[str, str | None] = {"numpy": None, "onnxruntime": None}
        self._watch = watch
        self._cgroup: MemoryCgroup | None = None
        self._limit_mib: int | None = None
        self._spares: list[Worker] = []
        self._all: list[Worker] = []
        self._log_file = folder / "agent.log"
        self._log = os.open(self._log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def limit(self, limit_mib: int) -> None:
        """Hold every worker that works to a memory limit: by the kernel if it lets us, else by looking.

        Raises:
            JobFailure: Neither is possible here.
        """
        self._limit_mib = limit_mib
        self._cgroup = MemoryCgroup(limit_mib)
        if not self._cgroup.active:
            if resident_mib(os.getpid()) is None:
                raise JobFailure(
                    "failed",
                    f"{HERE.name} does not show how much memory a process uses, so no limit can be held: "
                    "take `memory_limit_mib` out of the device file",
                )
            self._watch.limit_mib = limit_mib

    def spawn(self) -> None:
        """Start a worker that waits for its task."""
        worker = hire(self._log)
        self._all.append(worker)
        self._spares.append(worker)

    def pids(self) -> list[int]:
        """Ours: the supervisor and its living workers."""
        return [os.getpid(), *(worker.pid for worker in self._all if worker.status is None)]

    def dismiss(self) -> None:
        """End whatever still lives."""
        for worker in self._all:
            worker.reap(kill=True)
        if self._cgroup is not None:
            self._cgroup.close()

    def run(self, kind: str, task: Json) -> Json:
        """Give a fresh worker a task and wait for its end; no other worker is still starting meanwhile.

        Raises:
            JobFailure: It failed, died, or had to be killed.
        """
        for worker in self._spares:
            self._await_ready(worker)
        return self.finish(self.begin(kind, task))

    def begin(self, kind: str, task: Json) -> Assignment:
        """Give the worker that was started first a task, and come back at once."""
        if not self._spares:
            self.spawn()
            self._await_ready(self._spares[0])
        worker = self._spares.pop(0)
        kills = out_of_memory_kills()
        if self._cgroup is not None and self._cgroup.active and not self._cgroup.adopt(worker.pid):
            self._cgroup.close()
            self._watch.limit_mib = self._limit_mib
        begun = time.monotonic()
        worker.send({**task, "kind": kind})
        return Assignment(worker, kind, begun, kills)

    def finish(self, given: Assignment) -> Json:
        """Wait for the end of a task; the worker's record joins `processes`, whatever happens.

        Raises:
            JobFailure: It failed, died, or had to be killed, while it did what is needed.
        """
        worker, since = given.worker, time.monotonic()
        record: Json = {}
        failure: JobFailure | None = None
        try:
            for event in self._watch.events(worker, working=True):
                if event["event"] == "ready":
                    self._ready(worker, event)
                elif event["event"] == "phase":
                    given.phases.append((event["name"], event["at"]))
                    given.kept = event.get("record") or given.kept
                    self._announce(given.kind, event)
                else:
                    record = event["record"]
                    if event["event"] == "error":
                        failure = JobFailure(event["status"], event["reason"], record)
            worker.reap()
            if not record:
                failure = self._death(given)
        except JobFailure as stopped:
            failure = stopped
            worker.reap(kill=True)
        if failure is not None and given.kept and failure.status in ("failed", "out_of_memory"):
            record, failure = {**given.kept, "profile": {"point": 0, "reason": failure.reason}}, None
        index = self._record(given, record, failure, since)
        if failure is not None:
            raise self._explained(failure, worker)
        return {**record, "index": index}

    def stop(self, given: Assignment, failure: JobFailure) -> JobFailure:
        """Kill a worker because of a failure that came while nobody waited for it; the failure, explained."""
        given.worker.reap(kill=True)
        self._record(given, {}, failure, time.monotonic())
        return self._explained(failure, given.worker)

    def _record(self, given: Assignment, record: Json, failure: JobFailure | None, since: float) -> int:
        entry = self._entry(given, record, failure)
        self._book(given, entry, record, since)
        self.processes.append(entry)
        return len(self.processes) - 1

    def _await_ready(self, worker: Worker) -> None:
        begun = time.monotonic()
        if worker.ready is None:
            event = next(self._watch.events(worker, working=False), None)
            self.seconds["start"] += time.monotonic() - begun
            if event is None:
                how = worker.describe_exit()
                words = self._log_tail()
                raise JobFailure("failed", f"a worker process did not start ({how}){': ' if words else ''}{words}")
            self._ready(worker, event)

    def _ready(self, worker: Worker, event: Json) -> None:
        worker.ready = event
        self.versions = {name: event[name] for name in self.versions}

    def _announce(self, kind: str, event: Json) -> None:
        name = event["name"]
        state = "memory" if kind == "memory" else _STATES.get(name, "timing" if kind == "timing" else "checking")
        self._watch.tell(state, f"{name}, point {event['point']}" if "point" in event else name)

    def _entry(self, given: Assignment, record: Json, failure: JobFailure | None) -> Json:
        worker, kind, memory = given.worker, given.kind, record.get("memory")
        told = worker.peak_mib > 0 and (kind != "check" or (failure is not None and failure.status == "out_of_memory"))
        if failure is not None and memory is None and told:
            memory = {
                "peak_rss_mib": round(worker.peak_mib, 2),
                "phases": {},
                "source": f"{HERE.peak_mib()[1]}, until it failed",
            }
        return {
            "index": len(self.processes),
            "kind": kind,
            "pid": worker.pid,
            "seconds": {"start": float(worker.ready["at"]) - worker.spawned if worker.ready else 0.0},
            "load_ms": record.get("load_ms"),
            "points": record.get("points", []),
            "operators": record.get("operators"),
            "providers": record.get("providers"),
            "profile": record.get("profile"),
            "memory": memory,
            "exit": failure.status if failure is not None and record else worker.describe_exit(),
        }

    def _book(self, given: Assignment, entry: Json, record: Json, since: float) -> None:
        """Book where the time went: the worker's into its entry, into the job's what we waited for from `since`."""
        ended = time.monotonic()
        spent = record.get("seconds") or given.spans(given.begun, ended)
        waited = {"memory": ended - since} if given.kind == "memory" else spent
        if given.kind == "check":
            waited = given.spans(since, ended)  # the rest went by while the device cooled
        for name, seconds in waited.items():
            self.seconds[name] += seconds
        parts = {**dict.fromkeys(PROCESS_SECONDS, 0.0), **entry["seconds"]}
        for name, seconds in spent.items():
            parts[name if name in parts else "other"] += seconds
        ready = float(given.worker.ready["at"]) if given.worker.ready else ended
        parts["other"] += max(0.0, ended - max(given.begun, ready) - sum(spent.values()))
        entry["seconds"] = {name: round(max(0.0, value), 4) for name, value in parts.items()}

    def _death(self, given: Assignment) -> JobFailure:
        """Why a worker ended without an answer."""
        how = given.worker.describe_exit()
        phase = given.phases[-1][0] if given.phases else "start"
        where = f"the {given.kind} process died in its phase {phase}"
        tail = self._log_tail()
        if self._cgroup is not None and self._cgroup.killed():
            return JobFailure("out_of_memory", f"{where}: over its limit of {self._limit_mib} MiB")
        if how == "SIGKILL" and out_of_memory_kills() > given.kills:
            return JobFailure("out_of_memory", f"{where}: the device ran out of memory")
        if "bad_alloc" in tail:
            return JobFailure("out_of_memory", f"{where}: an allocation failed")
        return JobFailure("failed", f"{where} ({how})" + (f": {tail}" if tail else ""))

    def _explained(self, failure: JobFailure, worker: Worker) -> JobFailure:
        if failure.status == "throttled":
            return JobFailure("throttled", f"{failure.reason}: {busiest_others(self.pids())}")
        if failure.status == "out_of_memory":
            seen = f"; {worker.peak_mib:.0f} MiB were seen" if worker.peak_mib else ""
            return JobFailure("out_of_memory", failure.reason + seen)
        return failure

    def _log_tail(self) -> str:
        try:
            text = self._log_file.read_bytes()[-2000:].decode("utf-8", "replace").strip()
        except OSError:
            return ""
        return one_line(text.splitlines()[-1], 300) if text else ""
