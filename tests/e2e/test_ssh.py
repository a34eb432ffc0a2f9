"""A device behind a real OpenSSH server: its key, measuring there, and a link that breaks."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from archsearch.measurement import UNSETTLED
from tests.e2e.conftest import LAYOUT, TINY, Cli, nothing_twice, wait_until
from tests.sshd import SSHD, Sshd

pytestmark = pytest.mark.skipif(SSHD is None, reason="needs OpenSSH's sshd (Debian: openssh-server)")

BOX = """\
  - name: box
    transport: ssh
    host: 127.0.0.1
    port: {port}
    key_file: {key}
    work_dir: {work}
    python: {python}
    threads: 1
    cooling: {{max_other_cpu: 1.0, timeout_s: 5}}
"""


@pytest.fixture
def box(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sshd]:
    """A server that nobody knows yet, as the device `box` beside the local one."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    sshd = Sshd(tmp_path / "sshd")
    sshd.start()
    work = tmp_path / "the box's folder"
    file = cli.folder / "devices.yaml"
    entry = BOX.format(port=sshd.port, key=sshd.key, work=work, python=sys.executable)
    file.write_text(file.read_text() + entry)
    yield sshd
    sshd.stop()


def fingerprint(sshd: Sshd) -> str:
    shown = subprocess.run(
        ["ssh-keygen", "-lf", str(sshd.key.with_name("host_key.pub"))], capture_output=True, text=True, check=True
    )
    return shown.stdout.split()[1]


def test_an_unknown_key_is_refused_shown_and_kept(cli: Cli, box: Sshd):
    measure = ("measure", LAYOUT, "--workload", "16/4", "--no-tune", "--device", "box", "--format", "json")
    said = cli(*measure, code=3).err
    assert f"is not known (ssh-ed25519 {fingerprint(box)})" in said
    assert "archsearch devices trust box" in said
    assert "nobody compared it" in cli("devices", "trust", "box", code=2).err
    wrong = cli("devices", "trust", "box", "--fingerprint", "SHA256:no", code=2).err
    assert "that is not SHA256:no; nothing was kept" in wrong
    assert fingerprint(box) in wrong

    assert "every host key on the way is known" in cli("devices", "trust", "box", "--fingerprint", fingerprint(box)).err
    [row] = cli(*measure).json()
    assert (row["status"], row["device"]) == ("ok", "box")
    assert 0 < row["bytes_sent"] < 256 * 1024

    box.stop()
    box.new_host_key()
    box.start()
    assert "has changed" in cli(*measure, code=3).err
    cli("devices", "trust", "box", "--yes")
    assert cli(*measure).json()[0]["status"] == "ok"
    assert "only ssh devices have host keys" in cli.refused("devices", "trust", "local")


def test_a_search_over_two_devices_survives_a_server_that_goes_away(cli: Cli, box: Sshd):
    cli("devices", "trust", "box", "--yes")
    running = cli.start("run", *TINY, "--study", "both", "--trials", "3", "--format", "json")
    wait_until(lambda: (cli.folder / "runs" / "both" / "study.db").exists() and cli.measurements("both"))
    box.stop()  # the link is cut, the work there goes on
    time.sleep(0.5)
    box.start()
    done = cli.finish(running, timeout=180)
    assert "paramiko" not in done.err
    assert "ocket exception" not in done.err
    rows = done.json()
    # Others at work here may have disturbed a device; what it measured then is marked, and there all the same.
    measured = [row for row in rows if row["status"] in ("ok", *UNSETTLED) and row["trial"] is not None]
    assert sorted(row["device"] for row in measured) == ["box"] * 3 + ["local"] * 3, rows
    for device in ("local", "box"):
        nothing_twice([record for record in cli.measurements("both") if record.device == device])


def test_wrong_devices_say_what_to_do(cli: Cli, box: Sshd):
    cli("devices", "trust", "box", "--yes")
    file = cli.folder / "devices.yaml"
    right = file.read_text()
    for old, new, said in (
        (f"python: {sys.executable}", "python: /no/python", "It needs Python 3.11 or newer"),
        ("host: 127.0.0.1", "host: no-such-host.invalid", "Is `host` right"),
        (f"key_file: {box.key}", f"key_file: {cli.folder}/nothing", "nothing"),
    ):
        file.write_text(right.replace(old, new))
        error = cli("measure", LAYOUT, "--workload", "16/4", "--device", "box", code=3).err
        assert said in error, error
