"""What the agent asks of macOS and Windows, with the answers that these systems document; and of Linux, for real."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from profiler.agent import conditions, crew, darwin, session, supervisor
from profiler.agent.darwin import Darwin
from profiler.agent.piped import PipedWaiter, PipedWorker
from profiler.agent.platforms import HERE, Linux, System
from profiler.agent.protocol import JobFailure
from profiler.agent.watch import Watch
from tests.unit.profiler import agent_models as models


class LibSystem:
    """Its functions write into the caller's memory, as those of C do."""

    def __init__(self) -> None:
        self.ticks = [2**32 - 50, 100, 5000, 0]
        self.fails = False

    def mach_host_self(self) -> int:
        return 515

    def mach_timebase_info(self, base: Any) -> int:
        base._obj.numer, base._obj.denom = 125, 3  # of Apple's processors: 24 MHz
        return 0

    def host_statistics(self, host: int, flavor: int, ticks: Any, count: Any) -> int:
        assert (host, flavor, count._obj.value) == (515, 3, 4)
        ticks[:] = self.ticks
        return 5 if self.fails else 0

    def proc_pid_rusage(self, pid: int, flavor: int, usage: Any) -> int:
        assert flavor == 0
        assert ctypes.sizeof(usage._obj) == 96
        if pid != 42:
            return -1
        raw = (ctypes.c_uint64 * 12).from_buffer(usage._obj)
        raw[2], raw[3], raw[8] = 24_000_000, 12_000_000, 300 * 2**20  # at 16, 24 and 64 bytes
        return 0


M4 = """hw.memsize: 25769803776
machdep.cpu.brand_string: Apple M4 Pro
hw.physicalcpu: 14
hw.perflevel0.name: Performance
hw.perflevel0.physicalcpu: 10
hw.perflevel1.name: Efficiency
hw.perflevel1.physicalcpu: 4
"""
INTEL = """hw.memsize: 17179869184
machdep.cpu.brand_string: Intel(R) Core(TM) i7-9750H CPU @ 2.60GHz
hw.physicalcpu: 6
"""


@pytest.fixture
def mac() -> tuple[Darwin, LibSystem]:
    library = LibSystem()
    return Darwin(library), library


def told_by_sysctl(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(
        darwin.subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 1, text.encode(), b"")
    )


class TestMac:
    def test_busy_time_counts_all_but_idle_through_the_wrap_of_its_counters(self, mac: tuple[Darwin, LibSystem]):
        system, library = mac
        assert system.busy_seconds() == 0
        library.ticks = [50, 200, 9000, 10]  # user wrapped: 100, system 100, nice 10
        assert system.busy_seconds() == pytest.approx(2.10)

    def test_processes_by_their_usage(self, mac: tuple[Darwin, LibSystem]):
        system, _ = mac
        assert system.process_seconds(42) == pytest.approx(1.5)
        assert system.resident_mib(42) == 300
        assert system.resident_mib(43) == 0  # gone

    def test_what_fails_is_unknown(self, mac: tuple[Darwin, LibSystem]):
        system, library = mac
        library.fails = True
        assert system.busy_seconds() is None
        bare = Darwin(object())
        assert (bare.busy_seconds(), bare.resident_mib(42), bare.process_seconds(42)) == (None, None, 0.0)

    def test_its_processor_and_memory(self, mac: tuple[Darwin, LibSystem], monkeypatch: pytest.MonkeyPatch):
        system, _ = mac
        told_by_sysctl(monkeypatch, M4)
        assert system.cpu_model() == "Apple M4 Pro"
        assert system.memory_mib("MemTotal") == 24 * 1024
        assert system.memory_mib("MemAvailable") is None
        assert system.core_levels() == [
            {"name": "Performance", "physical": 10}, {"name": "Efficiency", "physical": 4}
        ]  # fmt: skip
        told_by_sysctl(monkeypatch, INTEL)
        assert system.core_levels() == [{"name": "all", "physical": 6}]
        told_by_sysctl(monkeypatch, "")
        assert (system.cpu_model(), system.memory_mib("MemTotal"), system.core_levels()) == (None, None, [])

    def test_ru_maxrss_is_bytes_there(self, mac: tuple[Darwin, LibSystem]):
        here, _ = HERE.peak_mib()
        there, source = mac[0].peak_mib()
        assert here is not None
        assert there == pytest.approx(here / 1024, rel=0.05)
        assert source == "ru_maxrss"

    def test_cores_cannot_be_chosen(self, mac: tuple[Darwin, LibSystem], monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(session, "HERE", mac[0])
        with pytest.raises(JobFailure, match="cores \\[0\\]: macOS has no way to do that; take `cores` out"):
            session.pin({"cores": [0]})
        session.pin({"cores": None})


def test_a_system_that_shows_no_memory_refuses_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from profiler.agent import limits

    monkeypatch.setattr(limits, "HERE", System())
    monkeypatch.setattr(crew, "MemoryCgroup", lambda _: limits.MemoryCgroup(1, root=tmp_path, own="/none"))
    (tmp_path / "cgroup.controllers").write_text("")
    with pytest.raises(JobFailure, match="no limit can be held: take `memory_limit_mib` out"):
        crew.Crew(tmp_path, object()).limit(100)  # type: ignore[arg-type]


def test_linux_is_read_as_before():
    system = Linux()
    busy = system.busy_seconds()
    assert busy is not None
    assert busy > system.process_seconds(os.getpid()) > 0
    assert 1 < (system.resident_mib(os.getpid()) or 0) < 10_000
    assert system.resident_mib(2**22 + 1) == 0
    assert (system.memory_mib("MemTotal") or 0) > (system.memory_mib("MemAvailable") or 0) > 0
    assert system.runs(os.getpid(), "python")
    assert not system.runs(os.getpid(), "another")
    assert not system.runs(2**22 + 1, "")
    assert conditions.environment({})["os"] == system.title()


class TestPipedWorker:
    """The workers of Windows, run here."""

    @pytest.fixture
    def agent(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        folder = models.folder_of(tmp_path, models.job({}), {})
        agent = next(folder.parent.parent.glob("agent-*.pyz"))
        monkeypatch.setattr("profiler.agent.piped.launcher", lambda: [sys.executable, str(agent)])
        return folder

    def test_it_speaks_fails_and_is_explained(self, agent: Path):
        log = os.open(agent / "log", os.O_WRONLY | os.O_CREAT)
        worker, waiter = PipedWorker(log), PipedWaiter()
        heard: list[Any] = []

        def listen() -> None:
            while True:
                if waiter.wait(worker, 200):
                    events = worker.events()
                    if events is None:
                        return
                    heard.extend(events)
                    if any(event["event"] == "ready" for event in events):
                        worker.send({"kind": "no such kind", "job": {"runtime": {}}})

        listen()
        assert [event["event"] for event in heard] == ["ready", "error"]
        assert "no such kind" in heard[1]["reason"]
        assert worker.events() is None
        assert worker.describe_exit() == "ok"

    def test_it_ends_when_it_is_killed(self, agent: Path):
        log = os.open(agent / "log", os.O_WRONLY | os.O_CREAT)
        worker = PipedWorker(log)
        assert worker.reap(kill=True) != 0
        assert worker.reap(kill=True) == worker.status
        assert worker.events() is None


_ORPHAN = """
import os, sys, time
sys.path.insert(0, sys.argv[1])
from profiler.agent.platforms import System
read, write = os.pipe()
child = os.fork()
if child == 0:
    os.close(write)
    System().watch_lifeline(read)
    while True:
        sum(range(1000))
print(child, flush=True)
time.sleep(60)
"""


def test_without_a_signal_of_the_kernel_a_worker_notices_that_its_parent_is_gone():
    root = str(Path(crew.__file__).parents[2])
    with subprocess.Popen([sys.executable, "-c", _ORPHAN, root], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        time.sleep(0.2)
        assert HERE.process_seconds(child) > 0
        parent.kill()
    until = time.monotonic() + 20
    while time.monotonic() < until and Path(f"/proc/{child}/cmdline").exists():
        if Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
            break
        time.sleep(0.05)
    else:
        assert not Path(f"/proc/{child}/cmdline").exists()


def test_load_that_is_not_shown_holds_no_job_up_and_is_not_taken_as_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    graph, recipe, signature = models.hybrid()
    order = models.job(signature, cooling={"max_other_cpu": 0.0})
    folder = models.folder_of(tmp_path, order, {"model.onnx": graph, "recipe.json": json.dumps(recipe).encode()})
    monkeypatch.setattr(conditions, "busy_seconds", lambda: None)
    boss = supervisor.Supervisor.__new__(supervisor.Supervisor)
    boss._job = order
    told: list[str] = []

    class Quiet(Watch):
        def __init__(self) -> None:
            """No signals are taken over here."""

        def tell(self, state: str, detail: str = "", **counts: int) -> None:
            told.append(f"{state} {detail}".strip())

        def sleep(self, seconds: float, *, beside: Any = None) -> None:
            del seconds, beside

    boss._watch = Quiet()
    boss._crew = type("Nobody", (), {"pids": lambda self: [os.getpid()]})()  # type: ignore[assignment]
    boss._wait_until_cool(type("Given", (), {"worker": None})())  # type: ignore[arg-type]
    assert told == ["cooling", "cooling the load of others is not shown here"]
    assert folder.exists()
