"""Measurements as the plain table that reports read: one row for each measured point, every doubt in its status."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from archsearch.judging import Judgement
from archsearch.measurement import ANCHOR, WATCH, MeasuredPoint, Measurement
from archsearch.objectives import objectives
from profiler.stats import Interval
from search_space.layout import by_kind

NOT_WARM = "warm-up was not seen to end in every process: may be unstable"
"""Reason beside an `ok` status."""


def rows(measurements: Iterable[Measurement], judgement: Judgement | None = None) -> list[dict[str, Any]]:
    """One row per measurement and point, judged beside the others (by default from all that are given).

    Watch runs are left out.
    """
    measurements = list(measurements)
    judgement = judgement or Judgement(measurements)
    return [
        _row(view, judgement)
        for measurement in measurements
        if measurement.role != WATCH
        for view in measurement.measured_points
    ]


def _row(view: MeasuredPoint, judgement: Judgement) -> dict[str, Any]:
    measurement = view.measurement
    status, reason = judgement.status(measurement)
    if status == "ok" and view.summary is not None and not view.summary.warm:
        reason = reason or NOT_WARM
    fallback = _fallback(measurement)
    if status == "ok" and fallback:
        reason = "; ".join(filter(None, (fallback, reason)))
    layout = measurement.layout
    row: dict[str, Any] = {
        "layout_id": layout.layout_id if layout else None,
        "code": layout.code if layout else None,
        "name": measurement.name,
        "anchor": measurement.role == ANCHOR,
        "device": measurement.pool,
        "unit": measurement.device,
        "workload": measurement.workload,
        "prompt": view.point.prompt,
        "chunk": view.point.chunk or None,
        "decode": view.point.decode,
        "batch": view.point.batch,
        "precision": measurement.precision,
        "status": status,
        "reason": reason,
        "disagrees": judgement.disagrees(measurement),
        "fallback": fallback or None,
        "trial": measurement.trial,
        "job_id": measurement.job_id,
        "created_unix": measurement.created_unix,
        # A job that an earlier driver sent, and this one found on the device: how much that was is not known.
        "bytes_sent": measurement.bytes_sent if measurement.bytes_sent or measurement.evidence is None else None,
    }
    spread = judgement.drift.spread(measurement.device)
    for name, objective in objectives().items():
        value = objective.value(view) if status == "ok" or not objective.measured else None
        row[name] = value.value if isinstance(value, Interval) else value
        if isinstance(value, Interval):
            row[f"{name}_low"], row[f"{name}_high"] = value.low, value.high if math.isfinite(value.high) else None
            if objective.timed and spread:
                row[f"{name}_spread"] = spread
        elif name in ("ttft_ms", "decode_ms", "decode_ms_p95"):
            row[f"{name}_low"] = row[f"{name}_high"] = None
    summary = view.summary
    row["p95_underpowered"] = summary.p95_underpowered if summary else None
    row["processes"] = summary.processes if summary else 0
    row["discarded"] = summary.discarded if summary else 0
    row["warm"] = summary.warm if summary else None
    row["stopped_because"] = measurement.summary.stopped_because if measurement.summary else None
    row["lowerings"] = by_kind(measurement.lowerings)
    if layout is not None:
        row["width"], row["depth"] = layout.width, len(layout.layers)
        row["vocab_size"], row["embedding_rank"] = layout.embedding.vocab_size, layout.embedding.rank
        row["tied"] = layout.embedding.tied
    return row


def _fallback(measurement: Measurement) -> str:
    """How much of a graph did not run where it was asked to, in words; empty when all did, or nothing is known."""
    first = _first_provider(measurement.conditions)
    ran = measurement.summary.providers if measurement.summary is not None else {}
    nodes = {name: count for name, count in ran.items() if isinstance(count, int)}
    elsewhere = {name: count for name, count in nodes.items() if name != first}
    if first is None or not elsewhere:
        return ""
    return f"{sum(elsewhere.values())} of {sum(nodes.values())} nodes fell back from {first} to {', '.join(elsewhere)}"


@lru_cache(maxsize=1024)
def _first_provider(conditions: str) -> str | None:
    """The execution provider that was asked for first."""
    asked = (json.loads(conditions or "{}").get("runtime") or {}).get("providers") or []
    return asked[0][0] if asked else None
