"""A study's devices at work: a thread for each, busy with its own task; none waits for another.

A device that stays out of reach, is held by somebody else for too long, or loses its agent with two tasks in a row, is
put in quarantine: left out for the rest of the run. Its tasks that failed have a result with a reason; the others are
done by the run that finds it well again.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Event

from archsearch.judging import AtWork
from archsearch.measurement import Measurement
from archsearch.measuring import DeviceChanged, Interrupted, Measurer, Restless
from archsearch.observer import Observer
from archsearch.subjects import Subject
from archsearch.trials import Trial
from profiler.errors import AgentDied, DeviceUnavailable, ResultError, TransportError
from profiler.jobs import Protocol

QUARANTINE_AFTER = 2
"""Tasks in a row that a device failed; one alone may be the candidate's fault."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What one device is to measure.

    Attributes:
        subject: What.
        trial: Of which trial, or None.
        fresh: Measure even if a result is known.
        protocol: In place of the usual one.
    """

    subject: Subject
    trial: Trial | None = None
    fresh: bool = False
    protocol: Protocol | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A task that a device has ended; without a measurement when it was lost over it, or became another device."""

    device: str
    task: Task
    measurement: Measurement | None


class Fleet:
    """The devices of one run; `close` it. Called from the study's thread alone.

    Attributes:
        idle_s: Seconds that devices had nothing to do while others were at work.

    Args:
        measurers: One per device.
        observer: Who is told.
        cancel: Set from outside to stop.
    """

    def __init__(self, measurers: Sequence[Measurer], observer: Observer, cancel: Event) -> None:
        self._measurers = {measurer.session.device.name: measurer for measurer in measurers}
        self._observer = observer
        self._cancel = cancel
        self._threads = ThreadPoolExecutor(max_workers=len(self._measurers), thread_name_prefix="device")
        self._ended: SimpleQueue[tuple[str, Task, Future[Measurement | None]]] = SimpleQueue()
        self._busy: set[str] = set()
        self._failed: dict[str, int] = {}  # tasks in a row, by device
        self._lost: dict[str, str] = {}
        self.idle_s = 0.0

    @property
    def lost(self) -> Mapping[str, str]:
        """Devices in quarantine, with the reason."""
        return dict(self._lost)

    def devices(self) -> list[str]:
        """Devices that are still there."""
        return [name for name in self._measurers if name not in self._lost]

    def pools(self) -> list[str]:
        """Groups, and devices without one, of which some device is still there."""
        return list(dict.fromkeys(self.pool_of(name) for name in self.devices()))

    def pool_of(self, device: str) -> str:
        """The group of a device, or its own name."""
        return self._measurers[device].session.device.pool

    def at_work(self) -> dict[str, AtWork]:
        """The devices that are still there, and under which conditions they would measure now."""
        return {
            name: AtWork(pool=self.pool_of(name), conditions=self._measurers[name].conditions)
            for name in self.devices()
        }

    def idle(self) -> list[str]:
        """Devices with nothing to do."""
        return [name for name in self.devices() if name not in self._busy]

    def busy(self) -> bool:
        """Whether some device is at work."""
        return bool(self._busy)

    def quarantine(self, device: str, reason: str) -> None:
        """Leave a device out for the rest of the run."""
        self._lost[device] = reason
        self._observer.say(f"{device} is left out from now on: {reason}")

    def sweep(self) -> None:
        """End what drivers that died have left running."""
        for measurer in self._measurers.values():
            with suppress(TransportError):  # a device that is out of reach is told of when it is to measure
                measurer.sweep()

    def begin(self, device: str, task: Task) -> None:
        """Have an idle device carry out a task; `next` tells when it has."""
        self._busy.add(device)
        if task.trial is not None:
            task.trial.at_work.add(self.pool_of(device))
        self._observer.device(device, task.subject.label, None)
        future = self._threads.submit(self._carry_out, device, task)
        future.add_done_callback(lambda done: self._ended.put((device, task, done)))

    def next(self) -> Finished:
        """Wait for the next task to end.

        Raises:
            Interrupted: The user wants to stop.
            StoreError: A result could not be stored.
        """
        begun, idle = time.monotonic(), len(self._measurers) - len(self._busy)
        device, task, future = self._ended.get()
        self.idle_s += idle * (time.monotonic() - begun)
        measurement: Measurement | None
        self._busy.discard(device)
        if task.trial is not None:
            task.trial.at_work.discard(self.pool_of(device))
        self._observer.idle(device)
        try:
            measurement = future.result()
        except (TransportError, DeviceUnavailable) as error:
            self.check_cancelled()  # a link that breaks is not waited for then
            self.quarantine(device, str(error))
            measurement = None
        if measurement is not None and measurement.status == "busy":
            self.quarantine(device, measurement.reason)
        elif self._failed.get(device, 0) >= QUARANTINE_AFTER:
            self.quarantine(device, f"its agent failed {QUARANTINE_AFTER} tasks in a row")
        return Finished(device=device, task=task, measurement=measurement)

    def check_cancelled(self) -> None:
        """Raise Interrupted when the user wants to stop."""
        if self._cancel.is_set():
            raise Interrupted

    def close(self) -> None:
        """Wait for every device's thread."""
        self._threads.shutdown(wait=True)

    def store_unmeasured(self, device: str, subject: Subject, status: str, reason: str) -> Measurement:
        """Store for an idle device an outcome that needs no run."""
        return self._measurers[device].store_unmeasured(subject, status, reason)

    def waited_s(self) -> float:
        """Seconds that devices of this run waited for another run's result."""
        return sum(measurer.waited_s for measurer in self._measurers.values())

    def tuning_s(self) -> float:
        """Seconds that devices of this run spent on choosing lowerings."""
        return sum(measurer.tuning_s for measurer in self._measurers.values())

    def _carry_out(self, device: str, task: Task) -> Measurement | None:
        """In the device's thread."""
        measurer, subject = self._measurers[device], task.subject
        try:
            outcome = measurer.measure(
                subject,
                fresh=task.fresh,
                protocol=task.protocol,
                on_status=lambda status: self._observer.device(device, subject.label, status),
                if_changed="raise",
            )
        except Restless:
            raise
        except DeviceChanged as error:
            self._observer.say(f"{device}: {error}: a series of its own begins, with the anchors")
            return None
        except (AgentDied, ResultError) as error:
            # The run-away took its agent with it, or wrote nonsense: a result with a reason; the study goes on.
            self._failed[device] = self._failed.get(device, 0) + 1
            self._observer.say(f"{device}: {subject.label}: failed: {error}")
            return measurer.store_unmeasured(subject, "failed", str(error))
        self._failed[device] = 0
        self._observer.say(f"{device}: {summary_line(outcome.measurement, subject.label, reused=outcome.reused)}")
        return outcome.measurement


def summary_line(measurement: Measurement, label: str, *, reused: bool) -> str:
    """One line for the log: what was measured, and its numbers."""
    if measurement.status != "ok":
        return f"{label}: {measurement.status}: {measurement.reason}"
    parts = []
    for view in measurement.measured_points:
        if view.summary is not None:
            ttft, decode = view.summary.ttft_ms, view.summary.decode_ms
            parts.append(
                f"{view.point.text}: TTFT {ttft.value:.4g} ms ±{ttft.relative_half_width:.1%}, "
                f"decode {decode.value:.4g} ms ±{decode.relative_half_width:.1%}"
            )
        if view.peak_rss_mib is not None:
            parts.append(f"peak {view.peak_rss_mib:.0f} MiB")
    return f"{label}: {', '.join(parts)}" + (" (known, not measured again)" if reused else "")
