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

import pytest

from profiler import android
from profiler.conformance import TransportConformance
from profiler.errors import AccessRefused, ConnectionLost, TransportError
from profiler.transports import _adb_links
from profiler.transports._adb_links import Link, ServerLink, TcpLink, UsbLink, own_key
from profiler.transports.adb import AdbTransport
from tests.phone import Phone
from tests.phone_root import CACHE

pytestmark = pytest.mark.needs("phone")


@pytest.fixture(scope="session")
def python(phone: Phone) -> str:
    """A script on the phone that starts Python: what `devices setup` brings there, unpacked from here for speed."""
    folder = phone.data / "python of the tests"
    folder.mkdir()
    subprocess.run(["tar", "-xzf", android.bundle(say=print, folder=CACHE).path, "-C", folder], check=True)
    start = phone.data / "python3"
    start.write_text('#!/system/bin/sh\nexec sh "/data/local/tmp/python of the tests/python.sh" "$@"\n')
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
    transport_over(ServerLink(port=server)).open()  # the only one is the one


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


class _Asks:
    """A device that wants a key, and to which nobody says yes."""

    def __init__(self) -> None:
        from adb_shell import constants
        from adb_shell.adb_message import AdbMessage

        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._asks = AdbMessage(constants.AUTH, constants.AUTH_TOKEN, 0, b"t" * 20)

    def serve(self) -> None:
        with self._listener:
            link, _ = self._listener.accept()
        with link:
            link.settimeout(5)
            while True:
                header = link.recv(24, socket.MSG_WAITALL)
                if len(header) < 24:
                    return
                size, kind = int.from_bytes(header[12:16], "little"), int.from_bytes(header[4:8], "little")
                link.recv(size, socket.MSG_WAITALL)
                if header[:4] == b"AUTH" and kind == 3:  # the public key: the phone now asks its owner
                    try:
                        link.recv(1)
                    except (TimeoutError, ConnectionError):
                        return
                link.sendall(self._asks.pack() + self._asks.data)


def test_a_phone_that_does_not_know_our_key_says_what_to_do(monkeypatch: pytest.MonkeyPatch):
    from threading import Thread

    monkeypatch.setattr(_adb_links, "CONFIRM_S", 0.5)
    phone = _Asks()
    thread = Thread(target=phone.serve)
    thread.start()
    with pytest.raises(AccessRefused, match="does not know our key") as caught:
        transport_over(TcpLink("127.0.0.1", phone.port)).open()
    thread.join()
    assert "Allow USB debugging?" in str(caught.value.hint)


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
