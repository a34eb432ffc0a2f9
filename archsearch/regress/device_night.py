"""One device's night: its anchors, everything of the suite in random order, its anchors again; then fresh runs.

A block over which the anchors moved is measured again after a pause. Whatever is stored says to what it belongs, so
that nothing here needs to be remembered (`archsearch.regress.rounds`).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from random import Random
from typing import Final

from archsearch.measuring import Interrupted, Measurer
from archsearch.regress.items import Item
from archsearch.regress.judged import verdicts_of
from archsearch.regress.notes import Asked, Note, Part
from archsearch.regress.rounds import THROTTLED, Noted, rounds
from archsearch.regress.series import asked_of, load_series
from archsearch.regress.series_key import SeriesKey
from archsearch.regress.taking import Taker, Telling
from profiler.errors import TransportError
from profiler.jobs import Protocol as Effort
from reports.nights import FRESH_RUNS

NIGHT_PROTOCOL: Final = Effort(min_processes=3, max_processes=5, min_repeats=3, max_repeats=6, time_budget_s=20.0)
"""Several processes: what they differ by is most of what nights differ by."""
CLOSING_PROTOCOL: Final = replace(NIGHT_PROTOCOL, max_processes=3, max_repeats=3, memory_pass=False)
"""Of the anchor after a block: did it move?"""
AGAIN_AT_MOST: Final = 2
"""How often a block is measured again because the anchors moved over it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NightSettings:
    """What all devices of a night have in common.

    Attributes:
        night: Seconds since 1970 at which it began.
        suite: Name of the suite.
        items: What is measured; its anchors too.
        quantities: What is judged.
        seed: Of the order and of the prompts.
        archsearch: Version of this program.
        pause_s: Before a block is measured again.
    """

    night: float
    suite: str
    items: tuple[Item, ...]
    quantities: tuple[str, ...]
    seed: int
    archsearch: str
    pause_s: float

    @property
    def anchors(self) -> list[Item]:
        """What tells devices from what is measured on them."""
        return [item for item in self.items if item.anchor]

    def order(self, device: str) -> list[Item]:
        """Everything else, in an order of this night and device."""
        found = [item for item in self.items if not item.anchor]
        Random(f"{self.seed} {self.night!r} {device}").shuffle(found)  # noqa: S311 - an order, no secret
        return found


class DeviceNight:
    """A night on one open device; belongs to the thread that runs it.

    Args:
        measurer: Of the device.
        settings: Of the night.
        telling: Who is told.
    """

    def __init__(self, measurer: Measurer, settings: NightSettings, telling: Telling) -> None:
        self._measurer = measurer
        self._settings = settings
        self._telling = telling
        self._name = measurer.session.device.name
        self._taker = Taker(self._name, telling)

    @property
    def measured(self) -> int:
        """Measurements that gave numbers."""
        return self._taker.measured

    def run(self) -> None:
        """Measure everything, and fresh runs of what raises an alarm.

        Raises:
            Interrupted: The user stops.
            TransportError, DeviceUnavailable: The device is lost; what was measured is stored.
            StoreError: A result could not be stored.
        """
        with suppress(TransportError):  # a device that is out of reach says so when it is to measure
            self._measurer.sweep()
        for number in range(AGAIN_AT_MOST + 1):
            trouble = self._block(number)
            if trouble is None or trouble[0] != THROTTLED:
                break
            if number == AGAIN_AT_MOST:
                self._telling.say(f"{self._name}: {trouble[1]}, and again: nothing of this night counts")
                break
            self._telling.say(
                f"{self._name}: {trouble[1]}; everything is measured again in {self._settings.pause_s:g} s"
            )
            if self._measurer.cancel.wait(self._settings.pause_s):
                raise Interrupted
        self._confirm()
        self._telling.idle(self._name)

    def _block(self, number: int) -> tuple[str, str] | None:
        """One round of the block; why it does not count, where it does not."""
        anchors, items = self._settings.anchors, self._settings.order(self._name)
        self._telling.expect(self._name, 2 * len(anchors) + len(items))
        noted: list[Noted] = []
        parts: tuple[tuple[Part, Sequence[Item]], ...] = (("before", anchors), ("item", items), ("after", anchors))
        for part, some in parts:
            effort = CLOSING_PROTOCOL if part == "after" else NIGHT_PROTOCOL
            noted += [self._measure(item, part, number, effort) for item in some]
        return rounds(noted)[number].trouble

    def _confirm(self) -> None:
        """Take fresh runs of what wants one, beside fresh runs of the anchors, round by round."""
        for number in range(FRESH_RUNS):
            wanted = self._wanted()
            items = [item for item in self._settings.items if item.asked in wanted and not item.anchor]
            if not wanted:
                return
            some = [*self._settings.anchors, *items]
            names = ", ".join(item.name for item in items) or "the anchor"
            said = "it stands; another fresh run decides" if number else "an alarm; fresh runs decide"
            self._telling.say(f"{self._name}: {said}: {names}")
            self._telling.expect(self._name, len(some))
            for item in some:
                self._measure(item, "confirmation", 0, NIGHT_PROTOCOL)

    def _wanted(self) -> set[Asked]:
        night = self._settings.night
        here = [one for one in load_series(self._measurer.store) if one.device == self._name]
        verdicts = verdicts_of(here, night)
        return {asked_of(SeriesKey.parse(one.series.key)) for one in verdicts if one.wants_confirmation}

    def _measure(self, item: Item, part: Part, number: int, effort: Effort) -> Noted:
        settings = self._settings
        note = Note(
            night=settings.night, suite=settings.suite, item=item.name, identity=item.identity, anchor=item.anchor,
            part=part, round=number, quantities=settings.quantities, minimum_effect=item.minimum_effect,
            archsearch=settings.archsearch, fresh_runs=FRESH_RUNS,
        )  # fmt: skip
        suffix = _SUFFIX[part] if item.anchor or part == "confirmation" else ""
        label = f"{item.name}{suffix}"
        subject = replace(item.subject, label=label, notes=note.to_json())
        measurement = self._taker.take(self._measurer, subject, replace(effort, seed=settings.seed))
        return note, measurement


_SUFFIX: dict[Part, str] = {
    "before": " (anchor)", "item": "", "after": " (anchor, did it move?)", "confirmation": " (fresh run)",
}  # fmt: skip
