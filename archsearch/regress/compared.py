"""Comparisons of two runtimes as they are stored: which there are, and what was measured in one of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from archsearch.records import load_measurements
from archsearch.regress.events import comparison_loss_of, comparison_of
from archsearch.regress.notes import STUDY
from archsearch.regress.runtime_judged import judged
from archsearch.regress.runtime_notes import COMPARED, UNCOMPARED, RuntimeNote
from archsearch.store import Store
from reports.runtime_verdicts import RuntimeVerdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One that was begun, whatever became of it.

    Attributes:
        compared: Seconds since 1970 at which it began.
        suite: Name of the suite.
        runtimes: The versions A and B.
        lost: Devices that could not be used, or not to the end, with the reason.
    """

    compared: float
    suite: str
    runtimes: tuple[str, str]
    lost: Mapping[str, str] = field(default_factory=dict)


def comparisons(store: Store) -> list[Comparison]:
    """Those of a store, oldest first; events that are damaged are passed over.

    Raises:
        StoreError: They cannot be read.
    """
    lost: dict[float, dict[str, str]] = {}
    for _, _, event in store.events(STUDY, UNCOMPARED):
        if (known := comparison_loss_of(event)) is not None:
            at, device, reason = known
            lost.setdefault(at, {})[device] = reason
    found: list[Comparison] = []
    for _, _, event in store.events(STUDY, COMPARED):
        if (begun := comparison_of(event)) is not None:
            at, suite, runtimes = begun
            found.append(Comparison(compared=at, suite=suite, runtimes=runtimes, lost=lost.get(at, {})))
    return sorted(found, key=lambda one: one.compared)


def compared_verdicts(store: Store, compared: float) -> list[RuntimeVerdict]:
    """Verdicts on the comparison that began then, the worst first, from all that was measured of it.

    Raises:
        StoreError: Measurements cannot be read.
    """
    noted = ((RuntimeNote.read(measurement.notes), measurement) for measurement in load_measurements(store, STUDY))
    return judged(
        (note, measurement) for note, measurement in noted if note is not None and note.compared == compared
    )  # fmt: skip
