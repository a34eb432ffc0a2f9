"""An account whose shell says something of its own at every start."""

from __future__ import annotations

from pathlib import Path

import pytest

from profiler.errors import ConnectionLost, TransportError
from profiler.transports._base import Completed
from profiler.transports.ssh import SshTransport
from tests.conformance.test_ssh_transport import server, transport_to
from tests.sshd import SSHD, Sshd

__all__ = ["server"]

pytestmark = pytest.mark.skipif(SSHD is None, reason="needs OpenSSH's sshd (Debian: openssh-server)")


def test_a_folder_is_not_read_out_of_a_greeting(server: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    real = SshTransport._execute

    def noisy(self: SshTransport, line: str, *, stdin: bytes, timeout_s: float) -> Completed:
        return real(self, f"echo welcome; {line}", stdin=stdin, timeout_s=timeout_s)

    monkeypatch.setattr(SshTransport, "_execute", noisy)
    with pytest.raises(TransportError, match="in place of a folder") as caught:
        transport_to(server, tmp_path / "work").open()
    assert not isinstance(caught.value, ConnectionLost)
    assert ".bashrc" in str(caught.value.hint)
