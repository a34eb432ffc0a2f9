"""Live progress: what each device does now; of a run also trials done and left, time left, the best so far.

On a terminal a small panel is redrawn at most once a second (on the local device drawing shares the cores with the
measurement); elsewhere one plain line per event.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.live import Live
    from rich.text import Text

    from archsearch.observer import Standing
    from profiler.results import JobStatus

_PHASES: Mapping[str, str] = {
    "waiting_lease": "waits for another measurement to end",
    "cooling": "waits for a quiet, cool device",
    "weights": "writes weights",
    "checking": "checks blocks against the reference",
    "timing": "times",
    "memory": "takes peak memory",
    "done": "done",
}


def duration(seconds: float) -> str:
    """65 -> ``1m05s``."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"


@dataclass(slots=True)
class _DeviceLine:
    doing: str = "idle"
    label: str = ""
    state: str = ""
    waiting: bool = False
    told: str = ""
    since: float = field(default_factory=time.monotonic)


class DevicePanel:
    """What each device does now; a context manager.

    Args:
        every_s: Without a terminal, a line tells what a device does when that has changed and this long has passed
            since the last one; None for never.
    """

    def __init__(self, *, every_s: float | None = None) -> None:
        from archsearch.cli.output import console

        self._devices: dict[str, _DeviceLine] = {}
        self._every_s = every_s
        self._told = time.monotonic()
        self._console = console(stderr=True)
        self._live_wanted = sys.stderr.isatty()
        self._live: Live | None = None

    def __enter__(self) -> Self:
        if self._live_wanted:
            from rich.live import Live

            live = Live(console=self._console, refresh_per_second=1, transient=True, get_renderable=self._render)
            live.start()
            self._live = live
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def say(self, line: str) -> None:
        """Print one line that stays."""
        if self._live is None:
            self._console.print(f"[{time.strftime('%H:%M:%S')}] {line}")
        else:
            self._live.console.print(line)

    def device(self, name: str, label: str, status: JobStatus | None) -> None:
        """A device reported what it does."""
        line = self._devices.setdefault(name, _DeviceLine())
        doing = "starts" if status is None else _PHASES.get(status.state, status.state)
        waiting = status is not None and status.state == "waiting_lease"
        if status is not None and status.state in ("timing", "memory") and status.process is not None:
            doing += f", process {status.process} of up to {status.processes}"
        if status is not None and status.detail and status.state in ("waiting_lease", "cooling"):
            doing += f" ({status.detail})"
        news = waiting and not line.waiting
        if self._every_s is not None and time.monotonic() - self._told > self._every_s:
            news = news or doing != line.told
        if news and self._live is None:
            self.say(f"{name}: {label}: {doing}")
            self._told, line.told = time.monotonic(), doing
        state = "" if status is None else status.state
        if (state, label) != (line.state, line.label):
            line.since = time.monotonic()
        line.doing, line.label, line.waiting, line.state = doing, label, waiting, state

    def idle(self, name: str) -> None:
        """A device has nothing to do."""
        self._devices[name] = _DeviceLine()

    def _lines(self) -> list[str]:
        lines = []
        for name, line in self._devices.items():
            what = f"{line.label}: " if line.label else ""
            lines.append(f"  {name}: {what}{line.doing} ({duration(time.monotonic() - line.since)})")
        return lines

    def _render(self) -> Text:
        from rich.text import Text

        from reports.formatting import clean

        return Text("\n".join(map(clean, self._lines())))


class Progress(DevicePanel):
    """What a run tells while it works; a context manager.

    Args:
        title: Name of the study.
        trials: Candidates wanted, or None.
        deadline: `time.monotonic` at which the time budget ends, or None.
    """

    def __init__(self, title: str, *, trials: int | None, deadline: float | None) -> None:
        super().__init__()
        self._title = title
        self._trials = trials
        self._deadline = deadline
        self._done = 0
        self._left_s: float | None = None
        self._best: tuple[str, ...] = ()

    def settled(self, standing: Standing) -> None:
        """A candidate was measured: count it, and say how far the study is."""
        self._done = standing.done
        self._left_s = standing.left_s
        self._best = standing.best
        if self._live is None:
            self.say(f"{self._done} candidates done, {self.left()}" + "".join(f"; best {best}" for best in self._best))

    def left(self) -> str:
        """Trials and time left, in words."""
        parts = []
        if self._trials is not None:
            left = max(0, self._trials - self._done)
            parts.append(f"{left} left")
            if self._left_s is not None and self._deadline is None:
                parts.append(f"about {duration(self._left_s)}")
        if self._deadline is not None:
            parts.append(f"{duration(self._deadline - time.monotonic())} of the time budget left")
        return ", ".join(parts)

    def _lines(self) -> list[str]:
        head = f"{self._title}: {self._done} candidates done, {self.left()}"
        return [head, *super()._lines(), *(f"  best so far: {best}" for best in self._best)]
