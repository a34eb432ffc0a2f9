"""The profile: where the time of a sequence goes, by the groups that node names make, and that it harms no job."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from profiler.agent import profiling, traces
from profiler.agent.checks import operators
from profiler.agent.profiling import MAX_ENTRIES, Profiler, group_of
from profiler.agent.session import open_session
from profiler.agent.traces import Call, Node, own_times, within
from profiler.jobs import Job, Protocol, Runtime
from profiler.results import OperatorProfile, parse_result
from profiler.workloads import Point
from tests.unit.profiler import agent_models as models
from tests.unit.profiler.test_agent_failures import alive, children, eventually, laid_out, state
from tests.unit.profiler.test_agent_operators import RUNTIME, SIGNATURE, branching_model

PLENTY = {"time_budget_s": 600.0}


def node(begin: int, us: int, operator: str = "A", name: str = "") -> Node:
    return Node(begin, us, name, "0", operator, "CPUExecutionProvider")


def order(signature: dict[str, Any], prompt: int, decode: int, **changes: Any) -> dict[str, Any]:
    point = {"batch": 1, "prompt": prompt, "decode": decode}
    return {
        "points": [point], "signature": signature, "protocol": PLENTY, "limits": {"timeout_s": 600.0}, **changes,
    }  # fmt: skip


def profiled(model: Path, job: dict[str, Any], folder: Path) -> tuple[OperatorProfile, dict[str, int]]:
    """The profile, and the histogram taken beside it."""
    profiler = Profiler(job, lambda: None)
    histogram, _, _ = operators(
        model, job["signature"], RUNTIME, job["points"], folder, loaded=lambda: None, profiler=profiler
    )
    return OperatorProfile.model_validate_json(json.dumps(profiler.result())), histogram


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("layers.3.mixer/MatMulNBits_7", "layers.3.mixer"),
        ("layers.10.mixer/MatMul_9/MatmulTransposeFusion//MatMulScaleFusion/", "layers.10.mixer"),
        ("/Gather_0", "/Gather_0"),
        ("/MatMul_3/MatMulAddFusion/", "/MatMul_3"),
        ("/model/layers.0/attn/MatMul", "/model"),
        ("Transpose_token_0", ""),
        ("", ""),
        ("x" * 500 + "/Add", "x" * 200),
    ],
)
def test_a_node_belongs_to_the_first_component_of_its_path(name: str, group: str):
    assert group_of(name) == group


def test_time_is_the_node_s_own_and_adds_up_to_the_time_in_which_any_ran():
    loop, inner = node(100, 50, "Loop"), node(110, 20, "If")
    nodes = [node(90, 10, "Add"), loop, node(100, 5, "Sin"), inner, node(112, 10, "Mul"), node(150, 7, "Add")]
    found = {(one.operator, one.begin): (outer, us) for one, outer, us in own_times(nodes)}
    assert found == {
        ("Add", 90): (None, 10), ("Loop", 100): (None, 25), ("Sin", 100): (loop, 5), ("If", 110): (loop, 10),
        ("Mul", 112): (inner, 10), ("Add", 150): (None, 7),
    }  # fmt: skip
    assert sum(us for _, us in found.values()) == 10 + 50 + 7


def test_nodes_between_calls_are_of_none():
    nodes = [node(begin, 1) for begin in (5, 10, 19, 20, 29, 30, 35)]
    assert [one.begin for one in within([Call(10, 10), Call(30, 5)], nodes)] == [10, 19, 30]


def test_a_loop_is_not_counted_twice(tmp_path: Path):
    model = branching_model(tmp_path)
    profile, histogram = profiled(model, order(SIGNATURE, 300, 12), tmp_path)
    assert (profile.point, profile.reason, profile.prompt, profile.steps) == (0, "", 300, 8)
    by_name = {(entry.group, entry.operator): entry for entry in profile.entries}
    body = by_name["body", "Sin"].prefill_ns + by_name["body", "Tanh"].prefill_ns
    walk = by_name["", "Scan"].prefill_ns
    # The walk of 300 steps, with what is between its nodes, is most of the prefill: it can be in the sum but once.
    assert body > 0
    assert walk + body <= sum(entry.prefill_ns for entry in profile.entries) <= profile.prefill_ns
    assert walk + body > profile.prefill_ns / 2
    assert sum(entry.decode_ns for entry in profile.entries) <= profile.decode_ns
    assert by_name["body", "Sin"].decode_ns == 0
    assert by_name["", "Neg"].prefill_ns == 0
    assert not list(tmp_path.glob("trace*"))
    # What the histogram counts is the short sequence, with a profile or without.
    assert histogram == operators(model, SIGNATURE, RUNTIME, [{"prompt": 300, "decode": 12}], tmp_path,
                                  loaded=lambda: None)[0]  # fmt: skip


def test_a_node_without_name_is_of_the_one_around_it(tmp_path: Path):
    profile, _ = profiled(branching_model(tmp_path, "layers.0.mixer"), order(SIGNATURE, 9, 1), tmp_path)
    groups = {entry.operator: entry.group for entry in profile.entries}
    assert groups["If"] == groups["Neg"] == groups["Scan"] == "layers.0.mixer"
    assert groups["Gather"] == ""


def test_a_prompt_in_pieces_is_one_prefill(tmp_path: Path):
    model, signature = models.unpack(tmp_path, models.hybrid()), models.hybrid()[2]
    job = order(signature, 40, 1)
    job["points"][0]["chunk"] = 16
    profile, _ = profiled(model, job, tmp_path)
    assert (profile.prompt, profile.steps, profile.reason) == (40, 1, "")
    assert profile.decode_ns < profile.prefill_ns
    assert any(entry.operator == "GroupQueryAttention" and entry.decode_ns for entry in profile.entries)


def test_what_comes_first_is_short_where_a_step_is_slow(tmp_path: Path):
    model, signature = models.unpack(tmp_path, models.hybrid()), models.hybrid()[2]
    profiler = Profiler(order(signature, 64, 2), lambda: None)
    session = open_session(model, RUNTIME, profile=tmp_path / "trace")
    profiler.run(session, step_s=1.0)  # at that pace a prefill of 64 tokens would take 64 of the 58 seconds left
    calls, nodes = traces.read_trace(Path(session.end_profiling()))
    assert len(calls) == 1 + 1 + 2  # 32 tokens, which were fast; 64, which are recorded; steps
    profiler.read(calls, nodes)
    assert profiler.result()["prompt"] == 64


def test_the_time_of_a_long_prefill_is_not_told_from_a_short_one(tmp_path: Path):
    model, signature = models.unpack(tmp_path, models.hybrid()), models.hybrid()[2]
    profiler = Profiler(order(signature, 128, 1), lambda: None)
    session = open_session(model, RUNTIME, profile=tmp_path / "trace")
    profiler.run(session, step_s=10.0)  # 4 tokens would take 40 of the 50 seconds left
    calls, _ = traces.read_trace(Path(session.end_profiling()))
    assert len(calls) == 1 + 1 + 1 + 1  # 4 tokens; 128, more than eight times as many; those that are recorded; a step
    assert profiler.point["prompt"] == 128


def test_a_prompt_that_takes_too_long_is_cut(tmp_path: Path):
    model, signature = models.unpack(tmp_path, models.hybrid()), models.hybrid()[2]
    job = order(signature, 1 << 16, 2, protocol={"time_budget_s": 0.05})  # 5 ms for 1,024 calls
    job["points"][0]["chunk"] = 64
    profiler = Profiler(job, lambda: None)
    session = open_session(model, RUNTIME)
    profiler.run(session, step_s=1e-5)
    assert profiler.reason == ""
    assert profiler.point["prompt"] in {1 << power for power in range(16)}


def test_a_device_too_slow_has_no_profile(tmp_path: Path):
    model, signature = models.unpack(tmp_path, models.hybrid()), models.hybrid()[2]
    profiler = Profiler(order(signature, 1024, 32, limits={"timeout_s": 20.0}), lambda: None)
    profiler.run(open_session(model, RUNTIME), step_s=0.24)
    assert profiler.result() == {"point": 0, "reason": "a prefill of one token and 8 steps take more than 2 s"}


def test_there_is_none_under_a_memory_limit():
    profiler = Profiler(order(SIGNATURE, 9, 1, limits={"timeout_s": 9.0, "memory_mib": 500}), lambda: None)
    assert "memory limit" in profiler.result()["reason"]


def test_a_trace_that_lacks_calls_is_no_profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(traces, "MAX_BYTES", 20_000)
    profile, histogram = profiled(branching_model(tmp_path), order(SIGNATURE, 300, 8), tmp_path)
    assert "calls that were made" in profile.reason
    assert histogram["Gather"] == 1


def test_a_profile_that_fails_leaves_the_histogram(tmp_path: Path):
    job = order(SIGNATURE, 9, 1)
    job["points"][0]["batch"] = 0  # numpy refuses the largest of nothing
    profile, histogram = profiled(branching_model(tmp_path), job, tmp_path)
    assert profile.reason
    assert histogram["Scan"] == 1


def test_too_many_entries_lose_their_names_and_no_time():
    nodes = [node(10 * at, 1 + at % 9, "Add", f"g{at}/Add") for at in range(MAX_ENTRIES + 500)]
    profiler = Profiler(order(SIGNATURE, 9, 1), lambda: None)
    profiler.steps = profiler._recorded = 1
    profiler._calls = 2
    profiler.read([Call(0, 10_000), Call(10_000, 10_000)], nodes)
    found = OperatorProfile.model_validate_json(json.dumps(profiler.result()))
    assert len(found.entries) == MAX_ENTRIES
    assert sum(entry.prefill_ns for entry in found.entries) == 1000 * sum(one.us for one in nodes[:1000])
    assert sum(entry.decode_ns for entry in found.entries) == 1000 * sum(one.us for one in nodes[1000:])
    (rest,) = (entry for entry in found.entries if not entry.group)
    assert rest.operator == ""
    assert all(entry.prefill_ns or entry.decode_ns for entry in found.entries)


def test_bounds_are_those_of_the_host():
    from profiler import results

    assert results.MAX_ENTRIES == MAX_ENTRIES
    assert profiling.MAX_NAME <= 200


def whole_job(folder: Path, *, profile: bool) -> dict[str, Any]:
    points = [{"batch": 2, "prompt": 12, "decode": 6}, {"batch": 1, "prompt": 40, "decode": 2}]
    return models.measure(folder, models.hybrid(), points=points, protocol={"profile": profile})


def test_a_job_with_a_profile(tmp_path: Path):
    result = whole_job(tmp_path / "with", profile=True)
    job = Job(
        job_id="job-1", label="a test", signature=models.hybrid()[2], runtime=Runtime(threads=1),
        points=(Point(batch=2, prompt=12, decode=6), Point(prompt=40, decode=2)), content_id="c",
        protocol=Protocol(profile=True),
    )  # fmt: skip
    read = parse_result(json.dumps(result).encode(), job)
    assert read.profile is not None
    assert (read.profile.prompt, read.profile.steps, read.profile.reason) == (12, 6, "")
    assert 0 < sum(entry.decode_ns for entry in read.profile.entries) <= read.profile.decode_ns
    assert read.processes[0].profile == read.profile
    assert all(process.profile is None for process in read.timing)
    assert result["processes"][0]["seconds"]["profile"] > 0
    assert sum(s for name, s in result["seconds"].items() if name != "total") == pytest.approx(
        result["seconds"]["total"], abs=0.01
    )
    assert not list((tmp_path / "with/jobs/job-1").glob("trace*"))
    without = whole_job(tmp_path / "without", profile=False)
    assert without["processes"][0]["profile"] is None
    assert without["processes"][0]["operators"] == result["processes"][0]["operators"]


def test_who_dies_over_the_profile_has_done_what_is_needed(tmp_path: Path):
    point = {"batch": 1, "prompt": 8192, "decode": 2, "chunk": 64}
    folder = laid_out(tmp_path, points=[point], protocol={"profile": True, "time_budget_s": 300.0, "max_repeats": 2})
    with models.start(folder) as agent:
        try:
            assert eventually(lambda: state(folder) == "checking: profile"), state(folder)
            os.kill(min(children(agent.pid)), signal.SIGKILL)
            assert agent.wait(timeout=120) == 0
        finally:
            agent.kill()
    result = models.result_of(folder)
    assert result["status"] == "ok"
    check = result["processes"][0]
    assert check["profile"] == {"point": 0, "reason": "the check process died in its phase profile (SIGKILL)"}
    assert check["exit"] == "SIGKILL"
    assert not any(alive(pid) for pid in children(agent.pid))
