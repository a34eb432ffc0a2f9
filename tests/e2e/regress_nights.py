"""Earlier nights for the tests of `archsearch regress`, made of a measured one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from random import Random
from statistics import median
from typing import Any

from archsearch.store import MeasurementRecord, Store
from tests.e2e.conftest import Cli, Done

DAY_S = 86_400.0
_USUAL = (5.0, 1.0)
_TRIES = 5


def first_night(cli: Cli, *arguments: str) -> Done:
    """A store's only night, which counts."""
    return night(cli, *arguments, anew=True)


def night(cli: Cli, *arguments: str, anew: bool = False) -> Done:
    """A night that counts, as `arguments` measure it with ``--format json``.

    Other tests use the same cores meanwhile. A night over which the anchor moved has no numbers and says so; then there
    is another one, as there would be on the next day.

    Args:
        anew: Forget nights that do not count.
    """
    for _ in range(_TRIES):
        done = cli(*arguments, code=None, timeout=400)
        disturbed = [row for row in done.json() if row["kind"] == "NO-DATA"]
        if not disturbed:
            assert done.code == 0, done.err
            return done
        assert all(row["level"] == "WARN" and "anchor" in row["why"] for row in disturbed), done.out
        if anew:
            shutil.rmtree(cli.folder / "runs" / "regress")
    raise AssertionError(f"{_TRIES} nights, and the anchor moved over all: {done.out}")


def again(record: MeasurementRecord, night: float, **times: float) -> MeasurementRecord:
    """The same measurement on another night, when it took exactly so long."""
    assert record.result is not None
    job = f"{record.job_id}-{night:.0f}"
    info = {**record.info, "notes": {**record.info["notes"], "night": night}}
    return replace(
        record, job_id=job, info=info, created_unix=night + (record.created_unix - record.info["notes"]["night"]),
        result=timed({**json.loads(record.result), "job_id": job}, **times),
    )  # fmt: skip


def add_earlier(store: Store, count: int, *, scatter: float = 0.02) -> None:
    """Write `count` nights, a day apart, before the only one that the store has: of a machine with nothing else to do.

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
            identity: {
                "ttft_ms": median(one["ttft_ns"] for one in those) / 1e6 * random.gauss(1.0, scatter),
                "decode_ms": median(step for one in those for step in one["decode_ns"]) / 1e6
                * random.gauss(1.0, scatter),
            }
            for identity, those in repeats.items()
        }  # fmt: skip
        for record in records:
            those = times[record.info["notes"]["identity"]]
            assert store.add_measurement(again(record, night - DAY_S * (count - number), **those))


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
            ttft_ms, decode_ms = times.get(notes["identity"], _USUAL)
            assert store.add_measurement(again(record, night, ttft_ms=ttft_ms, decode_ms=decode_ms))


def timed(result: dict[str, Any], ttft_ms: float, decode_ms: float) -> bytes:
    """A result all of whose processes took exactly so long."""
    for process in result["processes"]:
        for point in process.get("points") or ():
            for repeat in point["repeats"]:
                repeat["ttft_ns"] = round(1e6 * ttft_ms)
                repeat["prefill_ns"] = repeat["ttft_ns"] - 1
                repeat["decode_ns"] = [round(1e6 * decode_ms) for _ in repeat["decode_ns"]]
    return json.dumps(result).encode()
