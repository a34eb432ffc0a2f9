"""Earlier nights for the tests of `archsearch regress`, made of a measured one: from its processes, or from numbers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from random import Random
from statistics import median
from typing import Any

from archsearch.store import MeasurementRecord, Store

DAY_S = 86_400.0
_USUAL = (5.0, 1.0)


def resampled(record: MeasurementRecord, night: float, number: int, random: Random) -> MeasurementRecord:
    """A measurement as it might have come out on another night: its timing processes drawn with replacement."""
    assert record.result is not None
    result: dict[str, Any] = json.loads(record.result)
    timing = [process for process in result["processes"] if process["kind"] == "timing"]
    others = [process for process in result["processes"] if process["kind"] != "timing"]
    drawn = [dict(random.choice(timing)) for _ in timing]
    result["processes"] = [{**process, "index": index} for index, process in enumerate([*drawn, *others])]
    job = f"{record.job_id}-{number}"
    info = {**record.info, "notes": {**record.info["notes"], "night": night}}
    return replace(
        record, job_id=job, info=info, created_unix=night + (record.created_unix - record.info["notes"]["night"]),
        result=json.dumps({**result, "job_id": job}).encode(),
    )  # fmt: skip


def add_earlier(store: Store, count: int, *, seed: int = 0) -> Sequence[float]:
    """Write `count` nights, a day apart, before the only one that the store has; their times, oldest first."""
    random = Random(seed)
    records = store.measurements("regress")
    [night] = {record.info["notes"]["night"] for record in records}
    times = [night - DAY_S * back for back in range(count, 0, -1)]
    for number, time in enumerate(times):
        for record in records:
            assert store.add_measurement(resampled(record, time, number, random))
    return times


def add_calm(store: Store, count: int, *, scatter: float = 0.02) -> None:
    """As `add_earlier`, of nights of a machine on which nothing else runs.

    Every process of a night takes as long as the median of the measured one's, anchors before and after taken together,
    times a normally distributed factor of the night.

    Args:
        scatter: Standard deviation of the factor.
    """
    random = Random(0)
    records = store.measurements("regress")
    [night] = {record.info["notes"]["night"] for record in records}
    repeats: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        repeats.setdefault(record.info["notes"]["identity"], []).extend(_repeats(record))
    for number in range(count):
        times = {
            identity: (
                median(repeat["ttft_ns"] for repeat in those) / 1e6 * random.gauss(1.0, scatter),
                median(one for repeat in those for one in repeat["decode_ns"]) / 1e6 * random.gauss(1.0, scatter),
            )
            for identity, those in repeats.items()
        }
        for record in records:
            made = resampled(record, night - DAY_S * (count - number), number, random)
            assert made.result is not None
            result = timed(json.loads(made.result), *times[record.info["notes"]["identity"]])
            assert store.add_measurement(replace(made, result=result))


def _repeats(record: MeasurementRecord) -> Sequence[dict[str, Any]]:
    assert record.result is not None
    processes = json.loads(record.result)["processes"]
    return [repeat for process in processes for point in process.get("points") or () for repeat in point["repeats"]]


def add_given(store: Store, night: float, times: Mapping[str, tuple[float, float]]) -> None:
    """Write another night like the only real one, with given numbers: ttft_ms and decode_ms by identity.

    Whatever is not named, the anchors too, takes `_USUAL`: a block over which nothing moved.
    """
    records = store.measurements("regress")
    real = min(record.info["notes"]["night"] for record in records)
    for _, _, event in store.events("regress", "front"):
        if event["night"] == real:
            store.add_event("regress", "front", {**event, "night": night})
    for record in records:
        notes = record.info["notes"]
        if notes["night"] == real:
            made = resampled(record, night, round(night), Random(0))
            assert made.result is not None
            given = times.get(notes["identity"], _USUAL)
            assert store.add_measurement(replace(made, result=timed(json.loads(made.result), *given)))


def timed(result: dict[str, Any], ttft_ms: float, decode_ms: float) -> bytes:
    """A result all of whose processes took exactly so long."""
    for process in result["processes"]:
        for point in process.get("points") or ():
            for repeat in point["repeats"]:
                repeat["ttft_ns"] = round(1e6 * ttft_ms)
                repeat["prefill_ns"] = repeat["ttft_ns"] - 1
                repeat["decode_ns"] = [round(1e6 * decode_ms) for _ in repeat["decode_ns"]]
    return json.dumps(result).encode()
