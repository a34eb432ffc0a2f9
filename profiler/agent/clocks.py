"""Fixed processor clocks for the time of one job, and the old ones back afterwards, whatever happens.

What was found is written into `WORK/clocks` before anything is changed, and the file is removed when all is as it was:
an agent that was killed leaves it, and the next one that works here puts the clocks back first. Somebody else's file of
that name is left alone.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

from .folder import is_record
from .protocol import JobFailure, write_json

POLICIES = Path("/sys/devices/system/cpu/cpufreq")
_MIN, _MAX = "scaling_min_freq", "scaling_max_freq"


class Clocks:
    """The clocks of all cores; call it from the process that holds the device's lease.

    Args:
        record: The file that remembers what to put back.
        policies: Where the system shows its frequency policies.
    """

    def __init__(self, record: Path, *, policies: Path = POLICIES) -> None:
        self._record = record
        self._policies = policies

    def fix(self, mhz: int) -> None:
        """Set the lowest and the highest clock of every core to one value.

        A core whose range ends below or begins above it gets the end that is nearest.

        Raises:
            JobFailure: The system does not let us, or does not do it; nothing is left changed.
        """
        if os.path.lexists(self._record):
            raise JobFailure("failed", f"clocks cannot be fixed: {self._record} is in the way, and is not ours")
        found = sorted(self._policies.glob("policy*"))
        if not found:
            raise JobFailure("failed", "clocks cannot be fixed: the system shows no frequency policies")
        try:
            before = {str(policy): [_read(policy / _MIN), _read(policy / _MAX)] for policy in found}
            write_json(self._record, before)
            for policy in found:
                lowest, highest = _read(policy / "cpuinfo_min_freq"), _read(policy / "cpuinfo_max_freq")
                _set(policy, min(max(1000 * mhz, lowest), highest))
        except (OSError, ValueError) as error:
            self.restore()
            reason = getattr(error, "strerror", None) or str(error)
            raise JobFailure("failed", f"clocks cannot be fixed: {reason} (it needs root)") from error

    def restore(self) -> None:
        """Put back what the record remembers; may be repeated."""
        try:
            content = self._record.read_bytes()
        except OSError:
            return
        if not is_record(content):
            return
        with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):
            for name, (lowest, highest) in json.loads(content).items():
                policy = self._policies / Path(name).name
                with contextlib.suppress(OSError):
                    _widen(policy, int(lowest), int(highest))
        with contextlib.suppress(OSError):
            self._record.unlink()


def _read(path: Path) -> int:
    return int(path.read_text(encoding="ascii"))


def _set(policy: Path, khz: int) -> None:
    """Both ends to one value, and see that the kernel took it."""
    _widen(policy, khz, khz)
    if (_read(policy / _MIN), _read(policy / _MAX)) != (khz, khz):
        raise ValueError(f"{policy.name} was asked for {khz // 1000} MHz and has {_read(policy / _MAX) // 1000}")


def _widen(policy: Path, lowest: int, highest: int) -> None:
    """Set both ends; the kernel refuses a lowest above the highest, so the order depends on where they were."""
    ends = [(_MIN, lowest), (_MAX, highest)]
    for name, value in ends if lowest <= _read(policy / _MAX) else reversed(ends):
        (policy / name).write_text(str(value), encoding="ascii")
