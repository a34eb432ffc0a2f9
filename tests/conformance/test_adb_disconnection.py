"""The ADB transport over a cable that is cut, and one that is pulled without a word."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator

import pytest

from profiler.conformance import DisconnectionConformance, Link
from profiler.transports import _adb_direct
from profiler.transports._adb_direct import TcpLink
from profiler.transports.adb import AdbTransport
from tests.cable import Cable
from tests.conformance.test_adb_transport import python
from tests.phone import Phone

__all__ = ["python"]

pytestmark = [pytest.mark.needs("phone"), pytest.mark.long]


class TestAdbDisconnection(DisconnectionConformance):
    patience_s = 40.0  # the phone is emulated

    @pytest.fixture
    def link(self, phone: Phone, python: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Link]:
        monkeypatch.setattr(_adb_direct, "CONNECT_S", 3.0)
        monkeypatch.setattr(_adb_direct, "PACKET_S", 3.0)
        work = f"/data/local/tmp/{secrets.token_hex(4)}"
        with (
            Cable(phone.port) as cable,
            AdbTransport(TcpLink("127.0.0.1", cable.port), work_dir=work, python=python) as transport,
            AdbTransport(TcpLink("127.0.0.1", phone.port), work_dir=work, python=python) as beside,
        ):
            transport.lost_after_s, transport.short_s = 3.0, 6.0
            yield Link(
                transport=transport, beside=beside, cut=cable.cut, freeze=cable.freeze, restore=cable.mend,
                crossed=lambda: cable.crossed,
            )  # fmt: skip
            cable.mend()
        shutil.rmtree(phone.data / work.rpartition("/")[2])
