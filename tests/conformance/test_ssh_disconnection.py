"""The SSH transport over a cable that is cut, and one that is pulled without a word."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from profiler.conformance import DisconnectionConformance, Link
from tests.cable import Cable
from tests.conformance.test_ssh_transport import server, transport_to
from tests.sshd import SSHD, Sshd

__all__ = ["server"]

pytestmark = pytest.mark.skipif(SSHD is None, reason="needs OpenSSH's sshd (Debian: openssh-server)")


@pytest.fixture
def cable(server: Sshd) -> Iterator[Cable]:
    with Cable(server.port) as cable:
        cable.bytes_per_s = 10e6  # so that what is broken on its way is not there before a busy machine breaks it
        yield cable


class TestSshDisconnection(DisconnectionConformance):
    patience_s = 12.0

    @pytest.fixture
    def link(self, server: Sshd, cable: Cable, tmp_path: Path) -> Iterator[Link]:
        transport = transport_to(server, tmp_path / "work", port=cable.port)
        transport.connect_s = transport.lost_after_s = transport.short_s = 2.0
        with transport, transport_to(server, tmp_path / "work") as beside:
            yield Link(
                transport=transport, beside=beside, cut=cable.cut, freeze=cable.freeze, restore=cable.mend,
                crossed=lambda: cable.crossed,
            )  # fmt: skip
