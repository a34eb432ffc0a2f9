"""The session against a scripted agent over the real local transport, and over a link that fails as it is told."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from profiler.conformance import eventually
from profiler.devices import LocalDevice, Provider, SshDevice
from profiler.errors import (
    AccessRefused,
    AgentDied,
    ConnectionLost,
    DeviceUnavailable,
    JobError,
    ResultError,
    TransportError,
)
from profiler.installed import AgentFile
from profiler.results import MAX_RESULT_BYTES, parse_result
from profiler.runner import COMPRESS_ABOVE, DeviceSession
from profiler.testing import FakeTransport, Fault, answer, delay, disk_full, lose, time_out
from profiler.transports.local import LocalTransport
from tests.unit.profiler.samples import ENVIRONMENT, FILES, make_job, make_result

# It behaves as the job's label says.
AGENT = r"""
import json, os, sys, time
ENVIRONMENT, RESULT = json.loads(sys.argv[0] and open(__file__ + ".json").read())
if sys.argv[1] == "info":
    print(json.dumps(ENVIRONMENT)); raise SystemExit
folder = sys.argv[2]
job = json.load(open(folder + "/job.json"))
for name in ("model.onnx", "recipe.json"):
    assert os.path.exists(folder + "/" + name), name

def write(name, value):
    with open(folder + "/.tmp", "w") as file:
        json.dump(value, file)
    os.replace(folder + "/.tmp", folder + "/" + name)

beat = 0
def status(state):
    global beat
    beat += 1
    write("status.json", {"state": state, "detail": "", "process": 0, "processes": 3, "heartbeat_unix": beat,
                          "pid": os.getpid(), "started_unix": 0})

def finish(**changes):
    write("result.json", {**RESULT, "job_id": job["job_id"], **changes})
    status("done")

label = job["label"]
status("waiting_lease")
if label == "dies":
    sys.exit("segmentation fault, so to say")
if label == "broken status":
    write("status.json", {"state": 5})
    time.sleep(30)
if label == "frozen":
    time.sleep(30)
while label == "stubborn" or label == "slow" and not os.path.exists(folder + "/go"):
    status("timing")
    if label == "slow" and os.path.exists(folder + "/cancel"):
        finish(status="cancelled", processes=[])
        raise SystemExit
    time.sleep(0.02)
finish()
"""


@pytest.fixture
def agent(tmp_path: Path) -> AgentFile:
    work = tmp_path / "work"
    work.mkdir()
    (work / "agent-abc.py.json").write_text(json.dumps([ENVIRONMENT, make_result()]))
    return AgentFile(name="agent-abc.py", data=AGENT.encode())


@pytest.fixture
def device(tmp_path: Path) -> LocalDevice:
    return LocalDevice(name="here", transport="local", work_dir=str(tmp_path / "work"))


@pytest.fixture
def session(device: LocalDevice, agent: AgentFile) -> Iterator[DeviceSession]:
    with DeviceSession(device, agent=agent, poll_s=0.03, stale_s=1.0) as session:
        yield session


def test_a_job_from_start_to_end(session: DeviceSession):
    job, states = make_job(), []
    handle = session.submit(job, FILES)
    result = parse_result(session.wait(handle, lambda status: states.append(status and status.state)), job)
    assert result.status == "ok"
    assert states[-1] == "done"
    assert handle.bytes_sent == sum(map(len, FILES.values())) + len(json.dumps(job.to_json(), separators=(",", ":")))
    session.cleanup(job.job_id)
    assert session.attach(job.job_id) is None


def test_the_environment_and_the_fingerprint(session: DeviceSession, device: LocalDevice, agent: AgentFile):
    assert session.environment.cpu_model == "CPU"
    assert session.runtime_version == "1.31.1"
    fixed = device.model_copy(update={"clock_policy": "fixed"})
    renamed = device.model_copy(update={"name": "other"})
    with DeviceSession(fixed, agent=agent) as other:
        assert other.fingerprint != session.fingerprint
    with DeviceSession(renamed, agent=agent) as other:
        assert other.fingerprint != session.fingerprint, "two of one make are two devices"
    assert session.changed(session.environment) == ""
    tuned = session.environment.model_copy(update={"governor": "performance", "host": "renamed"})
    assert session.changed(tuned) == "governor: None -> performance"


def test_threads_are_numbers(session: DeviceSession):
    assert session.runtime().threads == session.device.threads
    assert session.runtime({"a": "b"}).session_config == {"a": "b"}


def test_a_remote_device_s_threads_default_to_its_cores(device: LocalDevice, agent: AgentFile):
    remote = SshDevice(name="there", transport="ssh", host="h")
    with DeviceSession(remote, agent=agent, transport=LocalTransport(device.work_dir)) as session:
        assert session.runtime().threads == ENVIRONMENT["usable_cores"]
    with DeviceSession(
        remote.model_copy(update={"cores": (4, 5, 6)}), agent=agent, transport=LocalTransport(device.work_dir)
    ) as session:
        assert session.runtime().threads == 3


def test_the_agent_is_installed_once(session: DeviceSession, device: LocalDevice, agent: AgentFile):
    installed = Path(device.work_dir) / agent.name
    before = installed.stat().st_mtime_ns
    with DeviceSession(device, agent=agent):
        assert installed.stat().st_mtime_ns == before


def test_large_jobs_travel_compressed(session: DeviceSession):
    job = make_job()
    handle = session.submit(job, {**FILES, "model.onnx": b"graph " * COMPRESS_ABOVE})
    assert handle.bytes_sent < COMPRESS_ABOVE / 10
    assert parse_result(session.wait(handle), job).status == "ok"


def test_incompressible_jobs_arrive_too(session: DeviceSession):
    handle = session.submit(make_job(), {**FILES, "model.onnx": random.Random(1).randbytes(COMPRESS_ABOVE)})
    assert session.wait(handle)


def test_a_dead_agent_is_told_with_its_last_words(session: DeviceSession):
    handle = session.submit(make_job(label="dies"), FILES)
    with pytest.raises(AgentDied, match="ended without a result: segmentation fault"):
        session.wait(handle)
    assert session.attach("job-1") is None
    session.cleanup("job-1")


def test_a_process_whose_heart_beats_is_not_asked_for(session: DeviceSession, monkeypatch: pytest.MonkeyPatch):
    asked: list[int] = []
    real = session.link.transport.alive
    monkeypatch.setattr(session.link.transport, "alive", lambda pid: asked.append(pid) or real(pid))
    handle = session.submit(make_job(label="slow"), FILES)
    looks: list[object] = []

    def look(status: object) -> None:
        looks.append(status)
        if len(looks) == 20:
            session.link.transport.push(b"", f"{handle.folder}/go")

    assert session.wait(handle, look)
    assert len(looks) >= 20
    assert len(asked) < 10  # until the heartbeat was seen to move
    monkeypatch.setattr("profiler.runner.TRUSTED_S", 0.2)
    dying = session.submit(make_job(job_id="job-2", label="slow"), FILES)
    for _ in range(10):
        session.poll(dying)
        time.sleep(0.03)
    session.kill(dying)
    with pytest.raises(AgentDied, match="ended without a result"):
        session.wait(dying)


def test_a_silent_agent_is_told(session: DeviceSession):
    handle = session.submit(make_job(label="frozen"), FILES)
    with pytest.raises(AgentDied, match="no sign for 1 s"):
        session.wait(handle)
    session.kill(handle)


def test_a_damaged_status_is_told(session: DeviceSession):
    handle = session.submit(make_job(label="broken status"), FILES)
    with pytest.raises(ResultError, match="status"):
        session.wait(handle)
    session.kill(handle)
    session.cleanup("job-1")


def test_cancelling_brings_a_result(session: DeviceSession):
    job, cancel = make_job(label="slow"), threading.Event()
    handle = session.submit(job, FILES)
    threading.Timer(0.2, cancel.set).start()
    assert parse_result(session.wait(handle, cancel=cancel), job).status == "cancelled"


def test_what_does_not_cancel_is_killed(session: DeviceSession, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("profiler.runner._CANCEL_GRACE_S", 0.2)
    cancel = threading.Event()
    cancel.set()
    handle = session.submit(make_job(label="stubborn"), FILES)
    with pytest.raises(AgentDied):
        session.wait(handle, cancel=cancel)


def test_a_running_job_is_neither_sent_again_nor_removed(session: DeviceSession, device: LocalDevice):
    handle = session.submit(make_job(label="slow"), FILES)
    with pytest.raises(JobError, match="already on"):
        session.submit(make_job(label="slow"), FILES)
    assert eventually(lambda: session.poll(handle).status is not None)
    with pytest.raises(JobError, match="still runs"):
        session.cleanup("job-1")
    Path(handle.folder, "go").touch()
    session.wait(handle)
    session.cleanup("job-1")
    assert not Path(handle.folder).exists()


DRIVER = """
import sys
from pathlib import Path
from profiler.devices import LocalDevice, Provider, SshDevice
from profiler.installed import AgentFile
from profiler.runner import DeviceSession
from tests.unit.profiler.samples import FILES, make_job
device = LocalDevice(name="here", transport="local", work_dir=sys.argv[1])
agent = AgentFile(name="agent-abc.py", data=Path(sys.argv[2]).read_bytes())
with DeviceSession(device, agent=agent, poll_s=0.03) as session:
    handle = session.submit(make_job(label="slow"), FILES)
    print(handle.pid, flush=True)
    session.wait(handle)
"""


def test_a_killed_driver_s_job_is_found_again(session: DeviceSession, device: LocalDevice, tmp_path: Path):
    (tmp_path / "agent.py").write_text(AGENT)
    with subprocess.Popen(
        [sys.executable, "-c", DRIVER, device.work_dir, str(tmp_path / "agent.py")],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[3],
        start_new_session=True,
    ) as driver:
        assert driver.stdout is not None
        pid = int(driver.stdout.readline())
        os.killpg(driver.pid, signal.SIGKILL)
    assert eventually(lambda: session.attach("job-1") is not None)
    handle = session.attach("job-1")
    assert handle is not None
    assert (handle.pid, handle.bytes_sent) == (pid, 0)
    Path(handle.folder, "go").touch()
    assert parse_result(session.wait(handle), make_job()).status == "ok"
    assert session.attach("job-1") is not None, "a finished job is found too"


def test_waiting_sleeps_between_looks(session: DeviceSession, device: LocalDevice, agent: AgentFile):
    with DeviceSession(device, agent=agent) as quiet:
        handle = quiet.submit(make_job(label="slow"), FILES)
        looks: list[Any] = []
        threading.Timer(1.6, Path(handle.folder, "go").touch).start()
        start = time.monotonic()
        quiet.wait(handle, looks.append)
        assert len(looks) <= 10 * (time.monotonic() - start) + 2


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import no_such_module", "No module named 'no_such_module'"),
        ("print('{}')", "no numpy and no onnxruntime"),
        ("""print('{"numpy": "2", "onnxruntime": null, "problems": ["onnxruntime: ImportError"]}')""", "ImportError"),
        ("raise SystemExit(3)", "exit code 3"),
    ],
)
def test_a_device_that_cannot_measure_says_why(device: LocalDevice, code: str, said: str):
    broken = AgentFile(name=f"agent-{abs(hash(code))}.py", data=code.encode())
    with pytest.raises(DeviceUnavailable, match=said) as caught:
        DeviceSession(device, agent=broken).open()
    assert caught.value.hint


def test_a_provider_that_is_not_there_is_refused(device: LocalDevice, agent: AgentFile):
    wanted = (Provider(name="QNNExecutionProvider", options={}),)
    session = DeviceSession(device.model_copy(update={"providers": wanted}), agent=agent)
    with pytest.raises(DeviceUnavailable, match="no QNNExecutionProvider") as caught:
        session.open()
    assert caught.value.hint == "It has CPUExecutionProvider."


def test_a_missing_python_is_told(device: LocalDevice, agent: AgentFile):
    session = DeviceSession(device.model_copy(update={"python": "/no/such/python"}), agent=agent)
    with pytest.raises(DeviceUnavailable, match="/no/such/python"):
        session.open()


def test_a_closed_session_has_no_environment(device: LocalDevice, agent: AgentFile):
    with pytest.raises(DeviceUnavailable, match="not open"):
        _ = DeviceSession(device, agent=agent).environment


@pytest.fixture
def shaky(
    device: LocalDevice, agent: AgentFile, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[DeviceSession, FakeTransport]]:
    """A session over a link that breaks where a test adds a fault."""
    monkeypatch.setattr("profiler.patience._LONGEST_WAIT_S", 0.01)
    monkeypatch.setattr("profiler.runner.STARTED_S", 0.5)
    device = device.model_copy(update={"reconnect_s": 1.0})
    transport = FakeTransport(device.work_dir)
    with DeviceSession(device, agent=agent, transport=transport, poll_s=0.03) as session:
        yield session, transport


Shaky = tuple[DeviceSession, FakeTransport]


@pytest.mark.parametrize("phase", ["poll", "fetch", "submit", "cleanup"])
@pytest.mark.parametrize("after", [False, True])
def test_a_link_lost_twice_is_taken_up_again(shaky: Shaky, phase: str, after: bool):
    session, transport = shaky
    transport.faults.append(Fault(phase, lose(after=after), times=2))
    handle = session.submit(make_job(), FILES)
    assert session.wait(handle)
    session.cleanup(handle.job_id)
    assert transport.calls["start"] == 1
    assert transport.calls["open"] == 3
    assert session.attach(handle.job_id) is None


def test_what_broken_pushes_sent_is_counted(shaky: Shaky):
    session, transport = shaky
    job = make_job()
    once = sum(map(len, FILES.values())) + len(json.dumps(job.to_json(), separators=(",", ":")))
    transport.faults.append(Fault("push", lose(), times=2, name="model.onnx"))
    handle = session.submit(job, FILES)
    assert handle.bytes_sent == session.bytes_sent == once + 2 * len(FILES["model.onnx"])
    transport.faults[:] = [Fault("push", disk_full(), name="job.json")]
    with pytest.raises(TransportError, match="No space left"):
        session.submit(make_job(job_id="job-2"), FILES)
    assert session.bytes_sent == handle.bytes_sent + once, "of a job that was not taken too"


def test_a_link_is_waited_for_as_long_as_the_device_file_says(shaky: Shaky):
    session, transport = shaky
    said: list[str] = []
    session.link.on_link = said.append
    handle = session.submit(make_job(), FILES)
    transport.faults.append(Fault("fetch", lose(), times=None))
    with pytest.raises(ConnectionLost):
        session.wait(handle)
    assert len(said) == 1
    assert "the device is waited for, up to 1 s" in said[0]
    transport.faults[:] = [Fault("fetch", lose(), times=5)]
    assert session.wait(handle), "the work went on"
    assert said[-1] == "the link is there again"


def test_nobody_waits_for_a_link_after_the_user_stopped(shaky: Shaky):
    session, transport = shaky
    handle = session.submit(make_job(), FILES)
    session.link.stop.set()
    transport.faults.append(Fault("fetch", lose()))
    with pytest.raises(ConnectionLost):
        session.wait(handle)


def test_a_device_that_no_longer_lets_us_in_is_not_waited_for(shaky: Shaky, monkeypatch: pytest.MonkeyPatch):
    session, transport = shaky
    handle = session.submit(make_job(), FILES)
    transport.faults.append(Fault("fetch", lose()))

    def refuse() -> None:
        raise AccessRefused("the key has changed")

    monkeypatch.setattr(transport, "open", refuse)
    with pytest.raises(AccessRefused, match="the key has changed"):
        session.wait(handle)


def test_a_device_that_is_away_at_first_is_opened(device: LocalDevice, agent: AgentFile):
    away = FakeTransport(device.work_dir)
    away.break_link(opens=1)
    with DeviceSession(device, agent=agent, transport=away) as session:
        assert session.environment.cores == ENVIRONMENT["cores"]
    away.break_link(opens=99)
    with pytest.raises(ConnectionLost, match="out of reach"):
        DeviceSession(device, agent=agent, transport=away).open()


def test_a_measurement_is_never_started_twice(shaky: Shaky):
    session, transport = shaky
    transport.faults.append(Fault("start", lose(after=True)))
    handle = session.submit(make_job(), FILES)
    assert session.wait(handle)
    assert transport.calls["start"] == 1


def test_what_was_not_seen_to_start_is_started_again(shaky: Shaky):
    session, transport = shaky
    transport.faults.append(Fault("start", lose()))
    assert session.wait(session.submit(make_job(), FILES))
    assert transport.calls["start"] == 2


@pytest.mark.parametrize("phase", ["install", "submit"])
def test_a_full_disk_is_told(device: LocalDevice, agent: AgentFile, phase: str):
    transport = FakeTransport(device.work_dir, [Fault(phase, disk_full())])
    session = DeviceSession(device, agent=agent, transport=transport)
    with pytest.raises(TransportError, match="No space left") as caught, session:
        session.submit(make_job(), FILES)
    assert caught.value.hint is not None
    assert "free some space" in caught.value.hint
    assert transport.calls[phase] == 1


def test_an_environment_that_never_comes_is_told(device: LocalDevice, agent: AgentFile):
    transport = FakeTransport(device.work_dir, [Fault("info", time_out())])
    with pytest.raises(DeviceUnavailable, match="in time"):
        DeviceSession(device, agent=agent, transport=transport).open()


DAMAGES = {
    "half": lambda raw: raw[: len(raw) // 2], "nothing": b"", "zeros": bytes(100), "more": lambda raw: raw + b"}",
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_arrives_damaged_is_told(shaky: Shaky, device: LocalDevice, agent: AgentFile, damage: str):
    session, transport = shaky
    change = DAMAGES[damage]
    handle = session.submit(make_job(), FILES)
    assert session.wait(handle)
    transport.faults += [
        Fault("pull", answer(change), name="status.json"),
        Fault("fetch", answer(change)),
        Fault("info", answer(change)),
    ]
    with pytest.raises(ResultError, match="status"):
        session.wait(handle)
    with pytest.raises(ResultError, match="result of job"):
        parse_result(session.wait(handle), make_job())
    with pytest.raises(ResultError, match="environment"):
        DeviceSession(device, agent=agent, transport=transport).open()


def test_a_result_that_is_too_large_is_not_read(shaky: Shaky):
    session, transport = shaky
    transport.faults.append(Fault("fetch", answer(bytes(MAX_RESULT_BYTES + 1))))
    with pytest.raises(ResultError, match="wrote nonsense"):
        session.wait(session.submit(make_job(), FILES))


def test_a_slow_device_is_waited_for(shaky: Shaky):
    session, transport = shaky
    transport.faults.append(Fault("poll", delay(0.05), times=None))
    assert session.wait(session.submit(make_job(), FILES))


def test_other_transport_errors_are_not_tried_again(shaky: Shaky):
    session, transport = shaky
    transport.faults.append(Fault("exists", time_out(), times=None))
    with pytest.raises(TransportError, match="in time"):
        session.submit(make_job(), FILES)
    assert transport.calls["exists"] == 2  # the first installed the agent
