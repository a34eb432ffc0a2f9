"""Pairs of measurements under two runtimes, read off their notes, and which of them count.

A pair counts when both runs gave numbers. One whose run was throttled, not cool or disturbed is left out, and said so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from archsearch.measurement import UNSETTLED, Measurement
from archsearch.regress.runtime_notes import RuntimeNote, Side, Stage

SIDES: tuple[Side, Side] = ("a", "b")
Noted = tuple[RuntimeNote, Measurement]
Thing = tuple[object, ...]
"""Device, item, identity, precision and points."""


@dataclass(slots=True)
class Pair:
    """Two runs, one after the other; one of them where the second was not reached."""

    stage: Stage
    sides: dict[Side, Measurement] = field(default_factory=dict)

    @property
    def any_run(self) -> Measurement:
        """One of its runs: what both have in common."""
        return next(iter(self.sides.values()))

    @property
    def counts(self) -> bool:
        """Whether both gave numbers."""
        return len(self.sides) == 2 and all(run.status == "ok" for run in self.sides.values())

    @property
    def trouble(self) -> str:
        """Why it does not count, where it does not."""
        bad = next((run for run in self.sides.values() if run.status != "ok"), None)
        if bad is not None:
            return f"{bad.status.replace('_', ' ')}: {bad.reason}"
        return "" if self.counts else "the second run of it was not taken"


@dataclass(slots=True)
class Paired:
    """All pairs of one thing on one device, in their order, and the note of the first of them."""

    note: RuntimeNote
    pairs: dict[tuple[Stage, int], Pair] = field(default_factory=dict)

    def of(self, stage: Stage) -> list[Pair]:
        """Those of one stage."""
        return [pair for pair in self.pairs.values() if pair.stage == stage]

    def runs(self, side: Side) -> list[Measurement]:
        """All runs of one side."""
        return [pair.sides[side] for pair in self.pairs.values() if side in pair.sides]

    def failed(self, stage: Stage) -> int:
        """Pairs of a stage with a run that ended badly for a reason of its own: another one would end alike."""
        return sum(any(run.status not in ("ok", *UNSETTLED) for run in pair.sides.values()) for pair in self.of(stage))


def thing_of(note: RuntimeNote, measurement: Measurement) -> Thing:
    """Of what a measurement is one of many."""
    return (measurement.device, note.item, note.identity, measurement.precision, measurement.points)


def paired(noted: Iterable[Noted]) -> Mapping[Thing, Paired]:
    """The pairs of one comparison, by what is measured."""
    things: dict[Thing, Paired] = {}
    for note, measurement in noted:
        one = things.setdefault(thing_of(note, measurement), Paired(note))
        one.pairs.setdefault((note.stage, note.pair), Pair(note.stage)).sides[note.side] = measurement
    return things
