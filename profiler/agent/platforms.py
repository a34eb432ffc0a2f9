"""What the agent asks of an operating system, and the system that this is.

Linux, Android with it, is read from /proc and /sys. `darwin` and `windows` say how the others tell the same; they are
imported on those systems only. What a system does not tell is None, and whoever asked says so: it is never taken as 0.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

_PR_SET_PDEATHSIG = 1


def read_text(path: str | Path) -> str | None:
    """A small file's text without surrounding blanks, or None where it cannot be read."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - every millisecond of an import counts here
            return file.read().decode("utf-8", "replace").strip("\0 \n\t")
    except OSError:
        return None


class System:
    """A POSIX system of which nothing else is known."""

    name = sys.platform
    tick_s = 0.01
    """Steps in which it counts processor time."""
    proc = False
    """Whether /proc is Linux's."""
    maxrss_bytes = 1024
    """Unit of `ru_maxrss`, which POSIX leaves open."""

    def busy_seconds(self) -> float | None:
        """CPU seconds that all processes have used on all cores since some fixed time."""
        return None

    def process_seconds(self, pid: int) -> float:
        """CPU seconds that a living process has used, or 0."""
        del pid
        return 0.0

    def resident_mib(self, pid: int) -> float | None:
        """Resident memory of a process now, 0 when it is gone; None where the system does not tell."""
        del pid
        return None

    def peak_of(self, process: Any) -> float | None:
        """Largest resident memory in MiB of a `subprocess.Popen` that has ended; None where nobody keeps that."""
        del process
        return None

    def peak_mib(self) -> tuple[float | None, str]:
        """Largest resident memory of this process so far, and where that number comes from."""
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * self.maxrss_bytes / 2**20, "ru_maxrss"

    def memory_mib(self, field: str) -> float | None:
        """One number by the name it has in /proc/meminfo, such as MemTotal."""
        del field
        return None

    def cpu_model(self) -> str | None:
        """What the processor calls itself."""
        return None

    def core_levels(self) -> list[dict[str, Any]]:
        """Kinds of cores, fastest first, where a system names them without numbering the cores."""
        return []

    def title(self) -> str:
        """The system with its version."""
        return f"{os.uname().sysname} {os.uname().release}"

    def kernel(self) -> tuple[str, str, str]:
        """Names of host and machine, release of the kernel."""
        told = os.uname()
        return told.nodename, told.machine, told.release

    def pin(self, cores: Iterable[int]) -> set[int]:
        """Bind this process to cores; those that it may use now.

        Raises:
            OSError: The system cannot do that, or has none of these cores.
        """
        del cores
        raise OSError(f"{self.name} has no way to do that; take `cores` out of the device file")

    def runs(self, pid: int, word: str) -> bool:
        """Whether a process lives; and, where the system tells its command line, whether that holds `word`."""
        del word
        try:
            os.kill(pid, 0)
        except OSError:
            return False
        return True

    def lock(self, descriptor: int, *, shared: bool = False) -> None:
        """Lock an open file until it is closed, by whatever ends this process too.

        Raises:
            OSError: Somebody else has locked it.
        """
        import fcntl

        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)

    def bind_to_parent(self, parent: int) -> None:
        """Have this process die with its parent, if the system has a way; and die now if that is gone already."""
        if os.getppid() != parent:
            os._exit(1)

    def watch_lifeline(self, descriptor: int) -> None:
        """Where it has none: end this process when a pipe, of which the parent holds the other end, is closed."""
        import threading

        threading.Thread(target=_end_with, args=(descriptor,), daemon=True).start()


def _end_with(descriptor: int) -> None:
    while True:
        try:
            if not os.read(descriptor, 1):
                break
        except OSError:
            break
    os._exit(1)


class Linux(System):
    """Linux and Android."""

    name = "Linux"
    proc = True

    def __init__(self) -> None:
        self._tick_hz = os.sysconf("SC_CLK_TCK")
        self.tick_s = 1 / self._tick_hz
        self._page = os.sysconf("SC_PAGE_SIZE")

    def busy_seconds(self) -> float | None:
        """Of /proc/stat, since boot, stolen time included."""
        line = (read_text("/proc/stat") or "").partition("\n")[0].split()
        if len(line) < 8 or line[0] != "cpu":
            return None
        user, nice, system, _idle, _iowait, irq, softirq = map(int, line[1:8])
        steal = int(line[8]) if len(line) > 8 else 0
        return (user + nice + system + irq + softirq + steal) / self._tick_hz

    def process_seconds(self, pid: int) -> float:
        """Of /proc/PID/stat."""
        fields = (read_text(f"/proc/{pid}/stat") or "").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / self._tick_hz if len(fields) > 12 else 0.0

    def resident_mib(self, pid: int) -> float | None:
        """Of /proc/PID/statm."""
        try:
            with open(f"/proc/{pid}/statm", "rb") as file:  # noqa: PTH123 - polled while a worker is timed
                return int(file.read().split()[1]) * self._page / 2**20
        except (OSError, ValueError, IndexError):
            return 0.0

    def memory_mib(self, field: str) -> float | None:
        """Of /proc/meminfo."""
        for line in (read_text("/proc/meminfo") or "").splitlines():
            if line.startswith(field + ":"):
                return round(int(line.split()[1]) / 1024, 1)
        return None

    def cpu_model(self) -> str | None:
        """Of /proc/cpuinfo; ARM's numbers of maker and part, with the device tree's name where there is one."""
        fields: dict[str, str] = {}
        for line in (read_text("/proc/cpuinfo") or "").splitlines():
            key, _, value = line.partition(":")
            fields.setdefault(key.strip(), value.strip())
        if "CPU part" in fields:
            named = fields.get("Hardware") or read_text("/proc/device-tree/model")
            part = f"ARM implementer {fields.get('CPU implementer')} part {fields['CPU part']}"
            return f"{named} ({part})" if named else part
        return fields.get("model name") or fields.get("Model")

    def title(self) -> str:
        """Of /etc/os-release."""
        for line in (read_text("/etc/os-release") or "").splitlines():
            if line.startswith("PRETTY_NAME="):
                return line.partition("=")[2].strip('"')
        return "Android" if "ANDROID_ROOT" in os.environ else os.uname().sysname

    def pin(self, cores: Iterable[int]) -> set[int]:
        """By `sched_setaffinity`, which is content with one core that is there."""
        os.sched_setaffinity(0, cores)
        return os.sched_getaffinity(0)

    def runs(self, pid: int, word: str) -> bool:
        """By /proc/PID/cmdline; where others' processes are hidden, one that is not shown does not run for us."""
        line = read_text(f"/proc/{pid}/cmdline")
        if line is not None:
            return word in line
        return super().runs(pid, word) and not Path("/proc/self").exists()

    def bind_to_parent(self, parent: int) -> None:
        """By a signal of the kernel; and be the first to go when memory is short."""
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        try:
            with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:  # noqa: PTH123
                file.write("500")
        except OSError:
            pass
        super().bind_to_parent(parent)

    def watch_lifeline(self, descriptor: int) -> None:
        """Not needed."""


def _linux() -> System:
    return Linux()


def _darwin() -> System:
    from .darwin import Darwin

    return Darwin()


def _windows() -> System:
    from .windows import Windows

    return Windows()


_SYSTEMS: dict[str, Callable[[], System]] = {
    "linux": _linux, "android": _linux, "darwin": _darwin, "win32": _windows,
}  # fmt: skip

HERE: System = _SYSTEMS.get(sys.platform, System)()
"""The system that this process runs on."""
