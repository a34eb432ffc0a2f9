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


def failed_text(check: Json) -> str:
    """A failed check in words."""
    found = f"relative RMS {check['rel_rms']:.2g}, tolerance {check['tolerance']:.2g}; {check['message']}"
    return f"check {check['name']} failed: {found}"


def _batch(signature: Json) -> int:
    shape = next((entry["shape"] for entry in signature["inputs"] if entry["role"] == "hidden"), [1])
    return shape[0] if shape and isinstance(shape[0], int) else 1


def operators(
    model: Path, signature: Json, runtime: Json, points: list[Json], folder: Path, *, loaded: Callable[[], None]
) -> tuple[Json, Json, float]:
    """Histogram of the optimised graph's nodes, by operator and by provider, from the trace of a short sequence.

    (Writing the optimised model out instead would write its weights too.) The sequence is the points' own, cut to a
    prefill of two tokens and one step: a graph may branch on the number of tokens. Nodes of the branches taken and of
    loop bodies count beside the others, and each node counts once, however often it ran; nodes of two subgraphs
    without names of their own may pass for one. Returns the seconds of loading as well, after which `loaded` is called.
    """
    begun = time.monotonic()
    session = open_session(model, runtime, profile=folder / "trace")
    seconds = time.monotonic() - begun
    loaded()
    short = {
        "batch": 1,
        "prompt": min(2, max(int(point["prompt"]) for point in points)),
        "decode": min(1, max(int(point["decode"]) for point in points)),
    }
    trace: Path | None = None
    try:
        sequence = Sequence(session, signature, short, 0)
        sequence.reset()
        sequence.prefill_only()
        sequence.steps_only(short["decode"])
    finally:
        trace = Path(session.end_profiling())
    try:
        events = json.loads(trace.read_text(encoding="utf-8"))
    finally:
        with contextlib.suppress(OSError):
            trace.unlink()
    nodes = {
        (event["name"], event["args"].get("node_index"), event["args"]["op_name"]): event["args"]["provider"]
        for event in events
        if event.get("cat") == "Node" and {"op_name", "provider"} <= event.get("args", {}).keys()
    }
    return (
        dict(Counter(op_name for _, _, op_name in nodes).most_common()),
        dict(Counter(nodes.values()).most_common()),
        seconds,
    )
