"""The fake device keeps the contract of transports, and is none that a device file could name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from profiler.conformance import TransportConformance
from profiler.testing import FakeTransport
from profiler.transports import transports


class TestFakeTransport(TransportConformance):
    @pytest.fixture
    def transport(self, tmp_path: Path) -> Iterator[FakeTransport]:
        with FakeTransport(tmp_path / "work") as transport:
            yield transport


def test_no_device_file_can_name_it():
    assert FakeTransport.name not in transports()
