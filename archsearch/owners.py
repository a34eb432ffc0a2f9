"""Who holds a claim: a process, known by host, id and start, and whether it still lives."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

STALE_S = 120.0
"""A claim whose owner, out of sight, has given no sign for so long may be taken over."""


def owner_id() -> str:
    """This process: host and process namespace, process id, and when the process started (ids are used again)."""
    return f"{_here()}:{os.getpid()}:{_started(os.getpid())}"


def _here() -> str:
    """Where process ids mean the same: two containers may share a host name and yet not see each other's processes."""
    try:
        namespace = os.stat("/proc/self/ns/pid").st_ino  # noqa: PTH116 - a link that pathlib would follow as a path
    except OSError:
        return socket.gethostname()
    return f"{socket.gethostname()}/{namespace}"


def _started(pid: int) -> str:
    """When a process started, in a form that only needs to be equal; empty when there is none (a zombie is none)."""
    try:  # ticks since boot: psutil's time moves when the clock is set
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except FileNotFoundError:
        fields = []
    except OSError:
        return ""
    if fields:
        return "" if fields[0] in "ZX" else fields[19]
    if Path("/proc/self/stat").exists():
        return ""
    import psutil

    try:
        return f"{psutil.Process(pid).create_time():.0f}"
    except psutil.Error:
        return ""


def owner_is_dead(owner: str, heartbeat_unix: float) -> bool:
    """Whether a claim's owner is gone: its process, where it can be seen from here; else after `STALE_S` of silence."""
    here, pid, started = owner.rsplit(":", 2)
    if here == _here():
        return _started(int(pid)) != started
    return time.time() - heartbeat_unix > STALE_S
