"""The workers of one job: started ahead of need, given one task each, recorded, and explained when they fail."""

from __future__ import annotations

import os
import time
from pathlib import Path

from .conditions import busiest_others, out_of_memory_kills
from .limits import MemoryCgroup
from .processes import Worker
from .protocol import JOB_SECONDS, PROCESS_SECONDS, JobFailure, Json, one_line
from .watch import Watch

_STATES = {"weights": "weights", "check": "checking", "memory": "memory"}
Phases = list[tuple[str, float]]


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
        self._log = os.open(self._log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)

    def limit(self, limit_mib: int) -> None:
        """Hold every worker that works to a memory limit: by the kernel if it lets us, else by looking."""
        self._limit_mib = limit_mib
        self._cgroup = MemoryCgroup(limit_mib)
        if not self._cgroup.active:
            self._watch.limit_mib = limit_mib

    def spawn(self) -> None:
        """Start a worker that waits for its task."""
        worker = Worker(self._log)
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
        """Give a fresh worker a task and wait for its end; its record joins `processes`, whatever happens.

        Raises:
            JobFailure: It failed, died, or had to be killed.
        """
        worker = self._take(all_ready=kind != "check")
        begun = time.monotonic()
        kills = out_of_memory_kills()
        if self._cgroup is not None and self._cgroup.active and not self._cgroup.adopt(worker.pid):
            self._cgroup.close()
            self._watch.limit_mib = self._limit_mib
        record: Json = {}
        phases: Phases = []
        failure: JobFailure | None = None
        try:
            worker.send({**task, "kind": kind})
            for event in self._watch.events(worker, working=True):
                if event["event"] == "phase":
                    phases.append((event["name"], time.monotonic()))
                    self._announce(kind, event)
                    continue
                record = event["record"]
                if event["event"] == "error":
                    failure = JobFailure(event["status"], event["reason"], record)
            worker.reap()
            if not record:
                failure = self._death(worker, kind, kills, phases)
        except JobFailure as stopped:
            failure = stopped
            worker.reap(kill=True)
        entry = self._entry(worker, kind, record, failure)
        self._book(entry, record, phases, time.monotonic() - begun)
        self.processes.append(entry)
        if failure is not None:
            raise self._explained(failure, worker)
        return {**record, "index": entry["index"]}

    def _take(self, *, all_ready: bool) -> Worker:
        """The worker that was started first; with `all_ready` no other is still starting, so that none disturbs it."""
        if not self._spares:
            self.spawn()
        for worker in self._spares if all_ready else self._spares[:1]:
            self._await_ready(worker)
        return self._spares.pop(0)

    def _await_ready(self, worker: Worker) -> None:
        begun = time.monotonic()
        if worker.ready is None:
            worker.ready = next(self._watch.events(worker, working=False), None)
            self.seconds["start"] += time.monotonic() - begun
        if worker.ready is None:
            worker.reap()
            raise JobFailure("failed", f"a worker process did not start ({worker.describe_exit()}): {self._log_tail()}")
        self.versions = {name: worker.ready[name] for name in self.versions}

    def _announce(self, kind: str, event: Json) -> None:
        name = event["name"]
        state = "memory" if kind == "memory" else _STATES.get(name, "timing" if kind == "timing" else "checking")
        self._watch.tell(state, f"{name}, point {event['point']}" if "point" in event else name)

    def _entry(self, worker: Worker, kind: str, record: Json, failure: JobFailure | None) -> Json:
        memory = record.get("memory")
        if failure is not None and memory is None and (kind != "check" or failure.status == "out_of_memory"):
            memory = {"peak_rss_mib": round(worker.peak_mib, 2), "phases": {}, "source": "ru_maxrss, until it failed"}
        return {
            "index": len(self.processes),
            "kind": kind,
            "pid": worker.pid,
            "seconds": {"start": float(worker.ready["at"]) - worker.spawned if worker.ready else 0.0},
            "load_ms": record.get("load_ms"),
            "points": record.get("points", []),
            "operators": record.get("operators"),
            "providers": record.get("providers"),
            "memory": memory,
            "exit": failure.status if failure is not None and record else worker.describe_exit(),
        }

    def _book(self, entry: Json, record: Json, phases: Phases, wall: float) -> None:
        """Book where a worker's time went: by its own account, or by what it announced if it can no longer say it."""
        spent = record.get("seconds") or _spans(phases, time.monotonic())
        for name, seconds in spent.items() if entry["kind"] != "memory" else [("memory", wall)]:
            self.seconds[name] += seconds
        parts = {**dict.fromkeys(PROCESS_SECONDS, 0.0), **entry["seconds"]}
        for name, seconds in spent.items():
            parts[name if name in parts else "other"] += seconds
        parts["other"] += max(0.0, wall - sum(spent.values()))
        entry["seconds"] = {name: round(max(0.0, value), 4) for name, value in parts.items()}

    def _death(self, worker: Worker, kind: str, kills: int, phases: Phases) -> JobFailure:
        """Why a worker ended without an answer."""
        how = worker.describe_exit()
        where = f"the {kind} process died in its phase {phases[-1][0] if phases else 'start'}"
        tail = self._log_tail()
        if self._cgroup is not None and self._cgroup.killed():
            return JobFailure("out_of_memory", f"{where}: over its limit of {self._limit_mib} MiB")
        if how == "SIGKILL" and out_of_memory_kills() > kills:
            return JobFailure("out_of_memory", f"{where}: the device ran out of memory")
        if "bad_alloc" in tail:
            return JobFailure("out_of_memory", f"{where}: an allocation failed")
        return JobFailure("failed", f"{where} ({how})" + (f": {tail}" if tail else ""))

    def _explained(self, failure: JobFailure, worker: Worker) -> JobFailure:
        if failure.status == "throttled":
            return JobFailure("throttled", f"{failure.reason}: {busiest_others(self.pids())}")
        if failure.status == "out_of_memory":
            return JobFailure("out_of_memory", f"{failure.reason}; {worker.peak_mib:.0f} MiB were seen")
        return failure

    def _log_tail(self) -> str:
        try:
            text = self._log_file.read_bytes()[-2000:].decode("utf-8", "replace").strip()
        except OSError:
            return ""
        return one_line(text.splitlines()[-1], 300) if text else ""


def _spans(phases: Phases, ended: float) -> dict[str, float]:
    """Seconds per phase, from when each was announced."""
    spans: dict[str, float] = {}
    for number, (name, begun) in enumerate(phases):
        until = phases[number + 1][1] if number + 1 < len(phases) else ended
        spans[name] = spans.get(name, 0.0) + until - begun
    return spans
