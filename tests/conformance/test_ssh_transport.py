"""The SSH transport passes the suite over a real OpenSSH server, and says what is wrong with a link."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from profiler.cleaning import clean, survey
from profiler.conformance import TransportConformance
from profiler.errors import ConnectionLost, RemoteFileMissing, TransportError
from profiler.transports._base import PYTHON_SCRIPT
from profiler.transports._dialects import Dialect, PythonDialect
from profiler.transports._quoting import sh_line
from profiler.transports._ssh_hosts import Endpoint
from profiler.transports.ssh import SshTransport
from tests.sshd import SSHD, Sshd

pytestmark = pytest.mark.skipif(SSHD is None, reason="needs OpenSSH's sshd (Debian: openssh-server)")


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    sshd = Sshd(tmp_path_factory.mktemp("sshd"))
    sshd.start()
    yield sshd
    sshd.stop()


def place_of(sshd: Sshd, **changes: object) -> Endpoint:
    fields = {
        "host": "127.0.0.1", "port": sshd.port, "user": sshd.user, "key_name": f"[127.0.0.1]:{sshd.port}",
        "keys": (str(sshd.key),), "jump": None, "proxy_command": None, "known_hosts": (sshd.known_hosts,), **changes,
    }  # fmt: skip
    return Endpoint(**fields)  # type: ignore[arg-type]


def transport_to(sshd: Sshd, folder: Path, **changes: object) -> SshTransport:
    return SshTransport(place_of(sshd, **changes), device="box", work_dir=str(folder), python=sys.executable)


class TestSshTransport(TransportConformance):
    @pytest.fixture
    def transport(self, server: Sshd, tmp_path: Path) -> Iterator[SshTransport]:
        with transport_to(server, tmp_path / "work, with a space") as transport:
            yield transport


def test_python_is_what_the_device_file_names_or_what_set_up_left(server: Sshd, tmp_path: Path):
    folder = tmp_path / "work, with a space"
    named = SshTransport(place_of(server), device="box", work_dir=str(folder), python=sys.executable)
    free = SshTransport(place_of(server), device="box", work_dir=str(folder))
    with free:
        assert free.python == ("python3",)
        free.push(f'exec {sys.executable} "$@"\n'.encode(), PYTHON_SCRIPT)
    with free:
        assert free.python == ("sh", f"{folder}/{PYTHON_SCRIPT}")
        done = free.run([*free.python, "-c", "import sys; print(sys.executable)"], timeout_s=30)
        assert done.stdout.decode().strip() == sys.executable
    with named:
        assert named.python == (sys.executable,)


def test_an_unknown_host_is_refused_with_its_fingerprint(server: Sshd, tmp_path: Path):
    with pytest.raises(TransportError, match=r"is not known \(ssh-ed25519 SHA256:") as caught:
        transport_to(server, tmp_path, known_hosts=()).open()
    assert not isinstance(caught.value, ConnectionLost)
    assert "archsearch devices trust box" in str(caught.value.hint)


def test_a_changed_host_key_is_refused(server: Sshd, tmp_path: Path):
    other = Sshd(tmp_path / "other")
    known = tmp_path / "known"
    known.write_text(other.known_hosts.read_text().replace(str(other.port), str(server.port)))
    with pytest.raises(TransportError, match="has changed") as caught:
        transport_to(server, tmp_path / "work", known_hosts=(known,)).open()
    assert "in between" in str(caught.value)


def test_a_key_that_is_not_taken_is_told(server: Sshd, tmp_path: Path):
    other = Sshd(tmp_path / "other")
    with pytest.raises(TransportError, match="does not let us in") as caught:
        transport_to(server, tmp_path / "work", keys=(str(other.key),)).open()
    assert "ssh-add" in str(caught.value.hint)


def test_a_port_where_nobody_listens_is_a_lost_connection(tmp_path: Path):
    sshd = Sshd(tmp_path / "sshd")
    with pytest.raises(ConnectionLost, match=r"127\.0\.0\.1"):
        transport_to(sshd, tmp_path / "work").open()


def test_a_device_that_cannot_write_is_no_lost_link(server: Sshd, tmp_path: Path):
    with transport_to(server, tmp_path / "work") as transport:
        with pytest.raises(TransportError) as caught:
            transport._upload(b"data", "/dev/full")  # opens, and has no room
        assert not isinstance(caught.value, ConnectionLost)
        assert "space left" in str(caught.value.hint)
        with pytest.raises(RemoteFileMissing):
            transport._upload(b"data", f"{tmp_path}/no/such/folder/file")
        # A file server that ended is started again; the connection still holds.
        assert transport._files is not None
        transport._files.get_channel().close()
        transport.push(b"data", "file")
        assert transport.pull("file", max_bytes=10) == b"data"


def test_names_of_files_are_bytes_on_the_device(server: Sshd, tmp_path: Path):
    with transport_to(server, tmp_path / "work") as transport:
        name = f"{transport.work_dir}/caf\udce9"
        transport._upload(b"data", name)
        assert [found.name for found in (tmp_path / "work").iterdir()] == ["caf\udce9"]
        assert transport._download(name, 10) == b"data"


def test_two_drivers_may_push_one_file_at_once(server: Sshd, tmp_path: Path):
    contents = [bytes([letter]) * 3_000_000 for letter in b"abc"]
    with ExitStack() as stack, ThreadPoolExecutor(3) as pool:
        drivers = [stack.enter_context(transport_to(server, tmp_path / "work")) for _ in contents]
        for _ in range(3):
            list(pool.map(lambda driver, data: driver.push(data, "file"), drivers, contents))
            assert drivers[0].pull("file", max_bytes=3_000_000) in contents
            assert drivers[0].listdir(".") == ("file",)


class InPython(SshTransport):
    """The dialect for devices without a POSIX shell, spoken to one that has one."""

    def _find_dialect(self) -> Dialect:
        return PythonDialect(sh_line, sys.executable, windows=False)


class TestPythonDialect(TransportConformance):
    @pytest.fixture
    def transport(self, server: Sshd, tmp_path: Path) -> Iterator[SshTransport]:
        folder = str(tmp_path / "work, with a space")
        with InPython(place_of(server), device="box", work_dir=folder, python=sys.executable) as transport:
            yield transport


@pytest.mark.parametrize("dialect", [SshTransport, InPython])
def test_links_do_not_lead_out_of_the_work_folder(server: Sshd, tmp_path: Path, dialect: type[SshTransport]):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    with dialect(place_of(server), device="box", work_dir=str(tmp_path / "w"), python=sys.executable) as transport:
        (tmp_path / "w" / "link").symlink_to(outside)
        with pytest.raises(TransportError, match="leads out of"):
            transport.remove("link/kept")
        transport.remove("link")
    assert (outside / "kept").exists()


def test_cleaning_takes_no_folder_from_under_a_link(server: Sshd, tmp_path: Path):
    (tmp_path / "big" / "arch" / "weights" / "llama").mkdir(parents=True)
    (tmp_path / "big" / "arch" / "weights" / (64 * "a")).mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "big" / "arch")
    for _ in range(2):
        with transport_to(server, tmp_path / "link") as transport:
            assert transport.work_dir == str(tmp_path / "big" / "arch")
            assert not clean(transport, survey(transport))
    assert (tmp_path / "link" / "weights" / "llama").is_dir()
    assert not (tmp_path / "link" / "weights" / (64 * "a")).exists()
    (tmp_path / "plain" / "jobs").mkdir(parents=True)
    with transport_to(server, tmp_path / "plain") as transport:
        assert clean(transport, survey(transport))
    assert not (tmp_path / "plain").exists()


@pytest.mark.parametrize("dialect", [SshTransport, InPython])
def test_names_may_be_any_bytes(server: Sshd, tmp_path: Path, dialect: type[SshTransport]):
    work = tmp_path / "w"
    (work / "jobs" / "\udcff").mkdir(parents=True)
    (work / "jobs" / "\udcff" / "status.json").write_text("{}")
    with dialect(place_of(server), device="box", work_dir=str(work), python=sys.executable) as transport:
        assert transport.listdir("jobs") == ("\udcff",)
        assert transport.pull("jobs/\udcff/status.json", max_bytes=10) == b"{}"
        found = survey(transport)
        assert (found.ours, found.others, found.signs) == ((), ("jobs/\udcff",), ())
        assert not clean(transport, found)
    assert (work / "jobs" / "\udcff" / "status.json").exists()
