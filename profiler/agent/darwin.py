"""macOS: libSystem by ctypes, and the names of `sysctl`. Written from Apple's headers; never run on a Mac by us.

Whatever fails is unknown: None.
"""

from __future__ import annotations

import ctypes
import platform
import subprocess
from typing import Any

from .platforms import System

_LIBRARY = "/usr/lib/libSystem.B.dylib"
_HOST_CPU_LOAD_INFO = 3
_CPU_STATES = 4
"""Of mach/machine.h: user, system, idle, nice."""
_IDLE = 2
_TICKS_HZ = 100
_RUSAGE_INFO_V0 = 0
_ANSWER_S = 5.0


class _Usage(ctypes.Structure):
    """`struct rusage_info_v0` of sys/resource.h; times in ticks of `mach_absolute_time`."""

    _fields_ = (
        ("uuid", ctypes.c_uint8 * 16),
        *(
            (name, ctypes.c_uint64)
            for name in (
                "user_time", "system_time", "pkg_idle_wkups", "interrupt_wkups", "pageins", "wired_size",
                "resident_size", "phys_footprint", "proc_start_abstime", "proc_exit_abstime",
            )
        ),
    )  # fmt: skip


class _Timebase(ctypes.Structure):
    """`struct mach_timebase_info`: nanoseconds of a tick, as a fraction."""

    _fields_ = (("numer", ctypes.c_uint32), ("denom", ctypes.c_uint32))


def sysctl(*names: str) -> dict[str, str]:
    """Values by name; a name that this system does not have is left out."""
    try:
        done = subprocess.run(
            ["/usr/sbin/sysctl", *names], stdin=subprocess.DEVNULL, capture_output=True, timeout=_ANSWER_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return {}
    pairs = (line.split(": ", 1) for line in done.stdout.decode("utf-8", "replace").splitlines() if ": " in line)
    return {name: value.strip() for name, value in pairs}


class Darwin(System):
    """macOS on Apple's and Intel's processors.

    Args:
        library: In place of libSystem.
    """

    name = "macOS"
    maxrss_bytes = 1
    """getrusage(2) there: "the maximum resident set size utilized (in bytes)"."""

    def __init__(self, library: Any = None) -> None:
        try:
            self._library = ctypes.CDLL(_LIBRARY) if library is None else library
            self._host = self._library.mach_host_self()  # once: every call takes a new right on the port
            base = _Timebase()
            self._library.mach_timebase_info(ctypes.byref(base))
            self._second = 1e9 * base.denom / base.numer
        except (OSError, AttributeError, ZeroDivisionError):
            self._library = None
        self._last: list[int] = []
        self._busy = 0

    def busy_seconds(self) -> float | None:
        """By `host_statistics`; its counters of 32 bits begin again at 0 and are added up here."""
        if self._library is None:
            return None
        ticks, count = (ctypes.c_uint32 * _CPU_STATES)(), ctypes.c_uint32(_CPU_STATES)
        try:
            failed = self._library.host_statistics(self._host, _HOST_CPU_LOAD_INFO, ticks, ctypes.byref(count))
        except (AttributeError, ctypes.ArgumentError):
            return None
        if failed or count.value != _CPU_STATES:
            return None
        now = list(ticks)
        for state, (before, value) in enumerate(zip(self._last, now, strict=False)):
            self._busy += (value - before) % 2**32 if state != _IDLE else 0
        self._last = now
        return self._busy / _TICKS_HZ

    def _usage(self, pid: int) -> _Usage | None:
        if self._library is None:
            return None
        usage = _Usage()
        try:
            failed = self._library.proc_pid_rusage(pid, _RUSAGE_INFO_V0, ctypes.byref(usage))
        except (AttributeError, ctypes.ArgumentError):
            return None
        return None if failed else usage

    def process_seconds(self, pid: int) -> float:
        """By `proc_pid_rusage`."""
        usage = self._usage(pid)
        return 0.0 if usage is None else (usage.user_time + usage.system_time) / self._second

    def resident_mib(self, pid: int) -> float | None:
        """By `proc_pid_rusage`; None where this library does not have it."""
        if not hasattr(self._library, "proc_pid_rusage"):
            return None
        usage = self._usage(pid)
        return 0.0 if usage is None else float(usage.resident_size) / 2**20

    def memory_mib(self, field: str) -> float | None:
        """Only the total."""
        size = sysctl("hw.memsize").get("hw.memsize", "") if field == "MemTotal" else ""
        return round(int(size) / 2**20, 1) if size.isdecimal() else None

    def cpu_model(self) -> str | None:
        """Such as Apple M4 Pro."""
        return sysctl("machdep.cpu.brand_string").get("machdep.cpu.brand_string")

    def core_levels(self) -> list[dict[str, Any]]:
        """`name` and number (`physical`) of performance and efficiency cores; one kind where all are alike."""
        names = ["hw.physicalcpu"]
        names += [f"hw.perflevel{level}.{what}" for level in range(4) for what in ("name", "physicalcpu")]
        told = sysctl(*names)
        levels = [
            {"name": told.get(f"hw.perflevel{level}.name", f"level {level}"), "physical": int(count)}
            for level in range(4)
            if (count := told.get(f"hw.perflevel{level}.physicalcpu", "")).isdecimal()
        ]
        if levels or not told.get("hw.physicalcpu", "").isdecimal():
            return levels
        return [{"name": "all", "physical": int(told["hw.physicalcpu"])}]

    def title(self) -> str:
        """Such as macOS 15.5."""
        return f"macOS {platform.mac_ver()[0]}".strip()
