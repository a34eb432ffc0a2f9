"""Truth before speed: blocks against their reference values, and which operators the runtime really runs."""

from __future__ import annotations

import contextlib
import json
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from .agreement import relative_rms
from .driver import Driver
from .protocol import JobFailure, Json, one_line
from .session import open_session
from .timing import Sequence
from .weights import tensor_values


def run_check(check: Json, model: Path, runtime: Json) -> Json:
    """Run one block's calls in order, state carried along, and compare samples of its output.

    `expected` holds the values at flat indices `round(linspace(0, size - 1, n))` of the output.
    """
    worst = 0.0
    message = ""
    try:
        session = open_session(model, runtime)
        capacity = sum(int(call["tokens"]) for call in check["calls"])
        batch = _batch(check["signature"])
        driver = Driver(session, check["signature"], batch=batch, capacity=capacity)
        driver.reset()
        for number, order in enumerate(check["calls"]):
            call = driver.call(int(order["tokens"]), output=check["output"])
            assert call.hidden is not None, "the signature has no input with the role hidden"
            values = {"dtype": "float32", "shape": call.hidden.shape, "fill": order["fill"]}
            call.hidden[...] = tensor_values(values)
            call.run()
            output = call.result().ravel().astype(np.float64)
            where = np.linspace(0, output.size - 1, len(order["expected"])).round().astype(int)
            error = relative_rms([float(value) for value in output[where]], order["expected"])
            if not error <= worst:
                worst = error
                message = f"largest difference in call {number} of {order['tokens']} tokens"
    except JobFailure as failure:
        worst, message = float("inf"), failure.reason
    except Exception as error:  # noqa: BLE001 - whatever the runtime raises is the check's verdict
        worst, message = float("inf"), one_line(error)
    passed = bool(worst <= float(check["tolerance"]))
    return {
        "name": check["name"], "ok": passed, "rel_rms": worst, "tolerance": check["tolerance"], "message": message,
    }  # fmt: skip


def _batch(signature: Json) -> int:
    shape = next((entry["shape"] for entry in signature["inputs"] if entry["role"] == "hidden"), [1])
    return shape[0] if shape and isinstance(shape[0], int) else 1


def operators(
    model: Path, signature: Json, runtime: Json, folder: Path, *, loaded: Callable[[], None]
) -> tuple[Json, Json, float]:
    """Histogram of the optimised graph, by operator and by provider, from the trace of one token.

    (Writing the optimised model out instead would write its weights too.) Returns the seconds of loading as well,
    after which `loaded` is called.
    """
    begun = time.monotonic()
    session = open_session(model, runtime, profile=folder / "trace")
    seconds = time.monotonic() - begun
    loaded()
    trace: Path | None = None
    try:
        sequence = Sequence(session, signature, {"batch": 1, "prompt": 1, "decode": 0}, 0)
        sequence.reset()
        sequence.prefill_only()
    finally:
        trace = Path(session.end_profiling())
    try:
        events = json.loads(trace.read_text(encoding="utf-8"))
    finally:
        with contextlib.suppress(OSError):
            trace.unlink()
    nodes = [event["args"] for event in events if event.get("cat") == "Node" and "op_name" in event.get("args", {})]
    kernels = [node for node in nodes if "provider" in node]
    return (
        dict(Counter(node["op_name"] for node in kernels).most_common()),
        dict(Counter(node["provider"] for node in kernels).most_common()),
        seconds,
    )
