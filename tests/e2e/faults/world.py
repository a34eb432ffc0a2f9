"""What a campaign's studies run on: a folder with a devices.yaml, and devices that can be looked into and disturbed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.cable import Cable
from tests.phone import Phone
from tests.sshd import Sshd

DISK_MIB = 160
"""Of a small disk: the agent keeps 64 MiB of it free, and the weights of a study take a few."""

_COMMON = """\
    threads: 1
    timeout_s: 120
    reconnect_s: {reconnect}
    cooling: {{max_other_cpu: 1.0, timeout_s: 5}}
"""
_LOCAL = """\
  - name: local
    transport: local
    work_dir: {work}
"""
_BOX = """\
  - name: box
    transport: ssh
    host: 127.0.0.1
    port: {port}
    key_file: {key}
    known_hosts: {known_hosts}
    work_dir: {work}
    python: {python}
"""
_PHONE = """\
  - name: phone
    transport: adb
    connection: tcp
    host: 127.0.0.1
    port: {port}
    work_dir: /data/local/tmp
"""
RECONNECT_S = {"local": 20, "ssh": 20, "adb": 40}
"""How long a device that went away is waited for."""

BETWEEN, SENDING, DONE = "between jobs", "sending", "done"
PHASES = (BETWEEN, SENDING, "waiting_lease", "cooling", "weights", "checking", "timing", "memory", DONE)


@dataclass(frozen=True, slots=True)
class JobSeen:
    """A job in a device's work folder."""

    job_id: str
    state: str
    folder: Path


@dataclass(slots=True, eq=False)
class Place:
    """One device, as the campaign sees it from outside.

    Attributes:
        kind: ``local``, ``ssh`` or ``adb``.
        cable: Between it and the driver; None for the local one.
        small: Whether its disk is small enough to be filled.
    """

    kind: str
    name: str
    entry: str
    folder: Path | None = None
    cable: Cable | None = None
    sshd: Sshd | None = None
    phone: Phone | None = None
    small: bool = False

    @property
    def work(self) -> Path:
        """Its work folder, as seen from here."""
        if self.phone is not None:
            return self.phone.data
        assert self.folder is not None
        return self.folder

    def jobs(self) -> list[JobSeen]:
        """The jobs that lie there, oldest first."""
        found = []
        with suppress(OSError):
            for folder in sorted((self.work / "jobs").iterdir(), key=lambda path: path.name[-24:]):
                state = SENDING
                with suppress(OSError, ValueError, KeyError, TypeError, RecursionError):  # a fault's, as like as not
                    state = str(json.loads((folder / "status.json").read_text())["state"])
                found.append(JobSeen(folder.name, state if state in PHASES else "?", folder))
        return found

    def current(self) -> JobSeen | None:
        """The job at work, or else the one whose result waits."""
        jobs = self.jobs()
        return next((job for job in jobs if job.state != DONE), jobs[-1] if jobs else None)

    def phase(self) -> str:
        """What the device does for us at this moment."""
        job = self.current()
        return BETWEEN if job is None else job.state

    def processes(self) -> list[tuple[int, str]]:
        """(process id here, command line) of agents and workers on it."""
        found = []
        for pid in self._pids():
            with suppress(OSError):
                line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                if ".pyz" in line and str(self.folder or "/data/local/tmp") in line:
                    found.append((pid, line))
        return found

    def _pids(self) -> list[int]:
        if self.phone is None:
            return [int(path.name) for path in Path("/proc").glob("[0-9]*")]
        process = self.phone._process
        with suppress(psutil.Error):
            return [child.pid for child in psutil.Process(process.pid).children(recursive=True)] if process else []
        return []

    def supervisor(self) -> int | None:
        """Process id here of the agent at work."""
        job = self.current()
        lines = self.processes()
        return next((pid for pid, line in lines if job is not None and f"{job.job_id} " in line), None)

    def workers(self) -> list[int]:
        """Process ids here of its workers."""
        return [pid for pid, line in self.processes() if ".pyz worker " in line]

    def know(self) -> None:
        """Have the user know the server's key, under the port of the cable."""
        assert self.sshd is not None
        assert self.cable is not None
        key = self.sshd.key.with_name("host_key.pub").read_text()
        self.sshd.known_hosts.write_text(f"[127.0.0.1]:{self.cable.port} {key}")

    def wipe(self) -> None:
        """Empty the work folder, but for the Python of a phone."""
        for path in self.work.iterdir():
            if path.name != "python":
                shutil.rmtree(path) if path.is_dir() else path.unlink()


@dataclass(slots=True)
class World:
    """One folder with its devices."""

    folder: Path
    places: list[Place] = field(default_factory=list)

    def database(self, study: str) -> Path:
        """Where a study's store is."""
        return self.folder / "runs" / study / "study.db"

    def start(self, arguments: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
        """Run `archsearch` here; what it says goes to a file."""
        environment = {**os.environ, "COLUMNS": "2000", "NO_COLOR": "1", "PYTHONFAULTHANDLER": "1"}
        command = [sys.executable, "-m", "archsearch.cli.main", *arguments]
        with log.open("ab") as file:
            return subprocess.Popen(
                command, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=file,
                env=environment, start_new_session=True,
            )  # fmt: skip

    def left(self) -> list[str]:
        """Processes and job folders of ours on any device."""
        found = [f"{place.name}: process {line.strip()}" for place in self.places for _, line in place.processes()]
        return found + [
            f"{place.name}: job {job.job_id} ({job.state})" for place in self.places for job in place.jobs()
        ]


def may_mount() -> bool:
    """Whether small disks can be made here."""
    return os.getuid() == 0 and shutil.which("mount") is not None and sys.platform.startswith("linux")


@contextmanager
def _disk(folder: Path) -> Iterator[bool]:
    """A folder on a small disk of its own, where that can be made."""
    folder.mkdir(parents=True)
    mounted = (
        may_mount()
        and not subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "none", str(folder)], check=False, capture_output=True
        ).returncode
    )
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], check=False)


@contextmanager
def local_place(folder: Path) -> Iterator[Place]:
    """This machine."""
    with _disk(folder / "device") as small:
        entry = _LOCAL.format(work=folder / "device")
        yield Place("local", "local", entry, folder=folder / "device", small=small)


@contextmanager
def ssh_place(folder: Path) -> Iterator[Place]:
    """A real sshd behind a cable."""
    sshd = Sshd(folder / "sshd")
    sshd.start()
    try:
        with Cable(sshd.port) as cable, _disk(folder / "box") as small:
            entry = _BOX.format(
                port=cable.port, key=sshd.key, known_hosts=sshd.known_hosts, work=folder / "box", python=sys.executable
            )
            place = Place("ssh", "box", entry, folder=folder / "box", cable=cable, sshd=sshd, small=small)
            place.know()
            yield place
    finally:
        sshd.stop()


@contextmanager
def adb_place(phone: Phone) -> Iterator[Place]:
    """A phone that is on and has its Python, behind a cable."""
    with Cable(phone.port) as cable:
        place = Place("adb", "phone", _PHONE.format(port=cable.port), cable=cable, phone=phone, small=True)
        place.wipe()
        yield place


def write_devices(world: World) -> None:
    """The device file of a world."""
    entries = [place.entry + _COMMON.format(reconnect=RECONNECT_S[place.kind]) for place in world.places]
    (world.folder / "devices.yaml").write_text("devices:\n" + "".join(entries), encoding="utf-8")


def end_leftovers(world: World) -> None:
    """End what still runs from a world's folders; only after it was judged."""
    for place in world.places:
        for pid, _ in place.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, 9)
    time.sleep(0.1)
