"""One measurement after the other on one device, told as they come, until the device fails several times in a row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from archsearch.fleet import QUARANTINE_AFTER, summary_line
from archsearch.measuring import Interrupted, Measurer
from archsearch.subjects import Subject
from profiler.errors import AgentDied, DeviceUnavailable, ResultError, TransportError
from profiler.jobs import Protocol as Effort

if TYPE_CHECKING:
    from archsearch.measurement import Measurement
    from profiler.results import JobStatus


class Telling(Protocol):
    """Told from devices' threads."""

    def say(self, line: str) -> None:
        """Something worth a line happened."""

    def device(self, name: str, label: str, status: JobStatus | None) -> None:
        """A device reported what it does."""

    def idle(self, name: str) -> None:
        """A device has nothing to do."""

    def expect(self, device: str, measurements: int) -> None:
        """So many more measurements are to be made on a device; fewer, where it is negative."""

    def measured(self, device: str) -> None:
        """One was made."""


class Taker:
    """Takes measurements of one device; belongs to the thread that uses it.

    Attributes:
        measured: Measurements that gave numbers.

    Args:
        device: Name of the device.
        telling: Who is told.
    """

    def __init__(self, device: str, telling: Telling) -> None:
        self._device = device
        self._telling = telling
        self._failed = 0  # in a row
        self.measured = 0

    def take(self, measurer: Measurer, subject: Subject, effort: Effort) -> Measurement:
        """Measure afresh; what ends without a result is stored as failed, with the reason.

        Raises:
            Interrupted: The user stops.
            TransportError, DeviceUnavailable: The device is lost, or held by somebody else; what was measured is
                stored.
            StoreError: A result could not be stored.
        """
        label = subject.label

        def on_status(status: JobStatus | None) -> None:
            self._telling.device(self._device, label, status)

        on_status(None)
        measurement: Measurement
        try:
            measurement = measurer.measure(subject, fresh=True, protocol=effort, on_status=on_status).measurement
        except (TransportError, DeviceUnavailable) as error:
            if measurer.cancel.is_set():  # a link that breaks is not waited for then
                raise Interrupted from error
            raise
        except (AgentDied, ResultError) as error:
            measurement = measurer.store_unmeasured(subject, "failed", str(error))
            self._failed += 1
        else:
            self._failed = 0
        self.measured += measurement.status == "ok"
        self._telling.say(f"{self._device}: {summary_line(measurement, label, reused=False)}")
        self._telling.measured(self._device)
        if measurement.status == "busy":
            raise DeviceUnavailable(f"it is held by somebody else: {measurement.reason}")
        if self._failed >= QUARANTINE_AFTER:
            raise DeviceUnavailable(
                f"its agent failed {self._failed} times in a row; the last time: {measurement.reason}"
            )
        return measurement
