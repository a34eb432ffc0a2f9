"""What an agent wrote is untrusted."""

from __future__ import annotations

import copy
import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiler.errors import ResultError
from profiler.results import MAX_RESULT_BYTES, parse_environment, parse_result, parse_status
from profiler.workloads import Point
from tests.unit.profiler.samples import ENVIRONMENT, make_job, make_result, process, raw, rep

STATUS = {
    "state": "timing", "detail": "", "process": 1, "processes": 3, "heartbeat_unix": 1.5, "pid": 77,
    "started_unix": 1.0,
}  # fmt: skip


def test_a_good_result_is_read():
    result = parse_result(raw(make_result()), make_job())
    assert (result.status, result.method, len(result.timing)) == ("ok", "method-1", 3)
    assert result.memory is not None
    assert result.memory.peak_rss_mib == 300.5
    assert result.environment.onnxruntime == "1.31.1"
    assert result.processes[0].operators == {"MatMulNBits": 81}
    with pytest.raises(ValueError, match="frozen"):
        result.status = "failed"  # type: ignore[misc]


@pytest.mark.parametrize(
    "status", ["invalid", "timeout", "out_of_memory", "not_cooled", "throttled", "failed", "cancelled"]
)
def test_a_result_without_numbers_is_read(status: str):
    result = parse_result(raw(make_result(status=status, reason="why", processes=[], stopped_because=None)), make_job())
    assert (result.status, result.reason) == (status, "why")


def change(path: list[Any], value: Any) -> dict[str, Any]:
    result = copy.deepcopy(make_result())
    here: Any = result
    for part in path[:-1]:
        here = here[part]
    here[path[-1]] = value
    return result


FIRST = ["processes", 0, "points", 0]


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (["format"], 2, "format"),
        (["job_id"], "job-2", "is of job 'job-2'"),
        (["status"], "fine", "status"),
        (["extra"], 1, "extra"),
        (["reason"], "x" * 5000, "reason"),
        (["method"], None, "method"),
        (["stopped_because"], "bored", "stopped_because"),
        ([*FIRST, "point"], 1, "points"),
        ([*FIRST, "point"], -1, "point"),
        ([*FIRST, "repeats", 0, "ttft_ns"], "5", "ttft_ns"),
        ([*FIRST, "repeats", 0, "ttft_ns"], 5.5, "ttft_ns"),
        ([*FIRST, "repeats", 0, "ttft_ns"], -5, "ttft_ns"),
        ([*FIRST, "repeats", 0, "ttft_ns"], 10**20, "ttft_ns"),
        ([*FIRST, "repeats", 0, "ttft_ns"], 1, "before its prefill"),
        ([*FIRST, "repeats", 0, "decode_ns"], [1, 2], "4 decode steps"),
        ([*FIRST, "repeats", 0, "decode_ns"], [1, 0, 2, 3], "time of zero"),
        ([*FIRST, "repeats", 0, "other_cpu"], float("nan"), "other_cpu"),
        ([*FIRST, "warm"], 1, "warm"),
        ([*FIRST, "logits", "rms"], float("inf"), "rms"),
        ([*FIRST, "logits", "finite"], False, "not finite"),
        (["processes", 3, "memory", "peak_rss_mib"], -1, "peak_rss_mib"),
        (["processes", 0, "kind"], "other", "kind"),
        (["environment", "cores"], True, "cores"),
        (["environment", "more"], "x" * 5000, "longer than 4000"),
        (["environment", "more"], [[[[[[[[1]]]]]]]], "nested too deeply"),
        (["checks", 0, "ok"], False, "check gqa failed"),
        (["processes"], [], "no timed sequence of 16/4"),
        (["processes"], [process(i, [rep(kept=False)]) for i in range(3)], "no timed sequence"),
        (["processes"], [process(0, [])] * 65, "processes"),
        (["seconds"], {"total": -1}, "seconds"),
    ],
)
def test_what_is_wrong_is_named(path: list[Any], value: Any, said: str):
    with pytest.raises(ResultError, match=said):
        parse_result(raw(change(path, value)), make_job())


PROFILE: dict[str, Any] = {
    "point": 0, "reason": "", "prompt": 16, "steps": 4, "prefill_ns": 900, "decode_ns": 90,
    "entries": [
        {"group": "layers.0.mixer", "operator": "MatMulNBits", "prefill_ns": 700, "decode_ns": 60},
        {"group": "layers.0.mixer", "operator": "Add", "prefill_ns": 100, "decode_ns": 10},
        {"group": "", "operator": "Add", "prefill_ns": 20, "decode_ns": 3},
    ],
}  # fmt: skip
ENTRY = PROFILE["entries"][0]


def test_a_profile_is_read_where_there_is_one():
    assert parse_result(raw(make_result()), make_job()).profile is None  # as those before there were any
    profile = parse_result(raw(change(["processes", 0, "profile"], PROFILE)), make_job()).profile
    assert profile is not None
    assert profile.model_dump(mode="json") == PROFILE
    without = {"point": 0, "reason": "it took too long"}
    profile = parse_result(raw(change(["processes", 0, "profile"], without)), make_job()).profile
    assert profile is not None
    assert (profile.reason, profile.entries) == ("it took too long", ())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"point": 1}, "of point 1, and the job has 1"),
        ({"point": -1}, "point"),
        ({"point": 10**6}, "point"),
        ({"prompt": 17}, "17 tokens and 4 steps, more than 16/4"),
        ({"steps": 5}, "16 tokens and 5 steps, more than 16/4"),
        ({"prompt": 0}, "neither times nor a reason"),
        ({"entries": []}, "neither times nor a reason"),
        ({"prefill_ns": 0}, "neither times nor a reason"),
        ({"prefill_ns": -1}, "prefill_ns"),
        ({"decode_ns": 10**18}, "decode_ns"),
        ({"decode_ns": 1.5}, "decode_ns"),
        ({"reason": "x" * 5000}, "reason"),
        ({"reason": None}, "reason"),
        ({"more": 1}, "more"),
        ({"entries": {}}, "entries"),
        ({"entries": [ENTRY, ENTRY]}, "listed twice"),
        ({"entries": [{**ENTRY, "operator": f"A{at}"} for at in range(1001)]}, "entries"),
        ({"entries": [{**ENTRY, "group": "x" * 201}]}, "group"),
        ({"entries": [{**ENTRY, "operator": None}]}, "operator"),
        ({"entries": [{**ENTRY, "prefill_ns": float("nan")}]}, "prefill_ns"),
        ({"entries": [{**ENTRY, "decode_ns": -5}]}, "decode_ns"),
        ({"entries": [{**ENTRY, "share": 0.5}]}, "share"),
    ],
)
def test_what_is_wrong_with_a_profile_is_named(changes: dict[str, Any], said: str):
    with pytest.raises(ResultError, match=said):
        parse_result(raw(change(["processes", 0, "profile"], {**PROFILE, **changes})), make_job())


@pytest.mark.parametrize("data", [b"", b"{", b"null", b"[]", b"\xff\xfe", b"{}", b"[" * 100_000, b'{"format": 1}'])
def test_what_is_no_result_is_refused(data: bytes):
    with pytest.raises(ResultError):
        parse_result(data, make_job())


def test_size_is_bounded():
    with pytest.raises(ResultError, match="more than"):
        parse_result(b" " * (MAX_RESULT_BYTES + 1), make_job())


def test_every_point_of_the_job_must_be_there():
    job = make_job(points=(Point(prompt=16, decode=4), Point(prompt=32, decode=4)))
    with pytest.raises(ResultError, match="32/4"):
        parse_result(raw(make_result()), job)


def test_statuses_are_read_leniently_but_typed():
    assert parse_status(raw({**STATUS, "new": 1})).state == "timing"
    for key, value in (("state", "idle"), ("pid", 1), ("pid", "77"), ("heartbeat_unix", float("nan"))):
        with pytest.raises(ResultError):
            parse_status(raw({**STATUS, key: value}))


def test_environments_keep_further_keys():
    environment = parse_environment(raw({**ENVIRONMENT, "time_in_state": {"0": [1, 2]}}))
    assert environment.__pydantic_extra__ == {
        "usable_cores": 2,
        "providers": ["CPUExecutionProvider"],
        "time_in_state": {"0": [1, 2]},
    }


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=150)
@given(st.data(), JSON)
def test_any_value_anywhere_is_read_or_refused(data: st.DataObject, value: Any):
    result = change(["processes", 0, "profile"], PROFILE)
    here: Any = result
    while True:
        part = data.draw(st.sampled_from(list(here) if isinstance(here, dict) else range(len(here))))
        deeper = here[part]
        if not isinstance(deeper, dict | list) or not deeper or data.draw(st.booleans()):
            break
        here = deeper
    here[part] = value
    with suppress(ResultError):  # any other exception fails
        parse_result(json.dumps(result).encode(), make_job())
