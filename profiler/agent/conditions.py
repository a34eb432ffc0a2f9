"""What surrounds a measurement: the device's description, its temperature and clocks, and the load that others cause.

Temperatures, clocks and what the kernel did are read from /proc and /sys, the rest is asked of `platforms`; what a
device does not show is None, never a guess.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from .platforms import HERE, read_text

_WINDOW_S = 0.5
"""Shortest time over which load is computed: the kernel counts in ticks of 10 ms."""

_LABELS = ("cpu", "soc", "x86_pkg", "core", "tctl", "tdie", "big", "little", "prime", "package")


def busy_seconds() -> float | None:
    """CPU seconds that all processes have used on all cores since some fixed time; None if unreadable."""
    return HERE.busy_seconds()


def process_seconds(pid: int) -> float:
    """CPU seconds that a living process has used, or 0."""
    return HERE.process_seconds(pid)


class OtherLoad:
    """Share of all cores that processes other than ours use.

    `mark` takes a sample; `since_mark` answers for the time since the last mark, or for a longer time back to an older
    mark where that was less than half a second.
    """

    def __init__(self, own: Callable[[], float]) -> None:
        """Take the first sample; `own` returns the CPU seconds that we ourselves have used so far."""
        self._own = own
        self._cores = os.cpu_count() or 1
        self._marks: list[tuple[float, float, float]] = []
        self.mark()

    def _sample(self) -> tuple[float, float, float] | None:
        busy = busy_seconds()
        return None if busy is None else (time.monotonic(), busy, self._own())

    def mark(self) -> None:
        """Begin a new stretch of time."""
        if (sample := self._sample()) is not None:
            self._marks.append(sample)
            del self._marks[:-64]

    def since_mark(self) -> float | None:
        """Load since the last mark, 0 to 1; None where the device does not show it."""
        if (now := self._sample()) is None or not self._marks:
            return None
        old_enough = [mark for mark in self._marks if now[0] - mark[0] >= _WINDOW_S]
        start = old_enough[-1] if old_enough else self._marks[0]
        wall = now[0] - start[0]
        # Two clocks of 10 ms are subtracted; below half a second their rounding would look like load.
        slack = 0.0 if wall >= _WINDOW_S else 2 * HERE.tick_s
        others = (now[1] - start[1]) - (now[2] - start[2]) - slack
        return min(1.0, max(0.0, others / (max(wall, 1e-3) * self._cores)))


_UNSEEN = "by processes that have ended since, or that cannot be seen from here"


def busiest_others(own: Iterable[int], window_s: float = 0.3) -> str:
    """The processes that use most CPU now, named for a person, such as `python3 (process 12) 180%`."""
    ours = set(own)

    def snapshot() -> dict[int, float]:
        pids = (int(entry.name) for entry in os.scandir("/proc") if entry.name.isdigit())
        return {pid: process_seconds(pid) for pid in pids if pid not in ours}

    try:
        before = snapshot()
        time.sleep(window_s)
        after = snapshot()
    except OSError:
        return _UNSEEN
    used = sorted(((after[pid] - before[pid]) / window_s, pid) for pid in after if pid in before)
    named = [
        f"{read_text(f'/proc/{pid}/comm') or '?'} (process {pid}) {100 * share:.0f}% of a core"
        for share, pid in reversed(used[-3:])
        if share > 0.05
    ]
    return ", ".join(named) or _UNSEEN


def temperature_c() -> float | None:
    """The hottest sensor that belongs to the processor, or None."""
    found = []
    for label, value in _sensors():
        text = read_text(value)
        number = text is not None and text.lstrip("-").isdigit()
        if number and any(word in label.lower() for word in _LABELS):
            degrees = int(text or 0) / 1000
            found.append(degrees if abs(degrees) >= 1 else degrees * 1000)  # some phones report whole degrees
    sane = [degrees for degrees in found if 0 < degrees < 130]
    return max(sane) if sane else None


def _sensors() -> Iterable[tuple[str, Path]]:
    for zone in Path("/sys/class/thermal").glob("thermal_zone*"):
        yield read_text(zone / "type") or "", zone / "temp"
    for chip in Path("/sys/class/hwmon").glob("hwmon*"):
        name = read_text(chip / "name") or ""
        for value in chip.glob("temp*_input"):
            label = read_text(value.with_name(value.name.replace("_input", "_label"))) or ""
            yield ("cpu" if name in {"k10temp", "coretemp", "zenpower"} else f"{name} {label}"), value


def clocks_mhz() -> list[float]:
    """Current clock of each core, or an empty list."""
    cores = sorted(Path("/sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_cur_freq"), key=_core_number)
    found = [read_text(path) for path in cores]
    if found:
        return [int(text) / 1000 for text in found if text is not None and text.isdigit()]
    lines = (read_text("/proc/cpuinfo") or "").splitlines()
    return [float(line.partition(":")[2]) for line in lines if line.startswith("cpu MHz")]


def _core_number(path: Path) -> int:
    return int(path.parent.parent.name[3:])


def governor() -> str | None:
    """Frequency governors of all policies, joined with commas where they differ."""
    policies = Path("/sys/devices/system/cpu/cpufreq").glob("policy*/scaling_governor")
    names = sorted({text for path in policies if (text := read_text(path))})
    return ",".join(names) or None


def out_of_memory_kills() -> int:
    """How many processes the kernel has killed for want of memory since boot."""
    for line in (read_text("/proc/vmstat") or "").splitlines():
        if line.startswith("oom_kill "):
            return int(line.split()[1])
    return 0


def _libc() -> str | None:
    try:
        return os.confstr("CS_GNU_LIBC_VERSION")
    except (AttributeError, ValueError, OSError):
        return None


def environment(versions: dict[str, str | None]) -> dict[str, Any]:
    """The device's record. `versions` holds those of numpy and onnxruntime, which this process has not imported."""
    caches = sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"))
    try:
        load1: float | None = os.getloadavg()[0]
    except (AttributeError, OSError):
        load1 = None
    host, machine, release = HERE.kernel()
    levels = HERE.core_levels()
    return {
        "host": host,
        "machine": machine,
        "cpu_model": HERE.cpu_model() or machine,
        "cores": os.cpu_count() or 1,
        "usable_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        **({"core_levels": levels} if levels else {}),
        "last_level_cache": read_text(caches[-1]) if caches else None,
        "memory_mib": HERE.memory_mib("MemTotal"),
        "available_mib": HERE.memory_mib("MemAvailable"),
        "swap_mib": HERE.memory_mib("SwapTotal"),
        "os": HERE.title(),
        "kernel": release,
        "libc": _libc(),
        "python": ".".join(map(str, sys.version_info[:3])),
        **versions,
        "governor": governor(),
        "cpu_mhz": clocks_mhz(),
        "temperature_c": temperature_c(),
        "load1": load1,
    }
