"""The faults: what each does to a running study. One function each; what it does is undone by the scene, or by itself.

A fault is told where it strikes (`Place`) and what is at work there. It says in a few words how it was carried out, or
returns None when it could not be: nothing of that kind was there at that moment.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.faults.scene import Scene
from tests.e2e.faults.world import BETWEEN, DONE, SENDING, Place, may_mount

Inject = Callable[[Scene, Place], str | None]
ALL = ("local", "ssh", "adb")
LINKED = ("ssh", "adb")
WORKING = ("cooling", "weights", "checking", "timing", "memory")
ANY = (BETWEEN, SENDING, "cooling", "checking", "timing", "memory", DONE)


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of fault.

    Attributes:
        name: In words.
        on: Kinds of devices that it strikes.
        phases: Phases of a job at which it may be aimed.
        weight: How often it is drawn beside the others.
        ends_driver: Whether a driver ends by it, which the campaign then starts anew.
        slow: Whether it takes many seconds to get over it, however short it is made.
    """

    name: str
    inject: Inject
    on: tuple[str, ...]
    phases: tuple[str, ...]
    weight: int
    ends_driver: bool
    slow: bool


KINDS: list[Kind] = []


def fault(
    name: str,
    *,
    on: tuple[str, ...] = ALL,
    at: tuple[str, ...] = ANY,
    weight: int = 2,
    ends_driver: bool = False,
    slow: bool = False,
) -> Callable[[Inject], Inject]:
    """Make a function known as a fault."""

    def add(inject: Inject) -> Inject:
        KINDS.append(Kind(name, inject, on, at, weight, ends_driver, slow))
        return inject

    return add


def usable(kind: Kind, place: Place) -> bool:
    """Whether a fault can strike this device here."""
    return place.kind in kind.on and (kind.inject is not full_disk or place.small)


def _seconds(scene: Scene, least: float, most: float) -> float:
    """Short ones are the more frequent: evenly drawn on a logarithmic scale."""
    return min(scene.longest_s, least * (most / least) ** scene.rng.random())


# The driver


@fault("kill -9 the driver", weight=6, ends_driver=True)
def kill_driver(scene: Scene, place: Place) -> str | None:
    """SIGKILL to one of the drivers."""
    running = scene.running()
    if not running:
        return None
    scene.kill(scene.rng.choice(running))
    pause = _seconds(scene, 0.05, 6)
    scene.wait(pause)
    return f"continued after {pause:.1f} s"


@fault("Ctrl-C", weight=4, ends_driver=True)
def interrupt(scene: Scene, place: Place) -> str | None:
    """SIGINT to one of the drivers, which must end by itself."""
    running = scene.running()
    if not running:
        return None
    return f"ended after {scene.interrupt(scene.rng.choice(running)):.1f} s"


@fault("the driver sleeps", weight=2)
def sleep_driver(scene: Scene, place: Place) -> str | None:
    """SIGSTOP to a driver for some seconds, as when a laptop is closed."""
    running = scene.running()
    if not running:
        return None
    seconds = _seconds(scene, 1, 12)
    pid = scene.rng.choice(running).process.pid
    os.kill(pid, signal.SIGSTOP)
    scene.later(seconds, lambda: _signal(pid, signal.SIGCONT))
    return f"{seconds:.1f} s"


@fault("a second driver", weight=2)
def second_driver(scene: Scene, place: Place) -> str | None:
    """Another `archsearch run` of the same study."""
    if len(scene.running()) != 1:
        return None
    scene.start()
    return "beside the first"


# The agent


@fault("kill -9 the agent", at=(SENDING, *WORKING), weight=4)
def kill_agent(scene: Scene, place: Place) -> str | None:
    """SIGKILL to the agent's supervisor."""
    return _strike(place.supervisor(), signal.SIGKILL)


@fault("kill -9 a worker", at=("cooling", "weights", "checking", "timing", "memory"), weight=4)
def kill_worker(scene: Scene, place: Place) -> str | None:
    """SIGKILL to one of the agent's workers."""
    workers = place.workers()
    return _strike(scene.rng.choice(workers), signal.SIGKILL) if workers else None


@fault("the agent stops for a while", at=WORKING)
def stop_agent(scene: Scene, place: Place) -> str | None:
    """SIGSTOP to the agent's supervisor, SIGCONT after some seconds."""
    pid = place.supervisor()
    seconds = _seconds(scene, 1, 10)
    if pid is None or _strike(pid, signal.SIGSTOP) is None:
        return None
    scene.later(seconds, lambda: _signal(pid, signal.SIGCONT))
    return f"{seconds:.1f} s"


@fault("the agent hangs", at=WORKING, weight=1, slow=True)
def hang_agent(scene: Scene, place: Place) -> str | None:
    """SIGSTOP to the agent's supervisor, for good."""
    return _strike(place.supervisor(), signal.SIGSTOP)


def _strike(pid: int | None, number: signal.Signals) -> str | None:
    return None if pid is None or not _signal(pid, number) else f"{number.name}"


def _signal(pid: int, number: signal.Signals) -> bool:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


# The link


@fault("the server is killed and started again", on=("ssh",), weight=3)
def restart_sshd(scene: Scene, place: Place) -> str | None:
    """Sshd and its connections end; what they started goes on."""
    sshd = place.sshd
    assert sshd is not None
    if sshd._process is None:
        return None
    seconds = _seconds(scene, 0.05, 12)
    sshd.stop()
    scene.later(seconds, sshd.start)
    return f"{seconds:.1f} s away"


@fault("the server is away for longer than it is waited for", on=("ssh",), weight=1, slow=True)
def away(scene: Scene, place: Place) -> str | None:
    """Longer than `reconnect_s`: the device is left out."""
    sshd = place.sshd
    assert sshd is not None
    if sshd._process is None:
        return None
    sshd.stop()
    scene.later(30, sshd.start)
    return "30 s away"


@fault("the host key changes", on=("ssh",), weight=1, slow=True)
def new_key(scene: Scene, place: Place) -> str | None:
    """The server comes back with another key; later the user has compared it and keeps it."""
    sshd = place.sshd
    assert sshd is not None
    if sshd._process is None or place.name in scene.lost_on_purpose:
        return None
    sshd.stop()
    sshd.new_host_key()
    sshd.start()
    scene.lost_on_purpose.add(place.name)

    def trust() -> None:
        scene.lost_on_purpose.discard(place.name)
        place.know()

    scene.later(15, trust)
    return "the user keeps the new one after 15 s"


@fault("the cable is cut and mended", on=LINKED, weight=3)
def cut(scene: Scene, place: Place) -> str | None:
    """Every connection is reset, and none is taken for some seconds."""
    seconds = _seconds(scene, 0.02, 12)
    assert place.cable is not None
    place.cable.cut()
    scene.later(seconds, place.cable.mend)
    return f"{seconds:.1f} s"


@fault("the cable freezes and is mended", on=LINKED, weight=3)
def freeze(scene: Scene, place: Place) -> str | None:
    """No byte moves for some seconds, and nobody is told."""
    seconds = _seconds(scene, 0.2, 25)
    assert place.cable is not None
    place.cable.freeze()
    scene.later(seconds, place.cable.mend)
    return f"{seconds:.1f} s"


@fault("adbd is started again", on=("adb",), weight=3)
def restart_adbd(scene: Scene, place: Place) -> str | None:
    """As when USB debugging is switched off and on."""
    assert place.phone is not None
    if place.name in scene.lost_on_purpose:
        return None
    place.phone.restart_adbd()
    return "at once"


@fault("the phone is unplugged and plugged in", on=("adb",), weight=3)
def unplug(scene: Scene, place: Place) -> str | None:
    """What runs there goes on."""
    phone = place.phone
    assert phone is not None
    if place.name in scene.lost_on_purpose:
        return None
    seconds = _seconds(scene, 0.2, 15)
    phone.unplug()
    scene.lost_on_purpose.add(place.name)

    def plug() -> None:
        scene.lost_on_purpose.discard(place.name)
        phone.plug()

    scene.later(seconds, plug)
    return f"{seconds:.1f} s"


@fault("the phone restarts", on=("adb",), weight=3)
def reboot(scene: Scene, place: Place) -> str | None:
    """All its processes end; its files stay."""
    assert place.phone is not None
    if place.name in scene.lost_on_purpose:
        return None
    place.phone.reboot()
    return "at once"


# The disk and what lies on it


@fault("the disk is full for a while", weight=3)
def full_disk(scene: Scene, place: Place) -> str | None:
    """A file fills it to the last block; it is removed after some seconds."""
    seconds = _seconds(scene, 0.5, 12)
    filler = place.work / "not-ours"
    if filler.exists():
        return None
    with suppress(OSError), filler.open("wb", buffering=0) as file:
        block = bytes(1 << 20)
        while True:
            file.write(block)
    with suppress(OSError), filler.open("ab", buffering=0) as file:
        while True:
            file.write(bytes(512))
    scene.later(seconds, lambda: filler.unlink(missing_ok=True))
    return f"{seconds:.1f} s"


@fault("the job's folder is deleted", at=(SENDING, *WORKING, DONE))
def delete_job(scene: Scene, place: Place) -> str | None:
    """By somebody who tidies up."""
    job = place.current()
    if job is None:
        return None
    shutil.rmtree(job.folder, ignore_errors=True)
    return job.job_id


@fault("the agent's file is deleted")
def delete_agent(scene: Scene, place: Place) -> str | None:
    """It is needed again for each worker and each job."""
    files = list(place.work.glob("agent-*.pyz"))
    for file in files:
        file.unlink(missing_ok=True)
    return files[0].name if files else None


@fault("the weights are deleted")
def delete_weights(scene: Scene, place: Place) -> str | None:
    """All of the cache."""
    folder = place.work / "weights"
    if not folder.exists():
        return None
    shutil.rmtree(folder, ignore_errors=True)
    return "all"


@fault("all of the work folder is deleted", weight=1)
def delete_all(scene: Scene, place: Place) -> str | None:
    """Jobs, weights, lease, agent (of a phone, not its Python)."""
    for _ in range(3):
        with suppress(OSError):
            place.wipe()
    return "all"


_HOLD = "import fcntl, sys, time; f = open(sys.argv[1], 'a'); fcntl.flock(f, 2); time.sleep(float(sys.argv[2]))"


@fault("somebody else holds the lease")
def hold_lease(scene: Scene, place: Place) -> str | None:
    """As soon as it is free, for some seconds."""
    seconds = _seconds(scene, 2, 10)
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(place.work / "lease"), str(seconds)], stdout=subprocess.DEVNULL
    )

    def end() -> None:
        if holder.poll() is None:
            holder.kill()
        holder.wait()

    scene.later(seconds + 20, end)
    return f"{seconds:.1f} s"


# What the agent wrote

SPOILT: dict[str, Callable[[bytes], bytes]] = {
    "garbage": lambda raw: bytes((byte * 7 + 13) % 256 for byte in raw[:4000]),
    "truncated": lambda raw: raw[: len(raw) // 2],
    "empty": lambda raw: b"",
    "NaN": lambda raw: re.sub(rb'"prefill_ns": \d+', b'"prefill_ns": NaN', raw, count=1),
    "negative": lambda raw: raw.replace(b'"ttft_ns": ', b'"ttft_ns": -', 1),
    "deep": lambda raw: b"[" * 200_000,
    "of another job": lambda raw: raw.replace(b'"job_id": "', b'"job_id": "x', 1),
    "larger than allowed": lambda raw: raw,
}
_OVERSIZE = (32 << 20) + 1


def _spoil(file: Path, how: str) -> bool:
    """Replace a file by a spoilt one, in one step."""
    try:
        raw = file.read_bytes()
        new = file.with_name("spoilt")
        new.write_bytes(SPOILT[how](raw))
        if how == "larger than allowed":
            os.truncate(new, _OVERSIZE)
        new.replace(file)
    except OSError:
        return False
    return True


def _spoil_result(how: str) -> Inject:
    def inject(scene: Scene, place: Place) -> str | None:
        pids = [driver.process.pid for driver in scene.running()]
        job = place.current()
        if job is None or job.state == DONE or not pids:
            return None
        for pid in pids:  # held, so that none reads the result before it is spoilt
            _signal(pid, signal.SIGSTOP)
        try:
            until = time.monotonic() + 30
            while not (job.folder / "result.json").exists():
                if time.monotonic() > until or not job.folder.exists():
                    return None
                time.sleep(0.005)
            return "while the driver slept" if _spoil(job.folder / "result.json", how) else None
        finally:
            for pid in pids:
                _signal(pid, signal.SIGCONT)

    return inject


for _how in SPOILT:
    fault(f"result.json is {_how}", at=("timing", "memory"), weight=1)(_spoil_result(_how))


@fault("status.json is nonsense", at=WORKING, weight=3)
def spoil_status(scene: Scene, place: Place) -> str | None:
    """Again and again for more than a second, as often as the agent writes it."""
    job = place.current()
    if job is None:
        return None
    how = scene.rng.choice(["garbage", "truncated", "empty", "deep"])
    until, done = time.monotonic() + 1.2, 0
    while time.monotonic() < until:
        done += _spoil(job.folder / "status.json", how)
        time.sleep(0.01)
    return how if done else None


def possible(kind: Kind) -> bool:
    """Whether this machine can make such a fault at all."""
    return kind.inject is not full_disk or may_mount()
