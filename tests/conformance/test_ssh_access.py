"""Whom we take for the device, and whom it lets in: host keys, key files and jump hosts over a real OpenSSH server."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import paramiko
import pytest

from archsearch.cli.devices import trust_command
from archsearch.cli.exits import CommandError
from profiler.errors import AccessRefused, ConnectionLost, TransportError
from profiler.transports._known_hosts import fingerprint
from profiler.transports._ssh_hosts import own_known_hosts
from profiler.transports.ssh import SshTransport
from tests.conformance.test_ssh_transport import place_of
from tests.sshd import SSHD, Sshd

pytestmark = pytest.mark.skipif(SSHD is None, reason="needs OpenSSH's sshd (Debian: openssh-server)")

NOISY = 'ForceCommand case "$SSH_ORIGINAL_COMMAND" in *sftp*) echo Welcome to my machine;; *) eval "$SSH_ORIGINAL_COMMAND";; esac'  # noqa: E501
DEVICE = """\
devices:
  - name: box
    transport: ssh
    host: 127.0.0.1
    port: {port}
    key_file: {key}
    known_hosts: {known}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    """With two host keys, ed25519 and RSA; what its file server says begins with a greeting."""
    folder = tmp_path_factory.mktemp("access")
    subprocess.run(["ssh-keygen", "-q", "-t", "rsa", "-b", "2048", "-N", "", "-f", str(folder / "rsa")], check=True)
    sshd = Sshd(folder, more=f"HostKey {folder}/rsa\n{NOISY}")
    sshd.start()
    yield sshd
    sshd.stop()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nobody's: no keys, no agent, no host that is known."""
    folder = tmp_path / "home"
    (folder / ".ssh").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(folder))
    for name in ("SSH_AUTH_SOCK", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    return folder


def transport_to(sshd: Sshd, tmp_path: Path, **changes: object) -> SshTransport:
    return SshTransport(place_of(sshd, **changes), device="box", work_dir=str(tmp_path / "work"))


def host_key(sshd: Sshd, name: str = "host_key") -> str:
    return " ".join((sshd.key.with_name(f"{name}.pub")).read_text().split()[:2])


def name_of(sshd: Sshd) -> str:
    return f"[127.0.0.1]:{sshd.port}"


def device_file(sshd: Sshd, tmp_path: Path) -> Path:
    file = tmp_path / "devices.yaml"
    file.write_text(DEVICE.format(port=sshd.port, key=sshd.key, known=tmp_path / "none"))
    own_known_hosts().parent.mkdir(parents=True)
    return file


def test_lines_that_are_not_for_us_do_not_shut_us_out(server: Sshd, tmp_path: Path):
    known = tmp_path / "known"
    known.write_bytes(
        b"@cert-authority * ssh-ed25519 AAAA\nother ssh-ed25519 AAA\n\xff\xfe nonsense\n"
        + server.known_hosts.read_bytes()
    )
    with transport_to(server, tmp_path, known_hosts=(known,)) as transport:
        assert transport.run(["echo", "in"], timeout_s=30).stdout == b"in\n"
    assert transport_to(server, tmp_path, known_hosts=(known,)).first_unknown() is None


def test_a_revoked_key_is_refused_by_name(server: Sshd, tmp_path: Path):
    known = tmp_path / "known"
    known.write_text(f"{server.known_hosts.read_text()}@revoked * {host_key(server)}\n")
    transport = transport_to(server, tmp_path, known_hosts=(known,))
    for refused in (transport.open, transport.first_unknown):
        with pytest.raises(AccessRefused, match=f"is revoked in {known} \\(ssh-ed25519 SHA256:"):
            refused()


def test_both_ask_for_the_same_type_and_a_trusted_key_ends_the_matter(server: Sshd, tmp_path: Path):
    """A stale RSA key before the right one of another type: the server has both."""
    stale, known = paramiko.RSAKey.generate(2048), tmp_path / "known"
    known.write_text(f"{name_of(server)} ssh-rsa {stale.get_base64()}\n{server.known_hosts.read_text()}")
    transport = transport_to(server, tmp_path, known_hosts=(known,))
    assert transport.first_unknown() is None
    with transport:
        pass
    known.write_text(f"{name_of(server)} ssh-rsa {stale.get_base64()}\n")
    with pytest.raises(AccessRefused, match=r"has changed: known is ssh-rsa SHA256:.*, shown is ssh-rsa SHA256:"):
        transport.open()
    unknown = transport.first_unknown()
    assert unknown is not None
    assert unknown.known == f"ssh-rsa {fingerprint(stale)}"
    assert unknown.key.get_name() == "ssh-rsa"


def test_a_host_that_is_known_by_a_type_it_lacks_is_not_told_as_new(server: Sshd, tmp_path: Path):
    pinned, known = paramiko.ECDSAKey.generate(), tmp_path / "known"
    known.write_text(f"{name_of(server)} {pinned.get_name()} {pinned.get_base64()}\n")
    transport = transport_to(server, tmp_path, known_hosts=(known,))
    unknown = transport.first_unknown()
    assert unknown is not None
    assert unknown.known == f"ecdsa-sha2-nistp256 {fingerprint(pinned)}"
    with pytest.raises(AccessRefused, match="has changed: known is ecdsa-sha2-nistp256"):
        transport.open()


def test_trust_ends_whatever_the_file_held(server: Sshd, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    devices = device_file(server, tmp_path)
    own = own_known_hosts()
    own.write_text(f"{name_of(server)} ssh-rsa {paramiko.RSAKey.generate(2048).get_base64()}\n")
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", str(own)], capture_output=True, check=True)
    own.write_text(f"{own.read_text()}{name_of(server)},alias ssh-rsa {paramiko.RSAKey.generate(2048).get_base64()}\n")
    trust_command("box", devices=devices, fingerprint=None, yes=True)
    said = capsys.readouterr().err
    assert "known until now is ssh-rsa SHA256:" in " ".join(said.split())
    assert "every host key on the way is known" in said
    own.write_text(f"@revoked {name_of(server)} {host_key(server)}\n@revoked * {host_key(server, 'rsa')}\n")
    with pytest.raises(AccessRefused, match="revoked"):
        trust_command("box", devices=devices, fingerprint=None, yes=True)


def test_two_hosts_of_one_name_are_told(server: Sshd, tmp_path: Path, home: Path):
    gate = Sshd(tmp_path / "gate")
    gate.start()
    (home / ".ssh" / "config").write_text(f"Host *\n  HostKeyAlias same\n  IdentityFile {gate.key}\n")
    file = device_file(server, tmp_path)
    file.write_text(f"{file.read_text()}    jump: 127.0.0.1:{gate.port}\n")
    try:
        with pytest.raises(CommandError, match="two hosts on the way go by the name same") as caught:
            trust_command("box", devices=file, fingerprint=None, yes=True)
    finally:
        gate.stop()
    assert "HostKeyAlias" in str(caught.value.hint)


@pytest.fixture
def encrypted(server: Sshd, tmp_path: Path) -> Path:
    """The right key, with a passphrase."""
    path = tmp_path / "encrypted"
    shutil.copy(server.key, path)
    subprocess.run(["ssh-keygen", "-q", "-p", "-P", "", "-N", "secret", "-f", str(path)], check=True)
    return path


def test_key_files_that_are_none_are_named(server: Sshd, tmp_path: Path, encrypted: Path):
    garbage, binary = tmp_path / "garbage", tmp_path / "binary"
    garbage.write_text("no key\n")
    binary.write_bytes(bytes(range(256)))
    for path, said in {
        tmp_path: "is not a file", tmp_path / "none": "is not there", garbage: "not a private key",
        binary: "not a private key", server.key.with_suffix(".pub"): "is a public key", encrypted: "ssh-add",
    }.items():  # fmt: skip
        with pytest.raises(AccessRefused) as caught:
            transport_to(server, tmp_path, keys=(str(path),), key_named=True).open()
        assert f"{path} " in str(caught.value)
        assert said in str(caught.value)
    with pytest.raises(TransportError, match="no such home folder"):
        transport_to(server, tmp_path, keys=("~nosuchuser/k",), key_named=True).open()


def test_without_a_key_nobody_is_let_in(server: Sshd, tmp_path: Path, home: Path):
    with pytest.raises(AccessRefused, match="there is no key to show it") as caught:
        transport_to(server, tmp_path, keys=()).open()
    assert "ssh-add" in str(caught.value.hint)
    (home / ".ssh" / "id_rsa").write_text("no key\n")
    with pytest.raises(AccessRefused, match=f"no key to show it; {home}/.ssh/id_rsa is not a private key"):
        transport_to(server, tmp_path, keys=()).open()
    shutil.copy(server.key, home / ".ssh" / "id_ed25519")
    with transport_to(server, tmp_path, keys=(str(home / "missing"),)):
        pass


@pytest.mark.parametrize("kind", ["rsa", "ecdsa", "ed25519"])
def test_a_key_of_any_type_that_is_not_taken_is_no_lost_link(server: Sshd, tmp_path: Path, kind: str):
    other = tmp_path / kind
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", str(other)], check=True)
    with pytest.raises(AccessRefused, match="it does not take our key"):
        transport_to(server, tmp_path, keys=(str(other),), key_named=True).open()
    with transport_to(server, tmp_path, keys=(str(other), str(server.key))):
        pass


def test_the_agent_may_hold_what_the_file_hides(
    server: Sshd, tmp_path: Path, encrypted: Path, monkeypatch: pytest.MonkeyPatch
):
    address = str(tmp_path / "agent")
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", address], stdout=subprocess.DEVNULL)
    try:
        monkeypatch.setenv("SSH_AUTH_SOCK", address)
        for _ in range(200):
            if subprocess.run(["ssh-add", "-q", str(server.key)], check=False, capture_output=True).returncode == 0:
                break
        with transport_to(server, tmp_path, keys=(str(encrypted),), key_named=True):
            pass
    finally:
        agent.terminate()
        agent.wait()


def test_a_jump_host_needs_a_key_of_its_own(server: Sshd, tmp_path: Path, home: Path):
    gate = Sshd(tmp_path / "gate")
    gate.start()
    (home / ".ssh" / "known_hosts").write_text(gate.known_hosts.read_text())
    config = home / ".ssh" / "config"
    try:
        transport = transport_to(server, tmp_path, jump=f"127.0.0.1:{gate.port}", key_named=True)
        with pytest.raises(AccessRefused, match=f"127.0.0.1:{gate.port} does not let us in") as caught:
            transport.open()
        assert "`key_file` is of the device alone" in str(caught.value.hint)
        config.write_text("Include more\n")
        (home / ".ssh" / "more").write_text(f"Host 127.0.0.1\n  IdentityFile {gate.key}\n")
        with transport:
            assert transport.run(["echo", "in"], timeout_s=30).stdout == b"in\n"
    finally:
        gate.stop()


def test_a_file_server_that_greets_is_told(server: Sshd, tmp_path: Path):
    with transport_to(server, tmp_path) as transport, pytest.raises(TransportError, match="not SFTP") as caught:
        transport.push(b"content", "file")
    assert not isinstance(caught.value, ConnectionLost)
    assert "start-up files" in str(caught.value.hint)


@pytest.mark.parametrize("greeting", [b"", b"SSH-2.0-frozen\r\n"])
def test_a_server_that_is_frozen_is_told_with_how_long_it_was_waited_for(
    server: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, greeting: bytes
):
    ours, theirs = socket.socketpair()
    monkeypatch.setattr(SshTransport, "_socket", lambda *_: ours)
    with ours, theirs:
        theirs.sendall(greeting)
        transport = transport_to(server, tmp_path)
        transport.connect_s = 1.0
        with pytest.raises(ConnectionLost, match=r"no answer within 1 s$"):
            transport.open()


def test_a_command_that_is_not_there_is_named(server: Sshd, tmp_path: Path):
    for command, said in ("no-such-nc %h", "No such file"), ("nc 'x", "No closing quotation"):
        with pytest.raises(TransportError, match=said) as caught:
            transport_to(server, tmp_path, proxy_command=command).open()
        assert command in str(caught.value)
        assert "ProxyCommand" in str(caught.value)
        assert not isinstance(caught.value, ConnectionLost)


@pytest.mark.parametrize("host", ["a..b", "x" * 70])
def test_a_name_that_no_host_can_have_is_told(server: Sshd, tmp_path: Path, host: str):
    transport = transport_to(server, tmp_path, host=host)
    for refused in (transport.open, transport.first_unknown):
        with pytest.raises(TransportError, match="cannot be the name of a host") as caught:
            refused()
        assert "Is `host` right" in str(caught.value.hint)
    with pytest.raises(TransportError, match="cannot be the name of a host") as caught:
        transport_to(server, tmp_path, jump=host).open()
    assert "Is `jump` right" in str(caught.value.hint)


class Asks(paramiko.ServerInterface):
    """A server that is not content with a key."""

    def __init__(self, methods: str, taken: int) -> None:
        self.methods, self.taken = methods, taken

    def get_allowed_auths(self, username: str) -> str:
        return self.methods

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        return self.taken

    def check_auth_interactive(self, username: str, submethods: str) -> paramiko.InteractiveQuery:
        return paramiko.InteractiveQuery("token", "", ("Code: ", True))

    def check_auth_interactive_response(self, responses: list[str]) -> int:
        return paramiko.AUTH_SUCCESSFUL if responses == ["42"] else paramiko.AUTH_FAILED


@pytest.mark.parametrize(
    ("methods", "taken", "answer", "said"),
    [
        ("password", paramiko.AUTH_FAILED, "", "it does not take our key; it asks for password"),
        ("keyboard-interactive", paramiko.AUTH_PARTIALLY_SUCCESSFUL, "42", None),
    ],
)
def test_a_server_that_asks_for_more(
    server: Sshd,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    methods: str,
    taken: int,
    answer: str,
    said: str | None,
):
    monkeypatch.setattr("builtins.input", lambda *_: answer)
    ours, theirs = socket.socketpair()
    monkeypatch.setattr(SshTransport, "_socket", lambda *_: ours)
    other = paramiko.Transport(theirs)
    other.add_server_key(paramiko.PKey.from_path(server.key.with_name("host_key")))
    other.start_server(event=threading.Event(), server=Asks(methods, taken))
    transport = transport_to(server, tmp_path)
    try:
        if said is None:
            transport._connect(transport._place)
            assert other.is_authenticated()
        else:
            with pytest.raises(AccessRefused, match=said):
                transport._connect(transport._place)
    finally:
        transport.close()
        other.close()
