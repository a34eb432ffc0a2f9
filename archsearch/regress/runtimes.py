"""A comparison of two runtimes on all devices, each in a thread of its own, from installing to the last pair."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from threading import Event, Lock

from archsearch.measuring import Interrupted, Measurer
from archsearch.regress.device_runtimes import RUN_PROTOCOL, CompareSettings, DeviceComparison
from archsearch.regress.night import MOST_REASON
from archsearch.regress.notes import STUDY
from archsearch.regress.runtime_judged import judged
from archsearch.regress.runtime_notes import COMPARED, UNCOMPARED
from archsearch.regress.runtime_pairs import Noted
from archsearch.regress.side_by_side import side_by_side
from archsearch.regress.taking import Telling
from archsearch.store import Store
from profiler.devices import Device
from profiler.errors import ProfilerError
from profiler.runner import DeviceSession
from profiler.setup.runtimes import require_runtimes
from profiler.transports import make_transport
from reports.runtime_verdicts import RuntimeVerdict

Sessions = tuple[DeviceSession, DeviceSession]
Opening = Callable[[Device, tuple[str, str], Callable[[str], None]], AbstractContextManager[Sessions]]
"""Opens a device under two runtimes, and says what it does meanwhile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """How a comparison ended.

    Attributes:
        verdicts: On everything that was measured, the worst first.
        lost: Devices that could not be used, or not to the end, with the reason.
        interrupted: Whether the user stopped it.
        measured: Measurements that are stored.
    """

    verdicts: Sequence[RuntimeVerdict]
    lost: Mapping[str, str]
    interrupted: bool
    measured: int


@contextmanager
def open_runtimes(device: Device, versions: tuple[str, str], say: Callable[[str], None]) -> Iterator[Sessions]:
    """Sessions of one device under two runtimes, which are installed there if they are not yet.

    Both share one transport: a phone on a cable can be opened once.

    Raises:
        ProfilerError: The device cannot be used, or a version not be had there.
    """
    with make_transport(device) as transport, ExitStack() as stack:
        a, b = require_runtimes(transport, device, versions, say=say)
        transport.helper = a.python
        yield (
            stack.enter_context(DeviceSession(device, transport=transport, python=a.python)),
            stack.enter_context(DeviceSession(device, transport=transport, python=b.python)),
        )


def compare_runtimes(
    settings: CompareSettings,
    devices: Sequence[Device],
    *,
    store: Store,
    telling: Telling,
    cancel: Event,
    opening: Opening = open_runtimes,
) -> Compared:
    """Compare on all devices; everything measured is in the store when this returns or raises.

    Args:
        settings: Of the comparison.
        devices: Where; one that is lost takes nothing from the others.
        store: Where nights are kept.
        telling: Who is told.
        cancel: Set from outside to stop.
        opening: Opens a device.

    Raises:
        StoreError: Something could not be stored; all devices are stopped then.
    """
    return _Comparison(settings, store, telling, cancel, opening).run(devices)


class _Comparison:
    def __init__(
        self, settings: CompareSettings, store: Store, telling: Telling, cancel: Event, opening: Opening
    ) -> None:
        self._settings = settings
        self._store = store
        self._telling = telling
        self._cancel = cancel
        self._opening = opening
        self._noted: list[Noted] = []
        self._lost: dict[str, str] = {}
        self._keeping = Lock()

    def run(self, devices: Sequence[Device]) -> Compared:
        self._begin(devices)
        interrupted = side_by_side(
            {device.name: partial(self._on, device) for device in devices}, cancel=self._cancel,
            losing=(ProfilerError,), lost=self._lose,
        )  # fmt: skip
        return Compared(
            verdicts=judged(self._noted), lost=self._lost, interrupted=interrupted, measured=len(self._noted)
        )  # fmt: skip

    def _on(self, device: Device) -> None:
        """One device, in its own thread.

        Raises:
            Interrupted: The user stops.
            ProfilerError: The device is lost; what was measured is stored.
            StoreError: A result could not be stored.
        """

        def say(line: str) -> None:
            if self._cancel.is_set():  # between two steps of an installation; what is half made is removed
                raise Interrupted
            self._telling.say(f"{device.name}: {line}")

        try:
            with self._opening(device, self._settings.runtimes, say) as (a, b):
                DeviceComparison(
                    (self._measurer(a), self._measurer(b)), self._settings, self._telling, self._keep
                ).run()
        except ProfilerError as error:
            if self._cancel.is_set():  # a link that breaks is not waited for then
                raise Interrupted from error
            raise

    def _measurer(self, session: DeviceSession) -> Measurer:
        return Measurer(
            session, self._store, study=STUDY, protocol=RUN_PROTOCOL, cancel=self._cancel, say=self._telling.say
        )  # fmt: skip

    def _keep(self, noted: Noted) -> None:
        with self._keeping:
            self._noted.append(noted)

    def _begin(self, devices: Sequence[Device]) -> None:
        """Keep what is to be measured: whatever becomes of it, what is missing is known."""
        settings = self._settings
        self._store.create_study(STUDY, {"format": 1, "nightly": True})
        things = [
            [item.name, item.identity, item.subject.precision, [point.to_list() for point in item.subject.points]]
            for item in settings.items
        ]
        self._store.add_event(STUDY, COMPARED, {
            "compared": settings.compared, "suite": settings.suite, "runtimes": list(settings.runtimes),
            "devices": [device.name for device in devices], "asked": things, "pairs": settings.pairs,
        })  # fmt: skip

    def _lose(self, device: str, error: ProfilerError) -> None:
        self._lost[device] = reason = f"{error} (try: {error.hint})" if error.hint else str(error)
        self._telling.idle(device)
        self._telling.say(f"{device} is left out from now on: {reason}")
        event = {"compared": self._settings.compared, "device": device, "reason": reason[:MOST_REASON]}
        self._store.add_event(STUDY, UNCOMPARED, event)
