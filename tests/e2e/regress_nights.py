"""Earlier nights for the tests of `archsearch regress`: drawn with replacement from the processes of a measured one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import Any

from archsearch.store import MeasurementRecord, Store

DAY_S = 86_400.0


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
