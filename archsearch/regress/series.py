"""The store's nights as series to judge: the same nights, in whatever order and however often they are read."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from archsearch.measurement import MeasuredPoint, Measurement
from archsearch.objectives import Objective, objectives
from archsearch.records import load_measurements
from archsearch.regress.events import acceptance_of, loss_of, plan_of
from archsearch.regress.notes import ACCEPTED, LOST, NIGHT, STUDY, Asked, Note
from archsearch.regress.rounds import MISSING, Counted, by_night, counted
from archsearch.regress.series_key import SeriesKey
from archsearch.store import Store
from profiler.stats import Interval
from profiler.workloads import Point
from reports.nights import FRESH_RUNS, OK, Acceptance, Night, Run, Series
from reports.values import Value
from search_space.layout import by_kind

CORE_COUNT = "core count"
"""In a night's environment: how many cores the device has."""
UNREACHED = "lost"
"""Status of what a night was to measure on a device that could not be used."""
_NOT_REACHED = "the run ended before this was measured"
OF_THE_LARGEST = ("peak_rss_mib", "effective_params_per_mib")
"""Quantities from the memory pass, which runs a workload's largest point alone."""


@dataclass(slots=True)
class _Growing:
    """A series as its nights are found."""

    key: SeriesKey
    minimum_effect: float = 0.04
    first: dict[float, Run] = field(default_factory=dict)
    fresh: dict[float, tuple[Run, ...]] = field(default_factory=dict)
    environments: dict[float, Mapping[str, str]] = field(default_factory=dict)
    effects: dict[float, float] = field(default_factory=dict)
    fresh_runs: dict[float, int] = field(default_factory=dict)

    def nights(self) -> tuple[Night, ...]:
        return tuple(
            Night(
                time=time, first=self.first[time], confirmations=self.fresh.get(time, ()),
                environment=self.environments.get(time, {}), minimum_effect=self.effects.get(time),
                fresh_runs=self.fresh_runs.get(time, FRESH_RUNS),
            )
            for time in sorted(self.first)
        )  # fmt: skip


def load_series(store: Store, *, until: float | None = None) -> list[Series]:
    """All series of a store, in the order in which they first occurred.

    A night that was to measure a thing and has nothing of it (the device was lost, the run was stopped) is a night
    without a number, with the reason. `SeriesKey.parse` reads a series' key. Events that are damaged are passed over.

    Args:
        store: Where they are.
        until: Nights that began later are left out.

    Raises:
        StoreError: It cannot be read, or is damaged.
    """
    limit = math.inf if until is None else until
    noted = []
    for measurement in load_measurements(store, STUDY):
        note = Note.read(measurement.notes)
        if note is not None and note.night <= limit:
            noted.append((note, measurement))
    growing: dict[SeriesKey, _Growing] = {}
    for of_one in by_night(noted).values():
        for one in counted(of_one):
            _take(growing, one)
    _add_unmeasured(growing, store, limit)
    accepted = _acceptances(store)
    return [
        Series(
            key=key.text, device=key.device, label=key.label, quantity=key.quantity,
            direction=objectives()[key.quantity].direction, nights=one.nights(), anchor=key.anchor,
            acceptances=accepted.get(key.text, ()), minimum_effect=one.minimum_effect, item=key.item,
            workload=key.workload, precision=key.precision,
        )
        for key, one in growing.items()
    ]  # fmt: skip


def _take(growing: dict[SeriesKey, _Growing], one: Counted) -> None:
    """Take up a measurement: one run of each of its series."""
    note, measurement = one.note, one.measurement
    known = objectives()
    for view in measurement.measured_points:
        for name in note.quantities:
            run = _run(view, known[name], one.trouble) if name in known else None
            if run is None:
                continue
            key = _key(note, measurement, view, name)
            series = growing.setdefault(key, _Growing(key))
            if note.part == "confirmation":
                series.fresh[note.night] = (*series.fresh.get(note.night, ()), run)
                series.first.setdefault(note.night, Run(status=MISSING, reason=_NOT_REACHED))
            else:
                series.first[note.night] = run
                series.environments[note.night] = _environment(note, measurement)
                series.fresh_runs[note.night] = note.fresh_runs
                series.minimum_effect = series.effects[note.night] = note.minimum_effect


def _run(view: MeasuredPoint, objective: Objective, trouble: tuple[str, str] | None) -> Run | None:
    """One point's number, or why there is none; None where the point has none in any case."""
    measurement = view.measurement
    largest = max(measurement.points, key=lambda point: point.batch * point.context)
    if objective.name in OF_THE_LARGEST and view.point != largest:
        return None
    if measurement.status != OK:
        return Run(status=measurement.status, reason=measurement.reason)
    if trouble is not None:
        return Run(status=trouble[0], reason=trouble[1])
    value = objective.value(view)
    if value is None:
        return Run(status=MISSING, reason=f"the device gave no {objective.name}")
    if isinstance(value, Interval):
        return Run(value=Value(value=value.value, low=value.low, high=value.high))
    return Run(value=Value(value=float(value), low=float(value), high=float(value)))


def _key(note: Note, measurement: Measurement, view: MeasuredPoint, quantity: str) -> SeriesKey:
    under = _under(measurement.conditions)
    return SeriesKey(
        device=measurement.device, item=note.item, anchor=note.anchor, precision=measurement.precision,
        point=tuple(view.point.to_list()), quantity=quantity, identity=note.identity,
        points=tuple(tuple(point.to_list()) for point in measurement.points), seed=measurement.seed or 0,
        fingerprint=str(under.get("device")), runtime_version=str(under.get("runtime_version")),
        method=str(under.get("method")),
    )  # fmt: skip


@lru_cache(maxsize=1024)
def _under(conditions: str) -> Mapping[str, Any]:
    """What a measurement was made under."""
    found: dict[str, Any] = json.loads(conditions or "{}")
    return found


def _environment(note: Note, measurement: Measurement) -> dict[str, str]:
    """What may explain a change, in short texts."""
    under = _under(measurement.conditions)
    runtime = under.get("runtime") or {}
    cores = runtime.get("cores")
    found = {
        "threads": str(runtime.get("threads", "unknown")),
        "cores": "all" if cores is None else ",".join(map(str, cores)),
        "providers": ",".join(str(name) for name, _ in runtime.get("providers", ())),
        "onnxruntime": str(under.get("runtime_version")),
        "agent": str(under.get("method")),
        "archsearch": note.archsearch,
    }
    found |= {f"lowering of {kind}": name for kind, name in by_kind(measurement.lowerings).items()}
    told = measurement.notes.get("environment")
    there = {str(name): str(value) for name, value in told.items()} if isinstance(told, Mapping) else {}
    if "cores" in there:  # how many the device has; `cores` is those that it may use
        there[CORE_COUNT] = there.pop("cores")
    return there | found


def _add_unmeasured(growing: Mapping[SeriesKey, _Growing], store: Store, limit: float) -> None:
    """Give the latest series of what a night was to measure, and did not, that night without a number."""
    lost = dict(loss for _, _, event in store.events(STUDY, LOST) if (loss := loss_of(event)) is not None)
    plans = [plan for _, _, event in store.events(STUDY, NIGHT) if (plan := plan_of(event)) is not None]
    for plan in sorted(plans, key=lambda plan: plan.night):
        if plan.night > limit:
            continue
        asked = set(plan.asked)
        latest: dict[tuple[object, ...], _Growing] = {}
        for key, one in growing.items():
            if key.device not in plan.devices or asked_of(key) not in asked:
                continue
            known = latest.get(key.place)
            if known is None or _last(one, plan.night) >= _last(known, plan.night):
                latest[key.place] = one
        for one in latest.values():
            why = lost.get((plan.night, one.key.device))
            known_run = one.first.get(plan.night)
            if known_run is None and _last(one, plan.night) > -math.inf:
                run = Run(status=MISSING, reason=_NOT_REACHED) if why is None else Run(status=UNREACHED, reason=why)
                one.first[plan.night] = run
            elif known_run is not None and known_run.status == MISSING and why is not None:
                one.first[plan.night] = Run(status=UNREACHED, reason=why)


def asked_of(key: SeriesKey) -> Asked:
    """What of a plan a series is of."""
    return Asked(
        item=key.item, identity=key.identity, anchor=key.anchor, precision=key.precision,
        points=tuple(map(Point.from_list, key.points)),
    )  # fmt: skip


def _last(one: _Growing, until: float) -> float:
    """The last night of a series up to a time."""
    return max((time for time in one.first if time <= until), default=-math.inf)


def _acceptances(store: Store) -> dict[str, tuple[Acceptance, ...]]:
    """What was accepted, by the key of its series."""
    found: dict[str, tuple[Acceptance, ...]] = {}
    for _, _, event in store.events(STUDY, ACCEPTED):
        accepted = acceptance_of(event)
        if accepted is not None:
            key, acceptance = accepted
            found[key] = (*found.get(key, ()), acceptance)
    return found
