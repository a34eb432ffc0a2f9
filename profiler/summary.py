"""What a result comes to: all that tables, rankings and judging read of it, a tenth of its size and quick to read.

A summary is derived from a result and nothing else, so it may be kept beside it and thrown away at any time. It says
what this version of the code makes of the samples: whoever changes what is computed (`profiler.stats`), or what is
kept, raises `SUMMARY_VERSION`, and summaries of before are made anew.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic_core import from_json

from profiler.results import Result
from profiler.stats import SUMMARY_VERSION, Interval, PointSummary, centre, summarise

__all__ = ["SUMMARY_VERSION", "ResultSummary", "read_summary", "result_summary", "write_summary"]

_INTERVALS = ("ttft_ms", "decode_ms", "decode_ms_p95")


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultSummary:
    """A result without its samples.

    Attributes:
        points: Statistics of every point that has kept samples, in order; of an `ok` result only.
        load_ms: Loading the model: mean over the timing processes, each of which loads it once.
        peak_rss_mib: Peak memory, where the pass was made.
        providers: Execution providers of the graph's nodes, counted, as the first process tells that does.
        logits: By point, the output that the first timing process sampled.
        stopped_because: Which rule ended the repetition.
        total_s: Seconds that the job took.
    """

    points: tuple[PointSummary, ...] = ()
    load_ms: Interval | None = None
    peak_rss_mib: float | None = None
    providers: Mapping[str, Any] = field(default_factory=dict)
    logits: Mapping[int, Sequence[float]] = field(default_factory=dict)
    stopped_because: str | None = None
    total_s: float = 0.0


def result_summary(result: Result) -> ResultSummary:
    """Summarise a result."""
    timing, memory = result.timing, result.memory
    loads = [[process.load_ms] for process in timing if process.load_ms is not None]
    return ResultSummary(
        points=summarise(result) if result.status == "ok" else (),
        load_ms=centre(loads) if loads else None,
        peak_rss_mib=None if memory is None else memory.peak_rss_mib,
        providers=next((process.providers for process in result.processes if process.providers), {}),
        logits={
            samples.point: [value for value in samples.logits.sample if value is not None]
            for samples in (timing[0].points if timing else ())
            if samples.logits is not None and samples.logits.sample
        },
        stopped_because=result.stopped_because,
        total_s=result.seconds.get("total", 0.0),
    )


def write_summary(summary: ResultSummary) -> str:
    """As JSON; `read_summary` gives back an equal one: numbers are written with all their digits."""
    return json.dumps(
        {
            "points": [
                {name: _ends(getattr(point, name)) for name in _INTERVALS}
                | {name: getattr(point, name) for name in PointSummary.__slots__ if name not in _INTERVALS}
                for point in summary.points
            ],
            "load_ms": summary.load_ms and _ends(summary.load_ms),
            "peak_rss_mib": summary.peak_rss_mib,
            "providers": dict(summary.providers),
            "logits": [[point, list(sample)] for point, sample in summary.logits.items()],
            "stopped_because": summary.stopped_because,
            "total_s": summary.total_s,
        },
        separators=(",", ":"),
        allow_nan=False,
    )


def read_summary(text: str) -> ResultSummary:
    """The inverse of `write_summary`.

    Raises:
        ValueError: It is none.
    """
    try:
        data = from_json(text)
        for point in data["points"]:
            for name in _INTERVALS:
                point[name] = _interval(point[name])
        data["points"] = tuple(PointSummary(**point) for point in data["points"])
        data["load_ms"] = data["load_ms"] and _interval(data["load_ms"])
        data["logits"] = dict(data["logits"])
        return ResultSummary(**data)
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"no summary of a result: {error}") from error


def _ends(interval: Interval) -> list[float]:
    return [interval.value, interval.low, interval.high]


def _interval(ends: Sequence[float]) -> Interval:
    value, low, high = ends
    return Interval(value=value, low=low, high=high)
