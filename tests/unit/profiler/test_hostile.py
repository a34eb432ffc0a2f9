"""A device that lies, shouts and wants to break out, over the real code from its files to our errors."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from profiler.device_files import load_devices
from profiler.devices import LocalDevice
from profiler.errors import ConfigError, JobError, ProfilerError, ResultError, TransportError
from profiler.installed import AgentFile
from profiler.results import parse_result, parse_status
from profiler.runner import DeviceSession
from profiler.testing import FakeTransport, Fault, answer, waiting_agent
from tests.unit.profiler.samples import FILES, make_job, make_result

HUGE = "1" + "0" * 5000
ESCAPES = "\x1b[31mred\x1b]0;title\x07 [red]x[/red] \x9b2J"


@pytest.fixture
def session(tmp_path: Path) -> Iterator[DeviceSession]:
    device = LocalDevice(name="fake", transport="local", work_dir=str(tmp_path / "work"))
    transport = FakeTransport(device.work_dir)
    with DeviceSession(device, transport=transport, agent=waiting_agent(0.0), poll_s=0.02) as session:
        yield session


def fake(session: DeviceSession) -> FakeTransport:
    assert isinstance(session.link.transport, FakeTransport)
    return session.link.transport


def changed(where: str, text: str) -> Callable[[bytes], bytes]:
    """An answer in which the value at a dotted place is another text, which need not be JSON."""

    def change(raw: bytes) -> bytes:
        found = json.loads(raw)
        here: Any = found
        *way, last = (int(part) if part.isdigit() else part for part in where.split("."))
        for part in way:
            here = here[part]
        here[last] = "@@"
        return json.dumps(found).replace('"@@"', text).encode()

    return change


VALUES = {
    "nan": "NaN", "infinity": "Infinity", "negative infinity": "-Infinity", "1e999": "1e999", "negative": "-1",
    "huge": HUGE, "2**70": str(2**70), "deep list": "[" * 9000 + "]" * 9000,
    "deep object": '{"a":' * 9000 + "1" + "}" * 9000, "half a surrogate": '"\\ud800"', "text": json.dumps("x" * 5000),
    "true": "true",    "wide": "[" + "1," * 70_000 + "1]",
}  # fmt: skip
PLACES = [
    "format", "status", "environment", "environment.cores", "processes", "processes.0.pid", "processes.0.points",
    "processes.0.points.0.point", "processes.0.points.0.repeats.0.ttft_ns", "processes.0.points.0.repeats.0.decode_ns",
    "processes.0.points.0.repeats.0.decode_ns.0", "seconds.total", "weights", "stopped_because",
]  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("value", VALUES)
def test_no_such_value_is_taken_for_a_result(session: DeviceSession, place: str, value: str):
    fake(session).faults.append(Fault("fetch", answer(changed(place, VALUES[value]))))
    job = make_job()
    with pytest.raises(ResultError) as caught:
        parse_result(session.wait(session.submit(job, FILES)), job)
    assert len(str(caught.value)) < 1500
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("place", ["temperature_c", "load1", "something.new"])
@pytest.mark.parametrize("value", ["NaN", "-1e308", "1e999", HUGE, "[" * 50 + "]" * 50])
def test_no_such_number_is_kept_of_an_environment(tmp_path: Path, place: str, value: str):
    def change(raw: bytes) -> bytes:
        return raw.rstrip()[:-1] + f', "{place}": {value}}}'.encode()

    device = LocalDevice(name="fake", transport="local", work_dir=str(tmp_path))
    transport = FakeTransport(tmp_path, [Fault("info", answer(change))])
    session = DeviceSession(device, transport=transport, agent=waiting_agent(0.0))
    if (place, value) == ("something.new", "-1e308"):
        session.open()  # finite, and nobody computes with it
        session.close()
    else:
        with pytest.raises(ResultError, match="environment"):
            session.open()


@pytest.mark.parametrize("value", ["NaN", "Infinity", "[[]]", str(2**70), '{"a": {"b": [NaN]}}'])
def test_counts_of_providers_are_bounded(value: str):
    raw = changed("processes.0.providers.CPUExecutionProvider", value)(json.dumps(make_result()).encode())
    if value == "[[]]":
        assert parse_result(raw, make_job()).processes[0].providers == {"CPUExecutionProvider": [[]]}
    else:
        with pytest.raises(ResultError, match="CPUExecutionProvider"):
            parse_result(raw, make_job())


@pytest.mark.parametrize(
    "raw",
    [
        b"\xff\xfe{}", b'{"state": "\xff"}', b"[" * 60_000, b'{"a":' * 10_000, HUGE.encode(),
        b'{"pid": ' + HUGE.encode() + b"}",
    ],
    ids=["utf16", "not utf8", "deep", "deep objects", "huge", "huge pid"],
)  # fmt: skip
def test_a_status_that_is_none(session: DeviceSession, raw: bytes):
    fake(session).faults.append(Fault("pull", answer(raw), name="status.json", times=None))
    handle = session.submit(make_job(), FILES)
    with pytest.raises(ResultError, match="status"):
        session.wait(handle)
    with pytest.raises(ResultError):
        parse_status(raw)


def test_of_a_key_given_twice_the_last_counts_everywhere():
    raw = json.dumps(make_result()).replace('"status": "ok"', '"status": "ok", "status": "failed"').encode()
    assert parse_result(raw, make_job()).status == json.loads(raw)["status"] == "failed"


def test_a_key_that_a_terminal_would_obey_is_shown(session: DeviceSession):
    fake(session).faults.append(Fault("fetch", answer(lambda raw: raw[:-1] + f", {json.dumps(ESCAPES)}: 1}}".encode())))
    with pytest.raises(ResultError, match=r"\\x1b\[31mred") as caught:
        parse_result(session.wait(session.submit(make_job(), FILES)), make_job())
    assert str(caught.value).isprintable()


MEMORY = """
import json, resource, sys
from profiler.errors import ResultError
from profiler.results import parse_environment, parse_result
from tests.unit.profiler.samples import make_job, make_result
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
start, item = sys.argv[1], sys.argv[2]
base = json.dumps(make_result())
size = 32 * 2**20 - len(base) - 100
body = (item + ",") * (size // (len(item) + 1))
raw = base.replace(start, start + body, 1).encode()
assert 2**20 < len(raw) <= 32 * 2**20, len(raw)
try:
    parse_result(raw, make_job())
except ResultError as error:
    assert len(str(error)) < 1500
else:
    raise SystemExit("it was taken")
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.parametrize(
    ("start", "item"),
    [
        ('"checks": [', "1"),
        ('"checks": [', "[],[],[],[],[],{},[{}]        "),
        ('"processes": [', '{"index": "no"}'),
        ('"decode_ns": [', "1"),
        ('"operators": {', '"k": 1'),
        ('"sample": [', "0.25    "),
        ('"providers": ["', "x" * 1000 + '", "'),
    ],
)
def test_32_mib_of_nonsense_cost_little_memory(start: str, item: str):
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, start, item],
        capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3],
    )  # fmt: skip
    assert int(done.stdout) < 1024  # MiB; objects of Python for four million values


def test_100_mb_in_place_of_a_file_are_not_read(session: DeviceSession):
    handle = session.submit(make_job(), FILES)
    session.wait(handle)
    for name in ("result.json", "status.json"):
        path = Path(handle.folder, name)
        kept = path.read_bytes()
        with path.open("wb") as file:
            file.truncate(100_000_000)
        with pytest.raises(ResultError, match="larger than"):
            session.wait(handle)
        path.write_bytes(kept)


def test_an_agent_that_does_not_stop_talking_is_killed(tmp_path: Path):
    code = "import os, sys\nopen('pid', 'w').write(str(os.getpid()))\nwhile True: os.write(1, b'[' * 65536)"
    device = LocalDevice(name="fake", transport="local", work_dir=str(tmp_path))
    transport = FakeTransport(tmp_path)
    with pytest.raises(TransportError, match="wrote more than 64 MiB"):
        DeviceSession(device, transport=transport, agent=AgentFile(name="agent.py", data=code.encode())).open()
    assert not transport._device.alive(int((tmp_path / "pid").read_text()))


@pytest.mark.parametrize(
    "job_id", ["..", "../weights", "/etc", "a/b", "", "-rf", "a\nb", "$(touch X)", "a\0", "x" * 200]
)
def test_a_job_is_never_another_folder(session: DeviceSession, tmp_path: Path, job_id: str):
    kept = tmp_path / "work/weights/kept"
    kept.parent.mkdir()
    kept.touch()
    for action in (session.attach, session.cleanup, lambda name: make_job(job_id=name)):
        with pytest.raises(JobError, match="is not made of"):
            action(job_id)
    assert kept.exists()


NASTY = [
    "$(touch X)", "; touch X", "`touch X`", "a\nb", "-oProxyCommand=touch X", "a\0b", "a b", "'x", '"x', "a|b",
    "\x1b[31m",
]  # fmt: skip


@pytest.mark.parametrize("text", NASTY)
@pytest.mark.parametrize("field", ["host", "user", "jump"])
def test_places_are_words(tmp_path: Path, field: str, text: str):
    fields = {"name": "x", "transport": "ssh", "host": "h", field: text}
    with pytest.raises(ConfigError, match=f"{field}: must"):
        load(tmp_path, fields)


@pytest.mark.parametrize("text", ["a\0b", "a\nb", "\x1b[31m", "a\u202eb", "\x9b"])
@pytest.mark.parametrize("field", ["work_dir", "python", "key_file", "known_hosts"])
def test_paths_are_printable(tmp_path: Path, field: str, text: str):
    fields = {"name": "x", "transport": "ssh", "host": "h", field: f"/{text}"}
    with pytest.raises(ConfigError, match=f"{field}: must hold printable") as caught:
        load(tmp_path, fields)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("text", ["relative", "-rf", "../x", "$HOME/x", "~you/x", ""])
def test_a_work_folder_is_absolute(tmp_path: Path, text: str):
    for more in ({"transport": "ssh", "host": "h"}, {"transport": "local"}):
        with pytest.raises(ConfigError, match="work_dir: must"):
            load(tmp_path, {"name": "x", "work_dir": text, **more})


@pytest.mark.parametrize("name", ["../x", "a/b", "-x", "a\n", "$(touch X)", "a\0", "x" * 65, "."])
def test_a_device_s_name_is_a_file_name(tmp_path: Path, name: str):
    with pytest.raises(ConfigError, match="name: must be letters"):
        load(tmp_path, {"name": name, "transport": "local"})


@pytest.mark.parametrize("number", [HUGE, "0x" + "f" * 100_000, "1e999", "-1", ".nan"])
def test_numbers_of_a_device_file_are_bounded(tmp_path: Path, number: str):
    file = tmp_path / "devices.yaml"
    file.write_text(f"devices:\n  - {{name: x, transport: local, threads: {number}}}\n")
    with pytest.raises(ConfigError) as caught:
        load_devices(file)
    assert len(str(caught.value)) < 1000


def load(folder: Path, fields: dict[str, str]) -> None:
    file = folder / "devices.yaml"
    file.write_text(json.dumps({"devices": [fields]}))  # YAML reads JSON
    try:
        load_devices(file)
    except ProfilerError:
        raise
    except Exception as error:
        raise AssertionError(f"no error of ours: {error!r}") from error
