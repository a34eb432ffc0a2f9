"""Whatever happens to a job, there is a result with a reason, and no process stays behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from profiler.agent.lease import Lease
from profiler.results import Result
from tests.unit.profiler import agent_models as models

ENDLESS = {"min_repeats": 10**6, "max_repeats": 10**6}
LONG_POINT = [{"batch": 1, "prompt": 12, "decode": 2000}]


def children(pid: int) -> set[int]:
    """Living child processes."""
    found = set()
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and f"\nPPid:\t{pid}\n" in (entry / "status").read_text():
                found.add(int(entry.name))
        except OSError:
            continue
    return found


def alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def eventually(condition: Callable[[], object], seconds: float = 10.0) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if condition():
            return True
        time.sleep(0.02)
    return False


def state(folder: Path) -> str:
    try:
        status = json.loads((folder / "status.json").read_text())
        return f"{status['state']}: {status['detail']}"
    except (OSError, ValueError):
        return ""


def laid_out(work: Path, **changes: Any) -> Path:
    graph, recipe, signature = models.hybrid()
    files = {"model.onnx": graph, "recipe.json": json.dumps(recipe).encode()}
    return models.folder_of(work, models.job(signature, **changes), files)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[tuple[Path, subprocess.Popen[bytes]]]:
    """A job that never ends by itself, while it is timed."""
    folder = laid_out(tmp_path, points=LONG_POINT, protocol=ENDLESS)
    agent = models.start(folder)
    try:
        assert eventually(lambda: state(folder).startswith("timing: timed")), state(folder)
        yield folder, agent
    finally:
        agent.kill()
        agent.wait()


@pytest.fixture
def burner() -> Iterator[int]:
    """Another load on the machine."""
    process = subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"])
    yield process.pid
    process.kill()
    process.wait()


def test_a_cancel_file_ends_the_job(running: tuple[Path, subprocess.Popen[bytes]]) -> None:
    folder, agent = running
    workers = children(agent.pid)
    assert workers
    (folder / "cancel").touch()
    assert agent.wait(timeout=10) == 0
    result = Result.model_validate_json((folder / "result.json").read_bytes())
    assert result.status == "cancelled"
    assert result.processes[-1].exit == "SIGKILL"
    assert state(folder) == "done: cancelled"
    assert not any(map(alive, workers))


def test_sigterm_ends_the_job(running: tuple[Path, subprocess.Popen[bytes]]) -> None:
    folder, agent = running
    agent.terminate()
    assert agent.wait(timeout=5) == 0
    assert models.result_of(folder)["status"] == "cancelled"


def test_workers_die_with_their_supervisor(running: tuple[Path, subprocess.Popen[bytes]]) -> None:
    _, agent = running
    workers = children(agent.pid)
    assert workers
    agent.kill()
    agent.wait()
    assert eventually(lambda: not any(map(alive, workers)), 5)


def test_a_worker_that_dies_is_a_failure_with_its_signal(running: tuple[Path, subprocess.Popen[bytes]]) -> None:
    folder, agent = running
    worker = max(children(agent.pid), key=_ticks)  # the others are idle
    os.kill(worker, signal.SIGSEGV)
    assert agent.wait(timeout=10) == 0
    result = models.result_of(folder)
    assert result["status"] == "failed"
    assert "SIGSEGV" in result["reason"]
    assert "timed" in result["reason"]
    assert result["processes"][-1]["memory"]["peak_rss_mib"] > 10


def _ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_a_job_that_takes_too_long_times_out(tmp_path: Path) -> None:
    limits = {"timeout_s": 1.0}
    result = models.measure(tmp_path, models.hybrid(), points=LONG_POINT, protocol=ENDLESS, limits=limits)
    assert result["status"] == "timeout"
    assert "1 s" in result["reason"]
    assert result["seconds"]["total"] < 5
    Result.model_validate(result, strict=False)


def test_a_memory_limit_is_a_result_with_the_peak_seen(tmp_path: Path) -> None:
    result = models.measure(tmp_path, models.hybrid(), points=LONG_POINT, protocol=ENDLESS, limits={"memory_mib": 30})
    assert result["status"] == "out_of_memory"
    assert "30 MiB" in result["reason"]
    assert "seen" in result["reason"]


@pytest.mark.parametrize("content", [b"", b"not a model at all", models.hybrid()[0][:700]])
def test_a_corrupt_graph_is_a_failure(tmp_path: Path, content: bytes) -> None:
    _, recipe, signature = models.hybrid()
    result = models.measure(tmp_path, (content, recipe, signature))
    assert result["status"] == "failed"
    assert "\n" not in result["reason"]
    assert result["reason"]


def test_a_signature_of_another_graph_is_a_failure(tmp_path: Path) -> None:
    graph, recipe, _ = models.hybrid()
    result = models.measure(tmp_path, (graph, recipe, models.masked()[2]))
    assert result["status"] == "failed"
    assert "past_conv" in result["reason"]


def test_logits_that_are_not_finite_are_invalid(tmp_path: Path) -> None:
    result = models.measure(tmp_path, models.hybrid(scale=3e38))
    assert result["status"] == "invalid"
    assert "finite" in result["reason"]
    Result.model_validate(result, strict=False)


def test_a_block_that_computes_something_else_is_invalid(tmp_path: Path) -> None:
    check, files = models.block_check()
    check["calls"][1]["expected"][3] += 0.5
    result = models.measure(tmp_path, models.hybrid(), (check, files))
    assert result["status"] == "invalid"
    assert "running sum" in result["reason"]
    assert result["checks"][0]["rel_rms"] > 1e-4
    assert [process["kind"] for process in result["processes"]] == ["check"]


def test_an_unknown_provider_is_named(tmp_path: Path) -> None:
    result = models.measure(tmp_path, models.hybrid(), runtime={"providers": [["NoSuchProvider", {}]]})
    assert result["status"] == "failed"
    assert "NoSuchProvider" in result["reason"]


def test_cores_that_do_not_exist_are_named(tmp_path: Path) -> None:
    result = models.measure(tmp_path, models.hybrid(), runtime={"cores": [4000]})
    assert result["status"] == "failed"
    assert "4000" in result["reason"]


@pytest.mark.parametrize("text", ["", "[]", '{"job_id": "x"}', '{"format": 9, "job_id": "x"}'])
def test_a_job_that_cannot_be_read_still_has_a_result(tmp_path: Path, text: str) -> None:
    folder = laid_out(tmp_path)
    (folder / "job.json").write_text(text)
    with models.start(folder) as agent:
        assert agent.wait(timeout=20) == 0
    result = models.result_of(folder)
    assert result["status"] == "failed"
    assert result["reason"]
    Result.model_validate(result, strict=False)


def test_a_device_that_is_busy_is_not_cooled(tmp_path: Path, burner: int) -> None:
    cooling = {"max_other_cpu": 0.05, "timeout_s": 0.2}
    result = models.measure(tmp_path, models.hybrid(), cooling=cooling)
    assert result["status"] == "not_cooled"
    assert "limit 5%" in result["reason"]
    assert str(burner) in result["reason"]
    assert result["seconds"]["waiting"] > 0.4


def test_other_load_during_the_work_throttles(tmp_path: Path, burner: int) -> None:
    points = [{"batch": 1, "prompt": 12, "decode": 3000}]
    protocol = {"max_other_cpu": 0.05, "min_repeats": 2, "max_repeats": 2}
    result = models.measure(tmp_path, models.hybrid(), points=points, protocol=protocol)
    assert result["status"] == "throttled"
    assert str(burner) in result["reason"]
    samples = result["processes"][-1]["points"][0]["repeats"]
    assert samples
    assert any(not repeat["kept"] and repeat["other_cpu"] > 0.05 for repeat in samples)


def test_a_second_job_waits_for_the_first_and_says_for_whom(tmp_path: Path) -> None:
    folder = laid_out(tmp_path)
    lease = Lease(tmp_path / "lease")
    assert lease.try_acquire("the other job")
    with models.start(folder) as agent:
        try:
            assert eventually(lambda: "the other job" in state(folder)), state(folder)
            assert state(folder).startswith("waiting_lease")
            assert str(os.getpid()) in state(folder)
            assert agent.poll() is None
            lease.release()
            assert agent.wait(timeout=20) == 0
        finally:
            agent.kill()
    assert models.result_of(folder)["status"] == "ok"
    assert Lease(tmp_path / "lease").try_acquire("after")


def test_waiting_for_the_lease_can_be_cancelled(tmp_path: Path) -> None:
    folder = laid_out(tmp_path)
    lease = Lease(tmp_path / "lease")
    assert lease.try_acquire("the other job")
    with models.start(folder) as agent:
        try:
            assert eventually(lambda: state(folder).startswith("waiting_lease: held"))
            (folder / "cancel").touch()
            assert agent.wait(timeout=5) == 0
        finally:
            agent.kill()
    assert models.result_of(folder)["status"] == "cancelled"
    assert not Lease(tmp_path / "lease").try_acquire("still held")
    lease.release()
