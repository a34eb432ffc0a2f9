"""This machine, one behind a real sshd and an emulated phone behind a real adbd: set up, and measured in one search."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import TINY, Cli, nothing_twice
from tests.e2e.test_ssh import BOX
from tests.phone import Phone
from tests.phone_python import kept_bundle
from tests.sshd import SSHD, Sshd

pytestmark = [
    pytest.mark.long,  # what it joins is tested by itself: test_ssh, test_phone, test_android
    pytest.mark.needs("phone"),
    pytest.mark.skipif(SSHD is None, reason="needs OpenSSH's sshd (Debian: openssh-server)"),
]

PHONE = """\
  - name: phone
    transport: adb
    connection: tcp
    host: 127.0.0.1
    port: {port}
    threads: 1
    cooling: {{max_other_cpu: 1.0, timeout_s: 5}}
"""


@pytest.fixture
def three(cli: Cli, phone: Phone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cli]:
    """A device file of all three; nobody knows the box, and the phone has no Python."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    sshd = Sshd(tmp_path / "sshd")
    sshd.start()
    file = cli.folder / "devices.yaml"
    box = BOX.format(port=sshd.port, key=sshd.key, work=tmp_path / "box", python=sys.executable)
    file.write_text(file.read_text() + box + PHONE.format(port=phone.port))
    cli("devices", "trust", "box", "--yes")
    yield cli
    sshd.stop()
    shutil.rmtree(phone.data / "archsearch", ignore_errors=True)


def test_three_ways_to_a_device_in_one_search(three: Cli, phone: Phone):
    bare = three("devices", "check", "phone", code=3).out
    assert "not set up" in bare
    assert "aarch64" in bare

    said = three("devices", "setup", "phone", "--bundle", kept_bundle().path, timeout=400)
    assert "phone: ready. A tiny model, int4" in said.out
    assert "6 of 6 blocks compute what they should" in said.out
    assert "nothing to do" in three("devices", "setup", "phone").out
    [told] = three("devices", "check", "phone", "--format", "json").json()
    assert (told["ready"], told["machine"], told["model"]) == (True, "aarch64", "samsung SM-S938B")

    done = three("run", *TINY, "--study", "three", "--trials", "1", "--format", "json", timeout=400)
    rows = done.json()
    assert {(row["device"], row["anchor"]) for row in rows if row["status"] == "ok"} == {
        (device, anchor) for device in ("local", "box", "phone") for anchor in (True, False)
    }
    assert all(row["rank"] == 1 for row in rows), "ranked over all three, so their outputs agree"
    assert all(0 < row["bytes_sent"] <= 256 * 1024 for row in rows)
    for device in ("local", "box", "phone"):
        nothing_twice([record for record in three.measurements("three") if record.device == device])
    [machine] = {
        record.result and b'"machine":"aarch64"' in record.result.replace(b" ", b"")
        for record in three.measurements("three")
        if record.device == "phone"
    }
    assert machine

    three("devices", "clean", "phone", "--yes", "--force")
    assert not (phone.data / "archsearch").exists()
