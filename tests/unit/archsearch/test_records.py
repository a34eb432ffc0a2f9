"""Measurements to the store and back: equal in everything that is shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from archsearch.errors import StoreError
from archsearch.measurement import ADHOC, ANCHOR, Measurement
from archsearch.records import REUSED, layout_json, load_measurements, to_record
from archsearch.store import Store
from archsearch.table import rows
from profiler.jobs import MeasurementKey
from tests.unit.archsearch.samples import measurement


@pytest.fixture
def store(tmp_path: Path):
    with Store.open(tmp_path / "study.db") as opened:
        opened.create_study("s", {})
        opened.create_study("other", {})
        yield opened


def keep(store: Store, found: Measurement, study: str = "s", raw: bytes | None = None) -> None:
    if raw is None and found.result is not None:
        raw = found.result.model_dump_json().encode()
    key = MeasurementKey(fields={"method": "m", "job": found.job_id})
    record = to_record(found, study=study, key=key, device_fingerprint="f", raw_result=raw, info={"note": 1})
    assert found.layout is not None
    store.add_measurement(record, layout=layout_json(found.layout), code=found.layout.code)


def test_what_is_read_back_shows_the_same(store: Store):
    made = [
        measurement(1, ANCHOR),
        measurement(2, lowerings={"gqa": "group_query"}),
        measurement(3, status="timeout", reason="too slow: 30 s", trial=1),
    ]
    for found in made:
        keep(store, found)
    again = load_measurements(store, "s")
    assert rows(again) == rows(made)
    assert [m.role for m in again] == [m.role for m in made]
    assert again[1].result == made[1].result


def test_a_study_sees_its_own_and_what_it_took_over(store: Store):
    keep(store, measurement(1, ANCHOR, job_id="theirs"), study="other")
    keep(store, measurement(2, job_id="not-taken"), study="other")
    keep(store, measurement(3, job_id="mine"))
    store.add_event("s", REUSED, {"job_id": "theirs", "role": ADHOC, "trial": 5, "name": "n", "label": "l"})
    taken, mine = load_measurements(store, "s")
    assert (taken.job_id, taken.role, taken.trial, taken.name, taken.label) == ("theirs", ADHOC, 5, "n", "l")
    assert mine.job_id == "mine"
    assert [m.job_id for m in load_measurements(store, "other")] == ["theirs", "not-taken"]


def test_a_damaged_result_is_told_with_its_job(store: Store):
    keep(store, measurement(1, job_id="bad-one"), raw=json.dumps({"format": 1}).encode())
    with pytest.raises(StoreError, match="bad-one is damaged"):
        load_measurements(store, "s")
