"""The store: what is kept, and that it reads back as it was."""

from dataclasses import replace

import pytest

from archsearch.errors import StoreError
from archsearch.store import Check, Store
from tests.unit.archsearch.store_samples import LAYOUT, record


def test_everything_reads_back_after_closing(where):
    with Store.open(where) as store:
        store.create_study("s", {"seed": 1, "budgets": ["ttft_ms<=300"]})
        number = store.add_trial("s", "id1", "CG", LAYOUT, {"knobs": {"width": 3}})
        full = record(layout_id="id1", trial=number, name="näme", reason="because")
        check = Check(check_id="c", device_fingerprint="f", runtime="1.31 CPU", rel_rms=1e-6)
        assert store.add_measurement(full, layout=LAYOUT, code="CG", checks=[check, check])
        store.set_trial("s", number, "done")
        store.add_event("s", "run_started", {"devices": ["local"]})
    with Store.open(where, create=False) as store:
        assert store.study("s").config == {"seed": 1, "budgets": ["ttft_ms<=300"]}
        assert [study.name for study in store.studies()] == ["s"]
        assert store.study("other") is None
        assert store.layouts() == store.layouts("id") == {"id1": LAYOUT}
        assert store.layouts("x%") == {}
        (trial,) = store.trials("s")
        assert (trial.number, trial.state, trial.choices) == (0, "done", {"knobs": {"width": 3}})
        assert store.measurements("s") == store.measurements() == [full]
        assert store.passed_checks("f", "1.31 CPU") == {"c"}
        assert store.passed_checks("f", "1.30 CPU") == set()
        ((_, kind, data),) = store.events("s")
        assert (kind, data) == ("run_started", {"devices": ["local"]})
        assert store.events("s", "run_ended") == []


def test_outlines_are_all_but_the_results_in_the_order_that_is_asked_for(store):
    store.add_measurement(record(1), summary="{}")
    store.add_measurement(record(2, result=None, status="failed"))
    whole = {one.job_id: one for one in store.measurements("s")}
    found = store.outlines(store.job_ids("s"))
    assert list(found) == ["job-1", "job-2"]
    assert [replace(whole[job], result=None) for job in found] == [outline.record for outline in found.values()]
    assert [(outline.ran, outline.summary) for outline in found.values()] == [(True, "{}"), (False, None)]
    assert (store.result("job-1"), store.result("job-2")) == (whole["job-1"].result, None)
    assert store.outlines([]) == {}
    assert list(store.outlines([f"job-{number}" for number in range(2500)])) == ["job-1", "job-2"]


def test_a_summary_is_kept_once_and_with_its_measurement_alone(store):
    assert store.add_measurement(record(1), summary="first")
    assert not store.add_measurement(record(1), summary="second")
    store.add_summaries({"job-1": "third"})
    assert store.outlines(["job-1"])["job-1"].summary == "first"


def test_the_version_of_a_study_changes_with_what_is_added_to_it(store):
    store.create_study("t", {})
    seen = [store.version("s")]
    store.add_measurement(record(1, study="t"))
    store.add_event("t", "run_started", {})
    assert store.version("s") == seen[0]
    store.add_measurement(record(2))
    seen.append(store.version("s"))
    store.add_event("s", "reused", {})
    seen.append(store.version("s"))
    assert len(set(seen)) == 3


def test_when_a_study_was_written_to_is_told_by_what_was_stored_last(store):
    store.create_study("made", {})
    store.create_study("measured", {})
    made = store.written_unix()
    assert made == {study.name: study.created_unix for study in store.studies()}
    later = made["made"] + 1000
    for number, at in enumerate((later - 1, later)):
        store.add_measurement(record(number, study="measured", created_unix=at))
    store.add_measurement(record(2, study="s", created_unix=1.5))  # it was made under a clock that was ahead
    store.add_event("nobody", "run_started", {})
    assert store.written_unix() == made | {"measured": later, "s": 1.5}
    store.add_event("made", "run_started", {})
    assert made["made"] <= store.written_unix()["made"] < later


def test_a_study_is_made_once_and_keeps_its_settings(store):
    assert store.create_study("s", {"seed": 2}).config == {"seed": 1}


def test_the_latest_measurement_of_a_key_with_a_wanted_status_is_found(store):
    for number, status in enumerate(["ok", "failed", "ok", "throttled"]):
        store.add_measurement(record(number, key_hash="k", status=status))
    assert store.find_measurement("k", statuses=["ok"]).job_id == "job-2"
    assert store.find_measurement("k", statuses=["ok", "throttled"]).job_id == "job-3"
    assert store.find_measurement("k", statuses=["timeout"]) is None
    assert store.find_measurement("other", statuses=["ok"]) is None
    store.add_measurement(record(4, key_hash="k", status="ok", role="watch"))
    assert store.find_measurement("k", statuses=["ok"]).job_id == "job-4"
    assert store.find_measurement("k", statuses=["ok"], but_roles=["watch"]).job_id == "job-2"


def test_a_job_is_stored_once(store):
    assert store.add_measurement(record())
    assert not store.add_measurement(record(reason="again"))
    assert [m.reason for m in store.measurements("s")] == [""]


def test_measurements_of_other_studies_join_by_job_id(store):
    store.create_study("t", {})
    store.add_measurement(record(1))
    store.add_measurement(record(2, study="t"))
    assert [m.job_id for m in store.measurements("t", also=["job-1"])] == ["job-1", "job-2"]


def test_text_from_devices_that_a_database_refuses_is_stored_anyway(store):
    assert store.add_measurement(record(reason="a\0b\ud800c" + "x" * 5000, label="\0"))
    assert store.measurements()[0].reason.startswith("a\ufffdb?c")


def test_a_study_that_does_not_exist_is_an_error_and_leaves_nothing(store):
    with pytest.raises(StoreError, match="no study 'nope'"):
        store.add_trial("nope", "id1", "CG", LAYOUT, {})
    with pytest.raises(StoreError):
        store.add_measurement(record(study="nope", layout_id="id1"), layout=LAYOUT, code="CG")
    assert store.layouts() == {}


def test_a_layout_is_one_trial_of_a_study(store):
    assert store.add_trial("s", "id1", "CG", LAYOUT, {}) == 0
    assert store.add_trial("s", "id1", "CG", LAYOUT, {}) is None  # another run of the study drew it first
    assert store.add_trial("s", "id2", "CG", LAYOUT, {}) == 1
