"""The ADB transport passes the suite on an emulated phone, directly and by an adb server; what it says of faults."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest

from profiler.cleaning import clean, survey
from profiler.conformance import TransportConformance
from profiler.errors import AccessRefused, ConnectionLost, DeviceUnavailable, TransportError
from profiler.transports import _adb_direct
from profiler.transports._adb_direct import TcpLink, UsbLink, own_key
from profiler.transports._adb_links import Link
from profiler.transports._adb_server import ServerLink
from profiler.transports.adb import AdbTransport
from tests.phone import Phone

pytestmark = pytest.mark.needs("phone")


@pytest.fixture(scope="session")
def python(phone: Phone, phone_python: str) -> str:
    """A program on the phone that starts Python."""
    start = phone.data / "python3"
    start.write_text(f'#!/system/bin/sh\nexec sh {phone_python} "$@"\n')
    start.chmod(0o755)
    return f"/data/local/tmp/{start.name}"


@pytest.fixture(autouse=True)
def _own_key(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    base = tmp_path_factory.getbasetemp() / "adb"
    monkeypatch.setenv("XDG_CONFIG_HOME", str(base))


@pytest.fixture(scope="session")
def server(phone: Phone, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of an adb server that knows the phone."""
    if shutil.which("adb") is None:
        pytest.skip("needs adb (apt-get install adb)")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    home = {**os.environ, "HOME": str(tmp_path_factory.mktemp("home"))}
    adb = ["adb", "-P", str(port)]
    subprocess.run([*adb, "start-server"], env=home, check=True, capture_output=True)
    subprocess.run([*adb, "connect", phone.serial], env=home, check=True, capture_output=True)
    yield port
    subprocess.run([*adb, "kill-server"], env=home, check=True, capture_output=True)


class _OnThePhone(TransportConformance):
    start_s = 8.0  # it is emulated

    @pytest.fixture
    def transport(self, link: Link, phone: Phone, python: str) -> Iterator[AdbTransport]:
        work = f"work, {secrets.token_hex(4)}"
        with AdbTransport(link, work_dir=f"/data/local/tmp/{work}", python=python) as transport:
            yield transport
        shutil.rmtree(phone.data / work)


class TestTcp(_OnThePhone):
    @pytest.fixture
    def link(self, phone: Phone) -> Link:
        return TcpLink("127.0.0.1", phone.port)


class TestServer(_OnThePhone):
    @pytest.fixture
    def link(self, phone: Phone, server: int) -> Link:
        return ServerLink(phone.serial, port=server)


def transport_over(link: Link) -> AdbTransport:
    return AdbTransport(link, work_dir="/data/local/tmp/other")


def test_the_key_is_made_on_first_use_and_nobody_else_s(phone: Phone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    with transport_over(TcpLink("127.0.0.1", phone.port)):
        made = own_key().read_bytes()
    assert stat.S_IMODE(own_key().stat().st_mode) == 0o600
    with transport_over(TcpLink("127.0.0.1", phone.port)):
        assert own_key().read_bytes() == made


def test_a_key_whose_public_half_is_lost_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    _adb_direct._signers()
    public = own_key().with_name("adbkey.pub")
    made = own_key().read_bytes(), public.read_bytes()
    public.unlink()
    _adb_direct._signers()
    assert (own_key().read_bytes(), public.read_bytes()) == made
    assert sorted(path.name for path in public.parent.iterdir()) == ["adbkey", "adbkey.pub"]


def test_a_port_where_nobody_listens_is_a_lost_connection():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(ConnectionLost, match=f"127.0.0.1:{port}"):
        transport_over(TcpLink("127.0.0.1", port)).open()
    with pytest.raises(ConnectionLost, match="no adb server answers") as caught:
        transport_over(ServerLink(port=port)).open()
    assert "adb start-server" in str(caught.value.hint)


def test_what_a_server_does_not_have_is_told(phone: Phone, server: int):
    with pytest.raises(ConnectionLost, match=f"it knows {phone.serial}"):
        transport_over(ServerLink("R5CY00000XX", port=server)).open()


def test_a_phone_that_is_unplugged_is_a_lost_connection(phone: Phone, server: int):
    for link in (TcpLink("127.0.0.1", phone.port), ServerLink(phone.serial, port=server)):
        with transport_over(link) as transport:
            phone.unplug()
            try:
                with pytest.raises(ConnectionLost):
                    transport.exists("anything")
            finally:
                phone.plug()
            if isinstance(link, TcpLink):
                transport.open()
                assert not transport.exists("anything")


def test_usb_without_a_phone_says_so():
    with pytest.raises(ConnectionLost, match="the phone on USB is not there") as caught:
        transport_over(UsbLink()).open()
    assert "USB debugging" in str(caught.value.hint)


def test_a_phone_that_does_not_know_our_key_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(_adb_direct, "CONFIRM_S", 0.5)
    phone = Phone(tmp_path / "asks", asks=True)
    phone.start()
    try:
        link = TcpLink("127.0.0.1", phone.port)
        with pytest.raises(AccessRefused, match="does not know our key") as caught:
            transport_over(link).open()
        assert "Allow USB debugging?" in str(caught.value.hint)
        phone.allow()
        with transport_over(link) as transport:
            assert not transport.exists("anything")
    finally:
        phone.stop()


def test_a_port_that_speaks_tls_is_wireless_debugging():
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            link, _ = listener.accept()
            with link:
                link.recv(24, socket.MSG_WAITALL)
                words = (int.from_bytes(b"STLS", "little"), 0x01000000, 0, 0, 0)
                magic = words[0] ^ 0xFFFFFFFF
                link.sendall(b"".join(word.to_bytes(4, "little") for word in (*words, magic)))

        thread = Thread(target=answer)
        thread.start()
        with pytest.raises(TransportError, match="wireless debugging") as caught:
            transport_over(TcpLink("127.0.0.1", listener.getsockname()[1])).open()
        thread.join()
    assert "adb tcpip 5555" in str(caught.value.hint)


def test_a_disk_that_is_full_is_told(tmp_path: Path):
    phone = Phone(tmp_path / "small", data_mib=4)
    phone.start()
    try:
        with transport_over(TcpLink("127.0.0.1", phone.port)) as transport:
            with pytest.raises(TransportError, match="No space left") as caught:
                transport.push(b"x" * (8 << 20), "large")
            assert "space left" in str(caught.value.hint)
            assert not isinstance(caught.value, ConnectionLost)
            transport.push(b"small", "small")
            assert transport.listdir(".") == ("small",)
    finally:
        phone.stop()


def test_who_is_at_work_is_seen_with_the_phone_s_own_tools(phone: Phone):
    work = phone.data / "shared"
    job, made, scratch = "a-20260101T101500-0123abcd", "bundle-0123456789ab-0123abcd", "scratch-0123abcd"
    for name in (f"jobs/{job}/model.onnx", f"python/{made}/bin/python", f"python/{scratch}/bundle.tar.gz", "lease"):
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).touch()
    (work / "weights" / "llama").mkdir(parents=True)
    with AdbTransport(TcpLink("127.0.0.1", phone.port), work_dir="/data/local/tmp/shared") as transport:
        signs = survey(transport).signs
        assert [sign.partition(" ")[2].partition(" there")[0] for sign in signs] == [
            "job is at work", "set-up is at work",
        ]  # fmt: skip
        with pytest.raises(DeviceUnavailable, match="nothing was removed"):
            clean(transport, survey(transport))
        for path in [work, *work.rglob("*")]:
            if path.name != "lease":
                os.utime(path, (1, 1))
        [sign] = survey(transport).signs
        assert sign.startswith("a job ended there ")
        os.utime(work / "lease", (1, 1))
        found = survey(transport)
        assert (found.signs, found.finished, found.others) == ((), 1, ("weights/llama",))
        assert set(found.ours) == {"lease", f"jobs/{job}", f"python/{made}", f"python/{scratch}"}
        assert found.disk_bytes > 0
        assert not clean(transport, found)
        assert [path.relative_to(work).as_posix() for path in work.rglob("*")] == ["weights", "weights/llama"]
        shutil.rmtree(work / "weights")
        assert clean(transport, survey(transport))
    assert not work.exists()
