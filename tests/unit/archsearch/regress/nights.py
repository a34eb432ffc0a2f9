"""Nights for the tests of this folder, written into a store as a run would: with the numbers one asks for."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from typing import Any

from archsearch.measurement import NIGHTLY
from archsearch.records import kept_summary, layout_json, to_record
from archsearch.regress.notes import LOST, NIGHT, STUDY, Asked, Note, Part, Plan
from archsearch.store import Store
from profiler.jobs import MeasurementKey
from profiler.workloads import Point
from reports.nights import FRESH_RUNS
from search_space.layout import Layout
from tests.unit.archsearch.samples import ANCHOR_LAYOUT, LAYOUT, measurement, result

FIRST = 1_800_000_000.0
DAY = 86_400.0
POINT = Point(prompt=16, decode=4)
_numbers = count()


def night(number: int) -> float:
    """The time of a night, from 0."""
    return FIRST + number * DAY


def conditions(**changes: Any) -> dict[str, Any]:
    """What a measurement is made under, as its key has it."""
    runtime = {"threads": 2, "cores": None, "providers": [["CPUExecutionProvider", {}]], "session_config": {}}
    runtime |= {name: changes.pop(name) for name in ("threads", "cores") if name in changes}
    return {"runtime": runtime, "method": "m-1", "runtime_version": "1.31.1", "device": "f" * 16, **changes}


def write(
    store: Store,
    time: float,
    *,
    part: Part = "item",
    item: str = "tiny",
    device: str = "local",
    round: int = 0,  # noqa: A002 - the note's own name
    ttft_ms: float = 5.0,
    decode_ms: float = 1.0,
    status: str = "ok",
    reason: str = "",
    under: Mapping[str, Any] | None = None,
    lowerings: Mapping[str, str] | None = None,
    environment: Mapping[str, str] | None = None,
    identity: str | None = None,
    quantities: tuple[str, ...] = ("ttft_ms", "decode_ms"),
    minimum_effect: float = 0.04,
    anchor: bool | None = None,
    points: tuple[Point, ...] = (POINT,),
    of: Layout | None = None,
    fresh_runs: int = FRESH_RUNS,
) -> None:
    """One measurement of a night."""
    is_anchor = part in ("before", "after") if anchor is None else anchor
    layout = of or (ANCHOR_LAYOUT if is_anchor else LAYOUT)
    number = next(_numbers)
    note = Note(
        night=time, suite="s", item=item, identity=identity or layout.layout_id, anchor=is_anchor, part=part,
        round=round, quantities=quantities, minimum_effect=minimum_effect, archsearch="0.1.0",
        fresh_runs=fresh_runs,
    )  # fmt: skip
    ran = result(ttft_ms, decode_ms, points=len(points)) if status == "ok" else None
    made = measurement(
        time + number, NIGHTLY, job_id=f"job-{number}", device=device, layout=layout, name=item, trial=None,
        status=status, reason=reason, result=ran, lowerings=lowerings or {}, seed=0, points=points,
        notes={**note.to_json(), "environment": dict(environment or {"kernel": "6.1", "cores": "8"})},
    )  # fmt: skip
    key = MeasurementKey(fields={"content": "c", "points": [p.to_list() for p in points], **(under or conditions())})
    raw = None if ran is None else ran.model_dump_json().encode()
    record = to_record(made, study=STUDY, key=key, device_fingerprint="f" * 16, raw_result=raw, info={})
    store.add_measurement(record, layout=layout_json(layout), code=layout.code, summary=kept_summary(made))


def block(store: Store, time: float, *, anchor_ms: float = 1.0, after_ms: float | None = None, **more: Any) -> None:
    """A whole block: the anchor, one item, the anchor again."""
    shared = {name: more[name] for name in ("device", "round", "under") if name in more}
    write(store, time, part="before", item="anchor", decode_ms=anchor_ms, **shared)
    write(store, time, **more)
    write(store, time, part="after", item="anchor", decode_ms=anchor_ms if after_ms is None else after_ms, **shared)


def plan(store: Store, time: float, *devices: str, items: tuple[str, ...] = ("tiny",)) -> None:
    """What a night was to measure."""
    asked = [
        Asked(item="anchor", identity=ANCHOR_LAYOUT.layout_id, anchor=True, precision="int4", points=(POINT,)),
        *(
            Asked(item=item, identity=LAYOUT.layout_id, anchor=False, precision="int4", points=(POINT,))
            for item in items
        ),
    ]
    told = Plan(night=time, suite="s", devices=devices or ("local",), asked=tuple(asked))
    store.add_event(STUDY, NIGHT, told.to_json())


def lost(store: Store, time: float, device: str, reason: str) -> None:
    """A device could not be used."""
    store.add_event(STUDY, LOST, {"night": time, "device": device, "reason": reason})
