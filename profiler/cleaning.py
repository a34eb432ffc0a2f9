"""Removes from a device what this project put there, and nothing else.

It needs no Python there and no room on the disk. Names that are not ours stay: the work folder may be shared with other
caches, as the default of local devices is.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from profiler.agent.folder import AGENT, FOLDERS, LEASE, PARTIAL, RUNTIME, SCRIPT, is_record, is_script
from profiler.errors import DeviceUnavailable, UnsupportedTransport
from profiler.occupied import Running, at_work, content_of, names_in, occupied
from profiler.transports import Transport

# `rmdir` takes away empty folders only, and no link: a work folder that is reached through one stays.
_TIDY: Final = """
for f in jobs python runtimes weights; do [ -L "$f" ] || rmdir -- "$f" 2>/dev/null; done
case $1 in "~/"*) set -- "$HOME/${1#??}";; esac
cd / && rmdir -- "$1" 2>/dev/null; [ ! -d "$1" ]
"""
_END_S = 10.0
_AT_ONCE = 200
_LONGEST_RECORD = 65536


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What lies in a work folder.

    Attributes:
        ours: Paths of what this project made, inside the work folder; with `weights_only`, of cached weights alone.
        others: Paths of what others made; they stay, and the folders that they lie in.
        disk_bytes: What ours take on the disk.
        running: Jobs whose agents run.
        signs: What tells of somebody at work there, in words; empty when nobody is.
        finished: Jobs that ended; their results are not fetched yet, or their driver was killed.
        weights_only: As asked for.
    """

    ours: tuple[str, ...]
    others: tuple[str, ...]
    disk_bytes: int
    running: tuple[Running, ...]
    signs: tuple[str, ...]
    finished: int
    weights_only: bool

    @property
    def text(self) -> str:
        """Ours for people: names, and of what lies in folders how many."""
        inside = Counter(name.partition("/")[0] for name in self.ours if "/" in name)
        return ", ".join([*(name for name in self.ours if "/" not in name), *(f"{inside[f]} in {f}" for f in inside)])


def survey(transport: Transport, *, weights_only: bool = False) -> Survey:
    """Look at the work folder of an open device.

    Raises:
        UnsupportedTransport: It runs Windows.
    """
    if transport.windows:
        raise UnsupportedTransport(
            "devices that run Windows are not cleaned by this version", hint=f"Remove {transport.work_dir} there."
        )
    now = occupied(transport)
    ours: list[str] = []
    others: list[str] = []
    for name in transport.listdir(transport.work_dir):
        inside = names_in(transport, name) if name in FOLDERS and name not in now.links else None
        for path in [name] if inside is None else [f"{name}/{entry}" for entry in inside]:
            (ours if _is_ours(transport, path) else others).append(path)
    if weights_only:
        ours = [name for name in ours if name.startswith("weights/")]
    return Survey(
        ours=tuple(ours), others=tuple(others), disk_bytes=_disk_bytes(transport, ours), running=now.running,
        signs=now.signs, finished=now.finished, weights_only=weights_only,
    )  # fmt: skip


def clean(transport: Transport, found: Survey, *, force: bool = False) -> bool:
    """Remove what was found to be ours; whether the work folder itself is gone, which it is once it is empty.

    Args:
        transport: Open.
        found: Of `survey`.
        force: End jobs that are at work, and take no heed of other signs.

    Raises:
        DeviceUnavailable: Somebody is at work there, and `force` was not given; or a job was not ended by it.
        TransportError: Something could not be removed.
    """
    now = occupied(transport)  # somebody was asked since `survey`
    if now.signs and not force:
        raise DeviceUnavailable(
            f"{'; '.join(now.signs)}; nothing was removed",
            hint="Wait for its end, or, if nobody is at work, --force: it ends jobs and removes all the same.",
        )
    for job in now.running:
        _end(transport, job)
    for name in found.ours:
        transport.remove(name)
    if found.weights_only:
        return False
    gone = transport.run(["sh", "-c", _TIDY, "sh", str(PurePosixPath(transport.named_work_dir))], timeout_s=30)
    return gone.exit_code == 0


def _is_ours(transport: Transport, path: str) -> bool:
    folder, _, name = path.rpartition("/")
    if PARTIAL.fullmatch(name):
        return True
    if folder:
        if path == f"python/{SCRIPT}" or (folder == "runtimes" and RUNTIME.fullmatch(name)):
            content = content_of(transport, path, _LONGEST_RECORD)
            return content is not None and is_script(content)
        return FOLDERS[folder].fullmatch(name) is not None
    if name == LEASE:
        content = content_of(transport, path, _LONGEST_RECORD)
        return content is not None and is_record(content)
    return AGENT.fullmatch(name) is not None


def _end(transport: Transport, job: Running) -> None:
    until = time.monotonic() + _END_S
    while at_work(transport, job):
        if time.monotonic() > until:
            raise DeviceUnavailable(f"job {job.job_id} (process {job.pid}) does not end; nothing was removed")
        transport.terminate(job.pid, force=True)
        time.sleep(0.2)


def _disk_bytes(transport: Transport, names: Sequence[str]) -> int:
    total = 0
    for begin in range(0, len(names), _AT_ONCE):
        done = transport.run(["du", "-sk", "--", *names[begin : begin + _AT_ONCE]], timeout_s=120)
        sizes = [line.split(b"\t")[0].split()[:1] for line in done.stdout.splitlines()]
        total += sum(int(size[0]) for size in sizes if size and size[0].isdigit() and len(size[0]) < 16)
    return total * 1024
