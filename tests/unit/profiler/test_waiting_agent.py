"""The agent that only waits: its results are read as any other's, and its devices wait beside each other."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from threading import Event

import pytest

from profiler.devices import LocalDevice
from profiler.jobs import Check, Contender
from profiler.results import JobStatus, parse_result
from profiler.runner import DeviceSession
from profiler.testing import FakeTransport, waiting_agent
from profiler.workloads import Point
from tests.unit.profiler.samples import FILES, SIGNATURE, make_job


def session_in(folder: Path, seconds: float = 0.0) -> DeviceSession:
    device = LocalDevice(name=folder.name, transport="local", work_dir=str(folder))
    return DeviceSession(device, transport=FakeTransport(folder), agent=waiting_agent(seconds), poll_s=0.03)


def test_its_results_are_results(tmp_path: Path):
    job = make_job(points=(Point(prompt=16, decode=4), Point(prompt=32, decode=1)))
    with session_in(tmp_path) as session:
        result = parse_result(session.wait(session.submit(job, FILES)), job)
    assert (result.status, result.method) == ("ok", "waiting")
    assert {rep.ttft_ns for process in result.timing for rep in process.points[1].repeats} == {5_000_000}
    assert result.memory is not None


def test_of_comparisons_and_checks_too(tmp_path: Path):
    points = Point(prompt=16, decode=4), Point(prompt=8, decode=1)
    contenders = tuple(
        Contender(name=name, signature=SIGNATURE, content_id=name, points=points[at:]) for at, name in enumerate("ab")
    )
    check = Check(
        name="gqa", graph="check0.onnx", recipe="check0.json", signature=SIGNATURE, output="y", calls=(), tolerance=1.0
    )
    job = make_job(contenders=contenders, points=(*points, points[1]), checks=(check,))
    with session_in(tmp_path) as session:
        result = parse_result(session.wait(session.submit(job, dict.fromkeys(job.file_names(), b"{}"))), job)
    assert [record.points for record in result.contenders] == [(0, 1), (2,)]
    assert [record.name for record in result.checks] == ["gqa"]


def test_it_can_be_cancelled(tmp_path: Path):
    cancel = Event()
    cancel.set()
    with session_in(tmp_path, 60.0) as session:
        result = parse_result(session.wait(session.submit(make_job(), FILES), cancel=cancel), make_job())
    assert result.status == "cancelled"


@pytest.mark.parametrize("devices", [1, 3])
def test_jobs_wait_for_each_other_on_one_device_and_for_nobody_on_three(tmp_path: Path, devices: int):
    looks: list[tuple[float, int]] = []

    def measure(at: int) -> None:
        job = make_job(job_id=f"job-{at}")

        def look(status: JobStatus | None) -> None:
            if status is not None and status.state == "timing":
                looks.append((time.monotonic(), at))

        with session_in(tmp_path / f"device{at % devices}", 1.0) as session:
            session.wait(session.submit(job, FILES), look)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(measure, range(3)))
    order = [at for _, at in sorted(looks)]
    turns = 1 + sum(before != after for before, after in pairwise(order))
    assert set(order) == {0, 1, 2}
    assert (turns == 3) if devices == 1 else (turns > 3)
