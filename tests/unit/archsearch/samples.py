"""Measurements for the tests of this folder: whole results as an agent writes them, with the times one asks for."""

from __future__ import annotations

import json
from typing import Any

from archsearch.measurement import ANCHOR, CANDIDATE, WATCH, Evidence, Measurement
from profiler.results import Result
from profiler.workloads import Point
from search_space.layout import Layout
from search_space.notation import resolve

ANCHOR_LAYOUT: Layout = resolve("CG:width=64,vocab=512,ffn=96,head_dim=16").layout
LAYOUT: Layout = resolve("CCG:width=64,vocab=512,ffn=96,head_dim=16").layout


def result(
    ttft_ms: float = 5.0,
    decode_ms: float = 1.0,
    *,
    noise: float = 0.001,
    points: int = 1,
    status: str = "ok",
    peak_rss_mib: float = 100.0,
) -> Result:
    """Three processes whose medians differ by the relative `noise`."""
    processes: list[dict[str, Any]] = []
    for index, factor in enumerate((1 - noise, 1.0, 1 + noise)):
        reps = [
            {
                "prefill_ns": int(ttft_ms * factor * 1e6) - 100,
                "ttft_ns": int(ttft_ms * factor * 1e6),
                "decode_ns": [int(decode_ms * factor * 1e6)] * 4,
                "other_cpu": 0.0,
                "kept": True,
            }
            for _ in range(2)
        ]
        samples = [{"point": point, "warmup": [], "repeats": reps, "warm": True} for point in range(points)]
        processes.append({"index": index, "kind": "timing", "load_ms": 10.0 + index, "points": samples})
    memory = {"peak_rss_mib": peak_rss_mib, "source": "VmHWM"}
    processes.append({"index": 3, "kind": "memory", "memory": memory})
    return Result.model_validate_json(
        json.dumps(
            {
                "format": 1,
                "job_id": "j",
                "method": "m",
                "status": status,
                "environment": {},
                "processes": processes,
                "seconds": {"total": 2.0, "timed": 1.0},
                "stopped_because": "interval",
            }
        )
    )


def measurement(at: float, role: str = CANDIDATE, **changes: Any) -> Measurement:
    """One measurement stored at second `at`; `times` are passed to `result`."""
    times = changes.pop("times", {})
    watched = role in (ANCHOR, WATCH)
    fields: dict[str, Any] = {
        "job_id": f"{role}-{at:g}",
        "role": role,
        "layout": ANCHOR_LAYOUT if watched else LAYOUT,
        "name": "the anchor" if watched else None,
        "label": "a label",
        "device": "local",
        "workload": "test",
        "points": (Point(prompt=16, decode=4),),
        "precision": "int4",
        "status": "ok",
        "reason": "",
        "weights_bytes": 2 * 2**20,
        "bytes_sent": 1000,
        "created_unix": at,
        "trial": None if watched else 0,
        **changes,
    }
    if "result" not in fields:
        fields["result"] = result(**times, points=len(fields["points"])) if fields["status"] == "ok" else None
    fields["evidence"] = Evidence.of(fields.pop("result"))
    return Measurement(**fields)
