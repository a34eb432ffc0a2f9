"""A memory limit for one worker: a cgroup of its own where we may make one, else somebody who looks and kills."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from .platforms import HERE


def resident_mib(pid: int) -> float | None:
    """Resident memory of a process now, or 0 when it is gone; None where the system does not tell."""
    return HERE.resident_mib(pid)


class MemoryCgroup:
    """A version-2 cgroup with `memory.max`, made under our own group or beside it, if the system lets us.

    `active` says whether it exists; without it `adopt` answers False and the supervisor polls instead.
    """

    def __init__(self, limit_mib: int, *, root: Path = Path("/sys/fs/cgroup"), own: str | None = None) -> None:
        self._folder: Path | None = None
        self._kills = 0
        group = _own_group() if own is None else own
        if group is None or "memory" not in _words(root / "cgroup.controllers"):
            return
        here = root / group.lstrip("/")
        for parent in (here, here.parent):
            if parent != root.parent and "memory" in _words(parent / "cgroup.subtree_control"):
                self._folder = self._make(parent / f"archsearch-{os.getpid()}", limit_mib)
                if self._folder is not None:
                    return

    @property
    def active(self) -> bool:
        """Whether the kernel enforces the limit."""
        return self._folder is not None

    @staticmethod
    def _make(folder: Path, limit_mib: int) -> Path | None:
        try:
            folder.mkdir()
        except OSError:
            return None
        try:
            (folder / "memory.max").write_text(str(limit_mib * 2**20))
        except OSError:
            with contextlib.suppress(OSError):
                folder.rmdir()
            return None
        for name, value in (("memory.swap.max", "0"), ("memory.oom.group", "1")):
            with contextlib.suppress(OSError):
                (folder / name).write_text(value)
        return folder

    def adopt(self, pid: int) -> bool:
        """Move a process into the group; False if that is not possible."""
        if self._folder is None:
            return False
        self._kills = self._count()
        try:
            (self._folder / "cgroup.procs").write_text(str(pid))
        except OSError:
            return False
        return True

    def killed(self) -> bool:
        """Whether the kernel has killed somebody here since the last `adopt`."""
        return self._folder is not None and self._count() > self._kills

    def _count(self) -> int:
        if self._folder is None:
            return 0
        words = _words(self._folder / "memory.events")
        return int(words[words.index("oom_kill") + 1]) if "oom_kill" in words else 0

    def close(self) -> None:
        """Remove the group once its processes are gone."""
        if self._folder is not None:
            with contextlib.suppress(OSError):
                self._folder.rmdir()
            self._folder = None


def _words(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").split()
    except OSError:
        return []


def _own_group() -> str | None:
    try:
        lines = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((line[3:] for line in lines if line.startswith("0::")), None)
