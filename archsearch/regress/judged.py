"""Verdicts on what is stored: on one night, on the last night of each series; and new series beside the old ones."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from statistics import median

from archsearch.regress.series import CORE_COUNT
from archsearch.regress.series_key import SeriesKey
from reports.formatting import clean, plain_number
from reports.gate import WINDOW
from reports.nights import Night, Series
from reports.verdict import Kind, Verdict
from reports.verdict_rows import worst_first
from reports.verdicts import judge, replay

_FIXED = ("machine", "cpu_model", CORE_COUNT, "os", "libc", "governor")
"""What of a device's environment is part of its fingerprint."""
_TOMORROW_S = 86_400.0
_VERSION = re.compile(r"[0-9][0-9A-Za-z.+!-]{0,63}")
"""What a device calls its runtime, where that can be typed."""


def judge_night(series: Sequence[Series], night: float) -> list[Verdict]:
    """Verdicts on one night, worst first, of the series that it was to measure.

    Args:
        series: All of the store (`load_series`): those dated after the night tell that a clock jumped.
        night: Its time.
    """
    return worst_first(_beside_old(verdict, series) for verdict in verdicts_of(series, night))


def verdicts_of(series: Sequence[Series], night: float) -> list[Verdict]:
    """Verdicts on one night of the series that have it, in their order.

    All are led through their nights: an anchor that the suite no longer has still tells what was the device.
    """
    tonight = {one.key for one in series if any(found.time == night for found in one.nights)}
    return [verdict for verdict in judge(series, at=night) if verdict.series.key in tonight]


def last_night(series: Sequence[Series]) -> float | None:
    """The last night that is not from the future: a clock that once jumped ahead does not hide the others.

    Where all are from the future, the last of them; None without any night.
    """
    times = [night.time for one in series for night in one.nights]
    return max((at for at in times if at <= time.time() + _TOMORROW_S), default=max(times, default=None))


def latest_verdicts(series: Sequence[Series]) -> list[Verdict]:
    """The verdict on the last night of each series, in their order; see `last_night`."""
    found: dict[str, Verdict] = {}
    for at, verdicts in replay(series, at=last_night(series)):
        for verdict in verdicts:
            if any(night.time == at for night in verdict.series.nights):
                found[verdict.series.key] = verdict
    return [_beside_old(found[one.key], series) for one in series if one.key in found]


def current(series: Sequence[Series]) -> list[Series]:
    """Of the series that follow each other in one place, the one that has the last night."""
    found: dict[tuple[object, ...], Series] = {}
    for one in series:
        place = SeriesKey.parse(one.key).place
        if place not in found or _last(one) >= _last(found[place]):
            found[place] = one
    return list(found.values())


def _beside_old(verdict: Verdict, series: Sequence[Series]) -> Verdict:
    """With a word on the series that this one follows, while it is too young to be judged by itself."""
    if verdict.baseline is not None or verdict.kind is not Kind.AMBIGUOUS:
        return verdict
    old = _predecessor(verdict.series, series)
    if old is None:
        return verdict
    numbers = _numbers(old)[-WINDOW:]
    if not numbers:
        return verdict
    level = median(numbers)
    value = next(
        (night.first.value for night in verdict.series.nights if night.time == verdict.time and night.first.value), None
    )
    against = "" if value is None else f", tonight's {plain_number(value.value)} is {value.value / level - 1:+.1%}"
    text = (
        f"; a new series ({_difference(old, verdict.series)}); the old one stood at {plain_number(level)}{against} "
        f"(for information, no alarm){_on_purpose(old, verdict.series)}"
    )
    return replace(verdict, why=verdict.why + text)


def _predecessor(young: Series, series: Sequence[Series]) -> Series | None:
    """The series of the same place that ended last before this one began."""
    place, begun = SeriesKey.parse(young.key).place, min(night.time for night in young.nights)
    before = [
        one for one in series
        if one.key != young.key and SeriesKey.parse(one.key).place == place and one.nights
        and min(night.time for night in one.nights) < begun
    ]  # fmt: skip
    return max(before, key=_last, default=None)


def _difference(old: Series, new: Series) -> str:
    """What separates two series of one place, in words."""
    before, now = SeriesKey.parse(old.key), SeriesKey.parse(new.key)
    said = []
    if before.identity != now.identity:
        said.append(f"{clean(now.item)} is another model: {before.identity[:12]} -> {now.identity[:12]}")
    for name, what in (("runtime_version", "onnxruntime"), ("method", "agent"), ("seed", "seed")):
        if getattr(before, name) != getattr(now, name):
            said.append(f"{what} {clean(str(getattr(before, name)))} -> {clean(str(getattr(now, name)))}")
    if before.points != now.points:
        said.append("the workload has other points")
    if before.fingerprint != now.fingerprint:
        said.append(_device_difference(old.nights, new.nights))
    return "; ".join(said)


def _on_purpose(old: Series, new: Series) -> str:
    """How to compare the runtimes of two series, where that is what separates them."""
    versions = [SeriesKey.parse(one.key).runtime_version for one in (old, new)]
    if versions[0] == versions[1] or not all(map(_VERSION.fullmatch, versions)):
        return ""
    return f"; compare them on purpose: archsearch regress run --compare-runtimes {' '.join(versions)}"


def _device_difference(old: Iterable[Night], new: Iterable[Night]) -> str:
    before, now = _environment(old), _environment(new)
    changed = [
        f"{name} {clean(before.get(name, 'unknown'))} -> {clean(now.get(name, 'unknown'))}"
        for name in _FIXED
        if before.get(name) != now.get(name)
    ]
    return "the device is another: " + (", ".join(changed) or "its memory or its clock policy")


def _environment(nights: Iterable[Night]) -> Mapping[str, str]:
    """Of the last night that told one."""
    told = [night for night in nights if night.environment]
    return max(told, key=lambda night: night.time).environment if told else {}


def _numbers(series: Series) -> list[float]:
    nights = sorted(series.nights, key=lambda night: night.time)
    return [night.first.value.value for night in nights if night.first.fitness == "number" and night.first.value]


def _last(series: Series) -> float:
    return max((night.time for night in series.nights), default=0.0)
