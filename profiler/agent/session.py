"""Opens a graph with onnxruntime exactly as the job says; nothing is left to the runtime's choice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnxruntime as ort

from .platforms import HERE
from .protocol import JobFailure, Json

_ERRORS_ONLY = 3


def pin(runtime: Json) -> None:
    """Bind this process, and the threads it will start, to the job's cores.

    Raises:
        JobFailure: The device does not have them.
    """
    cores = runtime.get("cores")
    if cores:
        try:
            given = HERE.pin(cores)
        except OSError as error:
            raise JobFailure("failed", f"the process cannot be bound to cores {cores}: {error}") from error
        if missing := sorted(set(cores) - given):  # the kernel is content with one that is there
            raise JobFailure("failed", f"the device has no core {missing[0]} for us; it was asked for cores {cores}")


def share_threads(runtime: Json) -> None:
    """Make one pool of the job's threads, for all sessions of this process that are opened `shared`."""
    ort.set_global_thread_pool_sizes(int(runtime["threads"]), 1)


def open_session(
    model: Path, runtime: Json, *, profile: Path | None = None, shared: bool = False
) -> ort.InferenceSession:
    """Load a graph: explicit thread count, sequential, all optimisations, the job's configuration entries.

    Args:
        model: Path of the graph; its external data lies beside it.
        runtime: The job's `runtime`; the optional keys `mem_arena` and `mem_pattern` (both default to true) switch the
            CPU allocator's arena and the memory-pattern planner.
        profile: Prefix of a trace file that onnxruntime is to write.
        shared: Use the pool of `share_threads` and none of its own.

    Raises:
        JobFailure: A wanted execution provider is not there, or does not start.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = int(runtime["threads"])
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.enable_cpu_mem_arena = bool(runtime.get("mem_arena", True))
    options.enable_mem_pattern = bool(runtime.get("mem_pattern", True))
    options.log_severity_level = _ERRORS_ONLY
    for key, value in runtime.get("session_config", {}).items():
        options.add_session_config_entry(key, str(value))
    options.use_per_session_threads = not shared
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile)
    wanted: list[Any] = [tuple(entry) for entry in runtime.get("providers") or [["CPUExecutionProvider", {}]]]
    there = ort.get_available_providers()
    if missing := [name for name, _ in wanted if name not in there]:
        raise JobFailure("failed", f"onnxruntime here has no {', '.join(missing)}; it has {', '.join(there)}")
    session = ort.InferenceSession(str(model), options, providers=wanted)
    if refused := [name for name, _ in wanted if name not in session.get_providers()]:
        # onnxruntime goes on without it, with a line in its log: what is measured then is another device.
        raise JobFailure(
            "failed", f"onnxruntime could not start {', '.join(refused)}; is what it needs installed here?"
        )
    return session
