"""A study's devices at work: each measures the same thing at the same time, one thread per device.

A device that is out of reach is left out from then on; an agent that dies, or writes nonsense, costs its candidate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Event

from archsearch.measured import Measured
from archsearch.measurement import Measurement
from archsearch.measuring import Interrupted, Measurer
from archsearch.observer import Observer
from archsearch.subjects import Subject
from profiler.errors import AgentDied, ResultError, TransportError
from profiler.jobs import Protocol


class Fleet:
    """The devices of one run; `close` it.

    Args:
        measurers: One per device.
        measured: Takes what is measured.
        observer: Who is told.
        cancel: Set from outside to stop.
    """

    def __init__(self, measurers: Sequence[Measurer], measured: Measured, observer: Observer, cancel: Event) -> None:
        self._measurers = {measurer.session.device.name: measurer for measurer in measurers}
        self._measured = measured
        self._observer = observer
        self._cancel = cancel
        self._pool = ThreadPoolExecutor(max_workers=len(self._measurers), thread_name_prefix="device")
        self._lost: dict[str, str] = {}

    @property
    def lost(self) -> Mapping[str, str]:
        """Devices that failed on the way, with the reason."""
        return dict(self._lost)

    def names(self) -> list[str]:
        """Devices that are still there."""
        return [name for name in self._measurers if name not in self._lost]

    def close(self) -> None:
        """Wait for every device's thread."""
        self._pool.shutdown(wait=True)

    def sweep(self) -> None:
        """End what drivers that died have left running."""
        for measurer in self._measurers.values():
            with suppress(TransportError):  # a device that is out of reach is told of when it is to measure
                measurer.sweep()

    def check_cancelled(self) -> None:
        """Raise Interrupted when the user wants to stop."""
        if self._cancel.is_set():
            raise Interrupted

    def measure(self, subject: Subject, *, fresh: bool = False, protocol: Protocol | None = None) -> None:
        """Measure on every device at once, or take what is known.

        Raises:
            Interrupted: The user wants to stop.
            StoreError: A result could not be stored.
        """
        self.check_cancelled()
        futures = [
            self._pool.submit(self._measure_on, name, self._measurers[name], subject, fresh, protocol)
            for name in self.names()
        ]
        errors: list[BaseException] = []
        for future in futures:
            error = future.exception()
            if error is not None:
                errors.append(error)
            elif (measurement := future.result()) is not None:
                self._measured.add(measurement)
        if errors:
            raise errors[0]

    def store_unmeasured(self, subject: Subject, status: str, reason: str) -> None:
        """Store for every device an outcome that needs no run."""
        for name in self.names():
            self._measured.add(self._measurers[name].store_unmeasured(subject, status, reason))

    def waited_s(self) -> float:
        """Seconds that devices of this run waited for another run's result."""
        return sum(measurer.waited_s for measurer in self._measurers.values())

    def tuning_s(self) -> float:
        """Seconds that devices of this run spent on choosing lowerings."""
        return sum(measurer.tuning_s for measurer in self._measurers.values())

    def _measure_on(
        self, name: str, measurer: Measurer, subject: Subject, fresh: bool, protocol: Protocol | None
    ) -> Measurement | None:
        self._observer.device(name, subject.label, None)
        try:
            outcome = measurer.measure(
                subject,
                fresh=fresh,
                protocol=protocol,
                on_status=lambda status: self._observer.device(name, subject.label, status),
            )
        except (AgentDied, ResultError) as error:
            # The run-away took its agent with it, or wrote nonsense: a result with a reason; the study goes on.
            measurement = measurer.store_unmeasured(subject, "failed", str(error))
            self._observer.say(f"{name}: {subject.label}: failed: {error}")
            return measurement
        except TransportError as error:
            self._lost[name] = str(error)
            self._observer.say(f"{name} is lost: {error}")
            return None
        finally:
            self._observer.idle(name)
        self._observer.say(f"{name}: {summary_line(outcome.measurement, subject.label, reused=outcome.reused)}")
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
