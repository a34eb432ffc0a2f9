"""A worker process: imports, says that it is ready, takes one task from stdin, answers on its original stdout.

Messages are JSON lines. From the worker: `ready` (versions), `phase` (a name, for the status file; with a record, what
follows is not needed), `done` or `error`, both with what was recorded so far. It dies with its supervisor.
"""

from __future__ import annotations

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

from . import comparison
from .cache import DEFAULT_LIMIT_MIB, WeightCache
from .checks import failed_text, operators, run_check
from .conditions import OtherLoad
from .memory import MemoryMeter, evict_from_page_cache
from .platforms import HERE
from .profiling import Profiler
from .protocol import PROTOCOL_DEFAULTS, JobFailure, Json, finite, is_of_memory, one_line
from .session import open_session, pin
from .timing import PointTimer, Sequence

_MEMORY_STEPS = 8
"""Decode steps of the memory pass: the second already reuses what the first allocated."""

Say = Callable[..., None]


def main(parent: int) -> None:
    """Serve one task and exit without tearing down."""
    HERE.bind_to_parent(parent)
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
    HERE.watch_lifeline(0)  # nothing more is sent
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
        status = "out_of_memory" if is_of_memory(error) else "failed"
        say("error", status=status, reason=one_line(error), record=record)
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
        comparison.compare(task, record, say)
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
    """Write the weights, compare the blocks, list the operators, and find where the time goes."""
    job, folder = task["job"], Path(task["folder"])
    seconds = record["seconds"]
    seconds.update(weights=0.0, check=0.0, load=0.0)
    cache = WeightCache(Path(task["weights"]), limit_mib=int(job.get("weights_cache_mib") or DEFAULT_LIMIT_MIB))
    model = job["model"]
    begun = time.monotonic()
    say("phase", name="weights")
    if "contenders" in model:
        comparison.prepare(task, record, say, cache)
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
        raise JobFailure("invalid", failed_text(wrong[0]))

    begun = time.monotonic()
    profiler = Profiler(job, lambda: say("phase", name="profile", record=record)) if _profiled(job) else None
    say("phase", name="load")
    path = Path(record["placed"]["model"])
    record["operators"], record["providers"], seconds["load"] = operators(
        path, job["signature"], job["runtime"], job["points"], folder, loaded=lambda: say("phase", name="check"),
        profiler=profiler,
    )  # fmt: skip
    ended = time.monotonic()
    if profiler is not None:
        record["profile"] = profiler.result()
        seconds["profile"] = ended - (profiler.began or ended)
    seconds["check"] += ended - begun - seconds["load"] - seconds.get("profile", 0.0)


def _profiled(job: Json) -> bool:
    return bool({**PROTOCOL_DEFAULTS, **job["protocol"]}["profile"])


def _beside(path: Path) -> int:
    """Bytes of a foreign model: the file and its external data, which lies beside it."""
    try:
        data = sum(other.stat().st_size for other in path.parent.glob(f"{path.name}?data*"))
        return path.stat().st_size + data
    except OSError as error:
        raise JobFailure("failed", f"{path}: {error.strerror}") from error


TASKS: dict[str, Callable[[Json, Json, Say], None]] = {"timing": time_points, "memory": memory_pass, "check": prepare}
