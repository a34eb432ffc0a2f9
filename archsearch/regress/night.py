"""A night on all devices at the same time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from threading import Event

from archsearch.measuring import Measurer
from archsearch.regress.device_night import DeviceNight, NightSettings
from archsearch.regress.fronts import keep_fronts
from archsearch.regress.notes import LOST, NIGHT, STUDY, Plan
from archsearch.regress.side_by_side import side_by_side
from archsearch.regress.taking import Telling
from archsearch.store import Store
from profiler.errors import DeviceUnavailable, ProfilerError, TransportError

MOST_REASON = 2000
"""Characters of a reason that are kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a night ended.

    Attributes:
        lost: Devices that could not be used, or not to the end, with the reason.
        interrupted: Whether the user stopped it.
        measured: Measurements that gave numbers.
    """

    lost: Mapping[str, str]
    interrupted: bool
    measured: int


def begin_night(store: Store, settings: NightSettings, devices: Sequence[str]) -> None:
    """Keep what the night is to measure, and what studies say of it: whatever becomes of it, what is missing is known.

    Raises:
        StoreError: It cannot be written.
    """
    store.create_study(STUDY, {"format": 1, "nightly": True})
    plan = Plan(
        night=settings.night, suite=settings.suite, devices=tuple(devices),
        asked=tuple(item.asked for item in settings.items),
    )  # fmt: skip
    store.add_event(STUDY, NIGHT, plan.to_json())
    told = {(one.front.study, one.front.name): one.front for one in settings.items if one.front is not None}
    keep_fronts(store, settings.night, told.values())


def lose(store: Store, settings: NightSettings, device: str, reason: str) -> None:
    """Keep that a device could not be used, or not to the end."""
    store.add_event(STUDY, LOST, {"night": settings.night, "device": device, "reason": reason[:MOST_REASON]})


def run_night(
    settings: NightSettings, measurers: Sequence[Measurer], *, store: Store, telling: Telling, cancel: Event
) -> Ended:
    """Measure a night that has begun; everything measured is in the store when this returns or raises.

    Raises:
        StoreError: Something could not be stored; all devices are stopped then.
    """
    reasons: dict[str, str] = {}
    nights = {measurer.session.device.name: DeviceNight(measurer, settings, telling) for measurer in measurers}

    def lost(name: str, error: ProfilerError) -> None:
        reasons[name] = str(error)
        telling.idle(name)
        telling.say(f"{name} is left out from now on: {error}")
        lose(store, settings, name, str(error))

    interrupted = side_by_side(
        {name: night.run for name, night in nights.items()}, cancel=cancel,
        losing=(TransportError, DeviceUnavailable), lost=lost,
    )  # fmt: skip
    return Ended(lost=reasons, interrupted=interrupted, measured=sum(night.measured for night in nights.values()))
