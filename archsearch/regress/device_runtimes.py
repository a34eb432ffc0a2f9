"""One device measures everything of a suite under two runtimes, in turns; then again what was found to differ.

A round takes one pair of each thing, in an order of its own, so that the pairs of one thing are spread over the whole
session. The order within pairs (A B, B A, B A, A B, ...) is the Thue-Morse sequence: drift that is linear or quadratic
in time moves both runtimes alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from random import Random
from typing import Final

from archsearch.measuring import Measurer
from archsearch.regress.items import Item
from archsearch.regress.runtime_judged import has_moved
from archsearch.regress.runtime_notes import RuntimeNote, Side, Stage
from archsearch.regress.runtime_pairs import SIDES, Noted, Paired, paired
from archsearch.regress.series import OF_THE_LARGEST
from archsearch.regress.taking import Taker, Telling
from profiler.errors import DeviceUnavailable, TransportError
from profiler.jobs import Protocol as Effort
from profiler.setup.runtimes import same_version

PAIRS: Final = 6
"""Of each thing in a stage; even, so that each runtime is first as often as second."""
RETAKEN: Final = 2
"""Pairs that are taken beside them in place of those that do not count."""
GIVEN_UP_AFTER: Final = 2
"""Pairs in which a runtime fails, and not because of the moment."""
RUN_PROTOCOL: Final = Effort(min_processes=1, max_processes=1, min_repeats=3, max_repeats=6, time_budget_s=10.0)
"""Of one run: pairs are what is counted, and more of one process would say little more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareSettings:
    """What all devices of a comparison have in common.

    Attributes:
        compared: Seconds since 1970 at which it began.
        suite: Name of the suite.
        runtimes: The versions A and B.
        items: What is measured.
        quantities: What is judged.
        seed: Of the order and of the prompts.
        archsearch: Version of this program.
        pairs: Of each thing in a stage.
    """

    compared: float
    suite: str
    runtimes: tuple[str, str]
    items: tuple[Item, ...]
    quantities: tuple[str, ...]
    seed: int
    archsearch: str
    pairs: int = PAIRS

    def order(self, device: str, stage: Stage, number: int, items: Sequence[Item]) -> list[Item]:
        """Items in the order of a round."""
        found = list(items)
        self._random(device, stage, number).shuffle(found)
        return found

    def sides(self, device: str, item: Item, number: int) -> tuple[Side, Side]:
        """The order within a pair."""
        first = self._random(device, item.name, item.subject.precision, item.subject.workload.name).getrandbits(1)
        return SIDES if (first + number.bit_count()) % 2 == 0 else (SIDES[1], SIDES[0])

    def _random(self, *of: object) -> Random:
        return Random(f"{self.seed} {self.compared!r} {of!r}")  # noqa: S311 - an order, no secret


class DeviceComparison:
    """A comparison on one open device; belongs to the thread that runs it.

    Args:
        measurers: Of the same device, under A and under B.
        settings: Of the comparison.
        telling: Who is told.
        keep: Given each measurement with its note once it is stored.
    """

    def __init__(
        self,
        measurers: tuple[Measurer, Measurer],
        settings: CompareSettings,
        telling: Telling,
        keep: Callable[[Noted], None],
    ) -> None:
        self._measurers = dict(zip(SIDES, measurers, strict=True))
        self._settings = settings
        self._telling = telling
        self._keep = keep
        self._name = measurers[0].session.device.name
        self._taker = Taker(self._name, telling)
        self._noted: list[Noted] = []
        self._expected = 0
        memory = any(name in OF_THE_LARGEST for name in settings.quantities)
        self._effort = replace(RUN_PROTOCOL, seed=settings.seed, memory_pass=memory)

    def run(self) -> None:
        """Take all pairs, and fresh ones of what the first have found to differ.

        Raises:
            Interrupted: The user stops.
            TransportError, DeviceUnavailable: The device is lost; what was measured is stored.
            StoreError: A result could not be stored.
        """
        with suppress(TransportError):  # a device that is out of reach says so when it is to measure
            self._measurers["a"].sweep()
        self._take_all("pairs", self._settings.items)
        moved = [item for item in self._settings.items if (one := self._paired(item)) is not None and has_moved(one)]
        if moved:
            names = ", ".join(dict.fromkeys(item.name for item in moved))
            self._telling.say(f"{self._name}: the two differ; fresh pairs decide: {names}")
            self._take_all("fresh pairs", moved)
        self._telling.idle(self._name)

    def _take_all(self, stage: Stage, items: Sequence[Item]) -> None:
        for number in range(self._settings.pairs + RETAKEN):
            wanted = [item for item in items if self._wanted(item, stage)]
            self._expect(2 * sum(self._wanted(item, stage) for item in wanted))
            if not wanted:
                return
            for item in self._settings.order(self._name, stage, number, wanted):
                for side in self._settings.sides(self._name, item, number):
                    self._measure(item, stage, number, side)
        self._expect(0)

    def _wanted(self, item: Item, stage: Stage) -> int:
        """Pairs of an item that are still to be taken in a stage."""
        one = self._paired(item)
        taken = [] if one is None else one.of(stage)
        missing = self._settings.pairs - sum(pair.counts for pair in taken)
        invalid = any(run.status == "invalid" for pair in taken for run in pair.sides.values())
        if invalid or (one is not None and one.failed(stage) >= GIVEN_UP_AFTER):
            return 0
        return max(0, min(missing, self._settings.pairs + RETAKEN - len(taken)))

    def _paired(self, item: Item) -> Paired | None:
        """What was taken of an item so far."""
        mine = (note_and_run for note_and_run in self._noted if _of(item, note_and_run))
        return next(iter(paired(mine).values()), None)

    def _expect(self, left: int) -> None:
        """So many runs are to come from now on."""
        more = len(self._noted) + left - self._expected
        if more:
            self._expected += more
            self._telling.expect(self._name, more)

    def _measure(self, item: Item, stage: Stage, number: int, side: Side) -> None:
        settings = self._settings
        version = settings.runtimes[SIDES.index(side)]
        note = RuntimeNote(
            compared=settings.compared, suite=settings.suite, item=item.name, identity=item.identity,
            runtimes=settings.runtimes, side=side, stage=stage, pair=number, quantities=settings.quantities,
            minimum_effect=item.minimum_effect, archsearch=settings.archsearch,
        )  # fmt: skip
        subject = replace(item.subject, label=f"{item.name} (onnxruntime {version})", notes=note.to_json())
        measurement = self._taker.take(self._measurers[side], subject, self._effort)
        ran = None if measurement.result is None else measurement.result.environment.onnxruntime
        if ran is not None and not same_version(ran, version):
            raise DeviceUnavailable(f"onnxruntime {ran} ran there in place of {version}")
        self._noted.append((note, measurement))
        self._keep((note, measurement))


def _of(item: Item, noted: Noted) -> bool:
    note, run = noted
    mine = (item.name, item.identity, item.subject.precision, item.subject.points)
    return mine == (note.item, note.identity, run.precision, run.points)
