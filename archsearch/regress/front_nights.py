"""Verdicts on the fronts of a night: the numbers of its series, put beside what the studies said when it began."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from archsearch.regress.fronts import conditions_of, kept_fronts
from archsearch.regress.series import OF_THE_LARGEST
from archsearch.regress.series_key import SeriesKey
from archsearch.store import Store
from profiler.workloads import Point
from reports.front_noise import NightNoise
from reports.front_verdicts import FrontVerdict, judge_front
from reports.nights import Run, Series
from reports.study_fronts import FrontNight, Reading, StudyFront
from reports.verdict import Kind, Verdict
from reports.verdict_rows import night_of
from reports.verdicts import replay

_Thing = tuple[str, str]  # item and identity
_Place = tuple[str, tuple[tuple[int, ...], ...], str]  # precision, all points of the workload, device


@dataclass(slots=True)
class _Growing:
    """Nights of a study's layouts at one point, as they are found."""

    readings: dict[float, dict[str, dict[str, Reading]]] = field(default_factory=dict)
    missing: dict[float, dict[str, str]] = field(default_factory=dict)
    device_wide: dict[float, list[str]] = field(default_factory=dict)
    conditions: dict[float, dict[str, str]] = field(default_factory=dict)

    def nights(self) -> Iterator[FrontNight]:
        for time in sorted({*self.readings, *self.missing}):
            yield FrontNight(
                time=time, readings=self.readings.get(time, {}), missing=self.missing.get(time, {}),
                device_wide=tuple(dict.fromkeys(self.device_wide.get(time, ()))),
                conditions=self.conditions.get(time, {}),
            )  # fmt: skip


def front_verdicts(store: Store, series: Sequence[Series], night: float) -> list[FrontVerdict]:
    """Verdicts on the fronts that a night measured, one for each study, device, point and precision.

    Args:
        store: Where the night is kept.
        series: All of the store (`load_series`).
        night: Its time.

    Raises:
        StoreError: It cannot be read.
    """
    fronts = kept_fronts(store, night)
    if not fronts:
        return []
    keys = {one.key: SeriesKey.parse(one.key) for one in series}
    tonight = {_place(keys[one.key]) for one in series if any(found.time == night for found in one.nights)}
    devices = {device for thing, (_, _, device) in tonight if any(_is_of(front, thing) for front in fronts)}
    judged = [one for one in series if keys[one.key].device in devices]  # anchors too: they tell what is device-wide
    history = [(verdict, keys[verdict.series.key]) for _, found in replay(judged, at=night) for verdict in found]
    return [verdict for front in fronts for verdict in _of_front(front, history, tonight)]


def _place(key: SeriesKey) -> tuple[_Thing, _Place]:
    return (key.item, key.identity), (key.precision, key.points, key.device)


def _is_of(front: StudyFront, thing: _Thing) -> bool:
    return any((one.item, one.layout) == thing for one in front.said)


def _of_front(
    front: StudyFront, history: Sequence[tuple[Verdict, SeriesKey]], tonight: set[tuple[_Thing, _Place]]
) -> Iterator[FrontVerdict]:
    wanted = {place for thing, place in tonight if _is_of(front, thing)}
    growing: dict[_Place, dict[tuple[int, ...], _Growing]] = {place: {} for place in sorted(wanted)}
    noise: defaultdict[str, NightNoise] = defaultdict(NightNoise)
    for verdict, key in history:
        thing, place = _place(key)
        if place in growing and not key.anchor and _is_of(front, thing) and key.quantity in front.objectives:
            reading = noise[verdict.series.key].reading(verdict)
            _take(growing[place].setdefault(key.point, _Growing()), verdict, key, reading)
    for (precision, _, device), points in growing.items():
        for point, one in points.items():
            _lend(one, [other for other in points.values() if other is not one])
            yield judge_front(
                front, list(one.nights()), device=device, workload=Point.from_list(point).text, precision=precision
            )


def _take(growing: _Growing, verdict: Verdict, key: SeriesKey, reading: Reading | None) -> None:
    """Take up one quantity of one layout on one night."""
    time, night = verdict.time, night_of(verdict)
    if night is None:
        return
    if reading is None:
        if key.quantity not in growing.readings.get(time, {}).get(key.identity, {}):
            growing.missing.setdefault(time, {})[key.identity] = _why(night.first)
        return
    growing.readings.setdefault(time, {}).setdefault(key.identity, {})[key.quantity] = reading
    if verdict.kind is Kind.DEVICE_WIDE:
        growing.device_wide.setdefault(time, []).append(key.quantity)
    under = {"runtime_version": key.runtime_version, "method": key.method, "device": key.fingerprint}
    growing.conditions[time] = conditions_of(under)


def _why(run: Run) -> str:
    return run.reason or run.status


def _lend(one: _Growing, others: Sequence[_Growing]) -> None:
    """Give a point what a workload has once, at its largest point: peak memory."""
    for other in others:
        for time, layouts in other.readings.items():
            for layout, readings in layouts.items():
                mine: Mapping[str, Reading] = one.readings.get(time, {}).get(layout, {})
                for name in readings.keys() - mine.keys():
                    if name in OF_THE_LARGEST and mine:
                        one.readings[time][layout][name] = readings[name]
