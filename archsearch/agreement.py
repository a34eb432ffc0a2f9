"""Whether devices computed the same: a candidate's outputs on several devices, compared.

Every device has already compared its blocks with the host's reference. This is the same question for the whole model:
one wrong transfer, one kernel that differs at one size, and a device measures something else than the others do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from archsearch.measurement import ADHOC, ANCHOR, CANDIDATE, Measurement
from profiler.agent.agreement import relative_rms

OUTPUT_TOLERANCE: Mapping[str, float] = {"fp32": 0.01, "int8": 0.3, "int4": 0.3}
"""Largest relative RMS difference between two devices' logits. Kernels round activations in ways of their own, and the
layers pass it on: x86 and Arm differed by 3e-6 in fp32, and by up to 4% in int4 and int8 after five to ten layers.
Outputs that have nothing to do with each other differ by 140%."""


def disagreements(measurements: Iterable[Measurement]) -> dict[str, str]:
    """Measurements whose outputs are not those of the other devices: job id to the reason, in words.

    Where several devices agree, the others are wrong; where no two do, all of them are doubted.
    """
    same: dict[tuple[object, ...], dict[str, Measurement]] = {}
    for m in measurements:
        if m.status == "ok" and m.role in (ANCHOR, CANDIDATE, ADHOC):
            what = m.layout.layout_id if m.layout is not None else m.name
            same.setdefault((what, m.precision, m.points, m.seed), {})[m.device] = m
    found: dict[str, str] = {}
    for of_devices in same.values():
        groups = _groups(list(of_devices.values())) if len(of_devices) > 1 else []
        if len(groups) < 2:
            continue
        largest = max(map(len, groups))
        trusted = [group for group in groups if len(group) == largest]
        for group in groups:
            if len(trusted) == 1 and group is trusted[0]:
                continue
            other = next(candidate for candidate in (*trusted, *groups) if candidate is not group)[0]
            for m in group:
                found[m.job_id] = (
                    f"its outputs are not those of {other.device}: relative RMS {_difference(m, other):.2g}, tolerance "
                    f"{OUTPUT_TOLERANCE[m.precision]:g}"
                )
    return found


def _groups(measurements: Sequence[Measurement]) -> list[list[Measurement]]:
    """Those that agree with the first of each group."""
    groups: list[list[Measurement]] = []
    for m in measurements:
        for group in groups:
            if _difference(m, group[0]) <= OUTPUT_TOLERANCE.get(m.precision, 1.0):
                group.append(m)
                break
        else:
            groups.append([m])
    return groups


def _difference(one: Measurement, other: Measurement) -> float:
    """The largest over the points that both have."""
    a, b = _logits(one), _logits(other)
    return max((relative_rms(a[point], b[point]) for point in a.keys() & b.keys()), default=0.0)


def _logits(m: Measurement) -> dict[int, list[float]]:
    """What the first process sampled, by point; all processes of one measurement have been compared with each other."""
    first = next(iter(m.result.timing), None) if m.result is not None else None
    return {
        samples.point: [value for value in samples.logits.sample if value is not None]
        for samples in (first.points if first is not None else ())
        if samples.logits is not None and samples.logits.sample
    }
