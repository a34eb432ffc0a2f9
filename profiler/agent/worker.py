"""A worker process: imports, says that it is ready, takes one task from stdin, answers on its original stdout.

Messages are JSON lines. From the worker: `ready` (versions), `phase` (a name, for the status file), `done` or `error`,
both with what was recorded so far. It dies with its supervisor.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from .cache import DEFAULT_LIMIT_MIB, WeightCache
from .checks import operators, run_check
from .comparison import Group
from .conditions import OtherLoad
from .memory import MemoryMeter, evict_from_page_cache
from .protocol import JobFailure, Json, finite, one_line
from .session import open_session, pin, share_threads
from .timing import PointTimer, Sequence

_MEMORY_WORDS = ("bad_alloc", "bad alloc", "failed to allocate", "out of memory", "available memory", "cannot allocate")
_PR_SET_PDEATHSIG = 1
_MEMORY_STEPS = 8
"""Decode steps of the memory pass: the second already reuses what the first allocated."""

Say = Callable[..., None]


def die_with(parent: int) -> None:
    """Have the kernel kill this process when its supervisor dies; and die now if it already has."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        try:
            with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:  # noqa: PTH123
                file.write("500")
        except OSError:
            pass
    if os.getppid() != parent:
        os._exit(1)


def main(parent: int) -> None:
    """Serve one task and exit without tearing down."""
    die_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever a library prints goes to the log

    def say(event: str, **fields: Any) -> None:
        answers.write(json.dumps(finite({"event": event, "at": time.monotonic(), **fields}), allow_nan=False) + "\n")
        answers.flush()

    say("ready", numpy=np.__version__, onnxruntime=ort.__version__)
    line = sys.stdin.readline()
    if not line:
        os._exit(0)
    record: Json = {"seconds": {}, "load_ms": None, "points": [], "memory": None}
    try:
        task = json.loads(line)
        pin(task["job"]["runtime"])
        TASKS[task["kind"]](task, record, say)
        say("done", record=record)
    except JobFailure as failure:
        say("error", status=failure.status, reason=failure.reason, record=record)
    except MemoryError:
        say("error", status="out_of_memory", reason="an allocation failed", record=record)
    except Exception as error:  # noqa: BLE001 - reported to the supervisor, which writes the result
        text = one_line(error)
        memory = any(word in text.lower() for word in _MEMORY_WORDS)
        say("error", status="out_of_memory" if memory else "failed", reason=text, record=record)
    os._exit(0)


def _load(task: Json, record: Json, say: Say) -> ort.InferenceSession:
    say("phase", name="load")
    begun = time.perf_counter()
    session = open_session(Path(task["model"]), task["job"]["runtime"])
    seconds = time.perf_counter() - begun
    record["load_ms"] = seconds * 1000
    record["seconds"]["load"] = seconds
    return session


def time_points(task: Json, record: Json, say: Say) -> None:
    """Load, then warm up and repeat every point; `repeats` and `slice_s` of the task say how often."""
    job = task["job"]
    if "contenders" in job["model"]:
        compare(task, record, say)
        return
    load = OtherLoad(time.process_time)
    session = _load(task, record, say)
    seconds = record["seconds"]
    seconds.update(warmup=0.0, timed=0.0)
    for index, point in enumerate(job["points"]):
        samples: Json = {"point": index, "warmup": [], "repeats": [], "warm": False, "logits": None}
        record["points"].append(samples)
        sequence = Sequence(session, job["signature"], point, int(job["protocol"].get("seed", 0)) + index)
        timer = PointTimer(sequence, job["protocol"], load, seconds)
        left = len(job["points"]) - index
        say("phase", name="warmup", point=index)
        timer.warm_up(samples, _slice_left_s(task, seconds) / left)
        say("phase", name="timed", point=index)
        timer.repeat(samples, int(task["repeats"][index]), _slice_left_s(task, seconds) / left)


def compare(task: Json, record: Json, say: Say) -> None:
    """Load every contender that has a model, then time their points group by group, in turns."""
    job, seconds = task["job"], record["seconds"]
    load = OtherLoad(time.process_time)
    say("phase", name="load")
    begun = time.perf_counter()
    share_threads(job["runtime"])
    contenders = job["model"]["contenders"]
    sessions = [
        None if path is None else open_session(Path(path), job["runtime"], shared=True) for path in task["models"]
    ]
    seconds.update(load=time.perf_counter() - begun, warmup=0.0, timed=0.0)
    record["load_ms"] = seconds["load"] * 1000
    groups: dict[tuple[int, ...], list[int]] = {}
    for index, point in enumerate(job["points"]):
        if sessions[point["contender"]] is not None:
            sizes = (point["batch"], point["prompt"], point["decode"], point.get("depth", 0), point.get("chunk", 0))
            groups.setdefault(sizes, []).append(index)
    for number, (_, indices) in enumerate(sorted(groups.items())):
        members = {}
        for index in indices:
            at = job["points"][index]["contender"]
            members[index] = Sequence(
                sessions[at], contenders[at]["signature"], job["points"][index], int(job["protocol"].get("seed", 0))
            )
        group = Group(members, job["protocol"], load, seconds, turn=int(task["turn"]))
        say("phase", name="timed", point=indices[0])
        repeats = max(int(task["repeats"][index]) for index in indices)
        group.measure(repeats, _slice_left_s(task, seconds) / (len(groups) - number))
        record["points"] += group.records.values()
    record["points"].sort(key=lambda samples: samples["point"])


def _slice_left_s(task: Json, seconds: Json) -> float:
    return float(task["slice_s"]) - float(seconds["warmup"]) - float(seconds["timed"])


def memory_pass(task: Json, record: Json, say: Say) -> None:
    """Load, prefill and decode the largest point, and nothing else; the peak of each phase."""
    job = task["job"]
    signature = job["signature"]
    if (index := task.get("point")) is None:
        largest = max(job["points"], key=lambda point: point["batch"] * (point["prompt"] + point["decode"]))
    else:  # of a comparison: one point of one contender
        largest = job["points"][index]
        signature = job["model"]["contenders"][largest["contender"]]["signature"]
    meter = MemoryMeter(from_storage=evict_from_page_cache(Path(task["model"])))
    session = _load(task, record, say)
    meter.end_phase("load")
    say("phase", name="memory")
    sequence = Sequence(session, signature, largest, int(job["protocol"].get("seed", 0)))
    sequence.reset()
    begun = time.perf_counter()
    sequence.prefill_only()
    meter.end_phase("prefill")
    sequence.steps_only(min(sequence.decode, _MEMORY_STEPS))
    meter.end_phase("decode")
    record["seconds"]["timed"] = time.perf_counter() - begun
    record["memory"] = {**meter.result(), "point": index}


def prepare(task: Json, record: Json, say: Say) -> None:
    """Write the weights, compare the blocks, list the operators."""
    job, folder = task["job"], Path(task["folder"])
    seconds = record["seconds"]
    seconds.update(weights=0.0, check=0.0, load=0.0)
    cache = WeightCache(Path(task["weights"]), limit_mib=int(job.get("weights_cache_mib") or DEFAULT_LIMIT_MIB))
    model = job["model"]
    begun = time.monotonic()
    say("phase", name="weights")
    if "contenders" in model:
        prepare_contenders(task, record, say, cache)
        return
    if "path" in model:
        path = Path(model["path"])
        record["placed"] = {"model": str(path), "bytes": _beside(path), "cached": True}
    else:
        placed = cache.place(folder / model["graph"], folder / model["recipe"])
        record["placed"] = {"model": str(placed.model), "bytes": placed.size, "cached": placed.cached}
    blocks = [cache.place(folder / check["graph"], folder / check["recipe"]).model for check in job.get("checks", [])]
    seconds["weights"] = time.monotonic() - begun

    say("phase", name="check")
    begun = time.monotonic()
    record["checks"] = []
    for check, block in zip(job.get("checks", []), blocks, strict=True):
        record["checks"].append(run_check(check, block, job["runtime"]))
    seconds["check"] = time.monotonic() - begun
    if wrong := [check for check in record["checks"] if not check["ok"]]:
        raise JobFailure("invalid", _said(wrong[0]))

    begun = time.monotonic()
    say("phase", name="load")
    path = Path(record["placed"]["model"])
    record["operators"], record["providers"], seconds["load"] = operators(
        path, job["signature"], job["runtime"], job["points"], folder, loaded=lambda: say("phase", name="check")
    )
    seconds["check"] += time.monotonic() - begun - seconds["load"]


def prepare_contenders(task: Json, record: Json, say: Say, cache: WeightCache) -> None:
    """The same for every contender of a comparison; one that fails is left out, with its reason."""
    job, folder, seconds = task["job"], Path(task["folder"]), record["seconds"]
    record["checks"], record["contenders"] = [], []
    for at, contender in enumerate(job["model"]["contenders"]):
        entry: Json = {"name": contender["name"], "error": "", "model": None, "bytes": 0, "cached": False}
        record["contenders"].append(entry)
        begun = time.monotonic()
        say("phase", name="weights")
        placed = cache.place(folder / contender["graph"], folder / contender["recipe"])
        entry.update(bytes=placed.size, cached=placed.cached)
        seconds["weights"] += time.monotonic() - begun
        say("phase", name="check")
        begun = time.monotonic()
        checks = [check for check in job.get("checks", []) if check["contender"] == at]
        entry["error"] = _failed_check(checks, record, folder, cache, job["runtime"])
        seconds["check"] += time.monotonic() - begun
        if entry["error"]:
            continue
        entry["model"] = str(placed.model)
        if not contender["traced"]:
            continue
        begun = time.monotonic()
        say("phase", name="load")
        try:
            points = [point for point in job["points"] if point["contender"] == at]
            entry["operators"], entry["providers"], _ = operators(
                placed.model, contender["signature"], job["runtime"], points, folder, loaded=lambda: None
            )
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - a kernel that this device lacks: the others are compared
            entry.update(error=one_line(error), model=None)
        seconds["load"] += time.monotonic() - begun
    if all(entry["error"] for entry in record["contenders"]):
        first = record["contenders"][0]
        raise JobFailure("invalid", f"none of the contenders runs here; {first['name']}: {first['error']}")


def _failed_check(checks: list[Json], record: Json, folder: Path, cache: WeightCache, runtime: Json) -> str:
    for check in checks:
        model = cache.place(folder / check["graph"], folder / check["recipe"]).model
        done = run_check(check, model, runtime)
        record["checks"].append(done)
        if not done["ok"]:
            return _said(done)
    return ""


def _said(check: Json) -> str:
    found = f"relative RMS {check['rel_rms']:.2g}, tolerance {check['tolerance']:.2g}; {check['message']}"
    return f"check {check['name']} failed: {found}"


def _beside(path: Path) -> int:
    """Bytes of a foreign model: the file and its external data, which lies beside it."""
    try:
        data = sum(other.stat().st_size for other in path.parent.glob(f"{path.name}?data*"))
        return path.stat().st_size + data
    except OSError as error:
        raise JobFailure("failed", f"{path}: {error.strerror}") from error


TASKS: dict[str, Callable[[Json, Json, Say], None]] = {"timing": time_points, "memory": memory_pass, "check": prepare}
