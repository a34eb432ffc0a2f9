"""Whether devices computed the same: a candidate's outputs on several devices, compared.

Every device has already compared its blocks with the host's reference. This is the same question for the whole model:
one wrong transfer, one kernel that differs at one size, and a device measures something else than the others do.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from archsearch.measurement import ADHOC, ANCHOR, CANDIDATE, Measurement
from profiler.agent.agreement import relative_rms

OUTPUT_TOLERANCE: Mapping[str, float] = {"fp32": 0.01, "int8": 0.3, "int4": 0.3}
"""Largest relative RMS difference between two devices' logits. Kernels round activations in ways of their own, and the
layers pass it on: x86 and Arm differed by 3e-6 in fp32, and by up to 4% in int4 and int8 after five to ten layers.
Outputs that have nothing to do with each other differ by 140%."""


OUTVOTED_AFTER = 2
"""Layouts that a device computes otherwise than the majority before none of its results are believed."""


def wrong_devices(anchors: Iterable[Measurement], candidates: Iterable[Measurement]) -> dict[str, str]:
    """Devices whose outputs are not to be believed, with the reason.

    Those whose latest run of the watched anchor is not what the others compute, and those that were outvoted over
    `OUTVOTED_AFTER` candidates.
    """
    latest: dict[tuple[object, ...], dict[str, Measurement]] = {}
    for m in sorted(anchors, key=lambda m: m.created_unix):
        if m.status == "ok":
            latest.setdefault(_what(m), {})[m.device] = m
    wrong = {m.device: why for of_devices in latest.values() for m, why, _ in _odd(list(of_devices.values()))}
    outvoted: dict[str, list[str]] = {}
    for of_devices in _by_thing(m for m in candidates if m.device not in wrong):
        for m, why, known in _odd(list(of_devices.values())):
            if known:
                outvoted.setdefault(m.device, []).append(why)
    return wrong | {device: why[-1] for device, why in outvoted.items() if len(why) >= OUTVOTED_AFTER}


def disagreements(measurements: Iterable[Measurement]) -> dict[str, str]:
    """Measurements whose outputs are not those of the other devices: job id to the reason, in words."""
    things = _by_thing(measurements)
    return {m.job_id: why for of_devices in things for m, why, _ in _odd(list(of_devices.values()))}


def unlike(one: Measurement, other: Measurement, *, whose: str) -> str:
    """Why the outputs of one measurement are not those of another of the same thing; empty where they agree.

    Args:
        one: Which is doubted.
        other: What it is compared with.
        whose: Of whom the other is, for the sentence.
    """
    tolerated = _difference(one, other) <= OUTPUT_TOLERANCE.get(one.precision, 1.0)
    return "" if tolerated else _words(one, other, whose)


def _by_thing(measurements: Iterable[Measurement]) -> Iterable[Mapping[str, Measurement]]:
    """The last ok measurement of each layout or file on each device."""
    same: dict[tuple[object, ...], dict[str, Measurement]] = {}
    for m in measurements:
        if m.status == "ok" and m.role in (ANCHOR, CANDIDATE, ADHOC):
            same.setdefault(_what(m), {})[m.device] = m
    return same.values()


def _what(m: Measurement) -> tuple[object, ...]:
    """What two measurements must have in common for their outputs to be the same."""
    return (m.layout.layout_id if m.layout is not None else m.name, m.precision, m.points, m.seed)


def _odd(measurements: Sequence[Measurement]) -> Iterator[tuple[Measurement, str, bool]]:
    """Of measurements of one thing, those that are not like the others, the reason, and whether a majority says so.

    Where several agree, the others are wrong; where no two do, all of them are doubted.
    """
    groups = _groups(measurements)
    if len(groups) < 2:
        return
    largest = max(map(len, groups))
    trusted = [group for group in groups if len(group) == largest]
    for group in groups:
        if len(trusted) == 1 and group is trusted[0]:
            continue
        other = next(candidate for candidate in (*trusted, *groups) if candidate is not group)[0]
        known = len(trusted) == 1
        doubt = "" if known else ", and which of them is right is not known"
        for m in group:
            yield m, f"{_words(m, other, other.device)}{doubt}", known


def _words(one: Measurement, other: Measurement, whose: str) -> str:
    return (
        f"its outputs are not those of {whose}: relative RMS {_difference(one, other):.2g}, tolerance "
        f"{OUTPUT_TOLERANCE.get(one.precision, 1.0):g}"
    )


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


def _logits(m: Measurement) -> Mapping[int, Sequence[float]]:
    """What the first process sampled, by point; all processes of one measurement have been compared with each other."""
    return {} if m.summary is None else m.summary.logits
