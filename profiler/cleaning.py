"""Removes from a device what this project put there, and nothing else.

It needs no Python there and no room on the disk. Names that are not ours stay: the work folder may be shared with other
caches, as the default of local devices is.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from profiler.errors import DeviceUnavailable, RemoteFileMissing, ResultError, UnsupportedTransport
from profiler.results import MAX_STATUS_BYTES, parse_status
from profiler.transports import Transport

_OURS: Final = re.compile(r"agent-[0-9a-f]{12}\.pyz|jobs|weights|python|lease|\.[0-9a-f]{16}\.[0-9a-f]+\.part")
_COMMAND: Final = """
if [ -d /proc/self ]; then tr '\\0' ' ' <"/proc/$1/cmdline" 2>/dev/null; else ps -o args= -p "$1"; fi
exit 0
"""
_RMDIR: Final = 'cd / && rmdir -- "$1" 2>/dev/null; [ ! -d "$1" ]'
_END_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A job whose agent is at work."""

    job_id: str
    pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What lies in a work folder.

    Attributes:
        ours: Names that this project made; with `weights_only`, those of cached weights, below ``weights/``.
        others: Names of others; they stay.
        disk_bytes: What ours take on the disk.
        running: Jobs at work.
        finished: Jobs that ended; their results are not fetched yet, or their driver was killed.
    """

    ours: tuple[str, ...]
    others: tuple[str, ...]
    disk_bytes: int
    running: tuple[Running, ...]
    finished: int


def survey(transport: Transport, *, weights_only: bool = False) -> Survey:
    """Look at the work folder of an open device.

    Raises:
        UnsupportedTransport: It runs Windows.
    """
    if transport.windows:
        raise UnsupportedTransport(
            "devices that run Windows are not cleaned by this version", hint=f"Remove {transport.work_dir} there."
        )
    names = transport.listdir(transport.work_dir)
    ours = tuple(name for name in names if _OURS.fullmatch(name))
    jobs = transport.listdir("jobs") if "jobs" in ours else ()
    running = tuple(job for job_id in jobs if (job := _running(transport, job_id)) is not None)
    if weights_only:
        ours = tuple(f"weights/{name}" for name in transport.listdir("weights")) if "weights" in ours else ()
    return Survey(
        ours=ours,
        others=tuple(name for name in names if not _OURS.fullmatch(name)),
        disk_bytes=_disk_bytes(transport, ours),
        running=running,
        finished=len(jobs) - len(running),
    )


def clean(transport: Transport, found: Survey, *, force: bool = False) -> bool:
    """Remove what was found to be ours; whether the work folder itself is gone, which it is once it is empty.

    Args:
        transport: Open.
        found: Of `survey`.
        force: End jobs that are at work.

    Raises:
        DeviceUnavailable: A job is at work, and `force` was not given, or did not end it.
        TransportError: Something could not be removed.
    """
    if found.running and not force:
        raise DeviceUnavailable(
            f"a job is at work there: {', '.join(job.job_id for job in found.running)}; nothing was removed",
            hint="Wait for its end, or end it with --force.",
        )
    for job in found.running:
        _end(transport, job)
    for name in found.ours:
        transport.remove(name)
    gone = transport.run(["sh", "-c", _RMDIR, "sh", transport.work_dir], timeout_s=30)
    return gone.exit_code == 0


def _running(transport: Transport, job_id: str) -> Running | None:
    try:
        status = parse_status(transport.pull(f"jobs/{job_id}/status.json", max_bytes=MAX_STATUS_BYTES))
    except (RemoteFileMissing, ResultError):
        return None
    job = Running(job_id=job_id, pid=status.pid)
    return job if status.state != "done" and _at_work(transport, job) else None


def _at_work(transport: Transport, job: Running) -> bool:
    """Whether its process lives, and is its agent: numbers of processes are used again."""
    if not transport.alive(job.pid):
        return False
    return job.job_id.encode() in transport.run(["sh", "-c", _COMMAND, "sh", str(job.pid)], timeout_s=30).stdout


def _end(transport: Transport, job: Running) -> None:
    until = time.monotonic() + _END_S
    while _at_work(transport, job):
        if time.monotonic() > until:
            raise DeviceUnavailable(f"job {job.job_id} (process {job.pid}) does not end; nothing was removed")
        transport.terminate(job.pid, force=True)
        time.sleep(0.2)


def _disk_bytes(transport: Transport, names: Sequence[str]) -> int:
    if not names:
        return 0
    done = transport.run(["du", "-sk", "--", *names], timeout_s=120)
    sizes = [line.split(b"\t")[0].split()[:1] for line in done.stdout.splitlines()]
    return sum(int(size[0]) for size in sizes if size and size[0].isdigit()) * 1024
