"""A real OpenSSH server on a loopback port, for tests; it takes one key, made for it."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

SSHD = shutil.which("sshd") or next((p for p in ("/usr/sbin/sshd", "/usr/local/sbin/sshd") if Path(p).exists()), None)

_CONFIG = """\
ListenAddress 127.0.0.1:{port}
HostKey {folder}/host_key
PidFile none
AuthorizedKeysFile {folder}/client_key.pub
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
MaxStartups 100
MaxSessions 100
Subsystem sftp internal-sftp
{more}
"""


class Sshd:
    """One server; `start` and `stop` may be repeated, on the same port with the same keys.

    Attributes:
        port: It listens on 127.0.0.1 at this port.
        key: Private key file that it lets in.
        known_hosts: A file that knows its key.
        user: Whose account it gives.
    """

    def __init__(self, folder: Path, *, more: str = "") -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.user = getpass.getuser()
        self.key = folder / "client_key"
        self.new_host_key()
        _keygen(self.key)
        self.known_hosts = folder / "known_hosts"
        self.know()
        (folder / "config").write_text(_CONFIG.format(port=self.port, folder=folder, more=more))

    def new_host_key(self) -> None:
        """As after a device was set up anew."""
        for name in ("host_key", "host_key.pub"):
            (self._folder / name).unlink(missing_ok=True)
        _keygen(self._folder / "host_key")

    def know(self) -> None:
        """Write the host key into `known_hosts`."""
        self.known_hosts.write_text(f"[127.0.0.1]:{self.port} {(self._folder / 'host_key.pub').read_text()}")

    def start(self) -> None:
        """Start, and wait until it answers."""
        assert SSHD is not None
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where it separates privileges
        log = self._folder / "log"
        self._process = subprocess.Popen([SSHD, "-D", "-f", str(self._folder / "config"), "-E", str(log)])
        until = time.monotonic() + 10
        while time.monotonic() < until:
            with socket.socket() as link:
                if link.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.02)
        raise AssertionError(f"sshd did not start: {log.read_text()}")

    def stop(self) -> None:
        """End the server and every connection to it; what they started goes on."""
        if self._process is None:
            return
        for pid in [*_children(self._process.pid), self._process.pid]:
            subprocess.run(["kill", "-9", str(pid)], check=False, stderr=subprocess.DEVNULL)
        self._process.wait()
        self._process = None


def _children(pid: int) -> list[int]:
    """The servers of single connections: all named sshd, at any depth; not what users run."""
    import psutil

    return [child.pid for child in psutil.Process(pid).children(recursive=True) if child.name().startswith("sshd")]


def _keygen(path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
