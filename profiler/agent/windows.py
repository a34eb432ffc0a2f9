"""Windows: kernel32 by ctypes.

Tried with a Windows Python under Wine 8, which shows that the calls are right in form; never run on Windows by us.
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from collections.abc import Iterable
from typing import Any

from .platforms import System

_QUERY_LIMITED = 0x1000
_SYNCHRONIZE = 0x0010_0000
_STILL_RUNS = 258
"""WAIT_TIMEOUT."""
_LOCKED_BYTE = 1 << 30
_UNITS_HZ = 10**7
"""FILETIME counts in 100 ns."""


class _Memory(ctypes.Structure):
    """PROCESS_MEMORY_COUNTERS."""

    _fields_ = (
        ("cb", ctypes.c_uint32),
        ("page_faults", ctypes.c_uint32),
        *(
            (name, ctypes.c_size_t)
            for name in (
                "peak_working_set", "working_set", "quota_peak_paged", "quota_paged", "quota_peak_nonpaged",
                "quota_nonpaged", "pagefile", "peak_pagefile",
            )
        ),
    )  # fmt: skip


class _Status(ctypes.Structure):
    """MEMORYSTATUSEX."""

    _fields_ = (
        ("length", ctypes.c_uint32),
        ("load", ctypes.c_uint32),
        *(
            (name, ctypes.c_uint64)
            for name in ("total", "available", "page", "free_page", "virtual", "free_virtual", "free_extended")
        ),
    )


class Windows(System):
    """Windows 10 and newer."""

    name = "Windows"
    tick_s = 1 / 64
    """Its clock interrupt, unless a program asks for a faster one."""

    def __init__(self) -> None:
        self._kernel: Any = ctypes.WinDLL("kernel32", use_last_error=True)  # type: ignore[attr-defined,unused-ignore]
        self._kernel.OpenProcess.restype = ctypes.c_void_p
        self._kernel.GetCurrentProcess.restype = ctypes.c_void_p

    def busy_seconds(self) -> float | None:
        """By `GetSystemTimes`, whose time in the kernel holds the idle time."""
        idle, kernel, user = (ctypes.c_uint64() for _ in range(3))
        if not self._kernel.GetSystemTimes(ctypes.byref(idle), ctypes.byref(kernel), ctypes.byref(user)):
            return None
        return (kernel.value - idle.value + user.value) / _UNITS_HZ

    def _open(self, pid: int, rights: int = _QUERY_LIMITED) -> ctypes.c_void_p | None:
        handle = self._kernel.OpenProcess(rights, False, pid)
        return ctypes.c_void_p(handle) if handle else None

    def process_seconds(self, pid: int) -> float:
        """By `GetProcessTimes`."""
        handle = self._open(pid)
        if handle is None:
            return 0.0
        times = [ctypes.c_uint64() for _ in range(4)]
        known = self._kernel.GetProcessTimes(handle, *(ctypes.byref(one) for one in times))
        self._kernel.CloseHandle(handle)
        return (times[2].value + times[3].value) / _UNITS_HZ if known else 0.0

    def memory_of(self, handle: int | ctypes.c_void_p) -> tuple[float, float] | None:
        """Resident memory now and at its peak in MiB of a process, a dead one too, while there is a handle to it."""
        told = _Memory(cb=ctypes.sizeof(_Memory))
        ask = self._kernel.K32GetProcessMemoryInfo
        if not ask(
            handle if isinstance(handle, ctypes.c_void_p) else ctypes.c_void_p(handle), ctypes.byref(told), told.cb
        ):
            return None
        return told.working_set / 2**20, told.peak_working_set / 2**20

    def resident_mib(self, pid: int) -> float | None:
        """Its working set."""
        handle = self._open(pid)
        if handle is None:
            return 0.0
        told = self.memory_of(handle)
        self._kernel.CloseHandle(handle)
        return told[0] if told else 0.0

    def peak_mib(self) -> tuple[float | None, str]:
        """Its largest working set."""
        told = self.memory_of(self._kernel.GetCurrentProcess())
        return (told[1] if told else None), "PeakWorkingSetSize"

    def peak_of(self, process: Any) -> float | None:
        """Its largest working set, which the system keeps while there is a handle."""
        told = self.memory_of(int(process._handle))
        return told[1] if told else None

    def memory_mib(self, field: str) -> float | None:
        """By `GlobalMemoryStatusEx`: total and available."""
        status = _Status(length=ctypes.sizeof(_Status))
        if not self._kernel.GlobalMemoryStatusEx(ctypes.byref(status)):
            return None
        size = {"MemTotal": status.total, "MemAvailable": status.available}.get(field)
        return None if size is None else round(size / 2**20, 1)

    def cpu_model(self) -> str | None:
        """As the registry names it."""
        import winreg

        path = r"HARDWARE\DESCRIPTION\System\CentralProcessor\0"
        try:
            with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, path) as key:  # type: ignore[attr-defined,unused-ignore]
                return str(winreg.QueryValueEx(key, "ProcessorNameString")[0]).strip()  # type: ignore[attr-defined,unused-ignore]
        except OSError:
            return None

    def title(self) -> str:
        """Such as Windows 11 10.0.22631."""
        return f"Windows {platform.release()} {platform.version()}"

    def kernel(self) -> tuple[str, str, str]:
        """As elsewhere, the machine in the words of Linux."""
        machine = platform.machine()
        return platform.node(), {"AMD64": "x86_64", "ARM64": "aarch64"}.get(machine, machine), platform.version()

    def lock(self, descriptor: int, *, shared: bool = False) -> None:
        """Of one byte far behind the content: what is locked there cannot be read. Shared locks exclude each other."""
        del shared
        import msvcrt

        os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]

    def pin(self, cores: Iterable[int]) -> set[int]:
        """By `SetProcessAffinityMask`: up to 64 cores, of the group that the process is in."""
        wanted = sum(1 << core for core in set(cores) if core < 64)
        process, mask, system = self._kernel.GetCurrentProcess(), ctypes.c_size_t(), ctypes.c_size_t()
        if not self._kernel.SetProcessAffinityMask(ctypes.c_void_p(process), ctypes.c_size_t(wanted)):
            raise OSError("Windows refuses that")
        self._kernel.GetProcessAffinityMask(ctypes.c_void_p(process), ctypes.byref(mask), ctypes.byref(system))
        return {core for core in range(64) if mask.value >> core & 1}

    def bind_to_parent(self, parent: int) -> None:
        """Nothing: the lifeline tells of a parent that is gone already, too."""

    def runs(self, pid: int, word: str) -> bool:
        """Whether it lives: `os.kill` would end it, whatever the signal. Its command line is not told."""
        del word
        handle = self._open(pid, _SYNCHRONIZE)
        if handle is None:
            return False
        lives = self._kernel.WaitForSingleObject(handle, 0) == _STILL_RUNS
        self._kernel.CloseHandle(handle)
        return bool(lives)


def interpreter() -> tuple[str, dict[str, str]]:
    """The program of this interpreter, and what its environment needs.

    A virtual environment's own program only starts the real one as another process, whose memory would not be seen.
    """
    base = getattr(sys, "_base_executable", sys.executable)
    if base == sys.executable or os.path.normcase(base) == os.path.normcase(sys.executable):
        return sys.executable, {}
    return base, {"__PYVENV_LAUNCHER__": sys.executable}
