"""Truth before speed: blocks against their reference values, and which operators the runtime really runs."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from .agreement import relative_rms
from .driver import Driver
from .profiling import Profiler
from .protocol import JobFailure, Json, one_line
from .session import open_session
from .timing import Sequence
from .traces import read_trace, within
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
    model: Path,
    signature: Json,
    runtime: Json,
    points: list[Json],
    folder: Path,
    *,
    loaded: Callable[[], None],
    profiler: Profiler | None = None,
) -> tuple[Json, Json, float]:
    """Histogram of the optimised graph's nodes, by operator and by provider, from the trace of a short sequence.

    (Writing the optimised model out instead would write its weights too.) The sequence is the points' own, cut to a
    prefill of two tokens and one step: a graph may branch on the number of tokens. Nodes of the branches taken and of
    loop bodies count beside the others, and each node counts once, however often it ran; nodes of two subgraphs
    without names of their own may pass for one. Returns the seconds of loading as well, after which `loaded` is called.

    A `profiler` runs behind the short sequence, in the same session, and is given the trace.
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
        begun = time.monotonic()
        sequence.prefill_only()
        if short["decode"]:
            begun = time.monotonic()
            sequence.steps_only(1)
        if profiler is not None:
            profiler.run(session, time.monotonic() - begun)
    finally:
        trace = Path(session.end_profiling())
    del session, sequence  # its memory is free for what is read now
    try:
        calls, nodes = read_trace(trace)
    finally:
        with contextlib.suppress(OSError):
            trace.unlink()
    mine = 1 + short["decode"]
    own = {(node.name, node.number, node.operator): node.provider for node in within(calls[:mine], nodes)}
    if profiler is not None:
        profiler.read(calls[mine:], nodes)
    return (
        dict(Counter(operator for _, _, operator in own).most_common()),
        dict(Counter(own.values()).most_common()),
        seconds,
    )
