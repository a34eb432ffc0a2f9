"""Decisions over several processes: is the interval narrow enough, and did they all compute the same?"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from .protocol import P95_SAMPLES

LOGITS_TOLERANCE = 1e-3
"""Relative root-mean-square difference of sampled logits between processes."""

_T95 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120,
    2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip


def half_width(values: Sequence[float]) -> float:
    """Half width of the 95% t-interval of the mean, relative to the mean; infinite for fewer than two values."""
    count = len(values)
    mean = math.fsum(values) / max(1, count)
    if count < 2 or mean <= 0:
        return math.inf
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (count - 1))
    return (_T95[count - 2] if count - 2 < len(_T95) else 1.96) * deviation / math.sqrt(count) / mean


def median(values: Iterable[float]) -> float:
    """The middle value, or the mean of the two middle ones (the statistics module takes 10 ms to import)."""
    ordered = sorted(values)
    middle = len(ordered) // 2
    return float(ordered[middle]) if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def widest_interval(processes: Sequence[dict[str, Any]]) -> float:
    """The widest relative half width of TTFT and decode over all points, from each process's medians."""
    widest = 0.0
    for index in range(len(processes[0]["points"])):
        first: list[float] = []
        steps: list[float] = []
        for process in processes:
            kept = [repeat for repeat in process["points"][index]["repeats"] if repeat["kept"]]
            first.append(median(repeat["ttft_ns"] for repeat in kept))
            if pooled := [step for repeat in kept for step in repeat["decode_ns"]]:
                steps.append(median(pooled))
        widest = max(widest, half_width(first), half_width(steps) if steps else 0.0)
    return widest


def disagreements(processes: Sequence[dict[str, Any]]) -> dict[int, str]:
    """Why the processes' outputs do not belong to the same computation, by index of the point; empty when they do.

    Tokens are compared only where the sampled logits are equal to rounding: with kernels that add in changing order, a
    near tie may fall either way and every later token with it.
    """
    found: dict[int, str] = {}
    reference = {samples["point"]: samples["logits"] for samples in processes[0]["points"]}
    for process in processes[1:]:
        for samples in process["points"]:
            index = int(samples["point"])
            if index not in reference or index in found:
                continue
            a, b = reference[index], samples["logits"]
            difference = relative_rms(b["sample"], a["sample"])
            where = f"processes {processes[0]['index']} and {process['index']}"
            if not difference <= LOGITS_TOLERANCE:
                found[index] = f"{where} computed different logits (relative RMS {difference:.2g})"
            elif difference < 1e-7 and a["tokens"] != b["tokens"]:
                found[index] = f"{where} began with equal logits and decoded different tokens"
    return found


def relative_rms(got: Sequence[float], expected: Sequence[float]) -> float:
    """Root-mean-square difference over the root-mean-square of what was expected; infinite for unequal lengths."""
    if len(got) != len(expected) or not expected:
        return math.inf
    scale = math.fsum(value * value for value in expected)
    error = math.fsum((a - b) ** 2 for a, b in zip(got, expected, strict=True))
    return 0.0 if error == 0 else math.sqrt(error / scale) if scale else math.inf


def wanted_repeats(protocol: dict[str, Any], decode: int) -> int:
    """Sequences per process that give enough decode samples for a 95th percentile, within the protocol's bounds."""
    least, most = int(protocol["min_repeats"]), int(protocol["max_repeats"])
    if not decode:
        return least
    return max(least, min(most, math.ceil(P95_SAMPLES / (int(protocol["min_processes"]) * decode))))
