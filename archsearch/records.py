"""Between what is stored and what is read: database records, layouts as JSON, raw results."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from archsearch.errors import StoreError
from archsearch.measurement import Measurement, conditions
from archsearch.store import MeasurementRecord, Store
from archsearch.timing import POOLS, RUN_STARTED
from profiler.errors import ResultError
from profiler.jobs import MeasurementKey
from profiler.results import Result, read_result
from profiler.workloads import Point
from search_space.layout import Layout
from search_space.layout_file import parse_layout

REUSED = "reused"
"""Kind of event: a study took over a measurement that another study in the same store had made."""


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
        },
        result=raw_result,
        created_unix=measurement.created_unix,
    )


def from_record(record: MeasurementRecord, layouts: Mapping[str, Layout]) -> Measurement:
    """A stored measurement.

    Raises:
        StoreError: The record is damaged.
    """
    result: Result | None = None
    if record.result is not None:
        try:
            result = read_result(record.result)
        except ResultError as error:
            raise StoreError(f"measurement {record.job_id} is damaged: {error}") from error
    foreign = record.info.get("foreign_state_bytes")
    return Measurement(
        job_id=record.job_id,
        role=record.role,
        layout=layouts[record.layout_id] if record.layout_id is not None else None,
        name=record.name,
        label=record.label,
        device=record.device,
        workload=record.workload,
        points=tuple(map(Point.from_list, record.info["points"])),
        precision=record.precision,
        status=record.status,
        reason=record.reason,
        result=result,
        weights_bytes=record.info.get("weights_bytes"),
        bytes_sent=record.bytes_sent,
        created_unix=record.created_unix,
        trial=record.trial,
        lowerings=record.info.get("lowerings", {}),
        conditions=conditions(record.key),
        foreign_state_bytes=None if foreign is None else tuple(foreign),
        group=record.info.get("group", ""),
        seed=record.info.get("seed"),
    )


def load_measurements(store: Store, study: str) -> list[Measurement]:
    """All measurements of a study in the order they were stored, those taken over from other studies included.

    The group of a device is the one that the last run knew it in.
    """
    pools: dict[str, str] = {}
    for _, _, event in store.events(study, RUN_STARTED):
        pools |= event.get(POOLS, {})
    taken = {event["job_id"]: event for _, _, event in store.events(study, REUSED)}
    records = store.measurements(study, also=tuple(taken))
    layouts = load_layouts(store, {record.layout_id for record in records if record.layout_id})
    found = []
    for record in records:
        measurement = from_record(record, layouts)
        if record.study != study:
            event = taken[record.job_id]
            measurement = replace(
                measurement, role=event["role"], trial=event["trial"], name=event["name"], label=event["label"]
            )
        device = measurement.device
        if device in pools:
            measurement = replace(measurement, group="" if pools[device] == device else pools[device])
        found.append(measurement)
    return found


def load_layouts(store: Store, ids: set[str]) -> dict[str, Layout]:
    """Layouts by id."""
    return {key: parse_layout(dict(data)).layout for key, data in store.layouts().items() if key in ids}


def layout_json(layout: Layout) -> dict[str, Any]:
    """A layout's canonical form as plain JSON."""
    return json.loads(json.dumps(layout.to_json()))  # type: ignore[no-any-return]
