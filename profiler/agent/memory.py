"""The memory pass: peak resident memory of a process that only loads, prefills and decodes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from .platforms import HERE, read_text
from .protocol import JobFailure, Json


def _status() -> dict[str, float]:
    """Fields of /proc/self/status that are given in kB, as MiB."""
    fields: dict[str, float] = {}
    if not HERE.proc:
        return fields
    for line in (read_text("/proc/self/status") or "").splitlines():
        key, _, value = line.partition(":")
        if value.endswith(" kB"):
            fields[key] = int(value.split()[0]) / 1024
    return fields


def evict_from_page_cache(model: Path) -> bool:
    """Take a model's files out of the page cache, so that the pass reads them from storage, as a fresh start does.

    How much of a mapped file becomes resident around each touched page depends on how its pages came into the cache: of
    a file just written, large folios are mapped whole (here 18 MiB more for an embedding table of 42 MiB).

    Returns:
        Whether the system has a way to ask for it.
    """
    if not hasattr(os, "posix_fadvise"):
        return False
    for path in (model, model.with_name("weights.bin"), *model.parent.glob(f"{model.name}?data*")):
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except OSError:
            continue
        try:
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        except OSError:
            return False
        finally:
            os.close(descriptor)
    return True


class MemoryMeter:
    """High-water marks per phase: reset at a phase's begin (`clear_refs` 5), read (`VmHWM`) at its end.

    Where the mark cannot be reset, as on macOS and Windows, the phases hold the peak so far, and `source` says so.

    Args:
        from_storage: Whether the model is read from storage and not from the page cache; told in `source`.
    """

    def __init__(self, *, from_storage: bool) -> None:
        self._from_storage = from_storage
        self._baseline = _status().get("VmRSS") or HERE.resident_mib(os.getpid())
        self._phases: dict[str, float] = {}
        self._largest: dict[str, float] = {}
        self._resettable = self._reset()

    @staticmethod
    def _reset() -> bool:
        if not HERE.proc:
            return False
        try:
            with open("/proc/self/clear_refs", "w", encoding="ascii") as file:  # noqa: PTH123
                file.write("5")
        except OSError:
            return False
        return True

    def end_phase(self, name: str) -> None:
        """Read the marks of the phase that ends here and begin the next."""
        now = _status()
        peak = now.get("VmHWM") or HERE.peak_mib()[0]
        if peak is None:
            raise JobFailure("failed", f"{HERE.name} does not show the memory of a process here")
        self._phases[name] = peak
        for field in ("RssAnon", "RssFile", "VmSwap"):
            if field in now:
                self._largest[field] = max(now[field], self._largest.get(field, 0.0))
        if self._resettable:
            self._reset()

    def result(self) -> Json:
        """The record of the pass, in MiB; `rss_*` and `swap_mib` are the largest values at a phase's end."""

        def rounded(value: float | None) -> float | None:
            return None if value is None else round(value, 2)

        known = "VmHWM" in _status()
        if known:
            source = "VmHWM per phase" if self._resettable else "VmHWM, not reset"
        else:
            source = f"{HERE.peak_mib()[1]}, not reset"
        source += "" if self._from_storage else ", model in the page cache"
        phases: dict[str, Any] = {name: rounded(value) for name, value in self._phases.items()}
        return {
            "peak_rss_mib": rounded(max(self._phases.values())),
            "rss_anon_mib": rounded(self._largest.get("RssAnon")),
            "rss_file_mib": rounded(self._largest.get("RssFile")),
            "swap_mib": rounded(self._largest.get("VmSwap")),
            "baseline_rss_mib": rounded(self._baseline),
            "phases": phases,
            "source": source,
        }
