"""Between what is stored and what is read: database records, layouts as JSON, raw results."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from typing import Any

from archsearch.errors import StoreError
from archsearch.measurement import BLOCKS, Evidence, Measurement, conditions
from archsearch.store import MeasurementRecord, Outline, Store
from archsearch.timing import POOLS, RUN_STARTED
from profiler.errors import ResultError, WorkloadError
from profiler.jobs import MeasurementKey
from profiler.results import Result, read_result
from profiler.summary import read_summary, write_summary
from profiler.workloads import Point
from search_space.layout import Layout
from search_space.layout_file import read_stored

REUSED = "reused"
"""Kind of event: a study took over a measurement that another study in the same store had made."""
_TAKEN_AS = ("role", "trial", "name", "label")
"""What it says beside the job."""


def to_record(
    measurement: Measurement,
    *,
    study: str,
    key: MeasurementKey,
    device_fingerprint: str,
    raw_result: bytes | None,
    info: Mapping[str, Any],
) -> MeasurementRecord:
    """A measurement as the store keeps it; `info` holds driver times and whatever else explains it."""
    return MeasurementRecord(
        job_id=measurement.job_id,
        study=study,
        role=measurement.role,
        label=measurement.label,
        device=measurement.device,
        device_fingerprint=device_fingerprint,
        workload=measurement.workload,
        precision=measurement.precision,
        key_hash=key.id,
        key=key.fields,
        method=str(key.fields["method"]),
        status=measurement.status,
        reason=measurement.reason,
        trial=measurement.trial,
        layout_id=measurement.layout.layout_id if measurement.layout else None,
        name=measurement.name,
        bytes_sent=measurement.bytes_sent,
        info={
            **info,
            "points": [point.to_list() for point in measurement.points],
            "weights_bytes": measurement.weights_bytes,
            "lowerings": dict(measurement.lowerings),
            "foreign_state_bytes": measurement.foreign_state_bytes,
            "group": measurement.group,
            "seed": measurement.seed,
            **({"notes": dict(measurement.notes)} if measurement.notes else {}),
        },
        result=raw_result,
        created_unix=measurement.created_unix,
    )


def kept_summary(measurement: Measurement) -> str | None:
    """The summary that the store keeps beside a result; None without one, and for comparisons, which have no table."""
    if measurement.summary is None or measurement.role == BLOCKS:
        return None
    return write_summary(measurement.summary)


def from_record(record: MeasurementRecord, layouts: Mapping[str, Layout]) -> Measurement:
    """A stored measurement.

    Raises:
        StoreError: The record is damaged.
    """
    result = None if record.result is None else _result(record.job_id, record.result)
    return _measurement(record, layouts, Evidence.of(result))


def _result(job_id: str, raw: bytes | None) -> Result:
    try:
        return read_result(raw or b"")
    except ResultError as error:
        raise StoreError(f"measurement {job_id} is damaged: {error}") from error


@lru_cache(maxsize=1024)
def _points(sizes: tuple[tuple[int, ...], ...]) -> tuple[Point, ...]:
    return tuple(map(Point.from_list, sizes))


def _measurement(record: MeasurementRecord, layouts: Mapping[str, Layout], evidence: Evidence | None) -> Measurement:
    try:
        return _made(record, layouts, evidence)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, WorkloadError) as error:
        raise StoreError(f"measurement {record.job_id} is damaged: {type(error).__name__}: {error}") from error


def _made(record: MeasurementRecord, layouts: Mapping[str, Layout], evidence: Evidence | None) -> Measurement:
    foreign = record.info.get("foreign_state_bytes")
    points = _points(tuple(map(tuple, record.info["points"])))
    lowerings, notes = record.info.get("lowerings", {}), record.info.get("notes", {})
    if not points or not isinstance(lowerings, Mapping) or not isinstance(notes, Mapping):
        raise ValueError("no points, lowerings or notes of a measurement")
    return Measurement(
        job_id=record.job_id,
        role=record.role,
        layout=layouts[record.layout_id] if record.layout_id is not None else None,
        name=record.name,
        label=record.label,
        device=record.device,
        workload=record.workload,
        points=points,
        precision=record.precision,
        status=record.status,
        reason=record.reason,
        evidence=evidence,
        weights_bytes=record.info.get("weights_bytes"),
        bytes_sent=record.bytes_sent,
        created_unix=record.created_unix,
        trial=record.trial,
        lowerings=lowerings,
        conditions=conditions(record.key),
        foreign_state_bytes=None if foreign is None else tuple(foreign),
        group=record.info.get("group", ""),
        seed=record.info.get("seed"),
        notes=notes,
    )


def load_measurements(store: Store, study: str, known: Sequence[Measurement] = ()) -> list[Measurement]:
    """All measurements of a study in the order they were stored, those taken over from other studies included.

    The group of a device is the one that the last run knew it in. Results are read when they are asked for: the store
    has their summaries, and those that it lacks are made and kept.

    Args:
        store: Where they are.
        study: Its name.
        known: What an earlier call gave; of these nothing is read again.

    Raises:
        StoreError: They cannot be read, or are damaged.
    """
    pools, taken = _pools(store, study), _taken_over(store, study)
    jobs = store.job_ids(study, also=tuple(taken))
    found = {measurement.job_id: measurement for measurement in known}
    outlines = store.outlines([job for job in jobs if job not in found])
    layouts = {m.layout.layout_id: m.layout for m in known if m.layout is not None}
    missing = {outline.record.layout_id for outline in outlines.values()} - layouts.keys()
    layouts |= load_layouts(store, {key for key in missing if key})
    made: dict[str, str] = {}
    for job, outline in outlines.items():
        found[job] = _outlined(store, outline, layouts)
        if outline.ran and outline.summary is None and (summary := kept_summary(found[job])) is not None:
            made[job] = summary
    with suppress(StoreError):  # one that may only be read, or that another process writes to: made again next time
        store.add_summaries(made)
    return [_as_study_has_it(found[job], taken.get(job), pools) for job in jobs]


def _pools(store: Store, study: str) -> dict[str, str]:
    """By device, the group that the last run knew it in."""
    pools: dict[str, str] = {}
    for _, _, event in store.events(study, RUN_STARTED):
        named = event.get(POOLS, {})
        if not isinstance(named, Mapping) or not all(isinstance(name, str) for name in named.values()):
            raise StoreError(f"study {study!r}: the groups of devices that a run noted are damaged")
        pools |= named
    return pools


def _taken_over(store: Store, study: str) -> dict[str, Mapping[str, Any]]:
    """By job, under what role and names a measurement of another study was taken over."""
    taken: dict[str, Mapping[str, Any]] = {}
    for _, _, event in store.events(study, REUSED):
        role, trial, name, label = (event.get(one, ...) for one in _TAKEN_AS)
        texts = all(isinstance(one, str) for one in (event.get("job_id"), role, label))
        if not texts or not isinstance(trial, int | None) or not isinstance(name, str | None):
            raise StoreError(f"study {study!r}: the note of a measurement taken over from another study is damaged")
        taken[event["job_id"]] = event
    return taken


def _outlined(store: Store, outline: Outline, layouts: Mapping[str, Layout]) -> Measurement:
    """A measurement whose result is still in the store."""
    job_id = outline.record.job_id
    if not outline.ran:
        return _measurement(outline.record, layouts, None)
    summary = None
    if outline.summary is not None:
        with suppress(ValueError):  # damaged: it is made again
            summary = read_summary(outline.summary)
    evidence = Evidence(lambda: _result(job_id, store.result(job_id)), summary)
    return _measurement(outline.record, layouts, evidence)


def _as_study_has_it(
    measurement: Measurement, taken: Mapping[str, Any] | None, pools: Mapping[str, str]
) -> Measurement:
    """With the role and names that it was taken over under, and the group of its device."""
    wanted: dict[str, Any] = {}
    if taken is not None:
        wanted = {name: taken[name] for name in _TAKEN_AS}
    pool = pools.get(measurement.device)
    if pool is not None:
        wanted["group"] = "" if pool == measurement.device else pool
    changed = {name: value for name, value in wanted.items() if getattr(measurement, name) != value}
    return replace(measurement, **changed) if changed else measurement


def load_layouts(store: Store, ids: set[str]) -> dict[str, Layout]:
    """Layouts by id.

    Raises:
        StoreError: One is damaged.
    """
    found = {}
    for layout_id, text in store.layout_texts(sorted(ids)).items():
        try:
            found[layout_id] = read_stored(text, layout_id)
        except ValueError as error:
            raise StoreError(f"layout {layout_id} is damaged: {error}") from error
    return found


def layout_json(layout: Layout) -> dict[str, Any]:
    """A layout's canonical form as plain JSON."""
    return json.loads(json.dumps(layout.to_json()))  # type: ignore[no-any-return]
