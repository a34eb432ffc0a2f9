"""Which of a night's measurements count: those of a block over which the anchors of its device did not move.

A block is everything of a suite on one device, with the anchors before and after it. One over which they moved is
measured again, as another round of it. All of this is read off the measurements themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from archsearch.drift import moved
from archsearch.measurement import UNSETTLED, Measurement
from archsearch.regress.notes import Note

THROTTLED, MISSING = "throttled", "missing"

Noted = tuple[Note, Measurement]


@dataclass(slots=True)
class Round:
    """One try of a block: its anchors by name, and what was measured between them."""

    before: dict[str, Measurement] = field(default_factory=dict)
    after: dict[str, Measurement] = field(default_factory=dict)
    items: list[Noted] = field(default_factory=list)

    @property
    def trouble(self) -> tuple[str, str] | None:
        """Status and reason of what lies between these anchors, where it does not count."""
        if not self.before or self.before.keys() - self.after.keys():
            return MISSING, "measured, but the run ended before the anchor was measured again"
        for name, before in self.before.items():
            why = _why(before, self.after[name])
            if why:
                return THROTTLED, f"{why} around this measurement"
        return None


def _why(before: Measurement, after: Measurement) -> str:
    if before.conditions != after.conditions:
        return "the device became another (an update, another governor)"
    for run in (before, after):
        if run.status in UNSETTLED:
            return f"the anchor was {run.status.replace('_', ' ')}: {run.reason}"
    return moved(before, after)


def rounds(noted: Iterable[Noted]) -> dict[int, Round]:
    """The rounds of one night on one device, by number."""
    found: dict[int, Round] = {}
    for note, measurement in noted:
        one = found.setdefault(note.round, Round())
        if note.part == "before":
            one.before[note.item] = measurement
        elif note.part == "after":
            one.after[note.item] = measurement
        elif note.part == "item":
            one.items.append((note, measurement))
    return {number: found[number] for number in sorted(found)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """A measurement of a night, and why it does not count where it does not."""

    note: Note
    measurement: Measurement
    trouble: tuple[str, str] | None = None


def counted(noted: Sequence[Noted]) -> list[Counted]:
    """Of one night on one device: the anchors' first runs and the items of the round that counts; all fresh runs.

    Where no round counts, what was measured last of each thing, with the reason.
    """
    found: dict[tuple[object, ...], Counted] = {}
    tried = rounds(noted)
    for one in tried.values():
        trouble = one.trouble
        firsts = [(note, m) for note, m in noted if note.part == "before" and m is one.before.get(note.item)]
        for note, measurement in (*firsts, *one.items):
            thing = (note.item, note.identity, note.anchor, measurement.precision, measurement.points)
            known = found.get(thing)
            if known is None or known.trouble is not None:
                found[thing] = Counted(note=note, measurement=measurement, trouble=trouble)
    fresh = [Counted(note=note, measurement=m) for note, m in noted if note.part == "confirmation"]
    return [*found.values(), *fresh]


def by_night(noted: Iterable[Noted]) -> Mapping[tuple[float, str], list[Noted]]:
    """What was measured in each night on each device, in the order of nights."""
    found: dict[tuple[float, str], list[Noted]] = {}
    for note, measurement in noted:
        found.setdefault((note.night, measurement.device), []).append((note, measurement))
    return {key: found[key] for key in sorted(found)}
