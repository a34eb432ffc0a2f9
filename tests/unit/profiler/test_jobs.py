"""Jobs as the agent reads them, and the key that says when two measurements are the same."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.devices import Cooling, Provider
from profiler.errors import JobError
from profiler.jobs import Check, CheckCall, Protocol, Runtime, candidate_id, new_job_id, pack_files
from profiler.workloads import Point
from tests.unit.profiler.samples import FILES, SIGNATURE, make_job

CHECK = Check(
    name="gqa/fused",
    graph="check0.onnx",
    recipe="check0.json",
    signature=SIGNATURE,
    output="y",
    calls=(CheckCall(tokens=3, fill={"kind": "uniform", "seed": 1, "low": -1, "high": 1}, expected=(0.5,)),),
    tolerance=1e-3,
)


def key(job, **changes):
    fields = {"method": "m", "runtime_version": "1.31.1", "device_fingerprint": "f"}
    return job.key(**{**fields, **changes})


def test_the_json_has_the_agreed_form():
    job = make_job(
        runtime=Runtime(
            threads=2, cores=(0, 1), providers=(Provider(name="CPUExecutionProvider", options={"a": "b"}),)
        ),
        checks=(CHECK,),
        memory_mib=512,
    )
    data = json.loads(json.dumps(job.to_json()))
    assert set(data) == {
        "format", "job_id", "label", "model", "signature", "runtime", "points", "protocol", "limits", "cooling",
        "clock_mhz", "checks",
    }  # fmt: skip
    assert data["model"] == {"graph": "model.onnx", "recipe": "recipe.json"}
    assert data["runtime"] == {
        "threads": 2, "cores": [0, 1], "providers": [["CPUExecutionProvider", {"a": "b"}]], "session_config": {},
    }  # fmt: skip
    assert data["points"] == [{"batch": 1, "prompt": 16, "decode": 4}]
    assert data["limits"] == {"memory_mib": 512, "timeout_s": 300.0, "lease_s": 3600.0}
    assert data["cooling"] == {"max_temperature_c": None, "max_other_cpu": 0.1, "timeout_s": 60.0}
    assert data["protocol"]["min_processes"] == 3
    assert data["checks"][0]["calls"][0]["expected"] == [0.5]


def test_the_protocol_s_defaults_are_the_agent_s():
    from profiler.agent.protocol import PROTOCOL_DEFAULTS

    assert make_job().to_json()["protocol"] == PROTOCOL_DEFAULTS


def test_a_file_on_the_device_is_named_by_its_path():
    job = make_job(model_path="/models/model.onnx")
    assert job.to_json()["model"] == {"path": "/models/model.onnx"}
    assert job.file_names() == ()


@pytest.mark.parametrize(
    "change",
    [
        {"content_id": "other"},
        {"points": (Point(prompt=17, decode=4),)},
        {"points": (Point(prompt=16, decode=4, batch=2),)},
        {"runtime": Runtime(threads=1)},
        {"runtime": Runtime(threads=2, cores=(0, 1))},
        {"runtime": Runtime(threads=2, providers=(Provider(name="XnnpackExecutionProvider", options={}),))},
        {"runtime": Runtime(threads=2, session_config={"a": "b"})},
        {"memory_mib": 512},
    ],
)
def test_what_a_number_depends_on_changes_the_key(change):
    job = make_job()
    assert key(replace(job, **change)).id != key(job).id


@pytest.mark.parametrize("change", [{"method": "n"}, {"runtime_version": "1.32"}, {"device_fingerprint": "g"}])
def test_device_runtime_and_method_change_the_key(change):
    assert key(make_job(), **change).id != key(make_job()).id


@pytest.mark.parametrize(
    "change",
    [
        {"job_id": "job-2"},
        {"label": "other"},
        {"protocol": Protocol(max_processes=9)},
        {"timeout_s": 1.0},
        {"cooling": Cooling(timeout_s=1.0)},
        {"checks": (CHECK,)},
    ],
)
def test_how_well_a_number_is_known_does_not(change):
    job = make_job()
    assert key(replace(job, **change)).id == key(job).id


def test_key_fields_are_plain_json_and_hash_canonically():
    made = key(make_job())
    read = json.loads(json.dumps(dict(reversed(made.fields.items()))))
    assert replace(made, fields=read).id == made.id


def test_candidates_differ_by_graph_and_recipe():
    assert len({candidate_id(b"g", "r"), candidate_id(b"h", "r"), candidate_id(b"g", "s")}) == 3


@given(st.text(max_size=60))
def test_job_ids_are_safe_and_fresh(stem: str):
    first, second = new_job_id(stem), new_job_id(stem)
    assert first != second
    assert make_job(job_id=first).job_id == first


def test_files_are_exactly_those_of_the_job():
    job = make_job(checks=(CHECK,))
    files = {**FILES, "check0.onnx": b"c", "check0.json": b"{}"}
    packed = pack_files(job, files)
    assert set(packed) == {*files, "job.json"}
    assert json.loads(packed["job.json"])["job_id"] == "job-1"
    with pytest.raises(JobError, match=r"lacks check0\.json, check0\.onnx"):
        pack_files(job, FILES)
    with pytest.raises(JobError, match="does not use check0"):
        pack_files(make_job(), files)
    with pytest.raises(JobError, match="plain file name"):
        pack_files(make_job(), {**FILES, "../x": b""})


@pytest.mark.parametrize(
    "change",
    [
        {"job_id": "../up"},
        {"job_id": ""},
        {"job_id": "a b"},
        {"points": ()},
        {"model_path": "relative.onnx"},
    ],
)
def test_impossible_jobs_are_refused(change):
    with pytest.raises(JobError):
        make_job(**change)


def test_impossible_settings_are_refused():
    with pytest.raises(JobError, match="at least 1"):
        Runtime(threads=0)
    with pytest.raises(JobError, match="processes"):
        Protocol(min_processes=4, max_processes=3)
    with pytest.raises(JobError, match="repeats"):
        Protocol(min_repeats=0)


def test_what_is_no_json_is_refused():
    job = make_job(checks=(replace(CHECK, tolerance=float("nan")),))
    with pytest.raises(JobError, match="JSON"):
        pack_files(job, {**FILES, "check0.onnx": b"", "check0.json": b""})
