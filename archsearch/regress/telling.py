"""Progress of a night: what each device does now, how much of it is measured, and the time that is left."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from threading import Lock

from archsearch.progress import DevicePanel, duration

_TELL_EVERY_S = 20.0


@dataclass(slots=True)
class _Count:
    expected: int = 0
    done: int = 0
    begun: float = field(default_factory=time.monotonic)

    def left_s(self) -> float | None:
        """Seconds left, at the pace so far; None before anything is measured."""
        if not self.done:
            return None
        return (time.monotonic() - self.begun) / self.done * (self.expected - self.done)

    def text(self) -> str:
        """For people."""
        left = self.left_s()
        return f"{self.done} of {self.expected} measured" + ("" if left is None else f", about {duration(left)} left")


class NightPanel(DevicePanel):
    """What a night tells while it is measured; a context manager. Devices' threads call it."""

    def __init__(self) -> None:
        super().__init__(every_s=_TELL_EVERY_S)
        self._counts: dict[str, _Count] = {}
        self._counting = Lock()

    def expect(self, device: str, measurements: int) -> None:
        """So many more measurements are to be made on a device."""
        with self._counting:
            self._counts.setdefault(device, _Count()).expected += measurements

    def measured(self, device: str) -> None:
        """One was made."""
        with self._counting:
            count = self._counts.setdefault(device, _Count())
            count.done += 1
            text = count.text()
        if self._live is None:
            self.say(f"{device}: {text}")

    def _lines(self) -> list[str]:
        with self._counting:
            counts = [f"{device}: {count.text()}" for device, count in self._counts.items()]
        return [*counts, *super()._lines()]
