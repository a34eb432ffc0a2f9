"""Is somebody at work in a device's work folder: a job, its driver between two jobs, or a set-up?

A job whose agent runs is certain. What else tells of work is how long ago something changed, by the device's own clock:
a job that is only being sent has no agent yet, and between two jobs of one measurement there is none at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from profiler.agent.folder import FOLDERS, JOB, LEASE, MADE
from profiler.errors import ConnectionLost, ResultError, TransportError
from profiler.jobs import is_job_id
from profiler.results import MAX_STATUS_BYTES, JobStatus, parse_status
from profiler.transports import Transport

YOUNG_S: Final = 600
"""A job without an end, or a set-up, in which something changed so lately is not given up by whoever began it."""
PAUSE_S: Final = 60
"""So long after a job's end the next one of the same measurement may follow: it is made, and sent."""
# Ages are those of the newest file of a folder: its own time does not move while a file in it grows.
_LOOK: Final = """
now=$(date +%s) || exit 1
if stat -c %Y . >/dev/null 2>&1; then how=-c what=%Y; else how=-f what=%m; fi
tell() {
  name=$1; shift
  t=$(find "$@" -exec stat "$how" "$what" {} + 2>/dev/null | sort -n | tail -n 1)
  [ -z "$t" ] || printf '%s %s\\n' "$((now - t))" "$name"
}
for f in jobs python runtimes weights; do [ ! -L "$f" ] || printf 'link %s\\n' "$f"; done
for f in jobs/*-????????T??????-????????; do [ ! -d "$f" ] || tell "$f" "$f"; done
for f in python/scratch-???????? runtimes/scratch-????????; do
  [ ! -d "$f" ] || tell "$f" "${f%/*}"/*-"${f##*-}"
done
[ ! -f lease ] || tell lease lease
"""
_COMMAND: Final = """
if [ -d /proc/self ]; then tr '\\0' ' ' <"/proc/$1/cmdline" 2>/dev/null; else ps -o args= -p "$1"; fi
exit 0
"""
_AGE = re.compile(r"-?[0-9]{1,12}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A job whose agent is at work."""

    job_id: str
    pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Occupied:
    """Who is at work.

    Attributes:
        running: Jobs whose agents run.
        signs: All that tells of somebody at work, in words; empty when nobody is.
        finished: Jobs that ended; their results are not fetched yet, or their driver was killed.
        links: Which of the work folder's own folders are links that somebody made.
    """

    running: tuple[Running, ...]
    signs: tuple[str, ...]
    finished: int
    links: frozenset[str]


def occupied(transport: Transport) -> Occupied:
    """Look who is at work in the work folder of an open device."""
    ages, links = _ages(transport)
    running: list[Running] = []
    begun: list[str] = []
    finished = 0
    for job_id in filter(is_job_id, names_in(transport, "jobs") or ()):  # of whatever name: its agent may run
        status = _status(transport, job_id)
        done = status is not None and status.state == "done"
        job = None if status is None or done else Running(job_id=job_id, pid=status.pid)
        if job is not None and at_work(transport, job):
            running.append(job)
        elif not JOB.fullmatch(job_id):
            continue
        elif (
            not done and (age := ages.get(f"jobs/{job_id}", 0)) < YOUNG_S
        ):  # a device that cannot tell ages has young ones only
            begun.append(f"{job_id}, whose agent is not there (yet), and which changed {max(0, age)} s ago")
        else:
            finished += 1
    signs = []
    if running or begun:
        signs.append(f"a job is at work there: {'; '.join([*(job.job_id for job in running), *begun])}")
    signs.extend(_set_ups(ages))
    if not signs and (age := ages.get(LEASE, PAUSE_S)) < PAUSE_S:
        signs.append(f"a job ended there {max(0, age)} s ago, and the next one of its measurement may follow")
    return Occupied(running=tuple(running), signs=tuple(signs), finished=finished, links=links)


def _set_ups(ages: dict[str, int]) -> Iterator[str]:
    for name, age in ages.items():
        folder, _, made = name.partition("/")
        if folder in ("python", "runtimes") and MADE.fullmatch(made) and age < YOUNG_S:
            yield f"a set-up is at work there ({name} changed {max(0, age)} s ago)"


def _ages(transport: Transport) -> tuple[dict[str, int], frozenset[str]]:
    """Seconds since something changed in jobs, set-ups and the lease, by name, and which folders are links."""
    said = transport.run(["sh", "-c", _LOOK], timeout_s=120).stdout.decode("utf-8", "surrogateescape")
    ages, links = {}, set()
    for line in said.splitlines():
        first, _, name = line.partition(" ")
        if first == "link" and name in FOLDERS:
            links.add(name)
        elif _AGE.fullmatch(first):
            ages[name] = int(first)
    return ages, frozenset(links)


def names_in(transport: Transport, folder: str) -> tuple[str, ...] | None:
    """Names in a folder; None where there is no such folder, or we may not look.

    Raises:
        ConnectionLost: The link broke.
    """
    try:
        return transport.listdir(folder)
    except ConnectionLost:
        raise
    except TransportError:
        return None


def content_of(transport: Transport, path: str, most: int) -> bytes | None:
    """A file; None where there is none, or a larger one, or we may not read it.

    Raises:
        ConnectionLost: The link broke.
    """
    try:
        return transport.pull(path, max_bytes=most)
    except ConnectionLost:
        raise
    except TransportError:
        return None


def _status(transport: Transport, job_id: str) -> JobStatus | None:
    content = content_of(transport, f"jobs/{job_id}/status.json", MAX_STATUS_BYTES)
    with suppress(ResultError):
        return None if content is None else parse_status(content)
    return None


def at_work(transport: Transport, job: Running) -> bool:
    """Whether its process lives, and is its agent: numbers of processes are used again."""
    if not transport.alive(job.pid):
        return False
    return job.job_id.encode() in transport.run(["sh", "-c", _COMMAND, "sh", str(job.pid)], timeout_s=30).stdout
