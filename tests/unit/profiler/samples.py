"""Jobs and results for the tests of this folder."""

from __future__ import annotations

import copy
import json
from typing import Any

from profiler.jobs import Job, Runtime
from profiler.workloads import Point

SIGNATURE = {
    "inputs": [{"name": "tokens", "role": "tokens", "dtype": "int64", "shape": ["batch", "T"]}],
    "states": [],
    "logits": "logits",
    "logits_positions": "last",
    "vocab_size": 64,
}
FILES = {"model.onnx": b"graph", "recipe.json": b"{}"}
ENVIRONMENT = {
    "host": "h", "machine": "x86_64", "cpu_model": "CPU", "cores": 2, "memory_mib": 4096, "os": "Linux", "kernel": "6",
    "libc": "glibc 2.36", "python": "3.11", "numpy": "2", "onnxruntime": "1.31.1", "governor": None,
    "cpu_mhz": [2500.0, 2500.0], "temperature_c": None, "load1": 0.2, "usable_cores": 2,
    "providers": ["CPUExecutionProvider"],
}  # fmt: skip


def make_job(**changes: Any) -> Job:
    fields: dict[str, Any] = {
        "job_id": "job-1",
        "label": "a test",
        "signature": SIGNATURE,
        "runtime": Runtime(threads=2),
        "points": (Point(prompt=16, decode=4),),
        "content_id": "content",
    }
    return Job(**{**fields, **changes})


def rep(ttft_ms: float = 5.0, decode_ms: float = 1.0, steps: int = 4, *, kept: bool = True) -> dict[str, Any]:
    return {
        "prefill_ns": int(ttft_ms * 1e6) - 1000,
        "ttft_ns": int(ttft_ms * 1e6),
        "decode_ns": [int(decode_ms * 1e6)] * steps,
        "other_cpu": 0.01,
        "kept": kept,
    }


def process(index: int, repeats: list[dict[str, Any]], *, point: int = 0) -> dict[str, Any]:
    logits = {"finite": True, "tokens": [1, 2], "sample": [0.5, -0.5], "rms": 1.0}
    samples = {"point": point, "warmup": [rep()], "repeats": repeats, "warm": True, "logits": logits}
    return {
        "index": index, "kind": "timing", "pid": 100 + index, "seconds": {"start": 0.1, "load": 0.2}, "load_ms": 200.0,
        "points": [samples], "operators": {"MatMulNBits": 81}, "providers": {"CPUExecutionProvider": 90},
        "memory": None, "exit": "0",
    }  # fmt: skip


def make_result(**changes: Any) -> dict[str, Any]:
    memory = {
        "peak_rss_mib": 300.5, "rss_anon_mib": 100.0, "rss_file_mib": 200.0, "swap_mib": 0.0, "baseline_rss_mib": 40.0,
        "phases": {"load": 250.0, "prefill": 290.0, "decode": 300.5}, "source": "VmHWM",
    }  # fmt: skip
    memory_process = {**process(3, []), "kind": "memory", "points": [], "memory": memory}
    fields = {
        "format": 1, "job_id": "job-1", "method": "method-1", "status": "ok", "reason": "", "environment": ENVIRONMENT,
        "processes": [*(process(i, [rep(), rep()]) for i in range(3)), memory_process],
        "checks": [{"name": "gqa", "ok": True, "rel_rms": 1e-4, "tolerance": 1e-2, "message": ""}],
        "seconds": {"waiting": 0.0, "total": 3.5}, "stopped_because": "interval",
        "weights": {"bytes": 1000, "cached": False},
    }  # fmt: skip
    return copy.deepcopy({**fields, **changes})


def raw(result: Any) -> bytes:
    return json.dumps(result).encode()
