"""A device from nothing: set up over a real OpenSSH server with and without the internet, checked, cleaned.

The account there has a home of its own and a Python without packages.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from archsearch.store import Store
from tests.e2e.conftest import LAYOUT, Cli, wait_until
from tests.sshd import SSHD, Sshd

pytestmark = pytest.mark.skipif(SSHD is None, reason="needs OpenSSH's sshd (Debian: openssh-server)")

NO_INDEX = "http://127.0.0.1:9/"
"""Nobody listens there: what a machine without the internet gets."""
BOX = """\
  - name: box
    enabled: false
    transport: ssh
    host: 127.0.0.1
    port: {sshd.port}
    key_file: {sshd.key}
    known_hosts: {sshd.known_hosts}
    work_dir: ~/a cache/archsearch
    threads: 1
    cooling: {{max_other_cpu: 1.0, timeout_s: 5}}
    {more}
"""
BROKEN = "venv-0123456789ab-0123abcd"
Make = Callable[..., "Box"]


class Box:
    """A server and the home of the account that it gives."""

    def __init__(self, cli: Cli, folder: Path, settings: str, more: str) -> None:
        self.home = folder / "home"
        self.work = self.home / "a cache" / "archsearch"
        (self.home / ".config").mkdir(parents=True)
        (self.home / ".config" / "settings").write_text("mine")
        bare = folder / "bare"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(bare)], check=True)
        variables = f"HOME={self.home} PATH={bare}/bin:/usr/bin:/bin {settings}"
        self.sshd = Sshd(folder / "sshd", more=f"SetEnv {variables}")
        self.sshd.start()
        file = cli.folder / "devices.yaml"
        file.write_text(file.read_text() + BOX.format(sshd=self.sshd, more=more))

    def outside(self) -> set[str]:
        """Everything in the account's home but the work folder and the folders above it."""
        found = (path.relative_to(self.home).as_posix() for path in self.home.rglob("*"))
        return {path for path in found if not re.match(r"a cache(/archsearch(/.*)?)?$", path)}

    def venvs(self) -> list[str]:
        return sorted(path.name for path in (self.work / "python").iterdir())


@pytest.fixture
def make(cli: Cli, tmp_path: Path) -> Iterator[Make]:
    made: list[Box] = []

    def one(settings: str = "", more: str = "") -> Box:
        made.append(Box(cli, tmp_path, settings, more))
        return made[-1]

    yield one
    for box in made:
        box.sshd.stop()


def test_a_device_from_nothing_to_nothing(cli: Cli, make: Make):
    box = make()
    before = box.outside()
    bare = cli("devices", "check", "box", code=3)
    assert "box: NOT READY" in bare.out
    assert "has no numpy and no onnxruntime): run `archsearch devices setup box`" in bare.out

    done = cli("devices", "setup", "box", timeout=300)
    assert "asking its own pip for numpy and onnxruntime" in done.err
    assert "downloading them here" not in done.err
    assert re.search(r"^box: ready\. A tiny model, int4: [\d.]+ ms to the first token", done.out)
    assert "6 of 6 blocks compute what they should" in done.out
    assert "once `enabled: true` stands in" in done.err
    assert not (cli.folder / "runs").exists()
    assert box.outside() == before  # no cache of pip, no user site, no bytecode, nothing of onnxruntime

    python, venv = box.venvs()
    assert python == "python.sh"
    assert (box.work / "python" / "python.sh").read_text().count("\n") == 1
    again = cli("devices", "setup", "box")
    assert "set up already, nothing to do" in again.out
    assert box.venvs() == [python, venv]

    [row] = cli("devices", "check", "box", "--format", "json").json()
    assert (row["ready"], row["set_up"], row["reasons"], row["providers_missing"]) == (True, True, [], [])
    assert row["core_groups"]
    assert row["free_mib"] > 0
    assert row["weights_mib"] > 0
    assert (row["lease"], row["jobs"]) == (None, [])

    file = cli.folder / "devices.yaml"
    file.write_text(file.read_text().replace("enabled: false", "enabled: true"))
    measuring = cli.start("measure", LAYOUT, "--workload", "2048/512", "--no-tune", "--device", "box")
    wait_until(lambda: list(box.work.glob("jobs/*/status.json")))
    wait_until((box.work / "lease").read_text)
    [busy] = cli("devices", "check", "box", "--format", "json", code=3).json()
    assert busy["lease"]["label"] == LAYOUT.partition(":")[0]
    assert busy["reasons"][0].startswith("it measures now: CCGCG")
    assert "measures now" in cli.refused("devices", "setup", "box", "--again", code=3)
    assert "a job is at work there" in cli.refused("devices", "clean", "box", "--yes", code=3)
    assert box.venvs() == [python, venv]

    (box.work / "mine").write_text("not theirs")
    assert "nobody was asked" in cli("devices", "clean", "box", "--force", code=2).err
    cleaned = cli("devices", "clean", "box", "--force", "--yes")
    assert re.search(
        r"[\d,]{10,} bytes \(.*\) freed; the folder stays, with what is not of a device: mine", cleaned.out
    )
    assert [path.name for path in box.work.iterdir()] == ["mine"]
    assert "it is run again" in cli.finish(measuring, code=3).err, "there is no Python any more to run it with"
    with Store.open(cli.folder / "runs" / "measure" / "study.db", create=False) as store:
        assert store.measurements("measure") == []
    (box.work / "mine").unlink()
    assert "is gone too" in cli("devices", "clean", "box", "--yes").out
    assert not box.work.exists()
    assert box.outside() == before


def test_a_device_without_the_internet_gets_its_wheels_from_here(cli: Cli, make: Make):
    box = make(f"PIP_CONFIG_FILE=/dev/null PIP_INDEX_URL={NO_INDEX}")
    before = box.outside()
    offline = {"PIP_CONFIG_FILE": "/dev/null", "PIP_INDEX_URL": NO_INDEX, "PIP_RETRIES": "0", "PIP_FIND_LINKS": ""}
    # A set-up whose link broke, and one whose interpreter is gone.
    (box.work / "python" / "scratch-0123abcd" / "wheels").mkdir(parents=True)
    (box.work / "python" / BROKEN).mkdir()
    (box.work / "python" / "python.sh").write_text(f'exec "${{0%/*}}/{BROKEN}/bin/python" "$@"\n')
    (box.work / "python" / "myproject").mkdir()
    (box.work / "python" / "myproject" / "thesis.py").write_text("mine")
    left = box.venvs()
    assert "run `archsearch devices setup box`" in cli("devices", "check", "box", code=3).out
    failed = cli("devices", "setup", "box", code=3, env={**offline, "PIP_EXTRA_INDEX_URL": ""})
    assert "could not be downloaded on this machine" in failed.err
    assert "Set-up needs the internet" in failed.err
    assert box.venvs() == left  # as it was

    done = cli("devices", "setup", "box", timeout=300)
    assert "it does not get them" in done.err
    assert re.search(r"sending \d+ wheels, \d\d MB", done.err)
    assert "box: ready." in done.out
    assert box.outside() == before
    assert [name.partition("-")[0] for name in box.venvs()] == ["myproject", "python.sh", "venv"]
    assert BROKEN not in box.venvs()
    assert (box.work / "python" / "myproject" / "thesis.py").exists()


def test_what_cannot_be_set_up_says_why(cli: Cli, make: Make):
    box = make(more=f"python: {sys.base_prefix}/bin/python3")
    named = cli.refused("devices", "setup", "box", code=3)
    assert "which goes before anything that set-up makes" in named
    assert "Take `python` out of the device file" in named
    file = cli.folder / "devices.yaml"
    file.write_text(file.read_text().replace(f"python: {sys.base_prefix}/bin/python3", ""))
    none = cli.refused("devices", "setup", "box", "--python", "/no/python", code=3)
    assert "no /no/python was found there" in none
    assert "sudo apt install python3" in none
    assert box.venvs() == []

    box.sshd.stop()
    [row] = cli("devices", "check", "box", "--format", "json", code=3).json()
    assert (row["ready"], row["reachable"], row["python"]) == (False, False, None)
    assert "127.0.0.1" in row["reasons"][0]
    # Of several devices, one that is out of reach does not hide the others.
    file.write_text(file.read_text().replace("enabled: false", "enabled: true"))
    both = cli("devices", "check", code=3).out
    assert "local: READY" in both
    assert "box: NOT READY" in both
    assert "no device 'bax'" in cli.refused("devices", "check", "bax")


def test_this_machine_needs_nothing_and_keeps_what_is_not_of_a_device(cli: Cli):
    done = cli("devices", "setup", "local")
    assert "local: ready. A tiny model" in done.out
    exported = cli.work / "exported"
    exported.mkdir()
    assert "the next one of its measurement may follow" in cli.refused("devices", "clean", "local", "--yes", code=3)
    weights = cli("devices", "clean", "local", "--weights", "--yes", "--force").out
    assert " bytes (1." in weights
    assert list((cli.work / "weights").iterdir()) == []
    assert "with what is not of a device: exported" in cli("devices", "clean", "local", "--yes", "--force").out
    assert list(cli.work.iterdir()) == [exported]
