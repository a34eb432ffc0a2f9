"""Runs one job: lease, cooling, checks, timing processes, memory pass; always ends in a result.json.

It imports neither numpy nor onnxruntime and sleeps while a worker works.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from .agreement import disagreements, wanted_repeats, widest_interval
from .clocks import Clocks
from .conditions import OtherLoad, busiest_others, clocks_mhz, environment, process_seconds, temperature_c
from .crew import Assignment, Crew
from .lease import Lease
from .protocol import FORMAT, METHOD, PROTOCOL_DEFAULTS, JobFailure, Json, one_line, read_json, write_json
from .watch import Watch

_COOLING_WINDOW_S = 0.5
_LEASE_POLL_S = 0.2


class Supervisor:
    """One job folder, from order to result."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._work = folder.parent.parent
        self._begun = _process_begin()
        self._job: Json = {}
        self._protocol: Json = dict(PROTOCOL_DEFAULTS)
        self._model = ""
        self._models: list[str | None] = []  # of a comparison; None for a contender that does not run here
        self._watch = Watch(folder)
        self._crew = Crew(folder, self._watch)
        self._lease = Lease(self._work / "lease")
        self._clocks = Clocks(self._work / "clocks")
        self._seconds = self._crew.seconds
        self._result: Json = {
            "format": FORMAT, "job_id": folder.name, "method": METHOD, "status": "failed", "reason": "",
            "environment": {}, "processes": self._crew.processes, "checks": [], "seconds": self._seconds,
            "stopped_because": None, "weights": None, "contenders": [],
        }  # fmt: skip

    def run(self) -> int:
        """Do the job. Returns 0 once a result is written, whatever its status; 1 when another agent does it."""
        self._seconds["start"] += time.monotonic() - self._begun
        if not self._alone():
            return 1
        try:
            self._read_job()
            self._take_lease()
            self._fix_clocks()
            self._result["environment"] = environment({})
            preparing = self._begin_preparing()
            self._cool(preparing)
            self._watch.start_deadline(float(self._job["limits"]["timeout_s"]))
            self._end_preparing(preparing)
            self._time()
            if self._protocol["memory_pass"]:
                self._take_memory()
            self._result["status"] = "ok"
        except JobFailure as failure:
            self._result.update(status=failure.status, reason=failure.reason)
        except (KeyError, TypeError, ValueError) as error:
            self._result.update(status="failed", reason=f"job.json does not have the agreed form: {one_line(error)}")
        except Exception as error:  # noqa: BLE001 - whatever happens, the host gets a result
            self._result.update(status="failed", reason=one_line(error))
        return self._finish()

    def _alone(self) -> bool:
        """Whether nobody was started on this job before us: the host may not know, and start us twice."""
        try:
            os.close(os.open(self._folder / "started", os.O_WRONLY | os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            os.write(2, b"another agent was started on this job\n")
            return False
        except OSError:
            pass  # of a full disk, say: the result will tell
        return True

    def _read_job(self) -> None:
        self._job = read_json(self._folder / "job.json")
        self._result["job_id"] = str(self._job["job_id"])
        if self._job["format"] != FORMAT:
            raise JobFailure("failed", f"job format {self._job['format']} is not {FORMAT}, which this agent knows")
        self._protocol.update(self._job["protocol"])
        self._job["protocol"] = self._protocol
        if not self._job["points"]:
            raise JobFailure("failed", "the job has no points")
        limit_mib = self._job["limits"].get("memory_mib")
        if limit_mib is not None:
            self._crew.limit(int(limit_mib))

    def _take_lease(self) -> None:
        label = str(self._job.get("label") or self._job["job_id"])
        begun = time.monotonic()
        until = begun + float(self._job["limits"].get("lease_s", 3600))
        try:
            while not self._lease.try_acquire(label):
                if time.monotonic() >= until:
                    raise JobFailure("busy", f"the device is {self._lease.holder()}")
                self._watch.tell("waiting_lease", self._lease.holder())
                self._watch.sleep(_LEASE_POLL_S)
        finally:
            self._seconds["waiting"] += time.monotonic() - begun

    def _fix_clocks(self) -> None:
        self._clocks.restore()  # what an agent that was killed has left
        if (mhz := self._job.get("clock_mhz")) is not None:
            self._clocks.fix(int(mhz))

    def _cool(self, preparing: Assignment) -> None:
        """Wait until nobody else works and the processor is cool, beside our own preparations."""
        begun = time.monotonic()
        try:
            self._wait_until_cool(preparing)
        except JobFailure as failure:
            raise self._crew.stop(preparing, failure) from failure
        finally:
            self._seconds["waiting"] += time.monotonic() - begun

    def _wait_until_cool(self, preparing: Assignment) -> None:
        rules = self._job.get("cooling") or {}
        limit = float(rules.get("max_other_cpu", 0.10))
        hottest = rules.get("max_temperature_c")
        until = time.monotonic() + float(rules.get("timeout_s", 60))
        load = OtherLoad(lambda: time.process_time() + sum(map(process_seconds, self._crew.pids()[1:])))
        self._watch.tell("cooling")
        while True:
            load.mark()
            self._watch.sleep(_COOLING_WINDOW_S, beside=preparing.worker)
            other = load.since_mark()
            heat = temperature_c() if hottest is not None else None
            reasons = []
            if other is not None and other > limit:
                reasons.append(f"others use {other:.0%} of the processor (limit {limit:.0%})")
            if heat is not None and hottest is not None and heat > hottest:
                reasons.append(f"{heat:.0f} C (limit {hottest:.0f} C)")
            if not reasons:
                if other is None:
                    self._watch.tell("cooling", "the load of others is not shown here")
                return
            self._watch.tell("cooling", ", ".join(reasons))
            if time.monotonic() >= until:
                if other is not None and other > limit:
                    reasons.append(busiest_others(self._crew.pids()))
                raise JobFailure("not_cooled", ", ".join(reasons))

    def _task(self, **more: object) -> Json:
        job = {key: value for key, value in self._job.items() if key != "checks"}
        return {"job": job, "model": self._model, "models": self._models, **more}

    def _take_memory(self) -> None:
        """Peak memory; of a comparison, of every point that begins with empty states."""
        if not self._models:
            self._crew.run("memory", self._task())
            return
        for index, point in enumerate(self._job["points"]):
            model = self._models[point["contender"]]
            if model is not None and not point.get("depth"):
                self._crew.run("memory", {**self._task(point=index), "model": model})

    def _begin_preparing(self) -> Assignment:
        """Weights, block checks and operators in one process, while the next ones start and stand by."""
        self._crew.spawn()
        folders = {"folder": str(self._folder), "weights": str(self._work / "weights")}
        preparing = self._crew.begin("check", {"job": self._job, **folders})
        for _ in range(int(self._protocol["min_processes"]) + bool(self._protocol["memory_pass"])):
            self._crew.spawn()
        return preparing

    def _end_preparing(self, preparing: Assignment) -> None:
        try:
            record = self._crew.finish(preparing)
        except JobFailure as failure:
            self._keep_checks(failure.record)
            raise
        self._keep_checks(record)
        if "contenders" in record:
            self._models = [entry["model"] for entry in record["contenders"]]
            self._require_a_contender()
        else:
            self._model = record["placed"]["model"]

    def _keep_checks(self, record: Json) -> None:
        self._result["checks"] = record.get("checks", [])
        self._result["contenders"] = [
            {key: value for key, value in entry.items() if key != "model"} for entry in record.get("contenders", [])
        ]
        if placed := record.get("placed"):
            self._result["weights"] = {"bytes": placed["bytes"], "cached": placed["cached"]}

    def _time(self) -> None:
        """Fresh processes until the interval is narrow, or the budget or their number ends."""
        rules = self._protocol
        least, most = int(rules["min_processes"]), int(rules["max_processes"])
        budget = float(rules["time_budget_s"])
        repeats = [wanted_repeats(rules, int(point["decode"])) for point in self._job["points"]]
        begun = time.monotonic()
        done: list[Json] = []
        while True:
            self._watch.tell("timing", process=len(done) + 1, processes=most)
            task = self._task(repeats=repeats, slice_s=budget / least, turn=len(done))
            done.append(self._crew.run("timing", task))
            self._judge(done)
            if len(done) < least:
                continue
            used = time.monotonic() - begun
            if widest_interval(done) <= float(rules["target_half_width"]):
                self._result["stopped_because"] = "interval"
            elif len(done) >= most:
                self._result["stopped_because"] = "max_processes"
            elif used + used / len(done) > budget:
                self._result["stopped_because"] = "time_budget"
            else:
                continue
            return

    def _judge(self, done: list[Json]) -> None:
        """Look whether all processes computed the same; a contender that failed or did not is left out from now on."""
        failed = {int(at): str(reason) for at, reason in done[-1].get("failed", {}).items()}
        for index, reason in disagreements(done).items():
            if not self._models:
                raise JobFailure("invalid", f"point {index}: {reason}")
            failed.setdefault(self._job["points"][index]["contender"], reason)
        for at, reason in failed.items():
            self._models[at] = None
            self._result["contenders"][at]["error"] = reason
        if not failed:
            return
        self._require_a_contender()
        for process in done:
            process["points"] = [
                samples
                for samples in process["points"]
                if self._models[self._job["points"][samples["point"]]["contender"]] is not None
            ]

    def _require_a_contender(self) -> None:
        first, *_ = contenders = self._result["contenders"]
        if all(entry["error"] for entry in contenders):
            raise JobFailure("invalid", f"none of the contenders runs here; {first['name']}: {first['error']}")

    def _finish(self) -> int:
        self._crew.dismiss()
        record = {**(self._result["environment"] or environment({})), **self._crew.versions}
        self._result["environment"] = {**record, "temperature_end_c": temperature_c(), "cpu_mhz_end": clocks_mhz()}
        self._seconds["total"] = time.monotonic() - self._begun
        booked = sum(value for name, value in self._seconds.items() if name not in {"other", "total"})
        self._seconds["other"] = max(0.0, self._seconds["total"] - booked)
        self._seconds.update({name: round(value, 4) for name, value in self._seconds.items()})
        written = self._write_result()
        self._watch.tell("done", self._result["status"])
        if self._lease.held:
            self._clocks.restore()
        self._lease.release()
        return 0 if written else 1

    def _write_result(self) -> bool:
        path = self._folder / "result.json"
        try:
            write_json(path, self._result)
        except OSError as error:
            reason = f"the result could not be written: {error.strerror}"
            self._result.update(status="failed", reason=reason, processes=[])  # short enough for a last free block
            try:
                write_json(path, self._result)
            except OSError:
                return False
        return True


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
