"""Measurements to the store and back: equal in everything that is shown."""

from __future__ import annotations

import gc
import json
import sqlite3
import weakref
from contextlib import closing
from pathlib import Path

import pytest

from archsearch import store as store_module
from archsearch.errors import StoreError
from archsearch.measurement import ADHOC, ANCHOR, CANDIDATE, Measurement
from archsearch.ranked import ranked, read_study
from archsearch.records import REUSED, kept_summary, layout_json, load_measurements, to_record
from archsearch.store import Store
from archsearch.table import rows
from archsearch.timing import POOLS, RUN_STARTED
from profiler.jobs import MeasurementKey
from tests.unit.archsearch.samples import measurement


@pytest.fixture
def store(tmp_path: Path):
    with Store.open(tmp_path / "study.db") as opened:
        opened.create_study("s", {})
        opened.create_study("other", {})
        yield opened


def keep(
    store: Store, found: Measurement, study: str = "s", raw: bytes | None = None, summary: str | None = None
) -> None:
    if raw is None and found.result is not None:
        raw = found.result.model_dump_json().encode()
    key = MeasurementKey(fields={"method": "m", "job": found.job_id})
    record = to_record(found, study=study, key=key, device_fingerprint="f", raw_result=raw, info={"note": 1})
    assert found.layout is not None
    store.add_measurement(record, layout=layout_json(found.layout), code=found.layout.code, summary=summary)


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


@pytest.mark.parametrize(
    ("kind", "event"),
    [
        (REUSED, {}), (REUSED, {"job_id": 3, "role": ADHOC}),
        (REUSED, {"job_id": "a", "role": ADHOC, "trial": "x", "name": None, "label": "l"}),
        (RUN_STARTED, {POOLS: ["local"]}), (RUN_STARTED, {POOLS: {"local": ["a"]}}),
    ],
)  # fmt: skip
def test_damaged_notes_of_a_study_are_told(store: Store, kind: str, event: dict[str, object]):
    keep(store, measurement(1))
    store.add_event("s", kind, event)
    with pytest.raises(StoreError, match=r"study 's'.* damaged"):
        load_measurements(store, "s")


def test_a_damaged_result_is_told_with_its_job(store: Store):
    keep(store, measurement(1, job_id="bad-one"), raw=json.dumps({"format": 1}).encode())
    with pytest.raises(StoreError, match="bad-one is damaged"):
        load_measurements(store, "s")


@pytest.mark.parametrize(
    "info",
    [
        "{}", '{"points": 7}', '{"points": [[1]]}', '{"points": []}', '{"points": [[1, 16, 4]], "notes": [1]}',
        '{"points": [[1, 16, 4]], "lowerings": null}',
    ],
)  # fmt: skip
def test_a_damaged_record_is_told_with_its_job(store: Store, info: str):
    keep(store, measurement(1, job_id="bad-one"))
    changed(store, f"UPDATE measurements SET info = '{info}'")
    with pytest.raises(StoreError, match="bad-one is damaged"):
        load_measurements(store, "s")


def changed(store: Store, *statements: str) -> list[tuple[object, ...]]:
    """What a statement gives on the database itself."""
    with closing(sqlite3.connect(store.where)) as database, database:
        return [row for statement in statements for row in database.execute(statement).fetchall()]


def test_with_its_summary_a_result_is_read_when_it_is_asked_for(store: Store):
    found = measurement(1, job_id="one")
    keep(store, found, summary=kept_summary(found))
    changed(store, "UPDATE measurements SET result = x'00'")
    [again] = load_measurements(store, "s")
    assert rows([again]) == rows([found])
    with pytest.raises(StoreError, match="damaged"):
        assert again.result


def test_a_summary_that_is_lacking_is_made_and_kept_for_the_next_reader(store: Store):
    keep(store, measurement(1))
    keep(store, measurement(2, status="timeout"))
    first = rows(load_measurements(store, "s"))
    assert len(changed(store, "SELECT * FROM summaries")) == 1
    changed(store, "UPDATE measurements SET result = x'00' WHERE result IS NOT NULL")
    assert rows(load_measurements(store, "s")) == first


@pytest.mark.parametrize("data", [None, "{", "{}"])
def test_a_summary_of_another_version_or_a_damaged_one_is_not_believed(
    store: Store, data: str | None, monkeypatch: pytest.MonkeyPatch
):
    found, other = measurement(1), measurement(1, times={"ttft_ms": 77.0})
    keep(store, found, summary=kept_summary(other) if data is None else data)
    if data is None:
        assert rows(load_measurements(store, "s")) == rows([other])
        monkeypatch.setattr(store_module, "SUMMARY_VERSION", 10_000)
    assert rows(load_measurements(store, "s")) == rows([found])
    assert rows(load_measurements(store, "s")) == rows([found])


def test_where_summaries_cannot_be_kept_all_is_read_as_ever(store: Store):
    keep(store, measurement(1))
    refusal = "BEGIN SELECT RAISE(ABORT, 'read only'); END"
    changed(store, f"CREATE TRIGGER none BEFORE INSERT ON summaries {refusal}")
    assert rows(load_measurements(store, "s")) == rows([measurement(1)])
    assert changed(store, "SELECT * FROM summaries") == []


def test_a_store_from_before_there_were_summaries_opens_and_gets_them(store: Store):
    keep(store, measurement(1))
    changed(store, "DROP TABLE summaries")
    with Store.open(store.where, create=False) as opened:
        assert rows(load_measurements(opened, "s")) == rows([measurement(1)])
    assert len(changed(store, "SELECT * FROM summaries")) == 1


def test_what_is_known_is_not_read_again(store: Store):
    keep(store, measurement(1, job_id="theirs"), study="other")
    keep(store, measurement(2, job_id="mine"))
    known = load_measurements(store, "s")
    changed(store, "UPDATE measurements SET info = '{', result = x'00'")
    keep(store, measurement(3, job_id="new"))
    found = load_measurements(store, "s", known)
    assert [m.job_id for m in found] == ["mine", "new"]
    assert found[0] is known[0]
    store.add_event("s", RUN_STARTED, {POOLS: {"local": "rack"}})
    regrouped = load_measurements(store, "s", found)
    assert [m.pool for m in regrouped] == ["rack", "rack"]
    with pytest.raises(StoreError):
        load_measurements(store, "s")


def test_a_study_that_is_followed_is_what_it_would_be_read_anew(store: Store):
    first = read_study(store, "s")
    assert read_study(store, "s", first) is first
    for at in (1, 2):
        keep(store, measurement(at, ANCHOR))
    keep(store, measurement(3), study="other")
    second = read_study(store, "s", first)
    assert len(second.measurements) == 2
    assert read_study(store, "s", second) is second
    store.add_event("s", REUSED, {"job_id": "candidate-3", "role": "candidate", "trial": 1, "name": None, "label": "l"})
    third, anew = read_study(store, "s", second), read_study(store, "s")
    assert third.rows == anew.rows
    assert [m.job_id for m in third.measurements] == [m.job_id for m in anew.measurements]
    assert third.measurements[:2] == second.measurements[:2]
    assert third.version == anew.version == store.version("s")


def test_a_study_that_nobody_holds_is_freed_without_the_collector(store: Store):
    for at in (1, 2, 3):
        keep(store, measurement(at, ANCHOR if at < 3 else CANDIDATE))
    study = read_study(store, "s")
    found = ranked(store, study, objectives=["ttft_ms"], budgets=["decode_ms<=9"], across="worst")
    assert found.ranking.entries
    held = [weakref.ref(measured) for measured in study.measurements]
    collecting = gc.isenabled()
    gc.disable()
    try:
        del study, found
        assert [one() for one in held] == [None] * 3
    finally:
        if collecting:
            gc.enable()
