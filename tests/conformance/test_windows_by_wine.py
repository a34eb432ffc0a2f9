"""Windows as far as Wine can be it: cmd.exe's quoting, the transport's conformance suite, the agent's whole way."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from profiler.agent_bundle import agent_bytes
from profiler.conformance import TransportConformance
from profiler.results import Result
from profiler.transports import Transport
from profiler.transports._dialects import Dialect, PythonDialect
from profiler.transports._quoting import cmd_line
from profiler.transports.ssh import SshTransport
from tests import wine
from tests.conformance.test_ssh_transport import place_of
from tests.sshd import SSHD, Sshd
from tests.unit.profiler import agent_models as models

pytestmark = [
    pytest.mark.skipif(bool(wine.MISSING), reason=wine.MISSING),
    pytest.mark.skipif(SSHD is None, reason="needs OpenSSH's sshd (Debian: openssh-server)"),
]

_MANY = """
import json, subprocess, sys
for line in json.load(open(sys.argv[1], encoding="utf-8")):
    told = subprocess.run('"C:\\\\windows\\\\system32\\\\cmd.exe" /c "' + line + '"', stdout=subprocess.PIPE).stdout
    print(told.decode().strip())
"""


@pytest.fixture(scope="module")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    made = wine.make_prefix(tmp_path_factory.mktemp("wine") / "prefix")
    yield made
    wine.end(made)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, prefix: Path) -> Iterator[Sshd]:
    folder = tmp_path_factory.mktemp("windows")
    command = wine.forced_command(folder, prefix)
    sshd = Sshd(folder / "sshd", more=f"ForceCommand {command}\nVersionAddendum for_Windows")
    sshd.start()
    yield sshd
    sshd.stop()


class ToWine(SshTransport):
    """Only the names of files differ: the server of this machine does not know Wine's drives."""

    def _find_dialect(self) -> Dialect:
        found = super()._find_dialect()
        assert isinstance(found, PythonDialect)
        found.for_sftp = lambda path: path.removeprefix("Z:")  # type: ignore[method-assign]
        return found


def test_arguments_pass_through_cmd_unchanged(prefix: Path, tmp_path: Path):
    """A hundred lists of arguments, and in two more all that means something to cmd.exe; ``%`` it cannot be given."""
    lists: list[list[str]] = [
        ["with space", 'a "quoted" word', "a^b", "a&b", "a|b", "<>", "(x)", "!x!", "ümläut", "中", "\\"],
        ['"', '\\"', "\\\\", "^", '^"^', "^^PATH^^", "a\tb", "", "'", "`", ";,=", "@~*?", "&&", "--x=$OS"],
    ]

    @settings(max_examples=100, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(st.lists(st.text(st.sampled_from("ab ^&|<>()!\"\\'`;,=@~äß漢\t"), max_size=12), min_size=1, max_size=4))
    def collect(words: list[str]) -> None:
        lists.append(words)

    collect()
    code = "import sys; print(ascii(sys.argv[1:]))"
    lines = [cmd_line([f"Z:{wine.PYTHON}", "-I", "-S", "-c", code, *words]) for words in lists]
    (tmp_path / "lines.json").write_text(json.dumps(lines), encoding="utf-8")
    (tmp_path / "many.py").write_text(_MANY)
    done = subprocess.run(
        ["wine", wine.PYTHON, f"Z:{tmp_path}/many.py", f"Z:{tmp_path}/lines.json"],
        env=wine.environment(prefix), capture_output=True, timeout=600, check=True,
    )  # fmt: skip
    told = done.stdout.decode().splitlines()
    assert told == [ascii(words) for words in lists]


class TestWindowsAccount(TransportConformance):
    start_s = 20.0

    @pytest.fixture
    def transport(self, server: Sshd, tmp_path: Path) -> Iterator[SshTransport]:
        folder = f"Z:{tmp_path}/work, with a space"
        with ToWine(place_of(server), device="pc", work_dir=folder, python=f"Z:{wine.PYTHON}") as transport:
            yield transport

    @pytest.mark.parametrize("name", ["with space.bin", "$(touch x)'.bin", "%OS%^&!.bin", "ü.bin"])
    def test_file_names_are_taken_literally(self, transport: Transport, name: str) -> None:
        """Those that Windows allows."""
        super().test_file_names_are_taken_literally(transport, name)


def test_the_agent_measures(server: Sshd, tmp_path: Path):
    graph, recipe, signature = models.hybrid()
    check, files = models.block_check()
    order = models.job(signature, checks=[check], protocol={"memory_pass": True}, runtime={"cores": [0]})
    folder = f"Z:{tmp_path}/work"
    with ToWine(place_of(server), device="pc", work_dir=folder, python=f"Z:{wine.PYTHON}") as transport:
        transport.push(agent_bytes(), "agent.pyz")
        told = transport.run([*transport.python, "agent.pyz", "check", folder], timeout_s=120)
        assert json.loads(told.stdout)["os"].startswith("Windows")
        sent = {"job.json": json.dumps(order).encode(), "model.onnx": graph, "recipe.json": json.dumps(recipe).encode()}
        for name, content in {**sent, **files}.items():
            transport.push(content, f"jobs/job-1/{name}")
        pid = transport.start_detached(
            [*transport.python, "agent.pyz", "run", f"{folder}/jobs/job-1"], log="jobs/job-1/agent.log"
        )
        assert wait_for(lambda: not transport.alive(pid))
        result = json.loads(transport.pull("jobs/job-1/result.json", max_bytes=2**20))
    assert (result["status"], result["reason"]) == ("ok", "")
    memory = Result.model_validate(result, strict=False).processes[-1].memory
    assert memory is not None
    assert memory.source.startswith("PeakWorkingSetSize, not reset")


def test_nothing_is_left_of_an_agent_that_is_ended(server: Sshd, tmp_path: Path):
    order = models.job(
        models.hybrid()[2], points=[{"batch": 1, "prompt": 12, "decode": 2000}], limits={"timeout_s": 90}
    )
    order["protocol"].update(min_repeats=10**6, max_repeats=10**6)
    graph, recipe, _ = models.hybrid()
    folder = f"Z:{tmp_path}/work"
    with ToWine(place_of(server), device="pc", work_dir=folder, python=f"Z:{wine.PYTHON}") as transport:
        transport.push(agent_bytes(), "agent.pyz")
        sent = {"job.json": json.dumps(order).encode(), "model.onnx": graph, "recipe.json": json.dumps(recipe).encode()}
        for name, content in sent.items():
            transport.push(content, f"jobs/job-1/{name}")
        pid = transport.start_detached(
            [*transport.python, "agent.pyz", "run", f"{folder}/jobs/job-1"], log="jobs/job-1/agent.log"
        )
        assert wait_for(lambda: transport.exists("jobs/job-1/status.json") and b'"timing"' in status(transport))
        assert transport.exists("lease")
        transport.terminate(pid, force=True)
        # The lease is free and the log no longer written to: Windows lets nobody remove an open file.
        assert wait_for(lambda: removed(transport, "jobs"))


def status(transport: Transport) -> bytes:
    return transport.pull("jobs/job-1/status.json", max_bytes=10_000)


def removed(transport: Transport, name: str) -> bool:
    transport.remove(name)
    return not transport.exists(name)


def wait_for(condition: object) -> bool:
    import time

    until = time.monotonic() + 120
    while time.monotonic() < until:
        if condition():  # type: ignore[operator]
            return True
        time.sleep(0.5)
    return False
