"""An account whose shell says something of its own at every start, on either stream."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from profiler.transports._base import Completed
from profiler.transports.ssh import SshTransport
from tests.conformance.test_ssh_transport import server, transport_to
from tests.sshd import SSHD, Sshd

__all__ = ["server"]

pytestmark = pytest.mark.skipif(SSHD is None, reason="needs OpenSSH's sshd (Debian: openssh-server)")


def test_a_greeting_is_no_answer(server: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    real = SshTransport._execute

    def noisy(self: SshTransport, line: str, *, stdin: bytes, timeout_s: float) -> Completed:
        return real(self, f"echo welcome; echo 1 found >&2; {line}", stdin=stdin, timeout_s=timeout_s)

    monkeypatch.setattr(SshTransport, "_execute", noisy)
    with transport_to(server, tmp_path / "work") as transport:
        assert transport.work_dir == str(tmp_path / "work")
        done = transport.run([sys.executable, "-c", "import sys; print('out'); sys.exit('err')"], timeout_s=30)
        assert (done.exit_code, done.stdout, done.stderr) == (1, b"out\n", b"err\n")
        transport.push(b"content", "file")
        assert transport.listdir(".") == ("file",)
